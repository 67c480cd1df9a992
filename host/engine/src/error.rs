//! Why an engine could not be created, and why a component has no snapshot. Never handles an error.

use crate::{fault::Fault, inspect::Rejected};
use std::io;

/// Why the engine could not be created.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the WebAssembly engine rejected its settings: {0}")]
    Settings(String),
    #[error("cannot start a thread: {0}")]
    Threads(String),
    #[error("cannot use the folder for compiled code: {0}")]
    Cache(#[source] io::Error),
}

/// Why a component has no snapshot, and how its author can change that. Its instances can still
/// start without one.
#[derive(Debug, thiserror::Error)]
pub enum NoSnapshot {
    #[error(
        "nothing to prepare: the component exports no isopod:app/init, and [snapshot] names no requests. \
         Add `isopod_sdk::init!(prepare)`, or `warm = [\"/\"]`"
    )]
    NothingToPrepare,
    #[error(
        "the component uses WASI 0.3 or async exports, whose tasks can't be part of an image. Build it for WASI 0.2"
    )]
    Concurrent,
    #[error("its instances serve one request each; ComponentizeJS has already run the script's top level at the build")]
    SingleUse,
    #[error("the component is a snapshot already")]
    IsOne,
    #[error("its code doesn't support snapshots: {detail}")]
    Unsupported { detail: String },
    #[error("it could not be prepared: {0}. {WITHOUT}")]
    Init(Fault),
    #[error("the warm-up request GET {path} failed: {detail}. {WITHOUT}")]
    WarmUp { path: String, detail: String },
    #[error("{what} took longer than {seconds} s")]
    TooLong { what: &'static str, seconds: u64 },
    #[error(
        "it holds resources of the host when it is prepared (streams, files, pollables, key-value buckets), which no \
         image can keep. Drop them before `init` returns or the request is answered; log with `log::info!` in place of \
         `println!`, which keeps standard output open"
    )]
    HoldsResources,
    #[error(
        "it reads environment variables while it is prepared, and would never see their real values. Read config vars \
         by wasi:config (`config::get`), and only when a request needs them"
    )]
    ReadsEnvironment,
    #[error(
        "it looks into its folders while it is prepared, and would never see their real content. Read files only \
         when a request needs them, or put what `init` needs into the component"
    )]
    LooksForFolders,
    #[error(
        "it takes random bytes while it is prepared, and all instances would continue with the same bytes. Take them \
         only when a request needs them"
    )]
    TakesRandomness,
    #[error(
        "it has {mib} MiB of memory when it is prepared, and at most {limit_mib} MiB fit an image. Prepare less; freed \
         memory counts too, since a guest's memory never shrinks"
    )]
    TooMuchMemory { mib: usize, limit_mib: usize },
    #[error("the component with its image is rejected: {0}")]
    Image(Rejected),
    #[error("taking it failed: {0}. See the host's log for details")]
    Internal(String),
}

/// Added to the guest's own error text, which may ask for a grant that the manifest already has.
const WITHOUT: &str = "A snapshot is prepared without the app's grants and config vars, since its image would keep \
                       their effects";
