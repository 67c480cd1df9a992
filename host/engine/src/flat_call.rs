//! The typed functions behind the flat interface, `isopod:app/http` and `isopod:app/http-packed`.
//! The generated bindings don't suffice for two reasons. A response's body may be as large as the
//! guest's memory, but host-call fuel limits the bytes that they copy out of the guest. And they
//! copy a request's body in one piece, which may take longer than a time slice. Never interprets a
//! request or a response.

use crate::{
    inspect::{FLAT_LISTED, FLAT_PACKED},
    limits, packed,
    state::HostState,
    unread::{self, Body},
};
use bytes::Bytes;
use http::request::Parts;
use isopod_executor::slice;
use std::{mem::MaybeUninit, pin::pin};
use wasmtime::{
    Caller, Store, ValRaw,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext},
        ComponentExportIndex, ComponentType, Instance, InstancePre, Lift, Lower, TypedFunc,
    },
};

/// An interface lacks its function.
#[derive(Debug, thiserror::Error)]
#[error("its export {interface} has no function `handle`")]
pub(crate) struct Missing {
    interface: String,
}

/// A request of `isopod:app/http`, with its whole body.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Request {
    method: String,
    scheme: String,
    authority: String,
    #[component(name = "path-with-query")]
    path_with_query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Pieces,
}

impl Request {
    fn new(parts: &Parts, body: Pieces) -> Self {
        let [method, scheme, authority, path_with_query] = packed::target(parts).map(str::to_owned);
        let headers = parts.headers.iter();
        let headers = headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        Self { method, scheme, authority, path_with_query, headers, body }
    }
}

/// The bytes of a request's body, or of a whole packed request. They are copied into the guest in
/// pieces, between which other guests run.
#[derive(Default)]
pub(crate) struct Pieces {
    pub(crate) bytes: Vec<Bytes>,
    /// Suspends the call until the guest's next time slice. `None` for a body that is copied within
    /// one slice.
    pub(crate) pause: Option<wasmtime::Func>,
}

impl Pieces {
    pub(crate) fn length(&self) -> usize {
        self.bytes.iter().map(Bytes::len).sum()
    }

    /// Copies the bytes into the guest. Returns where they are.
    fn copy<T>(&self, context: &mut LowerContext<'_, T>) -> wasmtime::Result<usize> {
        let start = context.realloc(0, 0, 1, self.length())?;
        let mut at = start;
        for piece in self.bytes.iter().flat_map(|bytes| bytes.chunks(limits::FLAT_PIECE_BYTES)) {
            context.as_slice_mut()[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            if let Some(pause) = &self.pause
                && slice::expired()
            {
                // SAFETY: the function belongs to this store, and takes and returns nothing.
                unsafe { pause.call_unchecked(&mut context.store, &mut [])? };
            }
        }
        Ok(start)
    }
}

/// Creates the function that suspends a call.
pub(crate) fn pause<T: Send + 'static>(store: &mut Store<T>) -> wasmtime::Func {
    wasmtime::Func::wrap_async(store, |_: Caller<'_, T>, ()| Box::new(slice::yield_now()))
}

// SAFETY: the type has the representation of the list that `typecheck` demands, a pointer and a
// length.
unsafe impl ComponentType for Pieces {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::POINTER_PAIR;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: both words of the destination are written, with an allocation of the guest's that has the
// length.
unsafe impl Lower for Pieces {
    fn linear_lower_to_flat<T>(
        &self,
        context: &mut LowerContext<'_, T>,
        _: InterfaceType,
        destination: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        let start = self.copy(context)?;
        destination.write([start, self.length()].map(|word| ValRaw::i64(word as i64)));
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        context: &mut LowerContext<'_, T>,
        _: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        let words = [self.copy(context)?, self.length()];
        for (index, word) in words.into_iter().enumerate() {
            *context.get(offset + 4 * index) = u32::try_from(word)?.to_le_bytes();
        }
        Ok(())
    }
}

/// A response of `isopod:app/http`, with its whole body.
#[derive(ComponentType, Lift)]
#[component(record)]
struct ListedResponse {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
}

/// A response of `isopod:app/http-packed`, with its whole body.
#[derive(ComponentType, Lift)]
#[component(record)]
struct PackedResponse {
    status: u16,
    headers: Vec<u8>,
    body: Body,
}

/// A response over either interface.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
}

/// Names and values in order.
pub(crate) enum Headers {
    Listed(Vec<(String, Vec<u8>)>),
    Packed(Vec<u8>),
}

impl From<ListedResponse> for Response {
    fn from(response: ListedResponse) -> Self {
        let ListedResponse { status, headers, body } = response;
        Self { status, headers: Headers::Listed(headers), body }
    }
}

impl From<PackedResponse> for Response {
    fn from(response: PackedResponse) -> Self {
        let PackedResponse { status, headers, body } = response;
        Self { status, headers: Headers::Packed(headers), body }
    }
}

// SAFETY: the type has the representation of the list that `typecheck` demands, a pointer and a
// length.
unsafe impl ComponentType for Body {
    type Lower = <[u8] as ComponentType>::Lower;

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::POINTER_PAIR;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[u8] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: every read is checked against the bounds of the guest's memory.
unsafe impl Lift for Body {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &Self::Lower) -> wasmtime::Result<Self> {
        wasmtime::bail!("a response is a record that is returned in memory")
    }

