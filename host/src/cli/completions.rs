//! `isopod completions`: prints what a shell needs to complete our command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::output;

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell to write for
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "isopod", &mut script);
    output::emit(&String::from_utf8_lossy(&script));
}
