//! Owns how guests are built: which compiler, library and linker this machine has, what to install when it has none, and
//! the running of a build command with them. Used by the CLI, `cargo xtask` and the tests, so that all build alike.
//! Never reads a manifest and never looks into a component.
//!
//! There are two roads to a guest:
//! - **the user's own Rust**, when it has the target `wasm32-wasip2` (on most machines, from rustup): a build command
//!   then runs as it is, and this crate changes nothing;
//! - **Debian's packages**, where no target can be fetched: a folder of shims is put first on PATH, see `shims.rs`, so
//!   that the very same command works.
//!
//! Any program that calls [`run_as_linker_if_asked`] first thing can serve as the shims.

mod build;
mod checks;
mod guest_toolchain;
mod install;
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

/// The target every guest is compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Forces one of the roads, `rustup` or `debian`, where a machine has both: for tests, and for a broken installation.
pub const FORCE_VARIABLE: &str = "ISOPOD_GUEST_TOOLCHAIN";

/// Where `cargo xtask guests` leaves the component of one of the repository's examples, for tests, demo and benchmarks.
/// Always below the repository, wherever cargo itself builds.
pub fn guest_file(repository: &std::path::Path, example: &str) -> std::path::PathBuf {
    repository.join("target").join("guests").join(format!("{example}.wasm"))
}
