//! Owns what the toolchain reads from its environment: where programs and caches are, and what a
//! build passes to its shims, which are separate processes. Never changes a variable.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::FORCE_VARIABLE;

/// Pass the paths to the shims.
pub(crate) const SHIMS_VARIABLE: &str = "ISOPOD_TOOLCHAIN_SHIMS";
pub(crate) const SYSROOT_VARIABLE: &str = "ISOPOD_TOOLCHAIN_SYSROOT";

/// Returns the folders of programs.
pub(crate) fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// Returns the toolchain that [`FORCE_VARIABLE`] demands.
pub(crate) fn forced_toolchain() -> Option<String> {
    std::env::var(FORCE_VARIABLE).ok().filter(|value| !value.is_empty())
}

/// Returns the folder for the caches of this user.
pub(crate) fn caches() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

/// Returns the folder of the shims if this process was started as a shim.
pub(crate) fn shims() -> Option<PathBuf> {
    std::env::var_os(SHIMS_VARIABLE).map(PathBuf::from)
}

/// Returns the sysroot of a shim.
pub(crate) fn sysroot() -> PathBuf {
    std::env::var_os(SYSROOT_VARIABLE).map(PathBuf::from).unwrap_or_default()
}

/// Returns the names of all variables, which a child process inherits.
pub(crate) fn names() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name)
}
