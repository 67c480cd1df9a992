//! Wakes the writer's thread. A line may wait a few milliseconds for others, so that the
//! thread wakes once for many lines; a reader's request may not. Never carries a message: the queue
//! does.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use crate::observe::limits;

/// The sleep of the writer's thread.
#[derive(Default)]
pub(super) struct Wake {
    /// Set before any message is sent.
    thread: OnceLock<Thread>,
    /// Whether the thread sleeps until the first message.
    is_idle: AtomicBool,
    is_urgent: AtomicBool,
}

impl Wake {
    pub(super) fn set_thread(&self, thread: Thread) {
        let _ = self.thread.set(thread);
    }

    /// Wakes the thread within [`limits::LOG_GATHERING_TIME`]. Call it after a line is enqueued.
    pub(super) fn soon(&self) {
        // An exchange, not a load: either it sees that the thread is idle, or the thread sees the
        // line.
        if self.is_idle.swap(false, Ordering::AcqRel) {
            self.unpark();
        }
    }

    /// Wakes the thread immediately. Call it after a message is enqueued.
    pub(super) fn now(&self) {
        self.is_urgent.store(true, Ordering::Release);
        self.unpark();
    }

    fn unpark(&self) {
        self.thread.get().iter().for_each(|thread| thread.unpark());
    }

    /// Announces that the writer's thread will sleep if it now finds the queue empty. Call
    /// [`Self::gather`] afterwards.
    pub(super) fn announce_sleep(&self) {
        self.is_idle.swap(true, Ordering::AcqRel);
    }

    /// Sleeps until a message is enqueued, for at most `longest`.
    pub(super) fn sleep(&self, longest: Duration) {
        thread::park_timeout(longest);
    }

    /// Sleeps until the lines after the first had the time to be enqueued, unless a message is
    /// urgent.
    pub(super) fn gather(&self) {
        self.is_idle.store(false, Ordering::Relaxed);
        if !self.is_urgent.swap(false, Ordering::AcqRel) {
            thread::park_timeout(limits::LOG_GATHERING_TIME);
            self.is_urgent.swap(false, Ordering::AcqRel);
        }
    }
}