    fn linear_lift_from_memory(
        context: &mut LiftContext<'_>,
        _: InterfaceType,
        bytes: &[u8],
    ) -> wasmtime::Result<Self> {
        let (pointer, length) = pointer_pair(bytes)?;
        let memory = context.memory();
        let end = pointer.checked_add(length).filter(|end| *end <= memory.len());
        let end = end.ok_or_else(|| wasmtime::format_err!("list pointer/length out of bounds of memory"))?;
        Ok(Self::read(&memory[pointer..end]))
    }
}

fn pointer_pair(bytes: &[u8]) -> wasmtime::Result<(usize, usize)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(|word| u32::from_le_bytes(word) as usize);
    let pair = word(0).zip(word(4)).filter(|_| bytes.len() == 8);
    pair.ok_or_else(|| wasmtime::format_err!("the response's body is not a list in 32-bit memory"))
}

/// The function's index in a component, and its interface.
pub(crate) struct Index {
    function: ComponentExportIndex,
    is_packed: bool,
}

type Listed = TypedFunc<(Request,), (Result<ListedResponse, String>,)>;
type Packed = TypedFunc<(Pieces,), (Result<PackedResponse, String>,)>;

/// The function of one instance.
#[derive(Clone, Copy)]
pub(crate) struct Handle(Function);

#[derive(Clone, Copy)]
enum Function {
    Listed(Listed),
    Packed(Packed),
}

impl Index {
    /// Finds the function in the preferred interface of those that a component exports.
    pub(crate) fn find(program: &InstancePre<HostState>, exports: &[String]) -> Option<Result<Self, Missing>> {
        let named = |prefix: &str| exports.iter().find(|name| name.starts_with(prefix));
        let (name, is_packed) = match named(FLAT_PACKED) {
            Some(name) => (name, true),
            None => (named(FLAT_LISTED)?, false),
        };
        let component = program.component();
        let interface = component.get_export_index(None, name);
        let function = interface.and_then(|interface| component.get_export_index(Some(&interface), "handle"));
        let missing = || Missing { interface: name.clone() };
        Some(function.map(|function| Self { function, is_packed }).ok_or_else(missing))
    }

