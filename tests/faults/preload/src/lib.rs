//! The library that is preloaded into a host: it defines functions with the names of libc's, which
//! call the real functions and inject the faults of `isopod-faults`. Without the variables of a
//! test it injects none. Never decides which fault happens: the test does.

#![cfg(target_os = "linux")]

mod layer;
mod real;

use std::{ffi::CStr, os::fd::RawFd};

use libc::{c_char, c_int, c_void, clockid_t, iovec, mode_t, off64_t, size_t, ssize_t, timespec};

use crate::layer::{Position, layer};

// The functions below replace functions of libc, so each has the contract of the function with its
// name: its caller passes valid pointers, and its result and `errno` are those of libc.

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, from: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: the caller's arguments, with a `count` that is at most the caller's.
    let call = |count| unsafe { (real::PWRITE.get())(fd, from, count, offset) };
    match layer() {
        Some(layer) => layer.write(fd, Position::At(offset), count, call),
        None => call(count),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: on the platforms of this library, `off_t` has 64 bits.
    unsafe { pwrite64(fd, from, count, offset) }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's arguments, with a `count` that is at most the caller's.
    let call = |count| unsafe { (real::WRITE.get())(fd, from, count) };
    match layer() {
        Some(layer) => layer.write(fd, Position::Current, count, call),
        None => call(count),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let affects = |layer: &layer::Layer| layer.affects(fd);
    if !layer().is_some_and(affects) {
        // SAFETY: the caller's arguments.
        return unsafe { (real::WRITEV.get())(fd, parts, count) };
    }
    // Writes only the first part; callers continue after a short write.
    let parts = match usize::try_from(count) {
        // SAFETY: the caller passes this number of parts.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(parts, count) },
        _ => &[],
    };
    let Some(first) = parts.iter().find(|part| part.iov_len > 0) else { return 0 };
    // SAFETY: the caller's part.
    unsafe { write(fd, first.iov_base, first.iov_len) }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    // SAFETY: the caller's arguments.
    let call = || unsafe { (real::FTRUNCATE.get())(fd, length) };
    match layer() {
        Some(layer) => layer.truncate(fd, length, call),
        None => call(),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off64_t) -> c_int {
    // SAFETY: on the platforms of this library, `off_t` has 64 bits.
    unsafe { ftruncate64(fd, length) }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: the caller's argument.
    let call = || unsafe { (real::FSYNC.get())(fd) };
    match layer() {
        Some(layer) => layer.sync(fd, call),
        None => call(),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the caller's argument.
    let call = || unsafe { (real::FDATASYNC.get())(fd) };
    match layer() {
        Some(layer) => layer.sync(fd, call),
        None => call(),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, into: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's arguments.
    let call = || unsafe { (real::READ.get())(fd, into, count) };
    layer().and_then(|layer| layer.failed_read(fd)).map_or_else(call, layer::failed)
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(fd: c_int, into: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: the caller's arguments.
    let call = || unsafe { (real::PREAD.get())(fd, into, count, offset) };
    layer().and_then(|layer| layer.failed_read(fd)).map_or_else(call, layer::failed)
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(fd: c_int, into: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: on the platforms of this library, `off_t` has 64 bits.
    unsafe { pread64(fd, into, count, offset) }
}

/// Always fails, since its writes can't be recorded. Callers then copy with `read` and `write`.
///
/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    count: size_t,
    flags: libc::c_uint,
) -> ssize_t {
    match layer().filter(|layer| layer.affects(to)) {
        Some(_) => layer::failed(libc::EXDEV),
        // SAFETY: the caller's arguments.
        None => unsafe { (real::COPY_FILE_RANGE.get())(from, from_offset, to, to_offset, count, flags) },
    }
}

/// Fails for the same reason as [`copy_file_range`].
///
/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    match layer().filter(|layer| layer.affects(to)) {
        Some(_) => layer::failed(libc::EINVAL),
        // SAFETY: the caller's arguments.
        None => unsafe { (real::SENDFILE.get())(to, from, offset, count) },
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
    // SAFETY: on the platforms of this library, `off_t` has 64 bits.
    unsafe { sendfile64(to, from, offset, count) }
}

/// Variadic in C. On the platforms of this library, a variadic argument is passed like any other.
///
/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> RawFd {
    // SAFETY: the caller's arguments, or another path that ends with 0.
    let call = |path: *const c_char| unsafe { (real::OPEN.get())(path, flags, mode) };
    match layer() {
        // SAFETY: the caller passes a text that ends with 0.
        Some(layer) => layer.open(unsafe { CStr::from_ptr(path) }, flags, |path| call(path.as_ptr())),
        None => call(path),
    }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> RawFd {
    // SAFETY: the caller's arguments. On the platforms of this library, both do the same.
    unsafe { open64(path, flags, mode) }
}

/// # Safety
/// The requirements of the libc function apply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the caller's arguments.
    let result = unsafe { (real::CLOCK_GETTIME.get())(clock, time) };
    if result == 0
        && clock == libc::CLOCK_REALTIME
        && let Some(layer) = layer()
    {
        // SAFETY: the call has succeeded, so it has written the caller's time.
        unsafe { (*time).tv_sec += layer.clock_offset_s() };
    }
    result
}
