//! Reads how much memory a host's process uses from the kernel. Never asks the host.

use crate::Host;

impl Host {
    /// Returns the peak resident memory of the process so far, in MiB.
    ///
    /// # Panics
    /// If the kernel doesn't report it.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts memory");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib / 1024
    }
}
