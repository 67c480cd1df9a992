//! The options of every benchmark: the measured host, and the file of the figures. Never measures.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xtask::step;

/// The options of every benchmark.
#[derive(clap::Args)]
pub(super) struct Common {
    /// Use this host instead of building one
    #[arg(long, value_name = "FILE")]
    isopod: Option<PathBuf>,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Common {
    /// Returns the path of the host. Builds it with the profile `dist` unless the caller named one.
    pub(super) fn host(&self) -> Result<PathBuf> {
        if let Some(program) = &self.isopod {
            return program.canonicalize().with_context(|| format!("cannot find {}", program.display()));
        }
        step::announce("building the host with the profile `dist` (the first time takes many minutes)");
        step::run(
            step::cargo().args(["build", "--profile", "dist", "--package", "isopod", "--bins"]),
            "the compiler's message above says why",
        )?;
        Ok(step::target()?.join("dist").join(format!("isopod{}", std::env::consts::EXE_SUFFIX)))
    }

    pub(super) fn write_json(&self, figures: &serde_json::Value) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let text = format!("{figures:#}\n");
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        step::announce(&format!("the figures are in {}", file.display()));
        Ok(())
    }
}
