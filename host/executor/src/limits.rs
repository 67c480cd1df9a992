//! The limits of the executor, each with its effect. Owns numbers only.

use std::{ops::RangeInclusive, time::Duration};

/// Default length of a slice. It equals the engines' epoch: shorter epochs brought no measurable
/// gain.
pub const SLICE: Duration = Duration::from_millis(1);
/// A slice outside this range is rejected. With a shorter one, switching would cost more than the
/// slices; with a longer one, busy apps would raise the latency of a quiet app.
pub const SLICE_RANGE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(100);

/// The niceness of worker threads relative to I/O threads. Work that just arrived preempts a guest
/// through the kernel instead of waiting for a yield.
pub const NICENESS: i32 = 5;
/// A larger number of worker threads is rejected: no machine has this many cores, so it is a
/// mistake.
pub const WORKERS_MAX: usize = 1_024;

/// A weight outside this range is rejected. The range is that of cgroups, so that weights have
/// their familiar meaning.
pub const WEIGHT: RangeInclusive<u32> = 1..=10_000;
/// The weight of an account for which none is set.
pub const ACCOUNT_WEIGHT_DEFAULT: u32 = 100;

/// Default minimum share of the CPU for push work while pull work waits, in percent.
pub const PUSH_MINIMUM_PERCENT: u32 = 10;
/// A minimum share outside this range is rejected. Without one, push work could starve; more than
/// one half would prefer push work.
pub const PUSH_MINIMUM_PERCENT_RANGE: RangeInclusive<u32> = 1..=50;
/// The balance of push work, owed or overused, is at most this many slices. The rest is dropped.
pub const PUSH_DUE_SLICES_MAX: u64 = 4;

/// An account that couldn't run because all of its cores were busy is owed at most this many
/// slices. An account that was idle is owed nothing.
pub const CREDIT_SLICES_MAX: u64 = 4;
/// CPU time on I/O threads counts as debt up to this many slices, so that a long period without
/// competition doesn't lock the account out when others arrive.
pub const DEBT_SLICES_MAX: u64 = 20;
/// Lead over other accounts, in slices, above which an account's calls aren't polled inline. They
/// move to worker threads.
pub const LEAD_SLICES: u64 = 10;

/// If an account's calls typically use more than 1/N of a slice, they start on worker threads; this
/// value is N. The hand-over then costs less than a tenth, and consecutive calls don't occupy an
/// I/O thread.
pub const LONG_CALL_PER_SLICE: u64 = 4;
/// A single call counts for at most this many slices, so that it doesn't outweigh many short calls.
pub const CALL_NOTED_SLICES_MAX: u64 = 4;
/// Each call contributes 1/N to the typical CPU time of its account's calls, a moving average; this
/// value is N.
pub const CALL_NOTED_PARTS: u64 = 8;
/// A call may use one slice on I/O threads, plus 1/N of the time since its start; beyond that it
/// moves to worker threads. This value is N. A stream that lives for hours stays inline; a call
/// that waits often and computes much doesn't.
pub const CALL_SHARE_PARTS: u64 = 8;

/// A poll up to this long is charged by the wall clock: reading the thread's CPU clock costs more
/// than a microsecond on some machines. A longer poll may include preemption by the kernel and is
/// checked.
pub const WALL_TRUSTED: Duration = Duration::from_micros(100);
/// How often a thread reads its CPU clock between calls, so that a long poll can be checked.
pub const CLOCK_CHECKED_EVERY: Duration = Duration::from_millis(1);
