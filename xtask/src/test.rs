//! `cargo xtask test`: everything the tests need, then the tests. Its last lines are those of `cargo test`.

use anyhow::Result;

use crate::{guests, setup, step};

pub(crate) fn run(args: &[String]) -> Result<()> {
    setup::run()?;
    step::announce("building the host and the tests (the first time takes some minutes)");
    let advice = "the compiler's message above says why";
    step::run(tests().arg("--no-run"), advice)?;
    guests::build(&[], guests::Linker::BuiltWithTheWorkspace)?;
    let advice = "each failed test is named above; `cargo xtask test NAME` runs one of them again";
    if args.is_empty() {
        step::announce("running the examples' own tests");
        step::run(
            step::cargo().args(["test", "--manifest-path", "examples/Cargo.toml"]).env_remove("CARGO_TARGET_DIR"),
            advice,
        )?;
    }
    if args.is_empty() {
        step::announce("trying every order of the executor's steps");
        let mut model = step::cargo();
        model.args(["test", "--package", "isopod-executor", "--features", "loom", "--lib"]);
        step::run(&mut model, "the order of steps that fails stands above")?;
    }
    step::announce("running all tests");
    step::run(tests().args(args), advice)
}

fn tests() -> std::process::Command {
    let mut cargo = step::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast", "--features", step::FEATURES]);
    cargo
}
