//! Whose turn it is on one I/O thread. A burst of requests for one app would stand before those of all others; so of each
//! app only some begin in a round, and the rest wait until the thread has looked for other work. Never runs anything.
//!
//! ```text
//!  a burst for `shop` ──> begin, as many as a round has ──────────────────────> run
//!                   └───> wait ──> next round: once what is ready by then has had its turn ──> run
//!  one for `quiet` ─────> begin ──────────────────────────────────────────────> run
//! ```
//!
//! A round ends after a while, or where some wait, each time that the thread has asked the kernel for news.

use crate::limits;
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::sync::{Notify, oneshot};

thread_local! {
    static ROUND: RefCell<Round> = RefCell::new(Round::new(Instant::now()));
    /// Told once somebody waits for the next round.
    static WAITING: Rc<Notify> = Rc::default();
}

/// Waits until a request for an app may begin, which mostly is at once. Apps are told apart by any number of their own.
pub(super) async fn turn(app: usize, now: Instant) {
    let Some(turn) = ROUND.with_borrow_mut(|round| round.begin(app, now)) else { return };
    WAITING.with(|waiting| waiting.notify_one());
    // An end of the rounds ends the waiting too.
    let _ended = turn.await;
}

/// Begins the rounds of this thread, for as long as somebody waits for one.
pub(super) async fn keep_turns() {
    let waiting = WAITING.with(Rc::clone);
    loop {
        waiting.notified().await;
        loop {
            // Comes back after the thread has asked the kernel for news.
            tokio::task::yield_now().await;
            if !ROUND.with_borrow_mut(|round| round.next(Instant::now())) {
                break;
            }
        }
    }
}

/// What began since the thread last looked for other work.
struct Round {
    since: Instant,
    /// Those of which something began or waits; few, since a round is short.
    apps: Vec<Line>,
}

/// The requests for one app.
struct Line {
    app: usize,
    begun: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// How long a round lasts where nobody waits for the next one.
const ROUND_TIME: Duration = Duration::from_millis(1);

impl Round {
    fn new(since: Instant) -> Self {
        Self { since, apps: Vec::new() }
    }

    /// Lets a request begin; else gives what is told when it may.
    fn begin(&mut self, app: usize, now: Instant) -> Option<oneshot::Receiver<()>> {
        if now.saturating_duration_since(self.since) >= ROUND_TIME
            && self.apps.iter().all(|line| line.waiting.is_empty())
        {
            self.since = now;
            self.apps.clear();
        }
        let Some(line) = self.apps.iter_mut().find(|line| line.app == app) else {
            self.apps.push(Line { app, begun: 1, waiting: VecDeque::new() });
            return None;
        };
        if line.waiting.is_empty() && line.begun < limits::REQUESTS_PER_ROUND {
            line.begun += 1;
            return None;
        }
        let (sender, turn) = oneshot::channel();
        line.waiting.push_back(sender);
        Some(turn)
    }

    /// The next round, for those who wait. False if there are none.
    fn next(&mut self, now: Instant) -> bool {
        self.since = now;
        self.apps.retain_mut(|line| {
            line.begun = 0;
            while line.begun < limits::REQUESTS_PER_ROUND
                && let Some(turn) = line.waiting.pop_front()
            {
                // Who has left takes nothing from the others.
                line.begun += usize::from(turn.send(()).is_ok());
            }
            line.begun > 0
        });
        !self.apps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_begun(turn: &mut Option<oneshot::Receiver<()>>) -> bool {
        turn.as_mut().is_none_or(|turn| turn.try_recv().is_ok())
    }

    #[test]
    fn a_burst_for_one_app_lets_another_begin_at_once() {
        let now = Instant::now();
        let mut round = Round::new(now);
        let mut burst: Vec<_> = (0..3 * limits::REQUESTS_PER_ROUND).map(|_| round.begin(1, now)).collect();
        assert_eq!(burst.iter().filter(|turn| turn.is_none()).count(), limits::REQUESTS_PER_ROUND);
        assert!(round.begin(2, now).is_none());
        let mut begun = burst.iter_mut().map(has_begun).filter(|begun| *begun).count();
        while round.next(now) {
            begun += burst.iter_mut().flatten().map(|turn| usize::from(turn.try_recv().is_ok())).sum::<usize>();
        }
        assert_eq!(begun, burst.len(), "nobody waits for ever");
    }

    #[test]
    fn turns_come_in_the_order_of_the_requests() {
        let now = Instant::now();
        let mut round = Round::new(now);
        (0..limits::REQUESTS_PER_ROUND).for_each(|_| assert!(round.begin(1, now).is_none()));
        let (mut first, gone) = (round.begin(1, now), round.begin(1, now));
        let mut rest: Vec<_> = (0..limits::REQUESTS_PER_ROUND).map(|_| round.begin(1, now)).collect();
        // Whoever comes while others wait does not get past them, however late.
        assert!(round.begin(1, now + ROUND_TIME).is_some());
        drop(gone);
        assert!(round.next(now));
        assert!(has_begun(&mut first));
        let begun = rest.iter_mut().map(has_begun).take_while(|begun| *begun).count();
        assert_eq!(begun, limits::REQUESTS_PER_ROUND - 1, "who has left takes no turn");
    }

    #[test]
    fn a_round_is_over_after_a_while() {
        let now = Instant::now();
        let mut round = Round::new(now);
        for passed in 0..10 {
            let now = now + passed * ROUND_TIME;
            (0..limits::REQUESTS_PER_ROUND).for_each(|_| assert!(round.begin(1, now).is_none()));
        }
    }
}
