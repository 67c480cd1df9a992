//! How soon the kernel lets an I/O thread run when there is something for it. It asks for short slices: it then comes
//! before threads that work for long, which compile or run guests, and takes no more of the processor than they do.

/// The shortest slice that Linux gives.
const SLICE_NANOSECONDS: u64 = 100_000;

/// Asks for it, for this thread. Kernels before 6.12 know only one length of slice: they ignore the wish, or refuse it,
/// and the thread runs like all others.
pub(super) fn ask_for_short_slices() {
    // SAFETY: it takes plain numbers; 0 is this thread.
    let niceness = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let wish = libc::sched_attr {
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
    // SAFETY: the kernel reads `size` bytes of a value of ours that outlives the call, and writes nothing.
    let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, this_thread, &raw const wish, no_flags) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the kernel gives no short slices");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_class_and_niceness() {
        let niceness = 3;
        let asking = std::thread::spawn(move || {
            // SAFETY: these take plain numbers; 0 is this thread.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
            ask_for_short_slices();
            // SAFETY: as above.
            unsafe { (libc::sched_getscheduler(0), libc::getpriority(libc::PRIO_PROCESS, 0)) }
        });
        assert_eq!(asking.join().unwrap(), (libc::SCHED_OTHER, niceness));
    }
}
