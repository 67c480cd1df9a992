//! Shares one I/O thread fairly among apps. A burst for one app would delay the requests of all
//! others, so a round polls only a limited number of each app's connections. The others are
//! enqueued until the thread has polled everything else that is ready. Never runs anything, and
//! needs no clock.
//!
//! ```text
//!  a burst for `shop` ──> admitted, up to the round's limit ────────────────────> polled
//!                   └───> enqueued ──> next round, once all ready tasks ran ────> polled
//!  one for `quiet` ─────> admitted ─────────────────────────────────────────────> polled
//! ```
//!
//! A connection belongs to the queue of the app that it last requested. New connections, which
//! haven't requested an app yet, share one queue, so a burst of first requests is limited too.

use crate::{http::connections::Gate, ingress::limits};
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};
use tokio::sync::Notify;

thread_local! {
    static ROUND: RefCell<Round> = const { RefCell::new(Round::new()) };
    /// Notified when a ticket is enqueued for the next round.
    static ENQUEUED: Arc<Notify> = Arc::default();
}

/// The right of a connection, or of one stream of an HTTP/2 connection, to take part in the rounds.
/// Dropping it gives up the admission.
pub(super) struct Ticket(Arc<TicketState>);

/// The state of a ticket. Only its own thread accesses it.
struct TicketState {
    /// The app that the ticket is queued for, as any number that identifies the app.
    app: AtomicUsize,
    step: AtomicU8,
}

/// The steps of a [`TicketState`].
const NEEDS_ADMISSION: u8 = 0;
const WAITING: u8 = 1;
const ADMITTED: u8 = 2;
const DROPPED: u8 = 3;

/// The queue of connections that haven't requested an app yet.
const NEW: usize = 0;

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.step.store(DROPPED, Relaxed);
    }
}

impl Ticket {
    /// Returns a ticket in the queue of new connections.
    pub(super) fn new() -> Self {
        Self::of(NEW)
    }

    pub(super) fn of(app: usize) -> Self {
        Self(Arc::new(TicketState { app: AtomicUsize::new(app), step: AtomicU8::new(NEEDS_ADMISSION) }))
    }

