//! A `wasi:cli/command` tool: it prints its arguments and its environment, and exits with the code that `--exit` names.
//!
//! `--read PATH` prints a file and `--input` copies standard input, to show what the sandbox grants.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    println!("arguments: {:?}", &arguments[1..]);
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (name, value) in variables {
        println!("env {name}={value}");
    }
    let after = |option: &str| {
        let position = arguments.iter().position(|argument| argument == option)?;
        arguments.get(position + 1)
    };
    if let Some(path) = after("--read") {
        match std::fs::read_to_string(path) {
            Ok(text) => print!("{text}"),
            Err(error) => {
                eprintln!("reading {path}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if arguments.iter().any(|argument| argument == "--input") {
        if let Err(error) = std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()) {
            eprintln!("copying the input: {error}");
            return ExitCode::FAILURE;
        }
    }
    match after("--exit").map(|code| code.parse::<u8>()) {
        None => ExitCode::SUCCESS,
        Some(Ok(code)) => ExitCode::from(code),
        Some(Err(error)) => {
            eprintln!("--exit needs a number from 0 to 255: {error}");
            ExitCode::from(2)
        }
    }
}
