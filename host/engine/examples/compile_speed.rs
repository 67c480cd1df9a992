//! Measures on this machine how long each of wasmtime's compilers takes for a component: `cargo
//! build --workspace --example compile_speed && target/debug/examples/compile_speed FILE.wasm …`

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a measurement fails by a panic")]

use std::time::Instant;
use wasmtime::{Config, Engine, OptLevel, Strategy};

/// Compilations of each file by each compiler; the median is printed.
const ROUNDS: usize = 9;

fn main() -> wasmtime::Result<()> {
    println!("| component | bytes | Winch ms | Cranelift, not optimised, ms | Cranelift, optimised, ms |");
    println!("| --- | --- | --- | --- | --- |");
    for file in std::env::args().skip(1) {
        let bytes = std::fs::read(&file)?;
        let winch = median(&bytes, Strategy::Winch, OptLevel::None)?;
        let none = median(&bytes, Strategy::Cranelift, OptLevel::None)?;
        let speed = median(&bytes, Strategy::Cranelift, OptLevel::Speed)?;
        println!("| {file} | {} | {winch:.1} | {none:.1} | {speed:.1} |", bytes.len());
    }
    Ok(())
}

/// Returns the median compile time in milliseconds.
fn median(bytes: &[u8], strategy: Strategy, level: OptLevel) -> wasmtime::Result<f64> {
    let mut settings = Config::new();
    settings.strategy(strategy).cranelift_opt_level(level).epoch_interruption(true).parallel_compilation(true);
    let engine = Engine::new(&settings)?;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        engine.precompile_component(bytes)?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[ROUNDS / 2].as_secs_f64() * 1000.0)
}
