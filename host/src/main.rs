//! The program `isopod`: hands the command line to [`cli`] and turns its answer into an exit status.
//! It decides nothing itself.

mod api;
mod cli;
mod config;
mod control;
mod failpoint;
mod http;
mod ingress;
mod limits;
mod observe;
mod os;
mod platform;
mod runtime;

use std::process::ExitCode;

/// Instances and requests are short and many; mimalloc keeps their memory per thread and so avoids a shared lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The guest toolchain links components by calling this very program under another name, so this comes first.
    isopod_toolchain::run_as_linker_if_asked();
    // What a test asks for in the variable `FAILPOINTS`.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    cli::main()
}
