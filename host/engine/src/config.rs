//! The two wasmtime engines and their settings. Never decides what a guest may do: that is the sandbox's.
//!
//! A component that needs the component model's async features (WASI 0.3) runs on the *concurrent* engine. Every
//! other one runs on the *plain* engine, whose instances and calls cost a half to a third.

use crate::{EngineError, limits};
use std::{net::SocketAddr, path::PathBuf};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy};

/// What the embedder chooses.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where compiled code is kept between runs; without it compiled code lives in a folder that goes with the engine.
    pub cache_dir: Option<PathBuf>,
    /// Threads that compile.
    pub compile_threads: usize,
    /// Live instances over all apps, for each engine.
    pub instances_max: u32,
    /// Addresses that no guest reaches, whatever it was granted: the host's own.
    pub forbidden_addresses: Vec<SocketAddr>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            compile_threads: std::thread::available_parallelism().map_or(1, usize::from),
            instances_max: limits::INSTANCES_MAX,
            forbidden_addresses: Vec::new(),
        }
    }
}

/// How a component is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speed {
    /// Soon ready, slower code: for apps that are being worked on.
    Quick,
    /// Later ready, fast code: for everything else.
    Optimised,
}

/// Which of the two engines runs a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flavour {
    Plain,
    Concurrent,
}

/// An engine that runs guests.
pub(crate) fn runtime_engine(flavour: Flavour, config: &EngineConfig) -> Result<wasmtime::Engine, EngineError> {
    let mut settings = shared(flavour);
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)?));
    wasmtime::Engine::new(&settings).map_err(|error| EngineError::Settings(format!("{error:#}")))
}

/// An engine that only compiles, for code that one of [`runtime_engine`] loads.
pub(crate) fn compile_engine(flavour: Flavour, speed: Speed) -> Result<wasmtime::Engine, EngineError> {
    let mut settings = shared(flavour);
    settings.parallel_compilation(true);
    match speed {
        Speed::Optimised => settings.cranelift_opt_level(OptLevel::Speed),
        Speed::Quick => settings.cranelift_opt_level(OptLevel::None),
    };
    wasmtime::Engine::new(&settings).map_err(|error| EngineError::Settings(format!("{error:#}")))
}

fn shared(flavour: Flavour) -> Config {
    let mut settings = Config::new();
    settings
        .strategy(Strategy::Cranelift)
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(limits::WASM_STACK_BYTES)
        .async_stack_size(limits::ASYNC_STACK_BYTES)
        .memory_init_cow(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(limits::BACKTRACE_FRAMES_MAX));
    match flavour {
        Flavour::Plain => settings.wasm_component_model_async(false).concurrency_support(false),
        Flavour::Concurrent => settings.wasm_component_model_async(true).concurrency_support(true),
    };
    settings
}

fn pool(config: &EngineConfig) -> Result<PoolingAllocationConfig, EngineError> {
    let instances = config.instances_max;
    let core = instances.saturating_mul(4);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(core)
        .total_memories(core)
        .total_tables(core)
        .total_stacks(instances)
        .max_core_instances_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_tables_per_component(limits::CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_core_instance_size(4 * 1024 * 1024)
        .max_component_instance_size(4 * 1024 * 1024)
        .table_elements(100_000)
        .linear_memory_keep_resident(limits::MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(limits::TABLE_KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(0);
    // A page that was swapped out looks untouched to the scan, so that a tenant's memory could reach the next one.
    pool.pagemap_scan(if swap_is_on()? { Enabled::No } else { Enabled::Auto });
    Ok(pool)
}

/// Whether this machine may swap memory out, by the kernel's own list; unknown counts as yes.
fn swap_is_on() -> Result<bool, EngineError> {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(list) => Ok(list.lines().count() > 1),
        Err(_) => Ok(true),
    }
}
