//! Builds guests: finds this machine's compiler, library and linker, installs them if they are
//! missing, and runs build commands with them. Used by the CLI, `cargo xtask` and the tests, so
//! that all build guests in the same way. Never reads a manifest and never inspects a
//! component.
//!
//! There are two guest toolchains:
//! - **the user's own Rust**, if it has the target `wasm32-wasip2` (on most machines, from rustup):
//!   a build command runs unchanged;
//! - **Debian's packages**, if the target can't be downloaded: a folder of shims is put first on
//!   PATH (see `shims.rs`), so that the same command works.
//!
//! Any program that calls [`run_as_linker_if_asked`] first in `main` can serve as the shims.

mod build;
mod checks;
mod environment;
mod guest_toolchain;
mod install;
mod limits;
mod machine;
mod shims;
mod sysroot;
mod toolchain;

pub use build::BuildFailed;
pub use checks::{Check, checks};
pub use guest_toolchain::Missing;
pub use install::install;
pub use shims::run_as_linker_if_asked;
pub use toolchain::Toolchain;

/// The target that every guest is compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Forces one of the toolchains, `rustup` or `debian`, if a machine has both: for tests, and for a
/// broken installation.
pub const FORCE_VARIABLE: &str = "ISOPOD_GUEST_TOOLCHAIN";

/// Returns the file to which `cargo xtask guests` writes the component of an example of this
/// repository, for tests, demo and benchmarks. Always below the repository, independent of cargo's
/// own target folder.
pub fn guest_file(repository: &std::path::Path, example: &str) -> std::path::PathBuf {
    repository.join("target").join("guests").join(format!("{example}.wasm"))
}
