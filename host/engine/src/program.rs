//! Joins a component with its sandbox: does all work that is common to its instances once, so that
//! a start is cheap. Never starts an instance.

use crate::{
    charged::MemoryCharge,
    engine::{Component, Engine},
    inspect::{ComponentInfo, Rejected},
    kind::Kind,
    limits,
    linked::{Exports, Linked, unlinked},
    linker,
    outbound::Outbound,
    provider_link,
    purity::PurityCheck,
    sandbox::Sandbox,
    state::{HostState, Parts},
};
use isopod_policy::BodyLimit;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Semaphore;
use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi_config::WasiConfigVariables;

/// A component that can be started.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    frozen: FrozenProgram,
    linked: Arc<Linked>,
}

/// A program without its machine code mapped. Kept for a frozen app; thawing maps the code again.
#[derive(Clone)]
pub struct FrozenProgram(Arc<FrozenInner>);

struct FrozenInner {
    engine: Engine,
    info: ComponentInfo,
    kind: Kind,
    file: PathBuf,
    source: Option<Arc<Path>>,
    sandbox: Arc<Sandbox>,
    config: Arc<WasiConfigVariables>,
    outbound: Outbound,
    purity: Option<Arc<PurityCheck>>,
    /// Permits for opening an instance's folders.
    opening: Arc<Semaphore>,
}

impl FrozenProgram {
    /// Maps the code again, unless another program or the cache of recently frozen code still has
    /// it. Blocks for about as long as opening a file.
    pub fn thaw(&self) -> Result<Program, Rejected> {
        if let Some(linked) = self.linked() {
            return Ok(Program(Arc::new(Inner { frozen: self.clone(), linked })));
        }
        let code = self.0.engine.map(self.0.kind, &self.0.file)?;
        Program::link(self.clone(), &code)
    }

    /// Returns the component's code if it is in memory and linked.
    fn linked(&self) -> Option<Arc<Linked>> {
        let engine = &self.0.engine;
        // The code may be that of an app with the same component, which offers no interfaces.
        let is_whole =
            |linked: &Arc<Linked>| self.info().exported_interfaces.is_empty() || !linked.exports.offered.is_empty();
        let shared = engine.shared_code().find(&self.0.file).filter(is_whole);
        shared.or_else(|| engine.frozen_code().find(&self.0.file).filter(is_whole))
    }

    /// Returns the component's properties.
    pub fn info(&self) -> &ComponentInfo {
        &self.0.info
    }
}

impl Engine {
    /// Joins a component with its sandbox.
    pub fn program(&self, component: &Component, sandbox: Sandbox) -> Result<Program, Rejected> {
        Program::new(self, component, sandbox)
    }
}

impl Program {
    pub(crate) fn new(engine: &Engine, component: &Component, sandbox: Sandbox) -> Result<Self, Rejected> {
        component.info.check_interfaces(&sandbox.grants, sandbox.providers.is_some())?;
        let frozen = Self::frozen(engine, component, sandbox, None);
        match frozen.linked() {
            Some(linked) => Ok(Self(Arc::new(Inner { frozen, linked }))),
            None => Self::link(frozen, &component.code),
        }
    }

