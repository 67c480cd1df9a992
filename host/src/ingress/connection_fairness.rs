//! Whose turn it is on one I/O thread. A burst for one app would stand before the requests of all others; so of each app
//! only some connections go on in a round, and the rest wait until the thread has looked at everything else that is ready.
//! Never runs anything, and needs no clock.
//!
//! ```text
//!  a burst for `shop` ──> go on, as many as a round has ──────────────────────────────> run
//!                   └───> wait ──> next round: once what is ready by then had its turn ──> run
//!  one for `quiet` ─────> goes on ─────────────────────────────────────────────────────> run
//! ```
//!
//! A connection stands in the line of the app that it last asked for. A new one has asked for none: all of these stand in
//! one line, so that a burst of first requests is read little by little as well.

use crate::{http::connections::Gate, limits};
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
    /// Told once somebody waits for the next round.
    static WAITING: Arc<Notify> = Arc::default();
}

/// What takes turns: a connection, or one stream of a connection that has many. Whoever drops it gives up its turn.
pub(super) struct Ticket(Arc<TicketState>);

/// How a place stands. Only ever touched by its own thread.
struct TicketState {
    /// The app in whose line it stands, by any number that tells it from others.
    app: AtomicUsize,
    step: AtomicU8,
}

/// The steps of a [`TicketState`].
const NEEDS_TURN: u8 = 0;
const WAITS: u8 = 1;
const HAS_TURN: u8 = 2;
const GONE: u8 = 3;

/// The line of those who have asked for no app yet.
const NEW: usize = 0;

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.step.store(GONE, Relaxed);
    }
}

impl Ticket {
    /// One in the line of those who have asked for nothing yet.
    pub(super) fn new() -> Self {
        Self::of(NEW)
    }

    pub(super) fn of(app: usize) -> Self {
        Self(Arc::new(TicketState { app: AtomicUsize::new(app), step: AtomicU8::new(NEEDS_TURN) }))
    }

