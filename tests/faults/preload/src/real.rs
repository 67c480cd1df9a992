//! The functions of libc that this library replaces. Never calls them.

use std::{
    ffi::CStr,
    marker::PhantomData,
    sync::atomic::{AtomicPtr, Ordering},
};

use libc::{c_char, c_int, c_uint, c_void, clockid_t, iovec, mode_t, off64_t, size_t, ssize_t, timespec};

type Write = unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t;
type Read = unsafe extern "C" fn(c_int, *mut c_void, size_t) -> ssize_t;
type Pread = unsafe extern "C" fn(c_int, *mut c_void, size_t, off64_t) -> ssize_t;
type Pwrite = unsafe extern "C" fn(c_int, *const c_void, size_t, off64_t) -> ssize_t;
type Writev = unsafe extern "C" fn(c_int, *const iovec, c_int) -> ssize_t;
type Truncate = unsafe extern "C" fn(c_int, off64_t) -> c_int;
type Sync = unsafe extern "C" fn(c_int) -> c_int;
type CopyRange = unsafe extern "C" fn(c_int, *mut off64_t, c_int, *mut off64_t, size_t, c_uint) -> ssize_t;
type Sendfile = unsafe extern "C" fn(c_int, c_int, *mut off64_t, size_t) -> ssize_t;
type Open = unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int;
type ClockGettime = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

pub(crate) static WRITE: Real<Write> = Real::new(c"write");
pub(crate) static READ: Real<Read> = Real::new(c"read");
pub(crate) static PREAD: Real<Pread> = Real::new(c"pread64");
pub(crate) static PWRITE: Real<Pwrite> = Real::new(c"pwrite64");
pub(crate) static WRITEV: Real<Writev> = Real::new(c"writev");
pub(crate) static FTRUNCATE: Real<Truncate> = Real::new(c"ftruncate64");
pub(crate) static FSYNC: Real<Sync> = Real::new(c"fsync");
pub(crate) static FDATASYNC: Real<Sync> = Real::new(c"fdatasync");
pub(crate) static COPY_FILE_RANGE: Real<CopyRange> = Real::new(c"copy_file_range");
pub(crate) static SENDFILE: Real<Sendfile> = Real::new(c"sendfile64");
pub(crate) static OPEN: Real<Open> = Real::new(c"open64");
pub(crate) static CLOCK_GETTIME: Real<ClockGettime> = Real::new(c"clock_gettime");

/// A function of libc, found at its first call.
pub(crate) struct Real<F> {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
    signature: PhantomData<F>,
}

impl<F: Copy> Real<F> {
    const fn new(name: &'static CStr) -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        Self { name, found: AtomicPtr::new(std::ptr::null_mut()), signature: PhantomData }
    }

    /// Returns the function. Ends the process if libc lacks it.
    pub(crate) fn get(&self) -> F {
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name is a text that ends with 0.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
            if found.is_null() {
                end(&format!("libc has no {:?}", self.name));
            }
            self.found.store(found, Ordering::Relaxed);
        }
        // SAFETY: `F` is the type of this function in libc, and has the size of a pointer.
        unsafe { std::mem::transmute_copy::<*mut c_void, F>(&found) }
    }
}

/// Ends the process, which can't run without its faults.
#[expect(clippy::disallowed_methods, reason = "a test must not continue, and has no work to drain")]
pub(crate) fn end(error: &dyn std::fmt::Display) -> ! {
    eprintln!("no faults can be injected: {error}");
    std::process::abort()
}