    /// Creates a program for the instance that is prepared for a snapshot.
    pub(crate) fn for_snapshot(
        engine: &Engine,
        component: &Component,
        sandbox: Sandbox,
        purity: Arc<PurityCheck>,
    ) -> Result<Self, Rejected> {
        let linker =
            linker::for_snapshot(engine.linker(component.kind)).map_err(|error| unlinked(&component.code, &error))?;
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
            source: component.source.clone(),
            config: Arc::new(config),
            outbound: Outbound::new(Arc::clone(&sandbox), engine.network()),
            sandbox,
            purity,
            opening: Arc::new(Semaphore::new(limits::FOLDERS_OPENED_AT_ONCE)),
        }))
    }

    /// Links the code with the host's functions, for all programs with this component.
    fn link(frozen: FrozenProgram, code: &wasmtime::component::Component) -> Result<Self, Rejected> {
        let engine = frozen.0.engine.clone();
        let linker = engine.linker(frozen.0.kind);
        let program = Self::of(frozen, code, linker)?;
        engine.shared_code().add(&program.0.frozen.0.file, &program.0.linked);
        Ok(program)
    }

    /// Links the code with the host's functions.
    fn of(
        frozen: FrozenProgram,
        code: &wasmtime::component::Component,
        linker: &Linker<HostState>,
    ) -> Result<Self, Rejected> {
        let info = frozen.info();
        let linked = if info.imported_interfaces.is_empty() {
            Linked::new(info, code, linker)
        } else {
            let mut linker = linker.clone();
            provider_link::link(&mut linker, info).map_err(|error| unlinked(code, &error))?;
            Linked::new(info, code, &linker)
        };
        let linked = Arc::new(linked?);
        Ok(Self(Arc::new(Inner { frozen, linked })))
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

    /// Returns the budget that pays for bytes that the host holds for the program.
    pub fn memory_charge(&self) -> MemoryCharge {
        MemoryCharge { budget: Arc::clone(self.engine().memory()), may_use_reserve: self.sandbox().may_use_reserve }
    }

    /// Returns whether a plugin can receive the bodies that it asks for.
    pub fn receives_bodies(&self) -> bool {
        self.exports().body_handler.is_some()
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

    /// Creates the state of a new instance.
    pub(crate) fn new_state(&self) -> wasmtime::Result<HostState> {
        let FrozenInner { engine, info, sandbox, config, outbound, purity, .. } = &*self.0.frozen.0;
        HostState::new(Parts { info, sandbox, config, outbound, purity: purity.as_ref(), memory: engine.memory() })
    }

    fn outbound(&self) -> &Outbound {
        &self.0.frozen.0.outbound
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.frozen.0.engine
    }

    /// Returns the component's own file, if it contains debug information.
    pub(crate) fn source(&self) -> Option<&Arc<Path>> {
        self.0.frozen.0.source.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, Output, OutputLine, Speed};

    struct Silent;

    impl Output for Silent {
        fn line(&self, _: OutputLine<'_>) {}
    }

    /// Returns a component that exports an interface with this name.
    fn offering(interface: &str) -> Vec<u8> {
        let text = format!(
            r#"(component
                (core module $m (func (export "f")))
                (core instance $c (instantiate $m))
                (func $f (canon lift (core func $c "f")))
                (instance $i (export "f" (func $f)))
                (export "acme:math/{interface}" (instance $i)))"#
        );
        wat::parse_str(text).unwrap()
    }

    fn bare() -> Sandbox {
        Sandbox::without_rights("math".to_owned(), Arc::new(Silent))
    }

    #[tokio::test]
    async fn a_provider_is_not_thawed_with_the_code_of_an_app() {
        let engine = Engine::new(EngineConfig { instances_max: 10, ..EngineConfig::default() }).unwrap();
        let component = engine.load(offering("one").into(), Speed::Quick).await.unwrap();
        let app = engine.program(&component.clone().without_exported_interfaces(), bare()).unwrap();
        let provider = engine.program(&component, bare()).unwrap();
        let (frozen, of_app) = (provider.freeze(), app.freeze());
        assert!(app.exports().offered.is_empty() && of_app.info().exported_interfaces.is_empty());
        assert!(!frozen.thaw().unwrap().exports().offered.is_empty());
    }

    #[tokio::test]
    async fn programs_with_the_same_component_share_its_code_while_one_has_it() {
        let config = EngineConfig { instances_max: 10, frozen_code_bytes_max: 0, ..EngineConfig::default() };
        let engine = Engine::new(config).unwrap();
        let component = engine.load(offering("one").into(), Speed::Quick).await.unwrap();
        let [one, two] = [(); 2].map(|()| engine.program(&component, bare()).unwrap());
        assert!(Arc::ptr_eq(&one.0.linked, &two.0.linked));
        let component = engine.load(offering("two").into(), Speed::Quick).await.unwrap();
        let other = engine.program(&component, bare()).unwrap();
        assert!(!Arc::ptr_eq(&one.0.linked, &other.0.linked));
        let (gone, frozen) = (Arc::downgrade(&one.0.linked), one.freeze());
        drop(one);
        assert!(Arc::ptr_eq(&frozen.thaw().unwrap().0.linked, &two.0.linked));
        drop(two);
        assert!(gone.upgrade().is_none(), "the list of shared code keeps none alive");
        assert!(frozen.thaw().is_ok(), "the code is mapped again");
    }
}
