//! One running component: its store and its calls. Never decides when it starts or stops.
//!
//! An instance serves one call at a time. Every call consumes the instance and returns it only if
//! it can be reused, so an instance that trapped, timed out or was abandoned midway can't be used
//! again.

use crate::{
    bindings::middleware::MiddlewarePlugin,
    budget::{Exhausted, Reservation},
    event_export::EventHandler,
    fault::{Fault, Room},
    flat_call, limits,
    program::Program,
    resource_values::Lent,
    state::{HostState, on_epoch},
    waits::CallWaits,
};
use std::sync::Arc;
use tokio::sync::oneshot;
use wasmtime::Store;

/// A started component. It is boxed, since it is large and moves several times per request.
pub struct Instance {
    pub(crate) store: Store<HostState>,
    pub(crate) component: wasmtime::component::Instance,
    pub(crate) program: Program,
    pub(crate) ready: Ready,
    calls: u32,
    calls_max: u32,
    /// Linear memory of the instance when it was ready for its first call.
    started_with: u64,
    /// The reservation of instance slots, returned after the store is dropped.
    _slots: Reservation,
}

/// Exports found in this instance, cached since a lookup costs more than the call.
#[derive(Default)]
pub(crate) struct Ready {
    pub(crate) flat: Option<flat_call::Handle>,
    pub(crate) pause: Option<wasmtime::Func>,
    pub(crate) wasi02: Option<wasmtime_wasi_http::p2::bindings::Proxy>,
    pub(crate) wasi03: Option<wasmtime_wasi_http::p3::bindings::Service>,
    pub(crate) events: Option<EventHandler>,
    pub(crate) middleware: Option<MiddlewarePlugin>,
    /// The resources of this provider that its current caller holds.
    pub(crate) lent: Lent,
}

