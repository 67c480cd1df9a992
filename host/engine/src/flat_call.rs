//! The typed function behind the flat interface, `isopod:app/http`. The generated bindings don't
//! suffice: a response's body may be as large as the guest's memory, but host-call fuel limits what
//! they copy out of the guest. Never interprets a response.

use crate::state::HostState;
use wasmtime::{
    Store,
    component::{
        __internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext},
        ComponentExportIndex, ComponentType, Func, Instance, InstancePre, Lift, TypedFunc,
    },
};

pub(crate) use crate::bindings::http::Request;

/// An answer with its whole body.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Body,
}

/// The bytes of a response's body. The guest's memory limits their number, so they use no host-call
/// fuel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Body(pub(crate) Vec<u8>);

// SAFETY: the type has the representation of the list that `typecheck` demands, a pointer and a length.
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
        wasmtime::bail!("an answer is a record that is returned in memory")
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
        Ok(Self(memory[pointer..end].to_vec()))
    }
}

fn pointer_pair(bytes: &[u8]) -> wasmtime::Result<(usize, usize)> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(|word| u32::from_le_bytes(word) as usize);
    let pair = word(0).zip(word(4)).filter(|_| bytes.len() == 8);
    pair.ok_or_else(|| wasmtime::format_err!("the response's body is not a list in 32-bit memory"))
}

/// The index of the function in a component.
pub(crate) struct Index(ComponentExportIndex);

/// The function of one instance.
pub(crate) struct Handle(Func);

type Typed<'a> = TypedFunc<(&'a Request,), (Result<Response, String>,)>;

impl Index {
    pub(crate) fn find(program: &InstancePre<HostState>, interface: &str) -> Option<Self> {
        let component = program.component();
        let interface = component.get_export_index(None, interface)?;
        component.get_export_index(Some(&interface), "handle").map(Self)
    }

    pub(crate) fn load(&self, store: &mut Store<HostState>, instance: &Instance) -> wasmtime::Result<Handle> {
        let function: Typed<'_> = instance.get_typed_func(store, self.0)?;
        Ok(Handle(*function.func()))
    }
}

impl Handle {
    pub(crate) async fn call(
        &self,
        store: &mut Store<HostState>,
        request: &Request,
    ) -> wasmtime::Result<Result<Response, String>> {
        // SAFETY: `load` has checked the function's type.
        let function: Typed<'_> = unsafe { TypedFunc::new_unchecked(self.0) };
        let (answer,) = function.call_async(store, (request,)).await?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_pointer_and_a_length_of_32_bits() {
        assert_eq!(pointer_pair(&[1, 0, 0, 0, 2, 1, 0, 0]).unwrap(), (1, 258));
        assert_eq!(pointer_pair(&[255; 8]).unwrap(), (u32::MAX as usize, u32::MAX as usize));
        assert!(pointer_pair(&[0; 7]).is_err() && pointer_pair(&[0; 16]).is_err());
    }
}
