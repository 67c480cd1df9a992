//! Implements `isopod run FILE.wasm -- ARGS`: runs one `wasi:cli/command` component with this
//! process's standard streams. Never stores data, except compiled code.

use super::{
    local::{Granted, Loaded, Terminal, engine_config, load},
    output, screen,
};
use anyhow::{Result, bail};
use isopod_engine::{Engine, Fault};
use std::{ffi::OsStr, path::PathBuf, process::ExitCode, sync::Arc};

const OUTPUT: &str = "\
Output: the component uses this program's standard input, output and error. A terminal shows control characters as
escapes; a pipe or a file gets the bytes unchanged. What the component logs through wasi:logging goes to standard error.
The exit status is the component's own, or 1 if it traps.";

#[derive(Debug, clap::Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Args {
    #[command(flatten)]
    granted: Granted,
    /// The component: a .wasm file
    file: PathBuf,
    /// The arguments of the command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(execute(args))
}

async fn execute(args: Args) -> Result<ExitCode> {
    let engine = Engine::new(engine_config(&args.granted)?)?;
    let Loaded { component, .. } = load(&engine, &args.file).await?;
    if !component.info().entries.command {
        bail!("{} is not a command: it doesn't export wasi:cli/run. Serve it with `isopod serve`", args.file.display());
    }
    let text = |part: &OsStr| part.to_string_lossy().into_owned();
    let name = args.file.file_stem().map_or_else(|| "command".to_owned(), text);
    // As in shells, the first argument is the program's file name.
    let program_name = args.file.file_name().map_or_else(|| name.clone(), text);
    let argv = std::iter::once(program_name).chain(args.args).collect();
    let mut sandbox = args.granted.sandbox(&name, argv, Arc::new(Terminal));
    sandbox.stdio = Some(screen::stdio());
    let program = engine.program(&component, sandbox)?;
    match program.run("").await {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        Err(fault) => {
            program.find_places(&fault).await;
            print_backtrace(&fault);
            Err(fault.into())
        }
    }
}

fn print_backtrace(fault: &Fault) {
    for function in fault.backtrace() {
        output::note(&format!("    at {function}"));
    }
}
