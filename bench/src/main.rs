//! `cargo xtask bench`: how fast the host is, beside others on the same machine in the same run. Measures and tells; a
//! target that is missed is said and never fails the run, since a figure depends on the machine.

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
    /// How soon new code answers after its file has changed, and whether a request fails meanwhile
    Reload(reload::Arguments),
    /// How much sooner a further version of an app serves, most of which was compiled before
    Redeploy(redeploy::Arguments),
    /// Whether requests fail or wait while new releases take the place of old ones
    Swap(swap::Arguments),
    /// How soon a quiet app answers beside apps that want all of the CPU, and what share each heavy app gets
    Neighbour(neighbour::Arguments),
    /// How soon a frozen app gives its first answer
    Thaw(thaw::Arguments),
    /// What ten thousand deployed apps cost, and how soon the host and each of them is back
    Density(density::Arguments),
    /// How soon an app has grown to a step of load, and shrunk after it
    Scale(scale::Arguments),
    /// How many instructions a request takes, which a busy machine does not change
    Instructions(instructions::Arguments),
}

/// What every benchmark is told.
#[derive(clap::Args)]
struct Common {
    /// A host that is built already, instead of building one for release
    #[arg(long, value_name = "FILE")]
    isopod: Option<PathBuf>,
    /// Write the figures to this file as well
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
    /// The host, built for release unless one was named.
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

/// The components of these examples, built if they are not up to date.
fn components<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    let root = step::root();
    setup::run()?;
    guests::build(&names.map(str::to_owned), guests::Linker::BuildIt)?;
    Ok(names.map(|name| isopod_toolchain::guest_file(&root, name)))
}

/// The component of an example that a project may be without, or that needs what this machine may be without.
fn component_if_there(name: &str) -> Option<PathBuf> {
    let root = step::root();
    if !root.join("examples").join(name).join("isopod.toml").is_file() {
        step::announce(&format!("passing over {name}: there is no such example"));
        return None;
    }
    if let Err(error) = guests::build(&[name.to_owned()], guests::Linker::BuildIt) {
        step::announce(&format!("passing over {name}: {error:#}"));
        return None;
    }
    let component = isopod_toolchain::guest_file(&root, name);
    component.is_file().then_some(component)
}

/// An empty folder for one benchmark's files, below the target folder.
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
