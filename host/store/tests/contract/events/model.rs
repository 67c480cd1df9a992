//! A property of the queue: after any sequence of calls, it agrees with a small model. Owns the
//! model. Never knows a table.

use std::collections::BTreeMap;

use isopod_store::{
    Accepted, CancelReason, Cancelled, Claim, DeadChange, EventFilter, EventQueue, EventSeq, EventState, Outcome, Page,
    Settled, Store, StoredEvent,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{done, event, process, retry};
use crate::{at, name, new_app};

const PROCESSES: [&str; 2] = ["worker", "mailer"];
const ATTEMPTS_MAX: u32 = 4;

/// One call of a queue.
#[derive(Debug, Clone)]
enum Call {
    Accept {
        id: u8,
        process: usize,
        subject: Option<u8>,
        is_ordered: bool,
        delay: Option<i64>,
        expiry: Option<i64>,
    },
    Claim {
        process: usize,
        most: usize,
    },
    /// Settles one of the running deliveries.
    Settle {
        which: usize,
        how: How,
    },
    Cancel {
        which: usize,
    },
    Redrive {
        most: usize,
    },
    Drop {
        most: usize,
    },
    Wait {
        seconds: i64,
    },
    /// Begins a new host session, which is the only expiry of a lease in this backend. Within a
    /// session, the request timeout ends the attempt, whose outcome ends the lease.
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Done,
    Retry { after: i64 },
    Snooze { after: i64 },
    Dead,
}

fn call() -> impl Strategy<Value = Call> {
    let delay = || prop::option::weighted(0.2, 1..20_i64);
    let accept =
        (0..30_u8, 0..2_usize, prop::option::weighted(0.8, 0..3_u8), prop::bool::weighted(0.7), delay(), delay())
            .prop_map(|(id, process, subject, is_ordered, delay, expiry)| Call::Accept {
                id,
                process,
                subject,
                is_ordered,
                delay,
                expiry: expiry.map(|seconds| seconds + 5),
            });
    let how = prop_oneof![
        4 => Just(How::Done),
        2 => (0..10_i64).prop_map(|after| How::Retry { after }),
        1 => (0..10_i64).prop_map(|after| How::Snooze { after }),
        1 => Just(How::Dead),
    ];
    prop_oneof![
        8 => accept,
        6 => (0..2_usize, 1..4_usize).prop_map(|(process, most)| Call::Claim { process, most }),
        6 => (any::<usize>(), how).prop_map(|(which, how)| Call::Settle { which, how }),
        1 => any::<usize>().prop_map(|which| Call::Cancel { which }),
        1 => (1..3_usize).prop_map(|most| Call::Redrive { most }),
        1 => (1..3_usize).prop_map(|most| Call::Drop { most }),
        3 => (1..8_i64).prop_map(|seconds| Call::Wait { seconds }),
        1 => Just(Call::Reopen),
    ]
}

/// An event of the model.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    process: usize,
    line: Option<u8>,
    state: State,
    attempt: u32,
    due: i64,
    expiry: Option<i64>,
    /// Whether the position in the line is that of the acceptance.
    is_in_order: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Leased,
    Done,
    Dead,
    Cancelled,
}

impl State {
    fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Leased)
    }
}

struct Run {
    folder: TempDir,
    store: Store,
    now: i64,
    known: BTreeMap<EventSeq, Known>,
    running: Vec<Claim>,
}

