//! The only reader of the environment. It resolves what was written into what is used, and starts nothing.

use std::path::PathBuf;

/// Where a host keeps its data when it was not told: `$XDG_DATA_HOME/isopod`, else `~/.local/share/isopod`.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_DATA_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("isopod"))
}
