//! How large a pool is to be: the peak of its load over the stable window, and what was told of it last. Never starts or
//! ends an instance.

use crate::limits;
use isopod_policy::{Peaks, ProcessName, Scale};
use std::time::{Duration, Instant};

/// How many parts a window of the peaks has.
const PARTS: u32 = isopod_policy::limits::SCALE_WINDOW_PARTS as u32;

/// What is known of a pool's load.
#[derive(Clone, Copy)]
pub(super) struct Size {
    peaks: Peaks,
    /// When the present part of the peaks' window began.
    part_begun: Instant,
    /// How many instances were told of last.
    told: u32,
    told_at: Option<Instant>,
}

/// A pool that has another size than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rescaled {
    pub(crate) process: ProcessName,
    pub(crate) scale: Scale,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// How many the load lately has need of.
    pub(crate) needed: u32,
    /// The most jobs that ran at one time in the stable window.
    pub(crate) peak: u32,
    pub(crate) waiting: u32,
}

impl Size {
    pub(super) fn new(live: u32) -> Self {
        Self { peaks: Peaks::default(), part_begun: Instant::now(), told: live, told_at: None }
    }

    /// The same load, which another pool with so many instances takes over.
    pub(super) fn taken_over(self, live: u32) -> Self {
        Self { told: live, told_at: None, ..self }
    }

    /// How many instances were told of last.
    pub(super) fn told(&self) -> u32 {
        self.told
    }

    /// Takes in how many jobs run now.
    pub(super) fn note(&mut self, jobs: u32) {
        self.peaks.note(jobs);
    }

    /// How many instances the load of the window has need of.
    pub(super) fn needed(&self, scale: Scale) -> u32 {
        scale.kept(&self.peaks)
    }

    /// Lets the window go on to `now`, when so many jobs run.
    pub(super) fn go_on(&mut self, jobs: u32, now: Instant, window: Duration) {
        if now.saturating_duration_since(self.part_begun) >= window / PARTS {
            self.part_begun = now;
            self.peaks.turn(jobs);
        }
    }

    /// How many instances were told of before, and the peak, if there are others now and it is time to tell.
    pub(super) fn tell(&mut self, live: u32, now: Instant, window: Duration) -> Option<(u32, u32)> {
        let least = limits::SCALE_TOLD_EVERY.min(window);
        let is_early = self.told_at.is_some_and(|at| now.saturating_duration_since(at) < least);
        if live == self.told || is_early {
            return None;
        }
        self.told_at = Some(now);
        Some((std::mem::replace(&mut self.told, live), self.peaks.highest()))
    }
}
