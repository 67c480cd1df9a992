//! A `wasi:cli/command` tool that prints its arguments and its environment, and exits with the code
//! of `--exit`.
//!
//! `--read PATH` prints a file and `--input` copies standard input, to show what the sandbox
//! grants.

use std::io::{Write, copy, stdin, stdout};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let code = run(&arguments).unwrap_or_else(|complaint| {
        eprintln!("{complaint}");
        1
    });
    // An error of the flush means that the reader has closed the output.
    let _ = stdout().flush();
    exit(code)
}

fn run(arguments: &[String]) -> Result<u8, String> {
    println!("arguments: {arguments:?}");
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    variables.iter().for_each(|(name, value)| println!("env {name}={value}"));
    let after = |option: &str| {
        let position = arguments.iter().position(|argument| argument == option)?;
        arguments.get(position + 1)
    };
    if let Some(path) = after("--read") {
        print!("{}", std::fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"))?);
    }
    if arguments.iter().any(|argument| argument == "--input") {
        copy(&mut stdin(), &mut stdout()).map_err(|error| format!("copying the input: {error}"))?;
    }
    let code = after("--exit").map_or("0", String::as_str);
    code.parse().map_err(|error| format!("--exit needs a number from 0 to 255: {error}"))
}

/// Exits with a code. For WASI 0.2 the standard library can only report success or failure, so the
/// code is passed to WASI directly.
#[cfg(target_family = "wasm")]
fn exit(code: u8) -> ! {
    wasip2::cli::exit::exit_with_code(code);
    unreachable!("the host ends the program")
}

#[cfg(not(target_family = "wasm"))]
fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}
