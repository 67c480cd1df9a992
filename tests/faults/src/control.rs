//! The controls that a test shares with a host: a small file that both map into their memory. Owns
//! its layout. Never injects a fault.

use std::{
    ffi::OsStr,
    fs::OpenOptions,
    io,
    ops::Deref,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use crate::next_random;

/// A disk error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskError {
    /// `EIO`: writes, truncations and syncs fail. A failed sync discards the writes before it, as
    /// Linux does: a later sync doesn't make them durable.
    Io,
    /// `ENOSPC`: writes fail.
    Full,
    /// `EROFS`: writes, truncations, and opening a file for writing fail.
    ReadOnly,
    /// `EDQUOT`: only syncs fail, as on a file system that allocates space late.
    Sync,
    /// `ETIMEDOUT`: only syncs of database files fail, not those of their journals.
    SyncOfDatabase,
    /// `EIO`: only reads fail.
    Read,
    /// `EIO`: only reads of the files of apps fail.
    ReadOfApps,
    /// `EIO`: only reads of blobs fail.
    ReadOfBlobs,
    /// `ENOSPC`: only writes of the logs of apps fail.
    LogsFull,
    /// `EROFS`: only writes of the logs of apps, and opening one for writing, fail.
    LogsReadOnly,
}

/// A call that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Write,
    Truncate,
    /// The sync of any other file.
    Sync,
    /// The sync of a file whose name ends with `.db`.
    SyncOfDatabase,
    OpenForWriting,
    /// The read of any other file.
    Read,
    /// The read of a file of an app.
    ReadOfApp,
    /// The read of a blob.
    ReadOfBlob,
    /// The write of an app's log.
    WriteOfLog,
    OpenLogForWriting,
}

impl Call {
    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadOfApp | Self::ReadOfBlob)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::WriteOfLog)
    }
}

impl DiskError {
    const ALL: [Self; 10] = [
        Self::Io,
        Self::Full,
        Self::ReadOnly,
        Self::Sync,
        Self::SyncOfDatabase,
        Self::Read,
        Self::ReadOfApps,
        Self::ReadOfBlobs,
        Self::LogsFull,
        Self::LogsReadOnly,
    ];

    fn errno(self) -> i32 {
        match self {
            Self::Io | Self::Read | Self::ReadOfApps | Self::ReadOfBlobs => libc::EIO,
            Self::Full | Self::LogsFull => libc::ENOSPC,
            Self::ReadOnly | Self::LogsReadOnly => libc::EROFS,
            Self::Sync => libc::EDQUOT,
            Self::SyncOfDatabase => libc::ETIMEDOUT,
        }
    }

    /// Returns the number of an error. The first one is 1.
    fn number(error: Option<Self>) -> u64 {
        Self::ALL.iter().position(|found| Some(*found) == error).map_or(0, |index| index as u64 + 1)
    }

    fn of_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    fn affects(self, call: Call) -> bool {
        match self {
            Self::Io => call.writes() || matches!(call, Call::Truncate | Call::Sync | Call::SyncOfDatabase),
            Self::Full => call.writes(),
            Self::ReadOnly => {
                call.writes() || matches!(call, Call::Truncate | Call::OpenForWriting | Call::OpenLogForWriting)
            }
            Self::Sync => matches!(call, Call::Sync | Call::SyncOfDatabase),
            Self::SyncOfDatabase => call == Call::SyncOfDatabase,
            Self::Read => call.reads(),
            Self::ReadOfApps => call == Call::ReadOfApp,
            Self::ReadOfBlobs => call == Call::ReadOfBlob,
            Self::LogsFull => call == Call::WriteOfLog,
            Self::LogsReadOnly => matches!(call, Call::WriteOfLog | Call::OpenLogForWriting),
        }
    }
}

/// The length of [`Fields::delayed_path`], in units of eight bytes.
const DELAYED_PATH_WORDS: usize = 16;

/// The shared fields. All are valid for every value, so that each side can read them at any time.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Fields {
    /// The id of the process that injects faults; 0 before a process has claimed this.
    process: AtomicU64,
    /// The number of the error; 0 without an error.
    error: AtomicU64,
    per_million: AtomicU64,
    seed: AtomicU64,
    /// The number of calls that could have failed.
    calls: AtomicU64,
    /// The number of calls that failed.
    failed: AtomicU64,
    sync_delay_ms: AtomicU64,
    /// The path below which syncs are delayed, relative to the folder: zero bytes follow its text.
    delayed_path: [AtomicU64; DELAYED_PATH_WORDS],
    /// The number of syncs that are being delayed.
    delayed_syncs: AtomicU64,
    /// The number of syncs that were delayed so far.
    delays: AtomicU64,
    clock_offset_s: AtomicI64,
    /// Whether writes of the logs of apps wait.
    logs_hang: AtomicU64,
    /// The number of writes of logs that wait.
    hanging_writes: AtomicU64,
}