impl Run {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("the folder is created");
        let store = Store::open(folder.path()).expect("the store opens");
        store.create_app(new_app("bot")).await.expect("the app is created");
        Self { folder, store, now: 0, known: BTreeMap::new(), running: Vec::new() }
    }

    async fn make(&mut self, call: Call) {
        match call {
            Call::Accept { id, process, subject, is_ordered, delay, expiry } => {
                let known = Known {
                    id: id.to_string(),
                    process,
                    line: subject.filter(|_| is_ordered),
                    state: State::Waiting,
                    attempt: 0,
                    due: self.now + delay.unwrap_or(0),
                    expiry: expiry.map(|seconds| self.now + seconds),
                    is_in_order: delay.is_none(),
                };
                self.accept(known, subject).await;
            }
            Call::Claim { process, most } => {
                self.claim(process, most).await;
            }
            Call::Settle { which, how } => self.settle(which, how).await,
            Call::Cancel { which } => self.cancel(which).await,
            Call::Redrive { most } => self.change_dead(most, DeadChange::Redrive).await,
            Call::Drop { most } => self.change_dead(most, DeadChange::Drop).await,
            Call::Wait { seconds } => self.now += seconds,
            Call::Reopen => self.reopen(),
        }
    }

    async fn accept(&mut self, known: Known, subject: Option<u8>) {
        let mut new = event(&known.id);
        new.process = process(PROCESSES[known.process]);
        new.event.subject = subject.map(|subject| subject.to_string());
        new.is_ordered = known.line.is_some();
        new.not_before = (known.due > self.now).then(|| at(known.due));
        new.expires_at = known.expiry.map(at);
        new.attempts_max = ATTEMPTS_MAX;
        let accepted = self.store.events().accept_one(&name("bot"), new, at(self.now)).await;
        let earlier = self.known.iter().find(|(_, earlier)| earlier.id == known.id).map(|(seq, _)| *seq);
        let (accepted, stored) = accepted.expect("it is accepted");
        assert_eq!((stored.seq, &stored.id), (accepted.seq(), &known.id));
        let read = self.store.events().get(&name("bot"), &known.id, None).await.expect("it is read");
        assert_eq!(read.as_ref(), Some(&stored), "the answer equals what a read returns");
        match (accepted, earlier) {
            (Accepted::New { seq }, None) => {
                assert!(self.known.keys().all(|earlier| *earlier < seq), "positions rise");
                self.known.insert(seq, known);
            }
            (Accepted::Duplicate { seq, .. }, Some(earlier)) => assert_eq!(seq, earlier),
            (accepted, earlier) => panic!("{accepted:?}, but the earlier event is {earlier:?}"),
        }
    }

    async fn claim(&mut self, process: usize, most: usize) -> bool {
        let queue = self.store.events();
        let claimed = queue.claim(&name("bot"), &self::process(PROCESSES[process]), most, at(self.now)).await;
        let claimed = claimed.expect("it is claimed");
        assert!(claimed.claims.len() <= most);
        // The claim may have cancelled expired events.
        for (seq, known) in &mut self.known {
            if known.state == State::Waiting && known.expiry.is_some_and(|at| at <= self.now) {
                let found = queue.get(&name("bot"), &known.id, None).await.expect("it is read").expect("it exists");
                assert_eq!(found.seq, *seq);
                if found.state == EventState::Cancelled {
                    known.state = State::Cancelled;
                }
            }
        }
        for claim in &claimed.claims {
            let seq = claim.lease.seq;
            let known = self.known.get(&seq).expect("only accepted events are claimed").clone();
            assert_eq!((known.state, known.process, &known.id), (State::Waiting, process, &claim.event.id));
            assert!(known.due <= self.now, "it is due");
            assert!(known.expiry.is_none_or(|at| at > self.now), "it has not expired");
            assert_eq!(claim.attempt, known.attempt + 1);
            if let Some(line) = known.line {
                for (other_seq, other) in &self.known {
                    if *other_seq == seq || (other.process, other.line) != (process, Some(line)) {
                        continue;
                    }
                    assert_ne!(other.state, State::Leased, "two deliveries for one subject");
                    let is_before = *other_seq < seq && other.is_in_order && known.is_in_order;
                    assert!(!(is_before && other.state.is_active()), "{} before {}", known.id, other.id);
                }
            }
            let known = self.known.get_mut(&seq).expect("it is known");
            (known.state, known.attempt) = (State::Leased, claim.attempt);
        }
        let is_empty = claimed.claims.is_empty() && !claimed.has_more;
        if claimed.claims.len() < most && !claimed.has_more {
            self.assert_nothing_is_due(process);
        }
        self.running.extend(claimed.claims);
        is_empty
    }

    /// Every deliverable event has been claimed.
    fn assert_nothing_is_due(&self, process: usize) {
        let of_process = || self.known.values().filter(|known| known.process == process && known.state.is_active());
        for known in of_process().filter(|known| known.state == State::Waiting && known.due <= self.now) {
            let line = known.line.expect("an unordered event that is due is claimed");
            // It waits behind a delivery in progress, or behind an event that waits for its retry.
            let is_blocked = of_process()
                .any(|other| other.line == Some(line) && (other.state == State::Leased || other.due > self.now));
            assert!(is_blocked, "{} is due and not claimed", known.id);
        }
    }

    async fn settle(&mut self, which: usize, how: How) {
        if self.running.is_empty() {
            return;
        }
        let claim = self.running.swap_remove(which % self.running.len());
        let known = self.known.get_mut(&claim.lease.seq).expect("it is known");
        let outcome = match how {
            How::Done => done(),
            How::Dead => super::dead(),
            How::Retry { after } => retry(at(self.now + after)),
            How::Snooze { after } => {
                Outcome::Retry { at: at(self.now + after), error: String::new(), is_counted: false }
            }
        };
        known.state = match how {
            How::Done => State::Done,
            How::Dead => State::Dead,
            How::Retry { .. } | How::Snooze { .. } => State::Waiting,
        };
        if let How::Retry { after } | How::Snooze { after } = how {
            known.due = (self.now + after).min(known.expiry.unwrap_or(i64::MAX));
        }
        known.attempt -= u32::from(matches!(how, How::Snooze { .. }));
        let settled = self.store.events().settle(&name("bot"), claim.lease, outcome, at(self.now)).await;
        assert_eq!(settled, super::COMMITTED);
        let again = self.store.events().settle(&name("bot"), claim.lease, done(), at(self.now)).await;
        assert_eq!(again, Ok(Settled::LeaseLost), "a lease is settled once");
    }

    async fn cancel(&mut self, which: usize) {
        let Some((seq, known)) = self.known.iter_mut().nth(which % 30) else { return };
        let expected = match known.state {
            State::Waiting => Cancelled::Cancelled,
            State::Leased => Cancelled::Running,
            State::Done => Cancelled::Ended(EventState::Done),
            State::Dead => Cancelled::Ended(EventState::Dead),
            State::Cancelled => Cancelled::Ended(EventState::Cancelled),
        };
        let cancelled = self.store.events().cancel(&name("bot"), *seq, CancelReason::Request, at(self.now)).await;
        assert_eq!(cancelled, Ok(expected));
        if expected == Cancelled::Cancelled {
            known.state = State::Cancelled;
        }
    }

    async fn change_dead(&mut self, most: usize, what: DeadChange) {
        let (queue, app, all) = (self.store.events(), name("bot"), EventFilter::default());
        let dead = self.known.iter().filter(|(_, known)| known.state == State::Dead).map(|(seq, _)| *seq);
        let dead: Vec<EventSeq> = dead.take(most).collect();
        let swept = queue.change_dead(&app, what, all, None, most, at(self.now)).await;
        assert_eq!(swept.expect("they are changed").changed, dead.len() as u64);
        for seq in dead {
            if what == DeadChange::Redrive {
                let known = self.known.get_mut(&seq).expect("it is known");
                (known.state, known.attempt, known.due) = (State::Waiting, 0, self.now);
                (known.expiry, known.is_in_order) = (None, false);
            } else {
                self.known.remove(&seq);
            }
        }
    }

    fn reopen(&mut self) {
        let elsewhere = tempfile::tempdir().expect("the folder is created");
        let other = Store::open(elsewhere.path()).expect("the store opens");
        drop(std::mem::replace(&mut self.store, other));
        self.store = Store::open(self.folder.path()).expect("the store opens again");
        self.running.clear();
        for known in self.known.values_mut().filter(|known| known.state == State::Leased) {
            known.state = if known.attempt >= ATTEMPTS_MAX { State::Dead } else { State::Waiting };
        }
    }

    /// Compares every event with the model, and the counters with the events.
    async fn check(&self) {
        let (queue, app) = (self.store.events(), name("bot"));
        // The first change of a session frees void leases.
        queue.claim(&app, &process("none"), 1, at(self.now)).await.expect("it is claimed");
        let page = Page { cursor: None, limit: Some(1_000) };
        let found = queue.list(&app, EventFilter::default(), page).await.expect("it is read").items;
        let seqs: Vec<EventSeq> = found.iter().rev().map(|found| found.seq).collect();
        assert_eq!(seqs, self.known.keys().copied().collect::<Vec<_>>(), "no event is lost");
        for event in &found {
            let known = &self.known[&event.seq];
            let fits = match event.state {
                EventState::Ready | EventState::Delayed => known.state == State::Waiting,
                EventState::Leased => known.state == State::Leased,
                EventState::Done => known.state == State::Done,
                EventState::Dead => known.state == State::Dead,
                EventState::Cancelled => known.state == State::Cancelled,
            };
            assert!(fits && event.attempt == known.attempt, "{event:?} is {known:?}");
        }
        let stats = queue.stats(&app, at(self.now)).await.expect("they are read");
        for name in PROCESSES {
            let stats = stats.iter().find(|stats| stats.process.as_str() == name);
            let count = |state| {
                let is_counted = |event: &&StoredEvent| (event.process.as_str(), event.state) == (name, state);
                found.iter().filter(is_counted).count() as u64
            };
            let counted = stats.map_or([0; 4], |stats| [stats.ready, stats.delayed, stats.leased, stats.dead]);
            let states = [EventState::Ready, EventState::Delayed, EventState::Leased, EventState::Dead];
            assert_eq!(counted, states.map(count), "the counters of {name}");
            assert!(stats.is_none_or(|stats| stats.bytes > 0));
        }
    }

    /// Handles all remaining events.
    async fn drain(&mut self) {
        self.now += 1_000;
        while !self.running.is_empty() {
            self.settle(0, How::Done).await;
        }
        for process in 0..PROCESSES.len() {
            while !self.claim(process, 3).await {
                while !self.running.is_empty() {
                    self.settle(0, How::Done).await;
                }
            }
        }
        assert!(self.known.values().all(|known| !known.state.is_active()), "every event ends: {:?}", self.known);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_behaves_as_its_model(calls in prop::collection::vec(call(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the runtime starts");
        runtime.block_on(async {
            let mut run = Run::new().await;
            for call in calls {
                run.make(call).await;
            }
            run.check().await;
            run.drain().await;
            run.check().await;
        });
    }
}
