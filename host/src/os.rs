//! Owns this process's kernel settings: enables or disables huge pages, raises the limit of open
//! files, and divides the files between uses. Reads the machine's memory and the disposition of
//! SIGHUP. Never fails: a refusal by the kernel is logged or ignored.

use crate::limits;

/// The limits of concurrent connections, which leave open files for all other uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) traffic: usize,
    pub(crate) admin: usize,
}

impl Connections {
    /// Returns the wanted limits, capped by the process's limit of open files.
    pub(crate) fn of(open_files: usize, wanted: Self) -> Self {
        let reserved = limits::FILES_RESERVED.min(open_files / 2);
        Self { traffic: wanted.traffic.min(open_files - reserved), admin: wanted.admin.min(reserved / 4) }
    }

    /// Returns the default limits.
    pub(crate) fn usual() -> Self {
        Self {
            traffic: crate::ingress::limits::TRAFFIC_CONNECTIONS_MAX,
            admin: crate::api::limits::ADMIN_CONNECTIONS_MAX,
        }
    }
}

/// Returns the limit of guests' outbound connections for this number of open files.
pub(crate) fn outbound_connections(open_files: usize) -> usize {
    isopod_engine::limits::OUTBOUND_CONNECTIONS_MAX.min(limits::FILES_RESERVED.min(open_files / 2) / 2)
}

/// Returns the machine's memory, or [`u64::MAX`] if the system doesn't report it.
pub(crate) fn memory_bytes() -> u64 {
    // SAFETY: `sysconf` takes plain numbers and changes nothing.
    let (pages, page_bytes) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let bytes = u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page_bytes).unwrap_or(0));
    if bytes == 0 { u64::MAX } else { bytes }
}

/// Enables or disables transparent huge pages for this process and the processes that it starts. A
/// host disables them before its first allocation, since huge pages that are in use stay.
///
/// The kernel clears a huge page at its first access while the thread waits. On a virtual machine
/// that takes milliseconds if the hypervisor has yet to provide the memory: a burst of new
/// connections would delay all requests on the same thread. The allocator also asks for huge pages,
/// of which an idle host needs only a small part.
pub(crate) fn set_huge_pages(enabled: bool) {
    let none = 0 as libc::c_ulong;
    // SAFETY: it takes plain numbers.
    let refused =
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!enabled), none, none, none) } != 0;
    if refused {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, enabled, "the kernel can't change the use of huge pages");
    }
}

/// Returns whether this process was started with SIGHUP ignored. Must be called before a handler of
/// the signal is installed.
pub(crate) fn ignores_hangup() -> bool {
    // SAFETY: the call changes nothing, and writes only to our value, for which zeros are valid.
    let (refused, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action), action)
    };
    refused == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Raises this process's limit of open files to the hard limit, and returns the new limit. The soft
/// limit is for programs that still use `select`, and is too low for a server.
pub(crate) fn raise_open_files() -> usize {
    let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes only to our value, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) } != 0 {
        return usize::MAX;
    }
    let raised = libc::rlimit { rlim_cur: files.rlim_max, ..files };
    // SAFETY: it only reads our value. A refusal changes nothing.
    let is_raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0;
    usize::try_from(if is_raised { raised.rlim_cur } else { files.rlim_cur }).unwrap_or(usize::MAX)
}

/// Returns 3/4 of the memory that this process may use. The host and the kernel need the rest.
pub(crate) fn default_guest_memory() -> u64 {
    // The container's limit. Outside of a container the file doesn't exist or contains `max`.
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|max| max.trim().parse().ok());
    memory_bytes().min(container.unwrap_or(u64::MAX)) / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_disabled_and_enabled() {
        let none = 0 as libc::c_ulong;
        for (enabled, is_disabled) in [(false, 1), (true, 0)] {
            set_huge_pages(enabled);
            // SAFETY: it takes plain numbers.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, none, none, none, none) }, is_disabled);
        }
    }

    #[test]
    fn connections_leave_open_files_for_other_uses() {
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
    fn the_limit_of_open_files_is_raised_to_the_hard_limit() {
        let files = raise_open_files();
        assert!(files > 0);
        assert_eq!(raise_open_files(), files);
    }
}
