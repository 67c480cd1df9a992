//! Compiles components to machine code: on its own threads, within limits, and once per digest.
//!
//! Compiled code is cached in files named by the component's digest and the compiler's settings.
//! Loaded code is trusted, so only this module writes these files, only their owner can read them,
//! and a file is loaded only if it matches the checksum stored beside it.

use crate::{
    config::EngineConfig,
    error::{EngineError, NoSnapshot},
    inspect::{ComponentInfo, Rejected, hex},
    kind::Speed,
    limits,
};
use bytes::Bytes;
use isopod_policy::{
    limits::TEXT_DETAIL_BYTES_SHOWN,
    text::{excerpt, printable},
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::Component;

/// Compiler threads and the cache of compiled code.
pub(crate) struct Compiler {
    quick: rayon::ThreadPool,
    optimising: rayon::ThreadPool,
    turns: Arc<Semaphore>,
    snapshot_turns: Arc<Semaphore>,
    folder: PathBuf,
    /// Removes the cache folder on drop, if the embedder did not name one.
    _temporary: Option<tempfile::TempDir>,
}

impl Compiler {
    pub(crate) fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let quick = threads("quick", QUICK_NICENESS, processors)?;
        let optimising = threads("compile", OPTIMISING_NICENESS, config.compile_threads)?;
        let (folder, temporary) = match &config.cache_dir {
            Some(folder) => (folder.clone(), None),
            None => {
                let temporary = tempfile::tempdir().map_err(EngineError::Cache)?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(EngineError::Cache)?;
        let turns = Arc::new(Semaphore::new(limits::COMPILATIONS_MAX));
        let snapshot_turns = Arc::new(Semaphore::new(limits::SNAPSHOTS_MAX));
        Ok(Self { quick, optimising, turns, snapshot_turns, folder, _temporary: temporary })
    }

    /// Returns the path of a component's compiled code.
    pub(crate) fn file(&self, engine: &wasmtime::Engine, info: &ComponentInfo) -> PathBuf {
        Artefact::new(&self.folder, engine, &info.digest).code
    }

    /// Takes a snapshot on an optimising compiler thread.
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    pub(crate) async fn snapshot<T: Send + 'static>(
        &self,
        take: impl FnOnce() -> Result<T, NoSnapshot> + Send + 'static,
    ) -> Result<T, NoSnapshot> {
        let turn = Arc::clone(&self.snapshot_turns).acquire_owned().await.expect("the semaphore is never closed");
        let (reply, received) = oneshot::channel();
        self.optimising.spawn(move || {
            let _turn = turn;
            // The caller may have timed out. A panic would end the process, so it is caught; the
            // caller sees a closed channel.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(reply.send(take()))));
        });
        let limit = limits::COMPILE_TIME_MAX + limits::SNAPSHOT_TIME_MAX;
        match tokio::time::timeout(limit, received).await {
            Ok(Ok(taken)) => taken,
            Ok(Err(_)) => Err(NoSnapshot::Internal("the snapshot thread panicked".to_owned())),
            Err(_) => Err(NoSnapshot::TooLong { what: "taking it", seconds: limit.as_secs() }),
        }
    }

    /// Loads a component for an engine, from the cache or by compiling it.
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    pub(crate) async fn load(
        &self,
        engine: &wasmtime::Engine,
        bytes: Bytes,
        info: &ComponentInfo,
        speed: Speed,
    ) -> Result<Component, Rejected> {
        let threads = match speed {
            Speed::Quick => &self.quick,
            Speed::Optimised => &self.optimising,
        };
        let artefact = Artefact::new(&self.folder, engine, &info.digest);
        let info = info.clone();
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("the semaphore is never closed");
        let engine = engine.clone();
        let (reply, received) = oneshot::channel();
        threads.spawn(move || {
            let _turn = turn;
            let loaded = artefact.load(&engine).map_or_else(|| artefact.compile(&engine, &bytes), Ok);
            if loaded.is_ok() {
                artefact.describe(&info);
            }
            // The caller may have timed out; the artefact is in the cache for the next caller.
            let _ = reply.send(loaded);
        });
        match tokio::time::timeout(limits::COMPILE_TIME_MAX, received).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(Rejected::Compile { detail: "the compiler panicked".into() }),
            Err(_) => Err(Rejected::TooLong { seconds: limits::COMPILE_TIME_MAX.as_secs() }),
        }
    }
}

impl Compiler {
    /// Returns the stored description of a compiled component, by its digest.
    pub(crate) fn described(&self, engine: &wasmtime::Engine, digest: &str) -> Option<ComponentInfo> {
        let info = fs::read(Artefact::new(&self.folder, engine, digest).info).ok()?;
        let info: ComponentInfo = serde_json::from_slice(&info).ok()?;
        (info.digest == digest).then_some(info)
    }

