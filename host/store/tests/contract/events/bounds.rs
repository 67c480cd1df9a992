//! The bounds of a queue in SQLite: events, bytes and ended events. Changes the counters of the
//! queue, since the bounds are too large to be reached in a test.

use isopod_store::limits::{ENDED_EVENTS_MAX, EVENT_BYTES_PER_APP_MAX, EVENTS_PER_APP_MAX};
use isopod_store::{Accepted, Effects, EventQueue, EventState, Outcome, StoreError};
use tempfile::TempDir;

use super::failures::{backend, database, store_of_bot};
use super::{done, event, retry};
use crate::{at, name};

/// Sets a counter of the app's only queue.
fn set(folder: &TempDir, counter: &str, value: i64) {
    let sql = format!("UPDATE queues SET {counter} = {value}");
    database(folder.path()).execute_batch(&sql).expect("it is written");
}

/// Returns a counter of the app's only queue.
fn counter(folder: &TempDir, counter: &str) -> i64 {
    let sql = format!("SELECT {counter} FROM queues");
    database(folder.path()).query_row(&sql, [], |row| row.get(0)).expect("it is read")
}

#[tokio::test]
async fn a_full_queue_refuses_events_and_keeps_delivering() {
    let (folder, store) = store_of_bot().await;
    backend(&store).accept([event("1"), event("2")], 0).await;
    set(&folder, "ready", EVENTS_PER_APP_MAX - 1);
    let refused = store.events().accept(&name("bot"), vec![event("3"), event("4")], at(0)).await;
    assert_eq!(refused, Err(StoreError::EventQueueFull));
    assert_eq!(store.events().get(&name("bot"), "3", None).await, Ok(None), "none of the batch");
    let claims = backend(&store).claim(0).await;
    let emits = Outcome::Done { effects: Effects { emitted: vec![event("5"), event("6")], ..Effects::default() } };
    let settled = store.events().settle(&name("bot"), claims[0].lease, emits, at(0)).await;
    assert_eq!(settled, Err(StoreError::EventQueueFull));
    assert_eq!(backend(&store).state("1").await, EventState::Leased);
    backend(&store).settle(&claims[0], done(), 0).await;
    backend(&store).settle(&claims[1], retry(at(0)), 0).await;
    backend(&store).accept([event("3")], 0).await;
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes() {
    let (folder, store) = store_of_bot().await;
    backend(&store).accept([event("1")], 0).await;
    let each = counter(&folder, "bytes");
    set(&folder, "bytes", EVENT_BYTES_PER_APP_MAX - each);
    let refused = store.events().accept(&name("bot"), vec![event("2"), event("3")], at(0)).await;
    assert_eq!(refused, Err(StoreError::EventQueueFull));
    assert_eq!(store.events().get(&name("bot"), "2", None).await, Ok(None), "none of the batch");
    backend(&store).accept([event("2")], 0).await;
    assert_eq!(counter(&folder, "bytes"), EVENT_BYTES_PER_APP_MAX, "an event may fill the queue exactly");
    let refused = store.events().accept(&name("bot"), vec![event("3")], at(0)).await;
    assert_eq!(refused, Err(StoreError::EventQueueFull));

    let claims = backend(&store).claim(0).await;
    let refused = Outcome::Dead { error: "refused".to_owned() };
    backend(&store).settle(&claims[0], refused, 0).await;
    let full = store.events().accept(&name("bot"), vec![event("3")], at(0)).await;
    assert_eq!(full, Err(StoreError::EventQueueFull), "a dead letter keeps its content");
    backend(&store).settle(&claims[1], done(), 0).await;
    backend(&store).accept([event("3")], 0).await;
}

#[tokio::test]
async fn ended_events_beyond_the_bound_are_removed_oldest_first() {
    let (folder, store) = store_of_bot().await;
    let after = backend(&store);
    for (id, second) in [("1", 1), ("2", 2), ("3", 3)] {
        after.accept([event(id)], second).await;
        let claim = after.claim_one(second).await;
        after.settle(&claim, done(), second).await;
    }
    set(&folder, "ended", ENDED_EVENTS_MAX);
    after.accept([event("4")], 4).await;
    assert_eq!((counter(&folder, "ended"), after.state("1").await), (ENDED_EVENTS_MAX, EventState::Done));
    set(&folder, "ended", ENDED_EVENTS_MAX + 1);
    // Removes more than it adds, so that a queue above its bound returns to it.
    after.accept([event("5")], 5).await;
    assert_eq!(counter(&folder, "ended"), ENDED_EVENTS_MAX - 1);
    for removed in ["1", "2"] {
        assert_eq!(store.events().get(&name("bot"), removed, None).await, Ok(None), "{removed}");
    }
    for (kept, state) in [("3", EventState::Done), ("4", EventState::Ready), ("5", EventState::Ready)] {
        assert_eq!(after.state(kept).await, state, "{kept}");
    }
    let accepted = store.events().accept(&name("bot"), vec![event("1"), event("3")], at(6)).await;
    let accepted = accepted.expect("they are accepted");
    assert!(matches!(accepted[..], [Accepted::New { .. }, Accepted::Duplicate { .. }]), "{accepted:?}");
}
