//! The wasmtime engines and what their programs share: the compiler with its cache, the linkers and
//! the budgets. Never runs a guest.

use crate::{
    budget::Budget,
    compile::{self, Compiler},
    config::{self, EngineConfig},
    error::EngineError,
    frozen_code::FrozenCode,
    functions::Functions,
    inspect::{ComponentInfo, Rejected, inspect},
    kind::{Flavour, KINDS, Kind, Speed},
    linker,
    outbound::{self, Network, OutboundServer, OutboundStream},
    shared_code::SharedCode,
    state::HostState,
    symboliser::Symboliser,
    ticker::Ticker,
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use wasmtime::component::Linker;

/// The wasmtime engines, their compiler, and the functions that guests can import.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    runtimes: HashMap<Kind, Runtime>,
    compiler: Compiler,
    memory: Arc<Budget>,
    instances: Arc<Budget>,
    frozen_code: FrozenCode,
    shared_code: SharedCode,
    network: Arc<Network>,
    symboliser: Symboliser,
    /// Counter for spreading values between instances; need not be random.
    started: AtomicU32,
    _ticker: Ticker,
}

struct Runtime {
    engine: wasmtime::Engine,
    linker: Linker<HostState>,
}

/// A compiled component, without a sandbox.
#[derive(Clone)]
pub struct Component {
    pub(crate) info: ComponentInfo,
    pub(crate) kind: Kind,
    pub(crate) code: wasmtime::component::Component,
    /// The file with the code, which is mapped again after it was unmapped.
    pub(crate) file: PathBuf,
    /// The file of the component itself, if it contains debug information.
    pub(crate) source: Option<Arc<Path>>,
}

impl Component {
    /// Returns the component's properties.
    pub fn info(&self) -> &ComponentInfo {
        &self.info
    }

    /// Returns the component without its exported interfaces. An app offers none, and each of its
    /// releases would otherwise keep their signatures in memory.
    #[must_use]
    pub fn without_exported_interfaces(mut self) -> Self {
        self.info.exported_interfaces.clear();
        self
    }

    /// Returns the component with the path of its own file, in which the places of backtraces are
    /// searched for. Without debug information, the path is dropped.
    #[must_use]
    pub fn with_source(mut self, file: &Path) -> Self {
        self.source = self.info.has_source_lines.then(|| file.into());
        self
    }
}

impl Engine {
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let functions = Arc::new(Functions::new());
        let runtimes = KINDS.into_iter().map(|kind| Ok((kind, Runtime::new(kind, &config, &functions)?)));
        let runtimes = runtimes.collect::<Result<HashMap<_, _>, EngineError>>()?;
        let ticker = Ticker::start(runtimes.values().map(|runtime| runtime.engine.clone()).collect())
            .map_err(|error| EngineError::Threads(error.to_string()))?;
        let compiler = Compiler::new(&config)?;
        let memory = Arc::new(Budget::new(config.memory_bytes_max));
        let instances = Arc::new(Budget::new(config.instances_max.into()));
        let inner = Inner {
            runtimes,
            compiler,
            memory,
            instances,
            frozen_code: FrozenCode::new(config.frozen_code_bytes_max),
            shared_code: SharedCode::default(),
            network: Network::new(&config),
            symboliser: Symboliser::start().map_err(|error| EngineError::Threads(error.to_string()))?,
            started: AtomicU32::new(0),
            _ticker: ticker,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Compiles a component, or loads it from the cache. The optimising compiler takes over if the
    /// quick compiler can't compile it.
    pub async fn load(&self, bytes: Bytes, speed: Speed) -> Result<Component, Rejected> {
        let info = inspect(&bytes)?;
        let mut kind = Kind { flavour: self.flavour_of(&info), speed };
        let mut loaded = self.0.compiler.load(&self.runtime(kind).engine, bytes.clone(), &info, kind.speed).await;
        if let Err(Rejected::Compile { detail }) = &loaded
            && speed == Speed::Quick
        {
            tracing::debug!(detail, "the quick compiler rejected a component: optimising it instead");
            kind.speed = Speed::Optimised;
            loaded = self.0.compiler.load(&self.runtime(kind).engine, bytes, &info, kind.speed).await;
        }
        let file = self.0.compiler.file(&self.runtime(kind).engine, &info);
        Ok(Component { info, kind, code: loaded?, file, source: None })
    }

    /// Loads a compiled component from the cache by its digest, without its bytes. Returns `None`
    /// if the code or its description is missing.
    pub async fn load_compiled(&self, digest: &str, speed: Speed) -> Option<Component> {
        // A component that the quick compiler could not compile was optimised.
        let speeds = [Some(speed), (speed == Speed::Quick).then_some(Speed::Optimised)];
        for speed in speeds.into_iter().flatten() {
            for flavour in [Flavour::Plain, Flavour::Concurrent] {
                let (kind, compiler) = (Kind { flavour, speed }, &self.0.compiler);
                let engine = &self.runtime(kind).engine;
                let Some(info) = compiler.described(engine, digest) else { continue };
                if self.flavour_of(&info) == flavour
                    && let Some(code) = compiler.load_compiled(engine, digest).await
                {
                    let file = compiler.file(engine, &info);
                    return Some(Component { info, kind, code, file, source: None });
                }
            }
        }
        None
    }

    /// Maps code that this process has compiled or verified.
    pub(crate) fn map(&self, kind: Kind, file: &Path) -> Result<wasmtime::component::Component, Rejected> {
        compile::map(&self.runtime(kind).engine, file).map_err(|error| Rejected::Cache { detail: format!("{error:#}") })
    }

    pub(crate) fn flavour_of(&self, info: &ComponentInfo) -> Flavour {
        Flavour::needed(info.needs_concurrency)
    }

    pub(crate) fn linker(&self, kind: Kind) -> &Linker<HostState> {
        &self.runtime(kind).linker
    }

    /// Returns the network state that all programs share.
    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.0.network
    }