    /// Loads a component from the cache only.
    #[expect(clippy::expect_used, reason = "the semaphore is never closed")]
    pub(crate) async fn load_compiled(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let artefact = Artefact::new(&self.folder, engine, digest);
        if !artefact.code.is_file() {
            return None;
        }
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let engine = engine.clone();
        tokio::task::spawn_blocking(move || artefact.load(&engine)).await.ok().flatten()
    }
}

/// Converts a compiler error: invalid code, or a failure of the compiler itself.
fn refused(error: &wasmtime::Error) -> Rejected {
    let detail = format!("{error:#}");
    let detail = printable(&detail);
    let detail = excerpt(&detail, TEXT_DETAIL_BYTES_SHOWN);
    match detail.split_once("Invalid input WebAssembly code") {
        Some((_, rest)) => Rejected::Malformed { detail: format!("its code is invalid{rest}") },
        None => Rejected::Compile { detail: detail.into_owned() },
    }
}

/// One component's cached files: compiled code, checksum and description.
struct Artefact {
    code: PathBuf,
    checksum: PathBuf,
    info: PathBuf,
}

impl Artefact {
    fn new(folder: &Path, engine: &wasmtime::Engine, digest: &str) -> Self {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        let file = |kind| folder.join(format!("{digest}-{:016x}.{kind}", settings.finish()));
        Self { code: file("cwasm"), checksum: file("sha256"), info: file("json") }
    }

    /// Returns the component if valid code for it is in the cache. Invalid code is treated as
    /// absent and compiled again.
    fn load(&self, engine: &wasmtime::Engine) -> Option<Component> {
        let expected = found(&self.checksum, fs::read_to_string(&self.checksum))?;
        let actual = found(&self.code, checksum(&self.code))?;
        if actual != expected {
            tracing::warn!(file = %self.code.display(), "compiled code does not match its checksum: compiling again");
            return None;
        }
        self.map(engine).inspect_err(|error| tracing::warn!(%error, "cannot load compiled code: compiling again")).ok()
    }

    fn compile(&self, engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Component, Rejected> {
        let code = engine.precompile_component(bytes).map_err(|error| refused(&error))?;
        let kept = |error: io::Error| Rejected::Cache { detail: error.to_string() };
        write_whole(&self.code, &code).map_err(kept)?;
        write_whole(&self.checksum, hex(&Sha256::digest(&code)).as_bytes()).map_err(kept)?;
        // The code was valid when it was compiled, so a failure here is a failure to read the file.
        self.map(engine).map_err(|error| Rejected::Cache { detail: format!("{error:#}") })
    }

    /// Stores the component's description, so that its code can be loaded without its bytes. If
    /// storing fails, the bytes are read again.
    fn describe(&self, info: &ComponentInfo) {
        if self.info.is_file() {
            return;
        }
        let kept = serde_json::to_vec(info).map_err(io::Error::other).and_then(|text| write_whole(&self.info, &text));
        if let Err(error) = kept {
            tracing::debug!(%error, "cannot store a component's description");
        }
    }

    fn map(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        map(engine, &self.code)
    }
}

/// Returns the content of a cached file. Reports a file that can't be read: a disk that fails would
/// otherwise cost a compilation at each start without a message.
fn found<T>(path: &Path, read: io::Result<T>) -> Option<T> {
    let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    read.inspect_err(|error| {
        if !is_absent(error) {
            tracing::warn!(file = %path.display(), %error, "compiled code can't be read: compiling again");
        }
    })
    .ok()
}

/// Computes the checksum of a file in pieces, since compiled code is large.
fn checksum(path: &Path) -> io::Result<String> {
    let (mut file, mut sum) = (fs::File::open(path)?, Sha256::new());
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&sum.finalize())),
            read => sum.update(&piece[..read]),
        }
    }
}

/// Maps a file of compiled code that the caller has written or verified.
pub(crate) fn map(engine: &wasmtime::Engine, code: &Path) -> wasmtime::Result<Component> {
    // SAFETY: only `write_whole` below writes these files, from this compiler's own output, in a
    // folder of mode 0700. This process has compiled them or verified their checksum. wasmtime
    // checks version and settings itself.
    unsafe { Component::deserialize_file(engine, code) }
}

/// Writes a file atomically: a reader, even in another process, sees the whole file or no file.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // The folder is only a cache, so it may have been removed.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Nice value of optimising threads. Compilation is heavy and its input may be hostile, so it
/// yields to serving.
const OPTIMISING_NICENESS: libc::c_int = 10;

/// Nice value of quick threads. A developer waits for this short work: it yields a little, but load
/// doesn't starve it.
const QUICK_NICENESS: libc::c_int = 2;

fn threads(name: &'static str, niceness: libc::c_int, count: usize) -> Result<rayon::ThreadPool, EngineError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.max(1))
        .thread_name(move |index| format!("isopod-{name}-{index}"))
        .start_handler(move |_| {
            // SAFETY: `setpriority` takes plain numbers; 0 is the calling thread on Linux. A
            // refusal changes nothing.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
        })
        .build()
        .map_err(|error| EngineError::Threads(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_atomically_and_stays_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code");
        write_whole(&path, b"old").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no partial file remains");
    }
}