    pub(crate) fn load(&self, store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Handle> {
        let function = match self.is_packed {
            true => Function::Packed(instance.get_typed_func(store, self.function)?),
            false => Function::Listed(instance.get_typed_func(store, self.function)?),
        };
        Ok(Handle(function))
    }
}

impl Handle {
    pub(crate) async fn call(
        &self,
        store: &mut Store<HostState>,
        parts: &Parts,
        mut body: Pieces,
    ) -> wasmtime::Result<Result<Response, String>> {
        let engine = store.engine().clone();
        match &self.0 {
            Function::Listed(function) => {
                let request = Request::new(parts, body);
                let call = pin!(function.call_async(store, (request,)));
                let (response,) = unread::call(engine, call).await?;
                Ok(response.map(Response::from))
            }
            Function::Packed(function) => {
                body.bytes.push(packed::request_head(parts)?.into());
                let call = pin!(function.call_async(store, (body,)));
                let (response,) = unread::call(engine, call).await?;
                Ok(response.map(Response::from))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};
    use wasmtime::component::{Component, Linker};

    /// A guest with four exports. `sum` hashes a list, and `lengths` adds up the lengths of two
    /// lists. `kept` and `freed` return the start of the guest's memory as a list; `freed` also has
    /// a function that overwrites it afterwards.
    const GUEST: &str = r#"(component
        (core module $m
            (memory (export "memory") 40)
            (global $next (mut i32) (i32.const 64))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                global.get $next
                (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 7))
                    (i32.const -8)))))
            (func (export "sum") (param $at i32) (param $left i32) (result i32) (local $sum i32)
                (block $end (loop $next
                    (br_if $end (i32.eqz (local.get $left)))
                    (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 31))
                        (i32.load8_u (local.get $at))))
                    (local.set $at (i32.add (local.get $at) (i32.const 1)))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br $next)))
                local.get $sum)
            (func (export "reply") (param $length i32) (result i32)
                (memory.fill (i32.const 16) (i32.const 7) (local.get $length))
                (i32.store8 (i32.add (i32.const 15) (local.get $length)) (i32.const 9))
                (i32.store (i32.const 0) (i32.const 16))
                (i32.store (i32.const 4) (local.get $length))
                i32.const 0)
            (func (export "free") (param i32)
                (memory.fill (i32.const 0) (i32.const 0) (i32.const 2600000)))
            (func (export "lengths") (param $at i32) (param i32) (result i32)
                (i32.add (i32.load offset=4 (local.get $at)) (i32.load offset=12 (local.get $at)))))
        (core instance $i (instantiate $m))
        (func (export "kept") (param "length" u32) (result (list u8))
            (canon lift (core func $i "reply") (memory (core memory $i "memory"))))
        (func (export "freed") (param "length" u32) (result (list u8))
            (canon lift (core func $i "reply") (memory (core memory $i "memory"))
                (post-return (core func $i "free"))))
        (func (export "sum") (param "body" (list u8)) (result u32)
            (canon lift (core func $i "sum") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
        (func (export "lengths") (param "bodies" (list (list u8))) (result u32)
            (canon lift (core func $i "lengths") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc")))))"#;

    fn guest() -> (Store<()>, Instance) {
        let mut settings = wasmtime::Config::new();
        settings.concurrency_support(false).epoch_interruption(true);
        let engine = wasmtime::Engine::new(&settings).unwrap();
        let component = Component::new(&engine, wat::parse_str(GUEST).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        store.epoch_deadline_callback(|_| Ok(unread::on_epoch().unwrap_or(wasmtime::UpdateDeadline::Continue(1))));
        store.set_epoch_deadline(1);
        let linker = Linker::new(&engine);
        let instance = polled(pin!(linker.instantiate_async(&mut store, &component))).0.unwrap();
        (store, instance)
    }

    /// Returns the output of a future that only yields, and the number of yields.
    fn polled<F: Future>(mut future: std::pin::Pin<&mut F>) -> (F::Output, usize) {
        let mut context = Context::from_waker(Waker::noop());
        for yields in 0..1_000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return (output, yields);
            }
        }
        panic!("the future does not end");
    }

    fn pieces(lengths: &[usize], pause: Option<wasmtime::Func>) -> Pieces {
        let bytes = |(index, length): (usize, &usize)| (0..*length).map(|at| (index + at * at / 7) as u8).collect();
        Pieces { bytes: lengths.iter().enumerate().map(bytes).collect(), pause }
    }

    /// Outside of a guest's time slice, every slice counts as expired.
    #[test]
    fn a_body_is_copied_in_pieces_between_which_the_call_yields() {
        let (mut store, instance) = guest();
        let pause = pause(&mut store);
        let sum: TypedFunc<(&Pieces,), (u32,)> = instance.get_typed_func(&mut store, "sum").unwrap();
        let piece = limits::FLAT_PIECE_BYTES;
        for (lengths, yields) in [
            (vec![], 0),
            (vec![0], 0),
            (vec![1], 1),
            (vec![piece], 1),
            (vec![piece + 1], 2),
            (vec![3, piece], 2),
            (vec![1, 2, 2 * piece + 1], 5),
        ] {
            let body = pieces(&lengths, Some(pause));
            let bytes = body.bytes.iter().flatten();
            let hash = bytes.fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(*byte)));
            let called = polled(pin!(sum.call_async(&mut store, (&body,))));
            assert_eq!((called.0.unwrap(), called.1), ((hash,), yields), "{lengths:?}");
        }
        let whole = pieces(&[piece], None);
        assert_eq!(polled(pin!(sum.call_async(&mut store, (&whole,)))).1, 0);
    }

    #[test]
    fn a_large_response_is_copied_in_pieces_before_the_guest_frees_it() {
        let (mut store, instance) = guest();
        let most = limits::FLAT_COPIED_AT_ONCE_BYTES;
        for name in ["kept", "freed"] {
            let reply: TypedFunc<(u32,), (Body,)> = instance.get_typed_func(&mut store, name).unwrap();
            for (length, yields) in [(1, 0), (most, 0), (most + 1, 5), (2 * most, 8)] {
                let engine = store.engine().clone();
                let call = pin!(reply.call_async(&mut store, (length as u32,)));
                let (returned, yielded) = polled(pin!(unread::call(engine, call)));
                let bytes = returned.unwrap().0.into_bytes();
                assert_eq!((bytes.len(), yielded), (length, yields), "{name}");
                let (last, others) = bytes.split_last().unwrap();
                assert!(*last == 9 && others.iter().all(|byte| *byte == 7), "{name} {length}");
            }
        }
    }

    #[test]
    fn a_body_within_other_data_is_copied_too() {
        let (mut store, instance) = guest();
        let bodies = [pieces(&[5, 6], None), pieces(&[7], None)];
        let lengths: TypedFunc<(&[Pieces],), (u32,)> = instance.get_typed_func(&mut store, "lengths").unwrap();
        assert_eq!(polled(pin!(lengths.call_async(&mut store, (&bodies[..],)))).0.unwrap(), (18,));
    }

    #[test]
    fn dropping_a_call_while_its_body_is_copied_ends_the_instance() {
        let (mut store, instance) = guest();
        let pause = pause(&mut store);
        let sum: TypedFunc<(&Pieces,), (u32,)> = instance.get_typed_func(&mut store, "sum").unwrap();
        let body = pieces(&[2 * limits::FLAT_PIECE_BYTES], Some(pause));
        {
            let mut called = pin!(sum.call_async(&mut store, (&body,)));
            assert!(called.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(
            polled(pin!(sum.call_async(&mut store, (&body,)))).0.is_err(),
            "a broken instance is not entered again"
        );
    }

    #[test]
    fn a_body_is_a_pointer_and_a_length_of_32_bits() {
        assert_eq!(pointer_pair(&[1, 0, 0, 0, 2, 1, 0, 0]).unwrap(), (1, 258));
        assert_eq!(pointer_pair(&[255; 8]).unwrap(), (u32::MAX as usize, u32::MAX as usize));
        assert!(pointer_pair(&[0; 7]).is_err() && pointer_pair(&[0; 16]).is_err());
    }
}