    /// Connects to a server on behalf of an app within `wait`, with the rules about addresses that
    /// apply to the app's own requests. Returns why that fails, as text for users.
    pub async fn connect(&self, app: &str, server: &OutboundServer, wait: Duration) -> Result<OutboundStream, String> {
        outbound::connect(&self.0.network, app, server, wait).await
    }

    /// Returns the addresses of a server that an app may reach, with the same rules.
    pub async fn addresses(&self, app: &str, server: &OutboundServer) -> Result<Vec<SocketAddr>, String> {
        outbound::addresses(&self.0.network, app, server).await
    }

    /// Returns the memory available to an app's guests if no other app has any, in bytes.
    pub fn memory_bytes_most(&self, may_use_reserve: bool) -> u64 {
        self.0.memory.most(may_use_reserve)
    }

    /// Returns the memory that guests of all apps have reserved, in bytes.
    pub fn memory_bytes_reserved(&self) -> u64 {
        self.0.memory.reserved()
    }

    /// Returns the budget of guest memory over all apps.
    pub(crate) fn memory(&self) -> &Arc<Budget> {
        &self.0.memory
    }

    /// Returns the cache of recently frozen programs' code.
    pub(crate) fn frozen_code(&self) -> &FrozenCode {
        &self.0.frozen_code
    }

    /// Returns the code of the programs in memory.
    pub(crate) fn shared_code(&self) -> &SharedCode {
        &self.0.shared_code
    }

    /// Returns the budget of instance slots over all apps.
    pub(crate) fn instances(&self) -> &Arc<Budget> {
        &self.0.instances
    }

    /// Returns the thread that adds places in the source to backtraces.
    pub(crate) fn symboliser(&self) -> &Symboliser {
        &self.0.symboliser
    }

    /// Reports the faults whose backtraces still wait for their places in the source. Blocks for a
    /// bounded time.
    pub fn report_faults(&self) {
        self.0.symboliser.close();
    }

    /// Returns a number below `range`, different at each call, so that instances aren't replaced
    /// simultaneously.
    pub(crate) fn spread(&self, range: u32) -> u32 {
        let golden_ratio = 2_654_435_769_u32;
        self.0.started.fetch_add(1, Ordering::Relaxed).wrapping_mul(golden_ratio) % range.max(1)
    }

    /// Returns the compiler and its cache.
    pub(crate) fn compiler(&self) -> &Compiler {
        &self.0.compiler
    }

    /// Returns the wasmtime engine of one kind.
    pub(crate) fn wasmtime(&self, kind: Kind) -> &wasmtime::Engine {
        &self.runtime(kind).engine
    }

    fn runtime(&self, kind: Kind) -> &Runtime {
        &self.0.runtimes[&kind]
    }
}

impl Runtime {
    fn new(kind: Kind, config: &EngineConfig, functions: &Arc<Functions>) -> Result<Self, EngineError> {
        let engine = config::engine(kind, config, functions)?;
        let linker =
            linker::usual(&engine, kind.flavour).map_err(|error| EngineError::Settings(format!("{error:#}")))?;
        Ok(Self { engine, linker })
    }
}
