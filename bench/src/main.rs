//! `cargo xtask bench`: measures the host's speed beside other servers on the same machine in the
//! same run. Reports a missed target and never fails for that reason, since a figure depends on the
//! machine.

mod api;
mod burn;
mod burst;
mod client;
mod contender;
mod density;
mod flood;
mod host;
mod instructions;
mod machine;
mod neighbour;
mod peers;
mod redeploy;
mod reload;
mod report;
mod scale;
mod serve;
mod server;
mod statistics;
mod swap;
mod targets;
mod thaw;
mod times;
mod variants;
mod verdict;
mod wrk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use xtask::{guests, setup, step};

/// Measures how fast the host is
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(clap::Subcommand)]
enum Benchmark {
    /// Requests per second and latency of a greeting, beside native axum, wasmtime and workerd
    Serve(serve::Arguments),
    /// Time from a changed file to the first response of the new code, and failed requests
    /// meanwhile
    Reload(reload::Arguments),
    /// Deploy time of further versions of an app, most of which was compiled before
    Redeploy(redeploy::Arguments),
    /// Failed and delayed requests while new releases replace earlier releases
    Swap(swap::Arguments),
    /// Latency of a quiet app beside apps that saturate the CPU, and the CPU share of each heavy
    /// app
    Neighbour(neighbour::Arguments),
    /// Time to the first response of a frozen app
    Thaw(thaw::Arguments),
    /// Cost of ten thousand deployed apps, and the time until the host and each app is back
    Density(density::Arguments),
    /// Growth of an app under a step of load, and its shrinking afterwards
    Scale(scale::Arguments),
    /// Instructions per request, which are independent of the machine's load
    Instructions(instructions::Arguments),
}

/// The arguments of every benchmark.
#[derive(clap::Args)]
struct Common {
    /// Use this host instead of building one for release
    #[arg(long, value_name = "FILE")]
    isopod: Option<PathBuf>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    step::exit_code(run(&Arguments::parse().benchmark))
}

fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Serve(arguments) => serve::run(arguments),
        Benchmark::Reload(arguments) => reload::run(arguments),
        Benchmark::Redeploy(arguments) => redeploy::run(arguments),
        Benchmark::Swap(arguments) => swap::run(arguments),
        Benchmark::Neighbour(arguments) => neighbour::run(arguments),
        Benchmark::Thaw(arguments) => thaw::run(arguments),
        Benchmark::Density(arguments) => density::run(arguments),
        Benchmark::Scale(arguments) => scale::run(arguments),
        Benchmark::Instructions(arguments) => instructions::run(arguments),
    }
}

impl Common {
    /// Returns the path of the host. Builds it for release unless the caller named one.
    fn host(&self) -> Result<PathBuf> {
        if let Some(program) = &self.isopod {
            return program.canonicalize().with_context(|| format!("cannot find {}", program.display()));
        }
        step::announce("building the host for release (the first time takes many minutes)");
        step::run(
            step::cargo().args(["build", "--release", "--package", "isopod", "--bins"]),
            "the compiler's message above says why",
        )?;
        Ok(step::target()?.join("release").join(format!("isopod{}", std::env::consts::EXE_SUFFIX)))
    }

    fn write_json(&self, figures: &serde_json::Value) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let text = format!("{figures:#}\n");
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        step::announce(&format!("the figures are in {}", file.display()));
        Ok(())
    }
}

/// Returns the components of these examples. Builds those that are not up to date.
fn components<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    let root = step::root();
    setup::run()?;
    guests::build(&names.map(str::to_owned), guests::Linker::BuildIt)?;
    Ok(names.map(|name| isopod_toolchain::guest_file(&root, name)))
}

/// Returns the component of an example that may be missing, or that may need a tool that is
/// missing.
fn component_if_there(name: &str) -> Option<PathBuf> {
    let root = step::root();
    if !root.join("examples").join(name).join("isopod.toml").is_file() {
        step::announce(&format!("skipping {name}: the example doesn't exist"));
        return None;
    }
    if let Err(error) = guests::build(&[name.to_owned()], guests::Linker::BuildIt) {
        step::announce(&format!("skipping {name}: {error:#}"));
        return None;
    }
    let component = isopod_toolchain::guest_file(&root, name);
    component.is_file().then_some(component)
}

/// Creates an empty folder for one benchmark, below the target folder.
fn fresh_folder(name: &str) -> Result<PathBuf> {
    let folder = step::target()?.join("bench").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    make_folder(&folder)?;
    Ok(folder)
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}
