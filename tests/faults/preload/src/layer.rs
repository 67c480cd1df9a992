//! Applies the faults to calls about files below the data folder, and writes the journal. Owns the
//! order of undo records and changes. Never affects other files, or any process but the first.

use std::{
    ffi::{CStr, CString, OsStr, c_int},
    fs::{self, File, Metadata},
    io,
    mem::ManuallyDrop,
    os::{
        fd::{AsRawFd, FromRawFd, RawFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::MetadataExt,
        },
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use isopod_faults::{
    BOOT_VARIABLE, CONTROL_VARIABLE, Call, Control, FOLDER_VARIABLE, FileKey, JOURNAL_VARIABLE, Record,
};

use crate::real;

/// The maximum size of a journal. Beyond it the process is ended: a test must kill the host and
/// apply a power failure before, which empties the journal.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;

/// The pause between two checks whether the test has ended the delay of a sync.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The suffix of SQLite's shared index. SQLite never syncs this file, and rebuilds it after a
/// failure.
const SHARED_INDEX: &[u8] = b"-shm";

/// The system's id of its boot.
const SYSTEM_BOOT: &CStr = c"/proc/sys/kernel/random/boot_id";

static LAYER: OnceLock<Layer> = OnceLock::new();

/// The faults of this process.
pub(crate) struct Layer {
    control: Control,
    folder: PathBuf,
    /// The file that replaces [`SYSTEM_BOOT`].
    boot: CString,
    /// Locked while a file below the folder changes.
    journal: Mutex<Journal>,
}

struct Journal {
    file: File,
    /// The length of the journal, which also numbers the records.
    bytes: u64,
}

/// The position at which a write begins.
#[derive(Clone, Copy)]
pub(crate) enum Position {
    At(i64),
    Current,
}

/// A regular file below the folder.
struct DataFile {
    /// Belongs to the caller, so it is never closed here.
    file: ManuallyDrop<File>,
    metadata: Metadata,
    /// The path, relative to the folder.
    path: PathBuf,
    is_recorded: bool,
}

/// Returns the layer, if this process was started with the variables of a test.
pub(crate) fn layer() -> Option<&'static Layer> {
    LAYER.get()
}

/// Sets `errno`, and returns the result of a failed call.
pub(crate) fn failed<T: From<i8>>(errno: c_int) -> T {
    // SAFETY: libc returns a pointer to the thread's own `errno`.
    unsafe { *libc::__errno_location() = errno };
    T::from(-1)
}

/// Runs before the program's `main`. Until then, all calls are passed on.
// SAFETY: the section contains pointers to functions without a needed argument or result.
#[unsafe(link_section = ".init_array")]
#[used]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let (control, journal) = (path(CONTROL_VARIABLE), path(JOURNAL_VARIABLE));
    let (Some(control), Some(journal), Some(folder)) = (control, journal, path(FOLDER_VARIABLE)) else { return };
    let Some(boot) = path(BOOT_VARIABLE) else { return };
    let open = || -> io::Result<Option<Layer>> {
        let control = Control::map(&control)?;
        if !control.claim() {
            return Ok(None);
        }
        let file = fs::OpenOptions::new().append(true).create(true).open(journal)?;
        let bytes = file.metadata()?.len();
        let boot = CString::new(boot.into_os_string().into_vec())?;
        Ok(Some(Layer { control, folder, boot, journal: Mutex::new(Journal { file, bytes }) }))
    };
    match open() {
        Ok(Some(layer)) => drop(LAYER.set(layer)),
        Ok(None) => {}
        Err(error) => real::end(&error),
    }
}

impl Layer {
    /// Returns whether faults of this file are injected.
    pub(crate) fn affects(&self, fd: RawFd) -> bool {
        self.file(fd).is_some()
    }

    /// Writes with `call`, which writes up to the given number of bytes.
    pub(crate) fn write(
        &self,
        fd: RawFd,
        position: Position,
        count: usize,
        call: impl Fn(usize) -> libc::ssize_t,
    ) -> libc::ssize_t {
        let Some(file) = self.file(fd) else { return call(count) };
        let is_log = is_log(&file.path);
        if is_log {
            self.hang();
        }
        let failure = self.control.failure(if is_log { Call::WriteOfLog } else { Call::Write });
        let count = match (failure, position) {
            // A failed write may have changed a part of the file.
            (Some(_), Position::At(_)) if self.control.random().is_multiple_of(2) => count / 2,
            (Some(errno), _) => return failed(errno),
            (None, _) => count,
        };
        let mut journal = self.lock();
        if file.is_recorded && count > 0 {
            let length = file.length();
            let offset = match position {
                Position::At(offset) => u64::try_from(offset).unwrap_or(0),
                Position::Current => file.position(length),
            };
            journal.record(&file, offset, count as u64, length);
        }
        let written = call(count);
        drop(journal);
        failure.map_or(written, failed)
    }

    /// Returns the error number with which a read must fail, if a fault is injected.
    pub(crate) fn failed_read(&self, fd: RawFd) -> Option<c_int> {
        // Without a fault of reads, the file isn't looked up: most reads are of other files.
        if !self.control.fails_reads() {
            return None;
        }
        let path = self.file(fd)?.path;
        self.control.failure(match path.iter().next().and_then(OsStr::to_str) {
            Some("apps") => Call::ReadOfApp,
            Some("blobs") => Call::ReadOfBlob,
            Some(_) | None => Call::Read,
        })
    }

