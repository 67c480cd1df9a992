//! Takes snapshots: components that contain the memory of one of their initialised instances, so
//! that new instances start from that state. An instance is prepared once, without grants and
//! configuration. Its memory image becomes the data of a new component, and a start maps the image
//! copy-on-write.
//!
//! Never decides which app gets a snapshot, and stores none.

use crate::{
    body::{RequestBody, StallTimeout},
    engine::{Component, Engine},
    error::NoSnapshot,
    fault::Fault,
    http_outcome::InstanceState,
    inspect::{ComponentInfo, inspect},
    instance::Instance,
    kind::{Flavour, Kind, Speed},
    limits,
    linked::INIT,
    program::Program,
    sandbox::{Output, Sandbox},
    state::HostState,
};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use isopod_policy::Limits;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::oneshot};
use wasmtime::{Store, component::Lift, component::WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

/// The encoded section: its kind, its length, its name's length and its name.
const ENCODED_SECTION: &[u8] = b"\0\x10\x0fisopod-snapshot";

/// How an instance is prepared. It gets no configuration and no grants, since every value that it
/// reads becomes part of all later instances.
pub struct Preparation {
    /// The app's name, as the warm-up requests' host and for messages.
    pub app: String,
    pub limits: Limits,
    /// Sink of the instance's output.
    pub output: Arc<dyn Output>,
    /// Paths of the warm-up requests (GET), in order.
    pub warm: Vec<String>,
}

/// A component that contains the image of a prepared instance.
pub struct Snapshot {
    pub component: Bytes,
    /// Duration of `init` and the warm-up requests.
    pub prepared_in: Duration,
}

impl Engine {
    /// Prepares an instance of the component and takes a snapshot. Dropping the future cancels all
    /// of that work.
    pub async fn snapshot(&self, component: Bytes, how: Preparation) -> Result<Snapshot, NoSnapshot> {
        let info = inspect(&component).map_err(NoSnapshot::Image)?;
        check(&info, &how.warm)?;
        let (_caller, cancelled) = oneshot::channel::<()>();
        let (engine, handle) = (self.clone(), Handle::current());
        let take = move || {
            handle.block_on(async {
                tokio::select! {
                    taken = engine.take_snapshot(&component, info, how) => taken,
                    _ = cancelled => Err(NoSnapshot::Internal("the caller cancelled it".to_owned())),
                }
            })
        };
        self.compiler().snapshot(take).await
    }

    async fn take_snapshot(
        &self,
        component: &[u8],
        info: ComponentInfo,
        how: Preparation,
    ) -> Result<Snapshot, NoSnapshot> {
        let mut wizer = Wizer::new();
        wizer.keep_init_func(true);
        let unsupported = |error: wasmtime::Error| NoSnapshot::Unsupported { detail: format!("{error:#}") };
        let (context, instrumented) = wizer.instrument_component(component).map_err(unsupported)?;
        let Preparation { app, limits, output, warm } = how;
        let sandbox = Sandbox { limits, ..Sandbox::without_rights(app, output) };
        let program = self.instrumented(&instrumented, info, sandbox)?;

        let started = Instant::now();
        let prepared = tokio::time::timeout(limits::SNAPSHOT_TIME_MAX, prepare(&program, &warm)).await;
        let (what, seconds) = ("preparing it by `init` and the warm-up requests", limits::SNAPSHOT_TIME_MAX.as_secs());
        let mut instance = prepared.map_err(|_| NoSnapshot::TooLong { what, seconds })??;
        let prepared_in = started.elapsed();
        check_captured_state(&instance)?;

        instance.store.data_mut().begin_reading();
        // The memory is copied in one host call.
        instance.store.set_hostcall_fuel(limits::SNAPSHOT_MEMORY_BYTES_MAX + limits::HOST_CALL_BYTES_MAX);
        let mut reader = Reader { instance, failed: None };
        let imaged = wizer.snapshot_component(&context, &mut reader).await.map_err(unsupported)?;
        if let Some(error) = reader.failed {
            return Err(unsupported(error));
        }
        let component = Bytes::from([&imaged, ENCODED_SECTION].concat());
        inspect(&component).map_err(NoSnapshot::Image)?;
        Ok(Snapshot { component, prepared_in })
    }

    /// Compiles the component with accessors to all its state, for this one instance.
    fn instrumented(&self, bytes: &[u8], info: ComponentInfo, sandbox: Sandbox) -> Result<Program, NoSnapshot> {
        let kind = Kind { flavour: Flavour::Plain, speed: Speed::Optimised };
        let code = wasmtime::component::Component::new(self.wasmtime(kind), bytes);
        let code = code.map_err(|error| NoSnapshot::Unsupported { detail: format!("{error:#}") })?;
        // The code is never unmapped and mapped again, so it needs no file.
        let component = Component { info, kind, code, file: PathBuf::new(), source: None };
        Program::for_snapshot(self, &component, sandbox, Arc::default()).map_err(NoSnapshot::Image)
    }
}

/// Returns the reasons against a snapshot that are known before any code runs.
fn check(info: &ComponentInfo, warm: &[String]) -> Result<(), NoSnapshot> {
    if info.is_snapshot {
        return Err(NoSnapshot::IsOne);
    }
    if info.single_use {
        return Err(NoSnapshot::SingleUse);
    }
    if info.needs_concurrency {
        return Err(NoSnapshot::Concurrent);
    }
    if warm.is_empty() && !info.exports.iter().any(|name| name.starts_with(INIT)) {
        return Err(NoSnapshot::NothingToPrepare);
    }
    Ok(())
}

/// Starts an instance, which calls its `init`, and sends the warm-up requests.
async fn prepare(program: &Program, warm: &[String]) -> Result<Box<Instance>, NoSnapshot> {
    let mut instance = Instance::start(program).await.map_err(NoSnapshot::Init)?;
    let limit = program.sandbox().limits.request_timeout;
    for path in warm {
        let requested = tokio::time::timeout(limit, warm_up(instance, path, &program.sandbox().app)).await;
        let warmed_up = requested.unwrap_or_else(|_| Err(Fault::Timeout { limit }.to_string()));
        instance = warmed_up.map_err(|detail| NoSnapshot::WarmUp { path: path.clone(), detail })?;
    }
    Ok(instance)
}

/// Sends one warm-up request, over the same interface as any other request. Returns the instance
/// once all its work is done.
async fn warm_up(instance: Box<Instance>, path: &str, host: &str) -> Result<Box<Instance>, String> {
    let uri = format!("http://{host}{path}");
    let request = Request::get(uri).header(http::header::HOST, host).body(RequestBody::empty());
    let request = request.map_err(|error| error.to_string())?;
    let outcome = instance.http(request, "warm-up").await;
    let response = outcome.response.map_err(|fault| fault.to_string())?;
    if response.status().is_server_error() {
        return Err(format!("it responded with {}", response.status()));
    }
    let mut body = response.into_body();
    let read = async {
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    };
    let worked = async {
        match outcome.after {
            InstanceState::Free(instance) => Ok(Some(instance)),
            InstanceState::Ended => Ok(None),
            InstanceState::Working(rest) => {
                rest.finish(StallTimeout::endless()).await.map_err(|fault| fault.to_string())
            }
        }
    };
    let ((), instance) = tokio::try_join!(read, worked)?;
    instance.ok_or_else(|| "its instance can't be reused".to_owned())
}

fn check_captured_state(instance: &Instance) -> Result<(), NoSnapshot> {
    let state = instance.store.data();
    if state.purity().is_some_and(|purity| purity.saw_environment()) {
        return Err(NoSnapshot::ReadsEnvironment);
    }
    if state.purity().is_some_and(|purity| purity.saw_folders()) {
        return Err(NoSnapshot::LooksForFolders);
    }
    if state.purity().is_some_and(|purity| purity.saw_randomness()) {
        return Err(NoSnapshot::TakesRandomness);
    }
    if !state.table.is_empty() {
        return Err(NoSnapshot::HoldsResources);
    }
    if state.memory_bytes() > limits::SNAPSHOT_MEMORY_BYTES_MAX {
        let [mib, limit_mib] = [state.memory_bytes(), limits::SNAPSHOT_MEMORY_BYTES_MAX].map(|bytes| bytes >> 20);
        return Err(NoSnapshot::TooMuchMemory { mib, limit_mib });
    }
    Ok(())
}

/// Reads the state of a prepared instance through the accessors. The caller's interface has no
/// errors, so a failed read is recorded and returns an empty value.
struct Reader {
    instance: Box<Instance>,
    failed: Option<wasmtime::Error>,
}

impl Reader {
    async fn call<R: Lift + Send + Sync + 'static>(&mut self, interface: &str, name: &str) -> Option<R> {
        let Instance { store, component, .. } = &mut *self.instance;
        match read(store, component, interface, name).await {
            Ok(read) => Some(read),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }
}

async fn read<R: Lift + Send + Sync + 'static>(
    store: &mut Store<HostState>,
    component: &wasmtime::component::Instance,
    interface: &str,
    name: &str,
) -> wasmtime::Result<R> {
    let missing = || wasmtime::format_err!("the accessor {name} is missing");
    let (_, interface) = component.get_export(&mut *store, None, interface).ok_or_else(missing)?;
    let (_, accessor) = component.get_export(&mut *store, Some(&interface), name).ok_or_else(missing)?;
    let accessor = component.get_typed_func::<(), (R,)>(&mut *store, accessor)?;
    store.set_epoch_deadline(1);
    Ok(accessor.call_async(store, ()).await?.0)
}

impl ComponentInstanceState for Reader {
    async fn call_func_ret_list_u8(&mut self, interface: &str, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.call::<WasmList<u8>>(interface, name).await {
            Some(list) => contents(list.as_le_slice(&self.instance.store)),
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, interface: &str, name: &str) -> i32 {
        self.call(interface, name).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, interface: &str, name: &str) -> i64 {
        self.call(interface, name).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, interface: &str, name: &str) -> u32 {
        self.call::<f32>(interface, name).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, interface: &str, name: &str) -> u64 {
        self.call::<f64>(interface, name).await.unwrap_or_default().to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::SNAPSHOT_SECTION;

    #[test]
    fn the_encoded_section_has_the_name_that_is_searched() {
        let name = &ENCODED_SECTION[3..];
        assert_eq!(name, SNAPSHOT_SECTION.as_bytes());
        assert_eq!((usize::from(ENCODED_SECTION[1]), usize::from(ENCODED_SECTION[2])), (name.len() + 1, name.len()));
    }
}