    /// Polls a future in rounds: each poll needs an admission. Every waker of the future wakes the
    /// same task.
    pub(super) async fn poll_fairly<F: Future + ?Sized>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            ready!(self.poll_admission(context));
            future.as_mut().poll(context)
        })
        .await
    }

    /// Moves the ticket to the queue of an app from its next admission on. Returns whether it was
    /// already there.
    pub(super) fn assign(&self, app: usize) -> bool {
        self.0.app.swap(app, Relaxed) == app
    }

    /// Moves the ticket to the queue of an app now. If it was in another queue, it waits for an
    /// admission in this one. Must be called in a task that this ticket gates.
    pub(super) async fn move_to(&self, app: usize) {
        let mut is_admitted = self.assign(app);
        poll_fn(|context| {
            if !is_admitted {
                // The gate polls this again only after the admission.
                is_admitted = true;
                ready!(self.poll_admission(context));
            }
            Poll::Ready(())
        })
        .await;
    }

    fn poll_admission(&self, context: &Context<'_>) -> Poll<()> {
        match self.0.step.load(Relaxed) {
            NEEDS_ADMISSION if ROUND.with_borrow_mut(|round| round.admit(&self.0, context.waker())) => Poll::Ready(()),
            NEEDS_ADMISSION => {
                ENQUEUED.with(|enqueued| enqueued.notify_one());
                Poll::Pending
            }
            ADMITTED => {
                self.0.step.store(NEEDS_ADMISSION, Relaxed);
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

impl Gate for Ticket {
    fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_admission(context)
    }
}

/// Starts the rounds of this thread while tickets are enqueued. Runs as a separate task: its
/// position in the runtime's run queue shows when all other ready tasks have been polled.
pub(super) async fn run_rounds() {
    let enqueued = ENQUEUED.with(Arc::clone);
    loop {
        enqueued.notified().await;
        loop {
            requeue().await;
            // Resumes after the thread has polled the kernel for I/O events.
            tokio::task::yield_now().await;
            if !ROUND.with_borrow_mut(Round::next) {
                break;
            }
        }
    }
}

/// Ends the round if the queues are empty. The runtime calls it before the thread parks.
pub(super) fn on_park() {
    ROUND.with_borrow_mut(Round::reset_if_empty);
}

/// Waits until every task that is ready now has been polled. `tokio::task::yield_now` differs: it
/// polls the kernel first and resumes before the tasks that were ready earlier.
async fn requeue() {
    let mut is_requeued = false;
    poll_fn(|context| {
        if is_requeued {
            return Poll::Ready(());
        }
        is_requeued = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The admissions since the thread last polled every ready task.
struct Round {
    /// The apps with admitted or enqueued tickets; few, since a round is short.
    apps: Vec<AppQueue>,
    admitted: usize,
    enqueued: usize,
}

/// The tickets of one app.
struct AppQueue {
    app: usize,
    admitted: usize,
    enqueued: VecDeque<(Arc<TicketState>, Waker)>,
}

impl Round {
    const fn new() -> Self {
        Self { apps: Vec::new(), admitted: 0, enqueued: 0 }
    }

    /// Admits a ticket to this round, or enqueues it and wakes `waker` on its admission. Returns
    /// whether it is admitted now.
    fn admit(&mut self, ticket: &Arc<TicketState>, waker: &Waker) -> bool {
        if self.admitted >= limits::ADMISSIONS_PER_ROUND {
            self.reset_if_empty();
        }
        self.admitted += 1;
        let app = ticket.app.load(Relaxed);
        let Some(queue) = self.apps.iter_mut().find(|queue| queue.app == app) else {
            self.apps.push(AppQueue { app, admitted: 1, enqueued: VecDeque::new() });
            return true;
        };
        if queue.enqueued.is_empty() && queue.admitted < limits::ADMISSIONS_PER_APP {
            queue.admitted += 1;
            return true;
        }
        ticket.step.store(WAITING, Relaxed);
        queue.enqueued.push_back((Arc::clone(ticket), waker.clone()));
        self.enqueued += 1;
        false
    }

    /// Starts a new round if no ticket is enqueued.
    fn reset_if_empty(&mut self) {
        if self.enqueued == 0 {
            self.admitted = 0;
            self.apps.clear();
        }
    }

    /// Starts the next round and admits enqueued tickets. Returns false if none was admitted.
    fn next(&mut self) -> bool {
        (self.admitted, self.enqueued) = (0, 0);
        self.apps.retain_mut(|queue| {
            queue.admitted = 0;
            while queue.admitted < limits::ADMISSIONS_PER_APP
                && let Some((ticket, waker)) = queue.enqueued.pop_front()
            {
                // A dropped ticket uses up no admission.
                if ticket.step.load(Relaxed) == WAITING {
                    ticket.step.store(ADMITTED, Relaxed);
                    waker.wake();
                    queue.admitted += 1;
                }
            }
            self.admitted += queue.admitted;
            self.enqueued += queue.enqueued.len();
            queue.admitted > 0
        });
        !self.apps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_with;

    const SHOP: usize = 1;
    const QUIET: usize = 2;

    /// Returns whether a ticket is admitted, as its task would determine it.
    fn is_admitted(round: &mut Round, ticket: &Ticket) -> bool {
        let waker = Waker::noop();
        match ticket.0.step.load(Relaxed) {
            NEEDS_ADMISSION => round.admit(&ticket.0, waker),
            ADMITTED => {
                ticket.0.step.store(NEEDS_ADMISSION, Relaxed);
                true
            }
            _ => false,
        }
    }

    fn burst(app: usize, length: usize) -> Vec<Ticket> {
        repeat_with(|| Ticket::of(app)).take(length).collect()
    }

    #[test]
    fn a_burst_for_one_app_does_not_delay_another_app() {
        let mut round = Round::new();
        let shop = burst(SHOP, 3 * limits::ADMISSIONS_PER_APP);
        let mut admitted = shop.iter().filter(|ticket| is_admitted(&mut round, ticket)).count();
        assert_eq!(admitted, limits::ADMISSIONS_PER_APP);
        assert!(is_admitted(&mut round, &Ticket::of(QUIET)));
        while round.next() {
            let now = shop.iter().filter(|ticket| ticket.0.step.load(Relaxed) == ADMITTED);
            admitted += now.filter(|ticket| is_admitted(&mut round, ticket)).count();
        }
        assert_eq!(admitted, shop.len(), "every enqueued ticket is admitted in some round");
    }

    #[test]
    fn tickets_of_an_app_are_admitted_in_order() {
        let mut round = Round::new();
        let before = burst(SHOP, limits::ADMISSIONS_PER_APP);
        before.iter().for_each(|ticket| assert!(is_admitted(&mut round, ticket)));
        let (first, dropped) = (Ticket::of(SHOP), Ticket::of(SHOP));
        assert!(!is_admitted(&mut round, &first) && !is_admitted(&mut round, &dropped));
        let rest = burst(SHOP, limits::ADMISSIONS_PER_APP);
        rest.iter().for_each(|ticket| assert!(!is_admitted(&mut round, ticket)));
        drop(dropped);
        assert!(round.next());
        // A ticket that comes back while others are enqueued doesn't overtake them.
        assert!(!is_admitted(&mut round, &before[0]));
        assert!(is_admitted(&mut round, &first));
        let admitted =
            rest.iter().map(|ticket| is_admitted(&mut round, ticket)).take_while(|admitted| *admitted).count();
        assert_eq!(admitted, limits::ADMISSIONS_PER_APP - 1, "a dropped ticket uses up no admission");
    }

    #[test]
    fn a_round_ends_when_the_thread_parks_and_after_many_admissions() {
        let mut round = Round::new();
        for _ in 0..10 {
            burst(SHOP, limits::ADMISSIONS_PER_APP).iter().for_each(|ticket| assert!(is_admitted(&mut round, ticket)));
            round.reset_if_empty();
        }
        for app in 0..10 * limits::ADMISSIONS_PER_ROUND {
            assert!(is_admitted(&mut round, &Ticket::of(app)));
            assert!(round.apps.len() <= limits::ADMISSIONS_PER_ROUND);
        }
    }

    #[tokio::test]
    async fn a_connection_waits_for_admission_in_the_queue_that_it_moves_to() {
        let others = burst(SHOP, limits::ADMISSIONS_PER_APP);
        ROUND.with_borrow_mut(|round| others.iter().for_each(|ticket| assert!(is_admitted(round, ticket))));
        let ticket = Ticket::new();
        let request = async {
            ticket.move_to(SHOP).await;
            ticket.move_to(SHOP).await;
        };
        let mut request = std::pin::pin!(request);
        let mut polled = std::pin::pin!(ticket.poll_fairly(request.as_mut()));
        assert!(futures::poll!(polled.as_mut()).is_pending());
        assert!(futures::poll!(polled.as_mut()).is_pending(), "a wake-up is not an admission");
        assert!(ROUND.with_borrow_mut(Round::next));
        assert!(futures::poll!(polled.as_mut()).is_ready());
    }
}