    pub(crate) fn truncate(&self, fd: RawFd, to: i64, call: impl Fn() -> c_int) -> c_int {
        let Some(file) = self.file(fd) else { return call() };
        if let Some(errno) = self.control.failure(Call::Truncate) {
            return failed(errno);
        }
        let mut journal = self.lock();
        if file.is_recorded {
            let (length, to) = (file.length(), u64::try_from(to).unwrap_or(0));
            journal.record(&file, to, length.saturating_sub(to), length);
        }
        call()
    }

    pub(crate) fn sync(&self, fd: RawFd, call: impl Fn() -> c_int) -> c_int {
        let Some(file) = self.file(fd) else { return call() };
        let seq = self.lock().bytes;
        self.delay(&file.path);
        let is_database = file.path.extension() == Some(OsStr::new("db"));
        let failure = self.control.failure(if is_database { Call::SyncOfDatabase } else { Call::Sync });
        let result = failure.map_or_else(&call, failed);
        if file.is_recorded {
            let file = FileKey::of(&file.metadata);
            let record = if result == 0 { Record::Synced { file, seq } } else { Record::SyncFailed { file, seq } };
            self.lock().append(&record);
        }
        failure.map_or(result, failed)
    }

    pub(crate) fn open(&self, path: &CStr, flags: c_int, call: impl Fn(&CStr) -> c_int) -> c_int {
        if path == SYSTEM_BOOT {
            return call(&self.boot);
        }
        let writes = flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT) != 0;
        let below = Path::new(OsStr::from_bytes(path.to_bytes())).strip_prefix(&self.folder).ok();
        let failure = below.filter(|_| writes).and_then(|path| {
            self.control.failure(if is_log(path) { Call::OpenLogForWriting } else { Call::OpenForWriting })
        });
        failure.map_or_else(|| call(path), failed)
    }

    pub(crate) fn clock_offset_s(&self) -> i64 {
        self.control.clock_offset_s()
    }

    /// Returns the file if it is regular and below the folder.
    fn file(&self, fd: RawFd) -> Option<DataFile> {
        if fd < 0 {
            return None;
        }
        // SAFETY: the caller of libc has this file open, and it is not closed here.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        let metadata = file.metadata().ok().filter(Metadata::is_file)?;
        let path = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let is_recorded = metadata.nlink() > 0 && !path.as_os_str().as_bytes().ends_with(SHARED_INDEX);
        let path = path.strip_prefix(&self.folder).ok()?.to_owned();
        Some(DataFile { file, metadata, path, is_recorded })
    }

    fn lock(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the test makes writes of logs hang.
    fn hang(&self) {
        if !self.control.logs_hang() {
            return;
        }
        let _hanging = self.control.begin_hanging();
        while self.control.logs_hang() {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits as long as the test delays syncs of this file.
    fn delay(&self, path: &Path) {
        if self.control.sync_delay(path).is_zero() {
            return;
        }
        let (begun, _delay) = (Instant::now(), self.control.begin_delay());
        while begun.elapsed() < self.control.sync_delay(path) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Returns whether a path, which is relative to the folder, is of a log of an app.
fn is_log(path: &Path) -> bool {
    let mut parts = path.iter();
    parts.next() == Some(OsStr::new("apps")) && parts.nth(1) == Some(OsStr::new("logs"))
}

impl Journal {
    /// Adds an undo record, before the change is made.
    fn record(&mut self, file: &DataFile, offset: u64, extent: u64, length: u64) {
        let mut old = vec![0; usize::try_from(length.saturating_sub(offset).min(extent)).unwrap_or(0)];
        if let Err(error) = file.read(&mut old, offset) {
            real::end(&error);
        }
        self.append(&Record::Change {
            file: FileKey::of(&file.metadata),
            seq: self.bytes,
            offset,
            extent,
            length,
            old,
        });
    }

    fn append(&mut self, record: &Record) {
        let bytes = record.encode();
        // SAFETY: the bytes are valid for reads of this length.
        let written = unsafe { (real::WRITE.get())(self.file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        self.bytes += bytes.len() as u64;
        if usize::try_from(written) != Ok(bytes.len()) {
            real::end(&io::Error::last_os_error());
        }
        if self.bytes > JOURNAL_BYTES_MAX {
            real::end(&io::Error::other("the journal is too long"));
        }
    }
}

impl DataFile {
    /// Returns the current length.
    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |found| found.len())
    }

    /// Returns the position at which a write without an explicit position begins.
    fn position(&self, length: u64) -> u64 {
        let fd = self.file.as_raw_fd();
        // SAFETY: both only read the state of an open file.
        let (flags, position) = unsafe { (libc::fcntl(fd, libc::F_GETFL), libc::lseek64(fd, 0, libc::SEEK_CUR)) };
        if flags & libc::O_APPEND != 0 { length } else { u64::try_from(position).unwrap_or(0) }
    }

    /// Reads content that is about to change.
    fn read(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if into.is_empty() {
            return Ok(());
        }
        match read_exact(&self.file, into, offset) {
            // The file is open for writing only, so it is opened again. This never affects a file
            // with SQLite's locks, which SQLite opens for reading too: closing a second descriptor
            // of it would drop the locks.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                read_exact(&File::open(path)?, into, offset)
            }
            read => read,
        }
    }
}

/// Fills the buffer, without injected faults.
fn read_exact(file: &File, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !into.is_empty() {
        // SAFETY: the buffer has this length.
        let read =
            unsafe { (real::PREAD.get())(file.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), offset as i64) };
        match usize::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                into = &mut into[read..];
            }
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}