/// The controls, mapped into the memory of this process.
#[derive(Debug)]
pub struct Control(NonNull<Fields>);

// SAFETY: the fields are atomic, and the mapping is not bound to a thread.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

impl Control {
    /// Maps a file, which is created or grown to the size of the fields.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(size_of::<Fields>() as u64)?;
        let (access, size) = (libc::PROT_READ | libc::PROT_WRITE, size_of::<Fields>());
        // SAFETY: a new mapping replaces no other, and the file has this size.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(mapped.cast()).map(Self).ok_or_else(|| io::Error::other("mapped to the null page"))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: the mapping is of this size, and no reference to it outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Fields>()) };
    }
}

impl Deref for Control {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        // SAFETY: the mapping is aligned to a page, has this size, exists as long as `self`, and
        // has only atomic fields.
        unsafe { self.0.as_ref() }
    }
}

/// What a test sets and reads.
impl Fields {
    /// Allows another process to inject faults.
    pub fn release(&self) {
        self.process.store(0, Ordering::SeqCst);
    }

    /// Returns the process that injects faults.
    pub fn process(&self) -> u32 {
        u32::try_from(self.process.load(Ordering::SeqCst)).unwrap_or(u32::MAX)
    }

    /// Makes a share of the affected calls fail, or none.
    pub fn set_error(&self, error: Option<DiskError>, per_million: u32, seed: u64) {
        self.error.store(0, Ordering::SeqCst);
        self.per_million.store(per_million.into(), Ordering::SeqCst);
        self.seed.store(seed, Ordering::SeqCst);
        self.error.store(DiskError::number(error), Ordering::SeqCst);
    }

    /// Returns the number of calls that failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Delays each sync of the files below a path, which is relative to the folder; the empty path
    /// means all files. Also affects syncs that are being delayed.
    ///
    /// # Panics
    /// If the path is too long.
    pub fn set_sync_delay(&self, below: &Path, delay: Duration) {
        let mut text = below.as_os_str().as_bytes().to_vec();
        assert!(text.len() <= 8 * DELAYED_PATH_WORDS, "{} is too long", below.display());
        text.resize(8 * DELAYED_PATH_WORDS, 0);
        self.sync_delay_ms.store(0, Ordering::SeqCst);
        for (word, bytes) in self.delayed_path.iter().zip(text.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::SeqCst);
        }
        self.sync_delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Returns the number of syncs that are being delayed.
    pub fn delayed_syncs(&self) -> u64 {
        self.delayed_syncs.load(Ordering::SeqCst)
    }

    /// Returns the number of syncs that were delayed so far, including those that are being
    /// delayed.
    pub fn delays(&self) -> u64 {
        self.delays.load(Ordering::SeqCst)
    }

    /// Makes writes of the logs of apps wait until this is called with `false`.
    pub fn set_logs_hang(&self, hang: bool) {
        self.logs_hang.store(hang.into(), Ordering::SeqCst);
    }

    /// Returns the number of writes of logs that wait.
    pub fn hanging_writes(&self) -> u64 {
        self.hanging_writes.load(Ordering::SeqCst)
    }

    /// Sets the clock of the process to this many seconds after the clock of the machine.
    pub fn set_clock_offset_s(&self, seconds: i64) {
        self.clock_offset_s.store(seconds, Ordering::SeqCst);
    }
}

/// What the preloaded library reads and sets.
impl Fields {
    /// Makes this process inject the faults. Returns false if another is: the host starts programs,
    /// which inherit the preloaded library.
    pub fn claim(&self) -> bool {
        let id = u64::from(std::process::id());
        self.process.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Returns the error with which some of these calls fail, if one is set.
    pub fn error_of(&self, call: Call) -> Option<DiskError> {
        DiskError::of_number(self.error.load(Ordering::Relaxed)).filter(|error| error.affects(call))
    }

    /// Returns whether reads of some files fail.
    pub fn fails_reads(&self) -> bool {
        [Call::Read, Call::ReadOfApp, Call::ReadOfBlob].into_iter().any(|call| self.error_of(call).is_some())
    }

    /// Decides whether a call fails. Returns its error number.
    pub fn failure(&self, call: Call) -> Option<i32> {
        let error = self.error_of(call)?;
        if self.random() % 1_000_000 >= self.per_million.load(Ordering::Relaxed) {
            return None;
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        Some(error.errno())
    }

    /// Returns the next random number.
    pub fn random(&self) -> u64 {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        next_random(&mut self.seed.load(Ordering::Relaxed).wrapping_add(calls))
    }

    /// Records the delay of a sync, which ends when the returned value is dropped.
    pub fn begin_delay(&self) -> impl Drop + '_ {
        self.delays.fetch_add(1, Ordering::SeqCst);
        Delay::begin(&self.delayed_syncs)
    }

    /// Returns whether writes of the logs of apps wait.
    pub fn logs_hang(&self) -> bool {
        self.logs_hang.load(Ordering::SeqCst) != 0
    }

    /// Records the wait of a write of a log, which ends when the returned value is dropped.
    pub fn begin_hanging(&self) -> impl Drop + '_ {
        Delay::begin(&self.hanging_writes)
    }

