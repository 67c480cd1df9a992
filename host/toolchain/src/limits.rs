//! The limits of the toolchain, each with the effect of reaching it. Never holds behaviour.

/// Bytes of a failed command's output that are kept: enough for every error that a person will
/// read. More is cut at the front, since the last lines contain the reason.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Bytes of one line of a command's output. Longer lines are split, so that a command without line
/// breaks can't exhaust memory.
pub(crate) const LINE_BYTES_MAX: u64 = 64 * 1024;
