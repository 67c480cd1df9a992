//! Owns how much memory a host's process uses, as the kernel counts it. Never asks the host.

use crate::Host;

impl Host {
    /// The most memory that the process has had resident so far, in MiB.
    ///
    /// # Panics
    /// Where the kernel doesn't say.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process is there");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts memory");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib / 1024
    }
}