    /// Polls a future in turns. All that wakes it wakes the same task.
    pub(super) async fn poll_fairly<F: Future + ?Sized>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|context| {
            ready!(self.poll_turn(context));
            future.as_mut().poll(context)
        })
        .await
    }

    /// Stands in the line of an app from its next turn on. Says whether it stood there before.
    pub(super) fn stand_for(&self, app: usize) -> bool {
        self.0.app.swap(app, Relaxed) == app
    }

    /// Stands in the line of an app from now on. Whoever stood in another one waits for a turn in this one. To be called in
    /// what takes turns here.
    pub(super) async fn go_over_to(&self, app: usize) {
        let mut has_turn = self.stand_for(app);
        poll_fn(|context| {
            if !has_turn {
                // Polled again only when it has one.
                has_turn = true;
                ready!(self.poll_turn(context));
            }
            Poll::Ready(())
        })
        .await;
    }

    fn poll_turn(&self, context: &Context<'_>) -> Poll<()> {
        match self.0.step.load(Relaxed) {
            NEEDS_TURN if ROUND.with_borrow_mut(|round| round.begin(&self.0, context.waker())) => Poll::Ready(()),
            NEEDS_TURN => {
                WAITING.with(|waiting| waiting.notify_one());
                Poll::Pending
            }
            HAS_TURN => {
                self.0.step.store(NEEDS_TURN, Relaxed);
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

impl Gate for Ticket {
    fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        self.poll_turn(context)
    }
}

/// Begins the rounds of this thread, for as long as somebody waits for one. A task of its own, since its place among the
/// thread's tasks tells when all others had their turn.
pub(super) async fn keep_turns() {
    let waiting = WAITING.with(Arc::clone);
    loop {
        waiting.notified().await;
        loop {
            go_to_the_end().await;
            // Comes back after the thread has asked the kernel for news.
            tokio::task::yield_now().await;
            if !ROUND.with_borrow_mut(Round::next) {
                break;
            }
        }
    }
}

/// Called when the thread has nothing to do.
pub(super) fn rest() {
    ROUND.with_borrow_mut(Round::rest);
}

/// Waits until every task that is ready now has been polled. Unlike tokio's yielding, which asks the kernel first and
/// comes back before those who stood in line.
async fn go_to_the_end() {
    let mut was_there = false;
    poll_fn(|context| {
        if was_there {
            return Poll::Ready(());
        }
        was_there = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What went on since the thread had looked at everything.
struct Round {
    /// Those of which something went on or waits; few, since a round is short.
    lines: Vec<Line>,
    gone_on: usize,
    waiting: usize,
}

/// The connections of one app.
struct Line {
    app: usize,
    gone_on: usize,
    waiting: VecDeque<(Arc<TicketState>, Waker)>,
}

impl Round {
    const fn new() -> Self {
        Self { lines: Vec::new(), gone_on: 0, waiting: 0 }
    }

    /// Whether one may go on now; else it is told when it may.
    fn begin(&mut self, standing: &Arc<TicketState>, waker: &Waker) -> bool {
        if self.gone_on >= limits::TURNS_PER_ROUND {
            self.rest();
        }
        self.gone_on += 1;
        let app = standing.app.load(Relaxed);
        let Some(line) = self.lines.iter_mut().find(|line| line.app == app) else {
            self.lines.push(Line { app, gone_on: 1, waiting: VecDeque::new() });
            return true;
        };
        if line.waiting.is_empty() && line.gone_on < limits::TURNS_OF_AN_APP {
            line.gone_on += 1;
            return true;
        }
        standing.step.store(WAITS, Relaxed);
        line.waiting.push_back((Arc::clone(standing), waker.clone()));
        self.waiting += 1;
        false
    }

    /// Begins anew where nobody waits.
    fn rest(&mut self) {
        if self.waiting == 0 {
            self.gone_on = 0;
            self.lines.clear();
        }
    }

    /// The next round, for those who wait. False if there are none.
    fn next(&mut self) -> bool {
        (self.gone_on, self.waiting) = (0, 0);
        self.lines.retain_mut(|line| {
            line.gone_on = 0;
            while line.gone_on < limits::TURNS_OF_AN_APP
                && let Some((standing, waker)) = line.waiting.pop_front()
            {
                // Who has left takes nothing from the others.
                if standing.step.load(Relaxed) == WAITS {
                    standing.step.store(HAS_TURN, Relaxed);
                    waker.wake();
                    line.gone_on += 1;
                }
            }
            self.gone_on += line.gone_on;
            self.waiting += line.waiting.len();
            line.gone_on > 0
        });
        !self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::repeat_with;

    const SHOP: usize = 1;
    const QUIET: usize = 2;

    /// Whether it goes on, as its task would find out.
    fn goes_on(round: &mut Round, ticket: &Ticket) -> bool {
        let waker = Waker::noop();
        match ticket.0.step.load(Relaxed) {
            NEEDS_TURN => round.begin(&ticket.0, waker),
            HAS_TURN => {
                ticket.0.step.store(NEEDS_TURN, Relaxed);
                true
            }
            _ => false,
        }
    }

    fn burst(app: usize, length: usize) -> Vec<Ticket> {
        repeat_with(|| Ticket::of(app)).take(length).collect()
    }

    #[test]
    fn a_burst_for_one_app_lets_another_go_on_at_once() {
        let mut round = Round::new();
        let shop = burst(SHOP, 3 * limits::TURNS_OF_AN_APP);
        let mut gone_on = shop.iter().filter(|ticket| goes_on(&mut round, ticket)).count();
        assert_eq!(gone_on, limits::TURNS_OF_AN_APP);
        assert!(goes_on(&mut round, &Ticket::of(QUIET)));
        while round.next() {
            let now = shop.iter().filter(|ticket| ticket.0.step.load(Relaxed) == HAS_TURN);
            gone_on += now.filter(|ticket| goes_on(&mut round, ticket)).count();
        }
        assert_eq!(gone_on, shop.len(), "nobody waits for ever");
    }

    #[test]
    fn turns_come_in_the_order_of_the_connections() {
        let mut round = Round::new();
        let before = burst(SHOP, limits::TURNS_OF_AN_APP);
        before.iter().for_each(|ticket| assert!(goes_on(&mut round, ticket)));
        let (first, gone) = (Ticket::of(SHOP), Ticket::of(SHOP));
        assert!(!goes_on(&mut round, &first) && !goes_on(&mut round, &gone));
        let rest = burst(SHOP, limits::TURNS_OF_AN_APP);
        rest.iter().for_each(|ticket| assert!(!goes_on(&mut round, ticket)));
        drop(gone);
        assert!(round.next());
        // Whoever comes while others wait does not get past them.
        assert!(!goes_on(&mut round, &before[0]));
        assert!(goes_on(&mut round, &first));
        let gone_on = rest.iter().map(|ticket| goes_on(&mut round, ticket)).take_while(|goes_on| *goes_on).count();
        assert_eq!(gone_on, limits::TURNS_OF_AN_APP - 1, "who has left takes no turn");
    }

    #[test]
    fn a_round_is_over_when_the_thread_rests_and_after_many_turns() {
        let mut round = Round::new();
        for _ in 0..10 {
            burst(SHOP, limits::TURNS_OF_AN_APP).iter().for_each(|ticket| assert!(goes_on(&mut round, ticket)));
            round.rest();
        }
        for app in 0..10 * limits::TURNS_PER_ROUND {
            assert!(goes_on(&mut round, &Ticket::of(app)));
            assert!(round.lines.len() <= limits::TURNS_PER_ROUND);
        }
    }

    #[tokio::test]
    async fn a_connection_waits_for_a_turn_in_the_line_that_it_goes_over_to() {
        let others = burst(SHOP, limits::TURNS_OF_AN_APP);
        ROUND.with_borrow_mut(|round| others.iter().for_each(|ticket| assert!(goes_on(round, ticket))));
        let ticket = Ticket::new();
        let asking = async {
            ticket.go_over_to(SHOP).await;
            ticket.go_over_to(SHOP).await;
        };
        let mut asking = std::pin::pin!(asking);
        let mut taking = std::pin::pin!(ticket.poll_fairly(asking.as_mut()));
        assert!(futures::poll!(taking.as_mut()).is_pending());
        assert!(futures::poll!(taking.as_mut()).is_pending(), "being woken is no turn");
        assert!(ROUND.with_borrow_mut(Round::next));
        assert!(futures::poll!(taking.as_mut()).is_ready());
    }
}