impl Instance {
    pub(crate) async fn start(program: &Program) -> Result<Box<Self>, Fault> {
        let mut reservation = Reservation::empty(program.engine().instances());
        let slots = program.info().slots;
        reservation.grow(slots.into(), program.sandbox().may_use_reserve).map_err(|exhausted| {
            let (Exhausted::Temporarily { most } | Exhausted::Permanently { most }) = exhausted;
            let detail = format!("an instance takes {slots} of the {most} slots that this app may use");
            Fault::NoRoom { room: Room::Instance, detail }
        })?;
        let state = state_of(program).await.map_err(|error| Fault::from_error(&error, None))?;
        let mut store = Store::new(program.wasmtime_engine(), state);
        store.limiter(|state| state);
        store.epoch_deadline_callback(on_epoch);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(limits::HOST_CALL_BYTES_MAX);
        store.set_max_component_handles(limits::COMPONENT_HANDLES_MAX);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(limits::CONCURRENT_ENTRIES_MAX);
        }
        let started = program.pre().instantiate_async(&mut store).await;
        let component = started.map_err(|error| {
            let state = store.data_mut();
            Fault::from_error(&error, state.denied.take()).with_output(state.take_errors())
        })?;
        store.data_mut().end();
        let calls_max = limits::REQUESTS_PER_INSTANCE + program.engine().spread(limits::REQUESTS_PER_INSTANCE / 2);
        let (program, ready) = (program.clone(), Ready::default());
        let mut instance = Box::new(Self {
            store,
            component,
            program,
            ready,
            calls: 0,
            calls_max,
            started_with: 0,
            _slots: reservation,
        });
        instance.init().await?;
        instance.started_with = instance.store.data().account.linear_bytes();
        Ok(instance)
    }

    /// Calls the guest's `init`, unless it starts from a snapshot of an initialised instance.
    async fn init(&mut self) -> Result<(), Fault> {
        let program = self.program.clone();
        let Some(indices) = &program.exports().init else { return Ok(()) };
        self.begin("");
        let app = indices.load(&mut self.store, &self.component).map_err(|error| self.fault(&error))?;
        let prepared = app.isopod_app_init().call_init(&mut self.store).await;
        self.store.data_mut().end();
        prepared.map_err(|error| self.fault(&error))?.map_err(|message| Fault::Failed { message })
    }

    /// Returns the program that this instance runs.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns whether an app holds resources of this provider. Only that app may call it.
    pub fn lends_resources(&self) -> bool {
        self.ready.lent.count() > 0
    }

    /// Sets the id that the lines of this instance have.
    pub fn set_id(&mut self, id: &str) {
        self.store.data_mut().call.set_instance(id);
    }

    /// Returns what the current call of this instance waits for, and for how long.
    pub fn waits(&self) -> &Arc<CallWaits> {
        &self.store.data().waits
    }

    /// Returns the guest's memory in use, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory_bytes()
    }

    /// Returns the health that the app itself reports. An app without a health check is healthy.
    pub async fn health(&mut self) -> Result<Result<(), String>, Fault> {
        let program = self.program.clone();
        let Some(indices) = &program.exports().health else { return Ok(Ok(())) };
        self.begin("");
        let app = indices.load(&mut self.store, &self.component).map_err(|error| self.fault(&error))?;
        let checked = app.isopod_app_health().call_check(&mut self.store).await;
        self.store.data_mut().end();
        checked.map_err(|error| self.fault(&error))
    }

    pub(crate) fn begin(&mut self, request_id: &str) {
        self.calls += 1;
        self.store.data_mut().begin(request_id);
        self.store.set_epoch_deadline(1);
    }

    pub(crate) fn fault(&mut self, error: &wasmtime::Error) -> Fault {
        let state = self.store.data_mut();
        let output = state.take_errors();
        state.end();
        Fault::from_error(error, state.denied.take()).with_output(output)
    }

    /// Ends a flat call whose bodies together have this size. Returns the instance if it can
    /// be reused.
    pub(crate) fn finished_with_bodies(self: Box<Self>, body_bytes: u64) -> Option<Box<Self>> {
        let is_filled = self.is_filled_by_bodies(body_bytes);
        self.finished().filter(|_| !is_filled)
    }

    /// Returns whether a call whose bodies together have this size has filled the memory, so that
    /// the instance is to be replaced. Only useful before the call ends.
    pub(crate) fn is_filled_by_bodies(&self, body_bytes: u64) -> bool {
        self.store.data().account.is_filled_by_bodies(self.started_with, body_bytes)
    }

    /// Ends a call after which the caller holds resources of this instance. Returns the instance if
    /// it can serve further calls of the same caller.
    pub(crate) fn held(mut self: Box<Self>) -> Option<Box<Self>> {
        let state = self.store.data_mut();
        state.end();
        state.audit().is_ok().then_some(self)
    }

    /// Ends a call. Returns the instance if it can be reused.
    pub(crate) fn finished(mut self: Box<Self>) -> Option<Box<Self>> {
        let state = self.store.data_mut();
        state.end();
        // An instance that holds too much, or may reach a limit in its next call, is replaced.
        let is_fit = state.audit().is_ok() && !state.account.is_nearly_full(self.started_with);
        (is_fit && self.calls < self.calls_max).then_some(self)
    }
}

impl Program {
    /// Starts a new instance within the program's request timeout.
    pub async fn start(&self) -> Result<Box<Instance>, Fault> {
        let limit = self.sandbox().limits.request_timeout;
        tokio::time::timeout(limit, Instance::start(self)).await.unwrap_or(Err(Fault::Timeout { limit }))
    }
}

/// Creates the state of a new instance. Opening its folders blocks while their file system doesn't
/// respond, so it runs on its own thread: the shared threads for blocking file access may all be
/// occupied.
async fn state_of(program: &Program) -> wasmtime::Result<HostState> {
    if !program.has_folders() {
        return program.new_state();
    }
    let permit = Arc::clone(program.opening()).acquire_owned().await?;
    let (sender, state) = oneshot::channel();
    let program = program.clone();
    std::thread::Builder::new().name("isopod-open".to_owned()).spawn(move || {
        // The receiver is gone if the start has timed out.
        let _ = sender.send(program.new_state());
        drop(permit);
    })?;
    state.await?
}
