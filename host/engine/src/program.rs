//! Joins a component with its sandbox: does all work that is common to its instances once, so that
//! a start takes microseconds. Never starts an instance by itself.

use crate::{
    Component, ComponentInfo, Engine, Fault, HttpAbi, Instance, Rejected, Sandbox, bindings, bounded,
    config::{Flavour, Kind},
    flat_call, keyvalue, limits, logging, offered,
    outbound::Outbound,
    purity::{self, PurityCheck},
    state::HostState,
    wasi_http,
};
use isopod_policy::{BodyLimit, limits::TEXT_DETAIL_BYTES_SHOWN, text::line_excerpt};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::Semaphore;
use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::{p2::bindings as wasi02, p3::bindings as wasi03};

/// The interface that initialises a guest.
pub(crate) const INIT: &str = "isopod:app/init@0.1.";

/// A component that can be started.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    frozen: FrozenProgram,
    linked: Arc<Linked>,
}

/// Code linked with the host's functions: the part that all apps with the same component could
/// share.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<HostState>,
    exports: Exports,
}

/// A program without its machine code mapped. Kept for a frozen app; thawing takes a fraction of a
/// millisecond.
#[derive(Clone)]
pub struct FrozenProgram(Arc<FrozenInner>);

struct FrozenInner {
    engine: Engine,
    info: ComponentInfo,
    kind: Kind,
    file: PathBuf,
    sandbox: Arc<Sandbox>,
    config: Arc<WasiConfigVariables>,
    outbound: Outbound,
    purity: Option<Arc<PurityCheck>>,
    /// Permits for opening an instance's folders.
    opening: Arc<Semaphore>,
}

impl FrozenProgram {
    /// Maps the code again, unless the cache of recently frozen code still has it. Blocks for about
    /// as long as opening a file.
    pub fn thaw(&self) -> Result<Program, Rejected> {
        let engine = &self.0.engine;
        if let Some(linked) = engine.frozen_code().find(&self.0.file) {
            return Ok(Program(Arc::new(Inner { frozen: self.clone(), linked })));
        }
        let code = engine.map(self.0.kind, &self.0.file)?;
        Program::of(self.clone(), &code, engine.linker(self.0.kind))
    }

    /// Returns the component's properties.
    pub fn info(&self) -> &ComponentInfo {
        &self.0.info
    }
}

/// Indices of the exports that the host calls, looked up once.
pub(crate) struct Exports {
    pub(crate) flat: Option<flat_call::Index>,
    pub(crate) wasi02: Option<wasi02::ProxyIndices>,
    pub(crate) wasi03: Option<wasi03::ServiceIndices>,
    pub(crate) events: Option<bindings::events::EventAppIndices>,
    pub(crate) health: Option<bindings::health::HealthAppIndices>,
    /// Also `None` for a snapshot, which was taken after `init` returned.
    pub(crate) init: Option<bindings::init::InitAppIndices>,
}

impl Program {
    pub(crate) fn new(engine: &Engine, component: &Component, sandbox: Sandbox) -> Result<Self, Rejected> {
        let linker = engine.linker(component.kind);
        Self::of(Self::frozen(engine, component, sandbox, None), &component.code, linker)
    }

    /// Creates a program for the instance that is prepared for a snapshot.
    pub(crate) fn for_snapshot(
        engine: &Engine,
        component: &Component,
        sandbox: Sandbox,
        purity: Arc<PurityCheck>,
    ) -> Result<Self, Rejected> {
        let linker =
            purity::linker(engine.linker(component.kind)).map_err(|error| unlinked(&component.code, &error))?;
        Self::of(Self::frozen(engine, component, sandbox, Some(purity)), &component.code, &linker)
    }

    fn frozen(
        engine: &Engine,
        component: &Component,
        sandbox: Sandbox,
        purity: Option<Arc<PurityCheck>>,
    ) -> FrozenProgram {
        let config = sandbox.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let sandbox = Arc::new(sandbox);
        FrozenProgram(Arc::new(FrozenInner {
            engine: engine.clone(),
            info: component.info.clone(),
            kind: component.kind,
            file: component.file.clone(),
            config: Arc::new(config),
            outbound: Outbound::new(Arc::clone(&sandbox), engine.network()),
            sandbox,
            purity,
            opening: Arc::new(Semaphore::new(limits::FOLDERS_OPENED_AT_ONCE)),
        }))
    }

