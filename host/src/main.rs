//! scratch
mod cli { pub(crate) mod local; pub(crate) mod serve; pub(crate) mod run; }
mod dispatch; mod ingress; mod limits; mod problem;
use clap::Parser;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[derive(Parser)]
enum Cli { Serve(cli::serve::Args), Run(cli::run::Args) }
fn main() -> anyhow::Result<std::process::ExitCode> { match Cli::parse() { Cli::Serve(a) => cli::serve::run(a), Cli::Run(a) => cli::run::run(a) } }
