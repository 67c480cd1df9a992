//! scratch
mod api; mod config; mod deploy; mod keyvalue; mod observe; mod platform;
mod cli { pub(crate) mod local; pub(crate) mod serve; pub(crate) mod run; pub(crate) mod up; }
mod dispatch; mod ingress; mod limits; mod problem;
use clap::Parser;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[derive(Parser)]
enum Cli { Serve(cli::serve::Args), Run(cli::run::Args), Up(cli::up::Args) }
fn main() -> anyhow::Result<std::process::ExitCode> { match Cli::parse() { Cli::Serve(a) => cli::serve::run(a), Cli::Run(a) => cli::run::run(a), Cli::Up(a) => cli::up::run(a) } }
