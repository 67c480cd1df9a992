//! Creates the folders of benchmarks, below the target folder. Never writes a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xtask::step;

/// Creates an empty folder for one benchmark, below the target folder.
pub(super) fn fresh(name: &str) -> Result<PathBuf> {
    let folder = step::target()?.join("bench").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    make(&folder)?;
    Ok(folder)
}

/// Creates a folder and its parents, unless it exists.
pub(super) fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}
