//! The bounds of a queue in SQLite: events, bytes, ended events, and the key-value data that its
//! handlers write. Changes the counters, since the bounds are too large to be reached in a test.

use isopod_store::limits::{APP_BYTES_MAX, ENDED_EVENTS_MAX, EVENT_BYTES_PER_APP_MAX, EVENTS_PER_APP_MAX};
use isopod_store::{Accepted, Effects, EventQueue, EventState, KeyWrite, Outcome, Settled, StoreError};
use tempfile::TempDir;

use super::failures::{backend, database, store_of_bot};
use super::{COMMITTED, done, event, retry};
use crate::{at, name};

/// Sets a counter of the app's only queue.
fn set(folder: &TempDir, counter: &str, value: i64) {
    let sql = format!("UPDATE queues SET {counter} = {value}");
    database(folder.path()).execute_batch(&sql).expect("it is written");
}

/// Returns the outcome of a handler that sends these events.
fn emits(ids: &[&str]) -> Outcome {
    let emitted = ids.iter().map(|id| event(id)).collect();
    Outcome::Done { effects: Effects { emitted, ..Effects::default() } }
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
    let settled = store.events().settle(&name("bot"), claims[0].lease, emits(&["5", "6", "7"]), at(0)).await;
    assert_eq!(settled, Err(StoreError::EventQueueFull));
    assert_eq!(backend(&store).state("1").await, EventState::Leased);
    backend(&store).settle(&claims[0], done(), 0).await;
    backend(&store).settle(&claims[1], retry(at(0)), 0).await;
    backend(&store).accept([event("3")], 0).await;
}

/// Otherwise the events of a full queue whose handlers send an event each would become dead
/// letters, and the queue would stay full.
#[tokio::test]
async fn the_handlers_of_a_full_queue_may_send_as_many_events_as_they_complete() {
    for (full, most) in [("ready", EVENTS_PER_APP_MAX), ("bytes", EVENT_BYTES_PER_APP_MAX)] {
        let (folder, store) = store_of_bot().await;
        backend(&store).accept([event("1")], 0).await;
        set(&folder, full, most);
        let claim = backend(&store).claim_one(0).await;
        let settle = async |ids: &[&str]| store.events().settle(&name("bot"), claim.lease, emits(ids), at(0)).await;
        assert_eq!(settle(&["2", "3"]).await, Err(StoreError::EventQueueFull), "{full}");
        assert_eq!(settle(&["2"]).await, Ok(Settled::Committed { has_emitted: true }), "{full}");
        assert_eq!(backend(&store).state("2").await, EventState::Ready);
        let refused = store.events().accept(&name("bot"), vec![event("3")], at(0)).await;
        assert_eq!(refused, Err(StoreError::EventQueueFull), "{full}: the queue is still full");
    }
}

/// Otherwise a handler that moves a value to another key could never succeed in a full store.
#[tokio::test]
async fn only_the_total_of_a_handlers_writes_counts_towards_the_limit_of_the_key_value_store() {
    let (folder, store) = store_of_bot().await;
    store.kv().set(&name("bot"), "b", "z", b"a value").await.expect("the key is set");
    backend(&store).accept([event("1")], 0).await;
    database(folder.path()).execute_batch(&format!("UPDATE usage SET bytes = {APP_BYTES_MAX}")).expect("it is written");
    let claim = backend(&store).claim_one(0).await;
    let write = |key: &str, value: Option<&[u8]>| KeyWrite {
        bucket: "b".to_owned(),
        key: key.to_owned(),
        value: value.map(<[u8]>::to_vec),
    };
    let settle = async |writes| {
        let outcome = Outcome::Done { effects: Effects { writes, ..Effects::default() } };
        store.events().settle(&name("bot"), claim.lease, outcome, at(0)).await
    };
    let values = async || {
        let backend = backend(&store);
        (backend.value("a").await, backend.value("z").await)
    };
    let larger = vec![write("a", Some(b"a value!")), write("z", None)];
    assert_eq!(settle(larger).await, Err(StoreError::KeyValueFull));
    assert_eq!(values().await, (None, Some(b"a value".to_vec())), "a refused change writes nothing");
    assert_eq!(settle(vec![write("a", Some(b"a value")), write("z", None)]).await, COMMITTED);
    assert_eq!(values().await, (Some(b"a value".to_vec()), None));
    let used: i64 =
        database(folder.path()).query_row("SELECT bytes FROM usage", [], |row| row.get(0)).expect("it is read");
    assert_eq!(u64::try_from(used), Ok(APP_BYTES_MAX));
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
