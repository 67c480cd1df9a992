//! The program `isopod`: passes the command line to [`cli`] and returns its exit status. Never
//! implements a command itself.

mod allocator;
mod api;
mod certificates;
mod cli;
mod config;
mod control;
mod failpoint;
mod http;
mod ingress;
mod invoke_problem;
mod limits;
mod observe;
mod os;
mod platform;
mod runtime;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First, since the guest toolchain links components by running this program under another name.
    isopod_toolchain::run_as_linker_if_asked();
    os::set_huge_pages(false);
    // The faults that a test injects by the variable `FAILPOINTS`.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    cli::main()
}
