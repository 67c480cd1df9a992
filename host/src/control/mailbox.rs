//! The mailbox of a task that runs only while it has work. A message to a resting task starts the
//! task again, so an idle app needs neither a task nor a channel. Owns the hand-over between the
//! senders and the task; never reads a message.
//!
//! ```text
//!            rest, if no message is on its way
//!   Running ───────────────────────────────────▶ Resting
//!      │    ◀───────────────────────────────────    │
//!      │               first message                │
//!      └────────────────▶ Closed ◀──────────────────┘
//! ```

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc::{self, error::SendError};

use crate::control::limits;

/// The state of a task while it rests.
pub(in crate::control) trait Resting<M>: Send {
    /// Starts the task again, which receives its messages from `messages`. Called while the mailbox
    /// is locked, so it must not send.
    fn resume(self: Box<Self>, mailbox: Mailbox<M>, messages: mpsc::Receiver<M>);
}

/// The sender of messages to one task. Clones send to the same task.
pub(in crate::control) struct Mailbox<M>(Arc<Mutex<State<M>>>);

enum State<M> {
    Resting(Box<dyn Resting<M>>),
    Running(mpsc::Sender<M>),
    /// The task ended and receives nothing more.
    Closed,
}

/// The task ended, so the message was not received.
#[derive(Debug)]
pub(in crate::control) struct Closed;

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Send> Mailbox<M> {
    /// Creates the mailbox of a task that is about to run.
    pub(in crate::control) fn new() -> (Self, mpsc::Receiver<M>) {
        let (sender, messages) = mpsc::channel(limits::APP_COMMANDS_QUEUED_MAX);
        (Self(Arc::new(Mutex::new(State::Running(sender)))), messages)
    }

    /// Sends a message, and starts the task if it rests. Waits while the queue is full.
    pub(in crate::control) async fn send(&self, mut message: M) -> Result<(), Closed> {
        loop {
            let sender = self.sender().ok_or(Closed)?;
            match sender.send(message).await {
                Ok(()) => return Ok(()),
                Err(SendError(unsent)) => {
                    self.close_if(&sender);
                    message = unsent;
                }
            }
        }
    }

    /// Returns whether the task ended.
    pub(in crate::control) fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed)
    }

    /// Puts the task to rest with `resting` as its state, unless a message is queued or being sent.
    /// Called only by the task, which must end if this returns true.
    pub(in crate::control) fn rest<R>(&self, messages: &mpsc::Receiver<M>, resting: impl FnOnce() -> R) -> bool
    where
        R: Resting<M> + 'static,
    {
        let mut state = self.lock();
        let State::Running(sender) = &*state else { return false };
        // A sender holds a clone until its message is in the queue.
        if sender.strong_count() > 1 || !messages.is_empty() {
            return false;
        }
        *state = State::Resting(Box::new(resting()));
        true
    }

    /// Rejects all later messages, and drops the state of a resting task.
    pub(in crate::control) fn close(&self) {
        let former = mem::replace(&mut *self.lock(), State::Closed);
        // Dropped without the lock, since the state may own other mailboxes.
        drop(former);
    }

    /// Returns the sender to the running task. Starts a resting task.
    fn sender(&self) -> Option<mpsc::Sender<M>> {
        let mut state = self.lock();
        if matches!(*state, State::Resting(_)) {
            let (sender, messages) = mpsc::channel(limits::APP_COMMANDS_QUEUED_MAX);
            if let State::Resting(task) = mem::replace(&mut *state, State::Running(sender)) {
                task.resume(self.clone(), messages);
            }
        }
        match &*state {
            State::Running(sender) => Some(sender.clone()),
            State::Resting(_) | State::Closed => None,
        }
    }

    /// Closes the mailbox of a task that dropped its receiver without resting.
    fn close_if(&self, sender: &mpsc::Sender<M>) {
        let mut state = self.lock();
        if matches!(&*state, State::Running(running) if running.same_channel(sender)) {
            *state = State::Closed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A task that adds its messages, and rests whenever its queue is empty.
    struct Adding {
        sum: Arc<AtomicUsize>,
        starts: Arc<AtomicUsize>,
    }

    impl Adding {
        async fn run(self, mailbox: Mailbox<usize>, mut messages: mpsc::Receiver<usize>) {
            let (sum, starts) = (self.sum, self.starts);
            starts.fetch_add(1, Ordering::Relaxed);
            loop {
                let resting = || Adding { sum: Arc::clone(&sum), starts: Arc::clone(&starts) };
                if mailbox.rest(&messages, resting) {
                    return;
                }
                match messages.recv().await {
                    Some(0) | None => return,
                    Some(message) => sum.fetch_add(message, Ordering::Relaxed),
                };
            }
        }
    }

    impl Resting<usize> for Adding {
        fn resume(self: Box<Self>, mailbox: Mailbox<usize>, messages: mpsc::Receiver<usize>) {
            tokio::spawn(self.run(mailbox, messages));
        }
    }

    fn adding() -> (Mailbox<usize>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (mailbox, messages) = Mailbox::new();
        let task = Adding { sum: Arc::default(), starts: Arc::default() };
        let (sum, starts) = (Arc::clone(&task.sum), Arc::clone(&task.starts));
        tokio::spawn(task.run(mailbox.clone(), messages));
        (mailbox, sum, starts)
    }

    async fn until(holds: impl Fn() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    fn rests(mailbox: &Mailbox<usize>) -> bool {
        matches!(*mailbox.lock(), State::Resting(_))
    }

    #[tokio::test]
    async fn a_message_starts_a_resting_task() {
        let (mailbox, sum, starts) = adding();
        for expected in 1..=3 {
            until(|| rests(&mailbox)).await;
            mailbox.send(1).await.unwrap();
            until(|| sum.load(Ordering::Relaxed) == expected).await;
            assert_eq!(starts.load(Ordering::Relaxed), expected + 1);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn each_message_is_received_while_the_task_rests_and_starts_again() {
        let (mailbox, sum, starts) = adding();
        let senders = (0..4).map(|_| {
            let mailbox = mailbox.clone();
            tokio::spawn(async move {
                for _ in 0..5_000 {
                    mailbox.send(1).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
        until(|| sum.load(Ordering::Relaxed) == 20_000).await;
        assert!(starts.load(Ordering::Relaxed) > 1, "the task never rested");
    }

    #[tokio::test]
    async fn a_closed_mailbox_rejects_messages() {
        let (mailbox, _sum, starts) = adding();
        until(|| rests(&mailbox)).await;
        mailbox.close();
        mailbox.send(1).await.unwrap_err();
        assert_eq!(starts.load(Ordering::Relaxed), 1);
        assert!(mailbox.is_closed());
    }

    #[tokio::test]
    async fn a_task_that_ended_without_resting_closes_its_mailbox() {
        let (mailbox, ..) = adding();
        mailbox.send(0).await.unwrap();
        until(|| match &*mailbox.lock() {
            State::Running(sender) => sender.is_closed(),
            State::Resting(_) | State::Closed => false,
        })
        .await;
        mailbox.send(1).await.unwrap_err();
        assert!(mailbox.is_closed());
    }
}
