//! The phases of a request, and the time that each took. Never reads a clock.

use std::{fmt::Write, time::Duration};

/// A phase of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The host received the request's body, before the request waited for an instance.
    Body,
    /// The middlewares of the app ran.
    Plugins,
    /// The request waited in the queue.
    Queue,
    /// The release was thawed or loaded, and an instance was started.
    Start,
    /// CPU time of the guest until it returned the response's head.
    Cpu,
    /// The guest was runnable and waited for a processor.
    Scheduling,
    /// The guest waited for its key-value data.
    KeyValue,
    /// The guest waited until an event that it sent was stored or answered.
    Events,
    /// The guest waited for a provider.
    Providers,
    /// The guest waited for an outbound HTTP request.
    Http,
    /// The guest waited for anything else, such as a timer or its client.
    Other,
    /// The body of a streamed response was sent.
    Reply,
}

impl Phase {
    /// All phases, in the order of their indexes.
    pub const ALL: [Self; 12] = [
        Self::Body,
        Self::Plugins,
        Self::Queue,
        Self::Start,
        Self::Cpu,
        Self::Scheduling,
        Self::KeyValue,
        Self::Events,
        Self::Providers,
        Self::Http,
        Self::Other,
        Self::Reply,
    ];

    /// The number of phases.
    pub const COUNT: usize = Self::ALL.len();

    /// The phases in which a guest's call is paused.
    pub const WAITS: [Self; 6] =
        [Self::Scheduling, Self::KeyValue, Self::Events, Self::Providers, Self::Http, Self::Other];

    /// Returns the position of this phase in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name of this phase in logs and in `server-timing`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Plugins => "plugins",
            Self::Queue => "queue",
            Self::Start => "start",
            Self::Cpu => "cpu",
            Self::Scheduling => "scheduling",
            Self::KeyValue => "keyvalue",
            Self::Events => "events",
            Self::Providers => "providers",
            Self::Http => "http",
            Self::Other => "other",
            Self::Reply => "reply",
        }
    }
}

/// The time of each phase of a request, in microseconds. A longer time than 71 minutes
/// is stored as 71 minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing([u32; Phase::COUNT]);

impl Timing {
    /// Creates the times of all phases, in microseconds.
    pub const fn new(times_us: [u32; Phase::COUNT]) -> Self {
        Self(times_us)
    }

    /// Returns these times with `time` for `phase`.
    #[must_use]
    pub fn with(mut self, phase: Phase, time: Duration) -> Self {
        self.0[phase.index()] = microseconds(time);
        self
    }

    /// Returns the time of a phase, in microseconds.
    pub const fn us(&self, phase: Phase) -> u32 {
        self.0[phase.index()]
    }

    /// Returns whether no phase took any time.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; Phase::COUNT]
    }

    /// Returns the phases that took time.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, u32)> {
        Phase::ALL.into_iter().zip(self.0).filter(|(_, time_us)| *time_us > 0)
    }

    /// Returns the value of the response's field `server-timing`. `total` is the time until the
    /// response's head.
    pub fn server_timing(&self, total: Duration) -> String {
        let mut text = String::from("total;dur=");
        append_ms(&mut text, microseconds(total));
        for (phase, time_us) in self.phases() {
            text.push_str(", ");
            text.push_str(phase.name());
            text.push_str(";dur=");
            append_ms(&mut text, time_us);
        }
        text
    }
}

/// Returns a duration in microseconds, rounded; the maximum for a longer one.
pub fn microseconds(time: Duration) -> u32 {
    u32::try_from((time.as_nanos() + 500) / 1_000).unwrap_or(u32::MAX)
}

fn append_ms(text: &mut String, time_us: u32) {
    // Writing to a `String` can't fail.
    let _ = write!(text, "{}", f64::from(time_us) / 1e3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_own_index_and_name() {
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase.index(), index);
            assert!(Phase::ALL.iter().filter(|other| other.name() == phase.name()).count() == 1, "{phase:?}");
        }
    }

    #[test]
    fn server_timing_lists_the_phases_that_took_time() {
        let timing = Timing::default()
            .with(Phase::Cpu, Duration::from_nanos(1_234_400))
            .with(Phase::Http, Duration::from_millis(20))
            .with(Phase::Queue, Duration::from_nanos(400));
        let text = timing.server_timing(Duration::from_micros(21_500));
        assert_eq!(text, "total;dur=21.5, cpu;dur=1.234, http;dur=20");
        assert_eq!(Timing::default().server_timing(Duration::ZERO), "total;dur=0");
    }

    #[test]
    fn a_very_long_time_is_shown_as_the_maximum() {
        assert_eq!(microseconds(Duration::from_secs(100_000)), u32::MAX);
    }
}
