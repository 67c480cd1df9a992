//! Owns what this process asks of the kernel for itself: small pages, and as many open files as it may have, and how those
//! are shared out. Never fails: what the kernel refuses is told in the log, or is as if it had not been asked for.

use crate::limits;

/// How many connections there may be at one time, so that files are left for all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) traffic: usize,
    pub(crate) admin: usize,
}

impl Connections {
    /// The wanted number, limited by the process's number of open files.
    pub(crate) fn of(open_files: usize, wanted: Self) -> Self {
        let for_all_else = limits::FILES_RESERVED.min(open_files / 2);
        Self { traffic: wanted.traffic.min(open_files - for_all_else), admin: wanted.admin.min(for_all_else / 4) }
    }

    /// As many as a host has unless configured.
    pub(crate) fn usual() -> Self {
        Self { traffic: limits::TRAFFIC_CONNECTIONS_MAX, admin: limits::ADMIN_CONNECTIONS_MAX }
    }
}

/// The limit of guests' outbound connections for this number of open files.
pub(crate) fn outbound_connections(open_files: usize) -> usize {
    isopod_engine::limits::OUTBOUND_CONNECTIONS_MAX.min(limits::FILES_RESERVED.min(open_files / 2) / 2)
}

/// Has the kernel give this process memory in small pages only. A huge one is cleared while whoever first touches it waits,
/// and on a virtual machine whose memory comes from its host that takes milliseconds: a burst of new connections would hold
/// up everybody whom the same thread serves.
pub(crate) fn keep_pages_small() {
    let (yes, none) = (1 as libc::c_ulong, 0 as libc::c_ulong);
    // SAFETY: it takes plain numbers.
    let refused = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, yes, none, none, none) } != 0;
    if refused {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the kernel knows nothing of huge pages");
    }
}

/// Raises how many files this process may have open to the most that it may raise it to, and says how many those are. The
/// usual limit is for programs that still use `select`, and is too low for a server.
pub(crate) fn raise_open_files() -> usize {
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes nothing but that value of ours, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) } != 0 {
        return usize::MAX;
    }
    let raised = libc::rlimit { rlim_cur: files.rlim_max, ..files };
    // SAFETY: it reads nothing but that value of ours. A refusal changes nothing.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    usize::try_from(if is_raised { raised.rlim_cur } else { files.rlim_cur }).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_from_then_on() {
        let none = 0 as libc::c_ulong;
        keep_pages_small();
        // SAFETY: it takes plain numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, none, none, none, none) }, 1);
    }

    #[test]
    fn connections_leave_files_for_all_else() {
        let usual = Connections::usual();
        assert_eq!(Connections::of(usize::MAX, usual), usual);
        let few = limits::FILES_RESERVED + 3_000;
        assert_eq!(Connections::of(few, usual), Connections { traffic: 3_000, ..usual });
        assert_eq!(Connections::of(limits::FILES_MIN, usual), Connections { traffic: 128, admin: 32 });
        assert_eq!(outbound_connections(usize::MAX), isopod_engine::limits::OUTBOUND_CONNECTIONS_MAX);
        assert_eq!(outbound_connections(limits::FILES_MIN), 64);
        let wanted = Connections { traffic: 20, admin: 10 };
        assert_eq!(Connections::of(usize::MAX, wanted), wanted);
    }

    #[test]
    fn the_limit_of_open_files_is_raised_once_and_for_all() {
        let files = raise_open_files();
        assert!(files > 0);
        assert_eq!(raise_open_files(), files);
    }
}