    /// Resolves all exports and imports that a start or a call needs.
    fn of(
        frozen: FrozenProgram,
        code: &wasmtime::component::Component,
        linker: &Linker<HostState>,
    ) -> Result<Self, Rejected> {
        let pre = linker.instantiate_pre(code).map_err(|error| unlinked(code, &error))?;
        let info = frozen.info();
        let has = |prefix: &str| info.exports.iter().any(|name| name.starts_with(prefix));
        let broken = |error: wasmtime::Error| Rejected::Malformed {
            detail: line_excerpt(
                &format!("an export's type differs from its interface: {error:#}"),
                TEXT_DETAIL_BYTES_SHOWN,
            ),
        };
        let no_function =
            |name: &str| Rejected::Malformed { detail: format!("its export {name} has no function `handle`") };
        let exports = Exports {
            flat: info
                .exports
                .iter()
                .find(|name| name.starts_with("isopod:app/http@0.1.") && info.entries.http == Some(HttpAbi::Flat))
                .map(|name| flat_call::Index::find(&pre, name).ok_or_else(|| no_function(name)))
                .transpose()?,
            wasi02: has("wasi:http/incoming-handler@0.2.")
                .then(|| wasi02::ProxyIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            wasi03: has("wasi:http/handler@0.3.")
                .then(|| wasi03::ServiceIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            events: info
                .entries
                .events
                .then(|| bindings::events::EventAppIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            health: info
                .entries
                .health
                .then(|| bindings::health::HealthAppIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            init: (has(INIT) && !info.is_snapshot)
                .then(|| bindings::init::InitAppIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
        };
        Ok(Self(Arc::new(Inner { frozen, linked: Arc::new(Linked { pre, exports }) })))
    }

    /// Returns the program without its code. The code is unmapped once the last instance has ended
    /// and newer frozen code has evicted it from the cache.
    pub fn freeze(&self) -> FrozenProgram {
        self.close_connections();
        self.engine().frozen_code().keep(&self.0.frozen.0.file, &self.0.linked);
        self.0.frozen.clone()
    }

    /// Closes the program's outbound connections: idle connections now, others once their requests
    /// have ended.
    pub fn close_connections(&self) {
        self.outbound().close_connections();
    }

    /// Returns the component's properties.
    pub fn info(&self) -> &ComponentInfo {
        self.0.frozen.info()
    }

    /// Returns the program's sandbox.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.0.frozen.0.sandbox
    }

    /// Returns whether guests may do file operations, which block a thread.
    pub fn has_folders(&self) -> bool {
        !self.sandbox().folders.is_empty()
    }

    pub(crate) fn opening(&self) -> &Arc<Semaphore> {
        &self.0.frozen.0.opening
    }

    /// Returns the largest body that a request to the program may have.
    pub fn body_limit(&self) -> BodyLimit {
        self.sandbox().limits.body_limit(self.info().holds_bodies_whole)
    }

    /// Starts a new instance within the program's request timeout.
    pub async fn start(&self) -> Result<Box<Instance>, Fault> {
        let limit = self.sandbox().limits.request_timeout;
        tokio::time::timeout(limit, Instance::start(self)).await.unwrap_or(Err(Fault::Timeout { limit }))
    }

    /// Returns whether instances of both programs use the same pool, so that ending one frees a
    /// slot for the other.
    pub fn shares_slots_with(&self, other: &Self) -> bool {
        self.0.frozen.0.kind == other.0.frozen.0.kind
    }

    pub(crate) fn wasmtime_engine(&self) -> &wasmtime::Engine {
        self.0.linked.pre.engine()
    }

    pub(crate) fn pre(&self) -> &InstancePre<HostState> {
        &self.0.linked.pre
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.0.linked.exports
    }

    pub(crate) fn config(&self) -> &Arc<WasiConfigVariables> {
        &self.0.frozen.0.config
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        &self.0.frozen.0.outbound
    }

    pub(crate) fn purity(&self) -> Option<&Arc<PurityCheck>> {
        self.0.frozen.0.purity.as_ref()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.frozen.0.engine
    }
}

/// Creates the linker with all functions that guests of one flavour can import.
pub(crate) fn linker(engine: &wasmtime::Engine, flavour: Flavour) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasi_http::add_to_linker(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| WasiConfig::from(&*state.config))?;
    keyvalue::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    if flavour == Flavour::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    bounded::add_to_linker(&mut linker, flavour)?;
    Ok(linker)
}

/// Lists the missing imports: the import that wasmtime reports, and all imports of which the host
/// offers no version.
fn unlinked(code: &wasmtime::component::Component, error: &wasmtime::Error) -> Rejected {
    let detail = format!("{error:#}");
    let first = detail.split('`').nth(1).unwrap_or("an import").to_owned();
    let detail = line_excerpt(&detail, TEXT_DETAIL_BYTES_SHOWN);
    let hint = format!(
        "The host offers this family of interfaces, but not this version or function ({detail}). Build with a version \
         that docs/sandbox.md lists under \"What can be imported\""
    );
    let imports = code.component_type();
    let imports = imports.imports(code.engine()).map(|(name, _)| name.to_owned()).filter(|name| *name != first);
    let others = imports.filter(|name| !offered::is_offered(name)).map(|name| offered::named(&name));
    Rejected::UnknownImport { names: std::iter::once(offered::named(&first)).chain(others).collect(), hint }
}
