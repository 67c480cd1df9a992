//! Shortens the kernel's scheduling delay of an I/O thread. The thread requests short time slices,
//! so the kernel runs it before threads that compile or run guests for a long time. Never increases
//! the thread's share of the processor.

/// The shortest slice that Linux gives.
const SLICE_NANOSECONDS: u64 = 100_000;

/// Requests short time slices for this thread. Kernels before 6.12 have only one slice length: they
/// ignore or refuse the request, and the thread is scheduled like all others.
pub(super) fn request_short_slices() {
    // SAFETY: it takes plain numbers; 0 is this thread.
    let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: niceness,
        sched_priority: 0,
        sched_runtime: SLICE_NANOSECONDS,
        sched_deadline: 0,
        sched_period: 0,
    };
    let (this_thread, no_flags) = (0, 0);
    // SAFETY: the kernel reads `size` bytes of a value of ours that outlives the call, and writes
    // nothing.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const attributes, no_flags) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the kernel refuses short time slices");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_class_and_niceness() {
        let niceness = 3;
        let thread = std::thread::spawn(move || {
            // SAFETY: these take plain numbers; 0 is this thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
            request_short_slices();
            // SAFETY: as above.
            unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) }
        });
        assert_eq!(thread.join().unwrap(), (libc::SCHED_OTHER, niceness));
    }
}
