//! Pruning of many ended events from a real file, in steps between which other writes complete.
//! Owns the number of steps that a write may wait for. Never measures time.

use std::cell::{Cell, RefCell};

use isopod_store::limits::EVENTS_SWEPT_MAX;
use isopod_store::{EventState, Store};

use super::{Backend, event};
use crate::{at, name, new_app};

const ENDED: usize = 100_000;
const DAY: i64 = 24 * 3_600;
/// A write waits for the step that runs when it is queued. The next step may join its transaction.
const STEPS_WAITED_MAX: usize = 2;

/// Adds events that were handled a day ago.
fn add_ended(database: &std::path::Path) {
    let connection = rusqlite::Connection::open(database).expect("it opens");
    let before = at(0).as_millisecond();
    let rows = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM numbers LIMIT {ENDED})
         INSERT INTO events (seq, process, state, ordered, attempt, attempts_max, bytes, accepted_at, since, id,
             source, type)
         SELECT n, 1, 6, 0, 1, 3, 300, {before}, {before}, 'ended-' || n, 'test', 'sent' FROM numbers;
         UPDATE queues SET ended = {ENDED};
         UPDATE event_state SET next_seq = 1000 + {ENDED};"
    );
    connection.execute_batch(&rows).expect("they are added");
}

#[tokio::test]
async fn events_are_accepted_between_the_steps_of_pruning() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    store.create_app(new_app("bot")).await.expect("the app is created");
    Backend { queue: store.events(), kv: store.kv() }.accept([event("waits")], 0).await;
    drop(store);
    add_ended(&folder.path().join("apps/bot/kv.db"));

    let store = Store::open(folder.path()).expect("the store opens");
    let bot = Backend { queue: store.events(), kv: store.kv() };
    let (steps, is_pruned, accepted) = (RefCell::new(Vec::new()), Cell::new(false), Cell::new(0));
    let prune = async {
        loop {
            let removed = bot.queue.prune(&name("bot"), at(DAY), ENDED, at(DAY)).await.expect("they are removed");
            if removed == 0 {
                break;
            }
            steps.borrow_mut().push(removed);
            // Lets `accept` receive an event's response before the next step is queued.
            tokio::task::yield_now().await;
        }
        is_pruned.set(true);
    };
    let accept = async {
        while !is_pruned.get() {
            let before = steps.borrow().len();
            bot.accept([event(&format!("new-{}", accepted.get()))], DAY).await;
            accepted.set(accepted.get() + 1);
            let waited = steps.borrow().len() - before;
            assert!(waited <= STEPS_WAITED_MAX, "an event waited for {waited} steps");
        }
    };
    futures::join!(prune, accept);
    let steps = steps.into_inner();
    assert!(steps.iter().all(|removed| *removed <= EVENTS_SWEPT_MAX), "{steps:?}");
    assert_eq!(steps.iter().sum::<usize>(), ENDED);
    assert!(accepted.get() >= steps.len() / STEPS_WAITED_MAX, "{} events, {} steps", accepted.get(), steps.len());
    let stats = bot.queue.stats(&name("bot"), at(DAY)).await.expect("they are read");
    assert_eq!(stats[0].ready, accepted.get() as u64 + 1);
    assert_eq!(bot.state("waits").await, EventState::Ready);
    assert_eq!(bot.queue.get(&name("bot"), "ended-1000", None).await, Ok(None));
}