    /// Returns the delay of the syncs of a file. Its path is relative to the folder.
    pub fn sync_delay(&self, file: &Path) -> Duration {
        let delay = Duration::from_millis(self.sync_delay_ms.load(Ordering::SeqCst));
        if delay.is_zero() {
            return delay;
        }
        let words = self.delayed_path.iter().map(|word| word.load(Ordering::SeqCst).to_le_bytes());
        let text: Vec<u8> = words.flatten().take_while(|byte| *byte != 0).collect();
        if file.starts_with(OsStr::from_bytes(&text)) { delay } else { Duration::ZERO }
    }

    /// Returns the shift of the clock.
    pub fn clock_offset_s(&self) -> i64 {
        self.clock_offset_s.load(Ordering::Relaxed)
    }
}

/// A call that is being delayed.
struct Delay<'a>(&'a AtomicU64);

impl<'a> Delay<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> (tempfile::TempDir, Control) {
        let folder = tempfile::tempdir().expect("a folder is created");
        let control = Control::map(&folder.path().join("control")).expect("it is mapped");
        (folder, control)
    }

    #[test]
    fn two_mappings_share_their_fields() {
        let (folder, control) = control();
        let other = Control::map(&folder.path().join("control")).expect("it is mapped again");
        other.set_clock_offset_s(-7);
        assert_eq!(control.clock_offset_s(), -7);
        assert!(control.claim() && !other.claim(), "one process injects faults");
        other.release();
        assert!(other.claim());
    }

    #[test]
    fn an_error_affects_its_share_of_its_calls() {
        let (_folder, control) = control();
        assert_eq!(control.failure(Call::Write), None);
        control.set_error(Some(DiskError::Full), 250_000, 1);
        let failed = (0..10_000).filter(|_| control.failure(Call::Write) == Some(libc::ENOSPC)).count();
        assert!((2_000..3_000).contains(&failed), "{failed}");
        assert_eq!(control.failed(), failed as u64);
        control.set_error(Some(DiskError::ReadOnly), 1_000_000, 1);
        assert_eq!(control.failure(Call::OpenForWriting), Some(libc::EROFS));
        assert_eq!(control.failure(Call::Sync), None);
        control.set_error(Some(DiskError::SyncOfDatabase), 1_000_000, 1);
        assert_eq!(control.failure(Call::Sync), None);
        assert_eq!(control.failure(Call::SyncOfDatabase), Some(libc::ETIMEDOUT));
        control.set_error(Some(DiskError::ReadOfApps), 1_000_000, 1);
        assert_eq!([Call::Read, Call::ReadOfApp].map(|call| control.failure(call)), [None, Some(libc::EIO)]);
        control.set_error(Some(DiskError::LogsFull), 1_000_000, 1);
        let writes = [Call::Write, Call::WriteOfLog, Call::OpenLogForWriting];
        assert_eq!(writes.map(|call| control.failure(call)), [None, Some(libc::ENOSPC), None]);
        control.set_error(Some(DiskError::Full), 1_000_000, 1);
        assert_eq!(control.failure(Call::WriteOfLog), Some(libc::ENOSPC));
        control.set_error(Some(DiskError::Io), 1_000_000, 1);
        assert_eq!(control.failure(Call::Read), None);
        control.set_error(None, 1_000_000, 1);
        assert_eq!(control.failure(Call::Write), None);
    }

    #[test]
    fn a_delay_affects_the_files_below_its_path() {
        let (_folder, control) = control();
        let delay = Duration::from_millis(7);
        let delays =
            || ["apps/one/kv.db", "apps/one-more/kv.db", "control.db"].map(|path| control.sync_delay(path.as_ref()));
        assert_eq!(delays(), [Duration::ZERO; 3]);
        control.set_sync_delay("".as_ref(), delay);
        assert_eq!(delays(), [delay; 3]);
        control.set_sync_delay("apps/one".as_ref(), delay);
        assert_eq!(delays(), [delay, Duration::ZERO, Duration::ZERO]);
        control.set_sync_delay("apps".as_ref(), delay);
        assert_eq!(delays(), [delay, delay, Duration::ZERO]);
    }
}
