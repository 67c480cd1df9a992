//! Detects failed reads of SQLite. After `EIO`, SQLite reports a damaged database, and its checks
//! count an unreadable page as damage. However, a disk error says nothing about the content of the
//! file. Never decides how a failed read is handled.

use std::cell::Cell;
use std::ffi::{CStr, c_void};
use std::io;
use std::mem;
use std::ptr;
use std::sync::Once;

#[cfg(target_os = "linux")]
use libc::__errno_location as errno;
#[cfg(not(target_os = "linux"))]
use libc::__error as errno;
use libc::{c_int, off_t, size_t, ssize_t};
use rusqlite::ffi;

/// SQLite's name of the function that it reads files with.
const READ: &CStr = c"pread";

type Read = unsafe extern "C" fn(c_int, *mut c_void, size_t, off_t) -> ssize_t;

thread_local! {
    /// The number of reads that failed on this thread. SQLite reads on the thread of its caller.
    static FAILED: Cell<u64> = const { Cell::new(0) };
}

/// Makes SQLite report failed reads as disk errors. Must be called before a database is opened.
pub(crate) fn detect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: this returns SQLite's default file system, which is never removed.
        let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        // SAFETY: it is null or valid, and its fields don't change.
        let set = unsafe { system.as_ref() }.and_then(|system| system.xSetSystemCall);
        let Some(set) = set else { return };
        // SAFETY: SQLite converts the pointer back to the type of `pread` before it calls it.
        let read = unsafe { mem::transmute::<Read, unsafe extern "C" fn()>(read) };
        // SAFETY: the file system and the name are valid. On a platform where SQLite doesn't use
        // this function, the call has no effect.
        unsafe { set(system, READ.as_ptr(), Some(read)) };
    });
}

/// Replaces `pread`. Counts a failure, and returns an error number that SQLite doesn't report as
/// damage.
///
/// # Safety
///
/// The requirements of the libc function apply.
unsafe extern "C" fn read(fd: c_int, into: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller's arguments.
    let read = unsafe { libc::pread(fd, into, count, offset) };
    #[cfg(test)]
    let read = tests::inject(read);
    // SQLite repeats an interrupted read.
    if read < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
        FAILED.set(FAILED.get() + 1);
        // SAFETY: libc returns a pointer to the thread's own `errno`.
        unsafe { *errno() = libc::ENODEV };
    }
    read
}

/// SQLite's reads on this thread since [`Self::begin`].
pub(crate) struct Reads {
    failed_before: u64,
}

impl Reads {
    /// Starts to observe reads.
    pub(crate) fn begin() -> Self {
        Self { failed_before: FAILED.get() }
    }

    /// Returns a disk error if a read has failed, because SQLite's result is then unreliable.
    pub(crate) fn check(&self) -> rusqlite::Result<()> {
        if FAILED.get() == self.failed_before {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_READ), None))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    thread_local! {
        static UNTIL_FAILURE: Cell<u32> = const { Cell::new(0) };
    }

    /// Makes a later read on this thread fail: 1 selects the next read, and 0 selects none. Returns
    /// whether an earlier selected read has not happened yet.
    pub(crate) fn fail_read(number: u32) -> bool {
        UNTIL_FAILURE.replace(number) > 0
    }

    pub(super) fn inject(read: ssize_t) -> ssize_t {
        let left = UNTIL_FAILURE.get();
        UNTIL_FAILURE.set(left.saturating_sub(1));
        if left != 1 {
            return read;
        }
        // SAFETY: libc returns a pointer to the thread's own `errno`.
        unsafe { *errno() = libc::EIO };
        -1
    }

    #[test]
    fn a_failed_read_is_a_disk_error() {
        let (reads, mut byte) = (Reads::begin(), 0_u8);
        // SAFETY: the buffer has one byte. The descriptor is invalid.
        let failed = unsafe { read(-1, (&raw mut byte).cast(), 1, 0) };
        assert_eq!((failed, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENODEV)));
        let error = reads.check().expect_err("a read has failed");
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::SystemIoFailure));
        assert!(Reads::begin().check().is_ok(), "no read has failed since");
    }
}
