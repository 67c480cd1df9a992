//! Every bound of sharing CPU, with what happens when it is met. Owns numbers only.

use std::{ops::RangeInclusive, time::Duration};

/// How long a guest runs before others have their turn, where nothing else is configured. It is the engines' epoch:
/// finer ones bought nothing when measured.
pub const SLICE: Duration = Duration::from_millis(1);
/// Refuses: below, taking turns would cost more than the turns; above, a quiet app would feel its neighbours.
pub const SLICE_RANGE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(100);

/// How much the fair threads stand behind the I/O threads in the kernel's eyes: work that just came in gets a core that
/// a guest has, by the kernel and not by waiting for a yield.
pub const NICENESS: i32 = 5;
/// Refuses: more threads than any machine has cores are a mistake.
pub const WORKERS_MAX: usize = 1_024;

/// Refuses: the range that cgroups have, so that weights mean what people know from there.
pub const WEIGHT: RangeInclusive<u32> = 1..=10_000;
/// The weight of an account that names none.
pub const WEIGHT_USUAL: u32 = 100;

/// The part of the CPU that push work keeps while pull work waits, in percent, where nothing else is configured.
pub const PUSH_FLOOR_PERCENT: u32 = 10;
/// Refuses: without a floor push work could wait forever; above one half it would not be a floor.
pub const PUSH_FLOOR_PERCENT_RANGE: RangeInclusive<u32> = 1..=50;
/// Forgets: what push work is owed, or has had too much, is remembered up to so many slices.
pub const PUSH_DUE_SLICES_MAX: u64 = 4;

/// Forgets: an account that could not use its turns, since its cores were all taken, is owed at most so many slices. One
/// that was idle is owed nothing.
pub const CREDIT_SLICES_MAX: u64 = 4;
/// Forgets: what an account used on I/O threads is held against it up to so many slices, so that a long time of plenty
/// does not shut it out when others come.
pub const DEBT_SLICES_MAX: u64 = 20;
/// Moves: an account that is ahead of others by so many slices is no longer served before them on I/O threads.
pub const LEAD_SLICES: u64 = 10;

/// Moves: an account whose calls usually take more than this part of a slice has them run on fair threads at once. The
/// hand-over then costs less than a tenth, and an I/O thread is not held by call after call.
pub const LONG_CALL_PER_SLICE: u64 = 4;
/// Cuts: a single call counts for at most so many slices, so that one long call does not decide about many short ones.
pub const CALL_NOTED_SLICES_MAX: u64 = 4;
/// How much one call weighs in what an account's calls usually take: one part in so many.
pub const CALL_NOTED_PARTS: u64 = 8;
/// Moves: a call may use one slice on I/O threads, and beyond that one part in so many of the time since it began. A
/// stream that lives for hours stays where it is, a call that waits often and works much does not.
pub const CALL_SHARE_PARTS: u64 = 8;

/// Trusts: up to here the time on the wall is taken for CPU time. Reading the thread's own clock costs more than a
/// microsecond on some machines; a longer time may be the kernel's doing and is looked into.
pub const WALL_TRUSTED: Duration = Duration::from_micros(100);
/// How often a thread reads its CPU clock between calls, so that a long time can be looked into.
pub const CLOCK_CHECKED_EVERY: Duration = Duration::from_millis(1);
