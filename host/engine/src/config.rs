//! Creates the wasmtime engines with their settings. Never decides a guest's permissions: the
//! sandbox does.
//!
//! A component that needs the component model's async features (WASI 0.3) runs on a *concurrent*
//! engine. All others run on a *plain* engine, where instances and calls are cheaper.
//! Each flavour has one engine for optimised code and one for quickly compiled code.

use crate::{
    error::EngineError,
    functions::Functions,
    kind::{Flavour, Kind, Speed},
    limits,
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails,
};

/// The embedder's settings.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Folder of the cache of compiled code. If `None`, a temporary folder is used and removed with
    /// the engine.
    pub cache_dir: Option<PathBuf>,
    /// Compiler threads.
    pub compile_threads: usize,
    /// Live instances over all apps.
    pub instances_max: u32,
    /// Guest memory over all apps, in bytes.
    pub memory_bytes_max: u64,
    /// Bytes of code that stays mapped while its programs are frozen.
    pub frozen_code_bytes_max: u64,
    /// The host's own addresses. No guest may connect to them, regardless of its grants.
    pub forbidden_addresses: Vec<SocketAddr>,
    /// The name server for outbound requests; the system's name servers if `None`.
    pub resolver: Option<SocketAddr>,
    /// The certificates (DER) of the authorities that the host's own connections trust, such as
    /// those of log drains; the public authorities if empty. Requests of guests never trust them.
    pub authorities: Vec<Vec<u8>>,
    /// Open outbound connections of all apps together.
    pub outbound_connections_max: usize,
    /// Idle timeout of an outbound connection.
    pub outbound_idle_time: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compile_threads: std::thread::available_parallelism().map_or(1, usize::from),
            instances_max: limits::INSTANCES_MAX,
            memory_bytes_max: u64::MAX,
            frozen_code_bytes_max: limits::FROZEN_CODE_BYTES_MAX,
            forbidden_addresses: Vec::new(),
            resolver: None,
            authorities: Vec::new(),
            outbound_connections_max: limits::OUTBOUND_CONNECTIONS_MAX,
            outbound_idle_time: limits::OUTBOUND_IDLE_TIME,
        }
    }
}

/// Creates the engine of one kind, which compiles and runs its components.
pub(crate) fn engine(
    kind: Kind,
    config: &EngineConfig,
    functions: &Arc<Functions>,
) -> Result<wasmtime::Engine, EngineError> {
    let mut settings = Config::new();
    settings
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::WASM_STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .memory_init_cow(true)
        .parallel_compilation(true)
        // Regardless of the environment: `symboliser.rs` reads debug information from the
        // component's file.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(limits::BACKTRACE_FRAMES_MAX));
    match kind.flavour {
        Flavour::Plain => settings.wasm_component_model_async(false).concurrency_support(false),
        Flavour::Concurrent => settings.wasm_component_model_async(true).concurrency_support(true),
    };
    match kind.speed {
        Speed::Optimised => settings
            .strategy(Strategy::Cranelift)
            .cranelift_opt_level(OptLevel::Speed)
            .enable_incremental_compilation(Arc::clone(functions) as Arc<dyn wasmtime::CacheStore>)
            .map_err(|error| EngineError::Settings(format!("{error:#}")))?,
        // Winch translates WebAssembly to machine code in one pass, which takes less time than
        // Cranelift without optimisations (docs/benchmarks.md).
        Speed::Quick => settings.strategy(Strategy::Winch),
    };
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config.instances_max, kind.flavour)?));
    wasmtime::Engine::new(&settings).map_err(|error| EngineError::Settings(format!("{error:#}")))
}

fn pool(instances: u32, flavour: Flavour) -> Result<PoolingAllocationConfig, EngineError> {
    let core = instances.saturating_mul(limits::CORE_INSTANCES_PER_SLOT);
    let memories = instances.saturating_mul(limits::MEMORIES_PER_SLOT);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(core)
        .total_memories(memories)
        .total_tables(core)
        .total_stacks(instances.saturating_mul(limits::stacks_per_slot(flavour)))
        .max_core_instances_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_tables_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_module(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_tables_per_module(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_core_instance_size(4 * 1024 * 1024)
        .max_component_instance_size(4 * 1024 * 1024)
        .table_elements(1_000_000)
        .linear_memory_keep_resident(limits::MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(limits::TABLE_KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(0);
    // To the scan, a swapped-out page looks untouched, so one tenant's memory could leak to the
    // next.
    pool.pagemap_scan(if swap_is_on()? { Enabled::No } else { Enabled::Auto });
    Ok(pool)
}

/// Returns whether this machine may swap memory out, by the kernel's list. Unknown counts as yes.
fn swap_is_on() -> Result<bool, EngineError> {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(list) => Ok(list.lines().count() > 1),
        Err(_) => Ok(true),
    }
}
