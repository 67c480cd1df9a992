//! Failures of the backend in SQLite: an ended host session, `kill -9`, a full disk, and databases
//! of other formats.

use std::path::Path;
use std::sync::Arc;

use isopod_store::{
    AppQueue, CancelReason, Cancelled, Effects, EventFilter, EventQueue, EventState, KeyRead, KeyWrite, Options,
    Outcome, Page, QueueStats, Settled, Store, StoreError,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Backend, COMMITTED, EventSeq, done, event, ordered, process};
use crate::lasting::{run_and_kill, victims_folder};
use crate::{at, name, new_app};

pub(super) fn backend(store: &Store) -> Backend<'_> {
    Backend { queue: store.events(), kv: store.kv() }
}

/// Returns a store with the app `bot`, whose folder the next start keeps.
pub(super) async fn store_of_bot() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    store.create_app(new_app("bot")).await.expect("the app is created");
    (folder, store)
}

fn reopened(folder: &TempDir, store: Store) -> Store {
    drop(store);
    Store::open(folder.path()).expect("the store opens again")
}

pub(super) fn database(folder: &Path) -> Connection {
    Connection::open(folder.join("apps/bot/kv.db")).expect("the database opens")
}

#[tokio::test]
async fn leases_of_an_ended_session_are_void() {
    let (folder, store) = store_of_bot().await;
    backend(&store).accept([ordered("1", "anna"), ordered("2", "anna")], 0).await;
    let old = backend(&store).claim_one(0).await;
    let store = reopened(&folder, store);
    let after = backend(&store);
    assert_eq!(after.state("1").await, EventState::Ready, "before the first change of the new session");
    let stats = after.queue.stats(&name("bot"), at(20)).await.expect("they are read");
    assert_eq!((stats[0].ready, stats[0].leased), (2, 0));
    let ready = EventFilter { state: Some(EventState::Ready), ..EventFilter::default() };
    let page = after.queue.list(&name("bot"), ready, Page::default()).await.expect("it is read");
    assert_eq!(page.items.len(), 2);
    assert_eq!(after.queue.settle(&name("bot"), old.lease, done(), at(1)).await, Ok(Settled::LeaseLost));
    let new = after.claim_one(1).await;
    assert_eq!((new.event.id.as_str(), new.attempt), ("1", 2), "the interrupted attempt counts");
    assert!(new.last_error.is_some_and(|error| error.text.contains("the host ended") && error.repeats == 1));
    assert_eq!(after.queue.settle(&name("bot"), old.lease, done(), at(1)).await, Ok(Settled::LeaseLost));
    assert_eq!(after.queue.settle(&name("bot"), new.lease, done(), at(1)).await, COMMITTED);
}

#[tokio::test]
async fn an_event_whose_last_attempt_ends_the_host_is_a_dead_letter() {
    let (folder, mut store) = store_of_bot().await;
    backend(&store).accept([ordered("poison", "anna"), ordered("2", "anna")], 0).await;
    for attempt in 1..=3 {
        assert_eq!(backend(&store).claim_one(attempt).await.event.id, "poison");
        store = reopened(&folder, store);
    }
    assert_eq!(backend(&store).claim_one(4).await.event.id, "2");
    let poison = backend(&store).get("poison").await;
    assert_eq!((poison.state, poison.attempt), (EventState::Dead, 3));
    assert_eq!(poison.error.as_deref(), Some("the host ended during the last attempt"));
}

#[tokio::test]
async fn a_closed_and_opened_database_keeps_its_leases_in_the_session() {
    let (_folder, store) = store_of_bot().await;
    backend(&store).accept([event("1")], 0).await;
    let claim = backend(&store).claim_one(0).await;
    // Calls for other apps close this app's database.
    for number in 0..isopod_store::limits::APPS_OPEN_MAX + 1 {
        store.kv().set(&name(&format!("app-{number}")), "", "k", b"v").await.expect("the key is set");
    }
    assert_eq!(backend(&store).claim(0).await, []);
    backend(&store).settle(&claim, done(), 0).await;
}

#[tokio::test]
async fn apps_with_unfinished_events_are_found_at_the_start() {
    let (folder, store) = store_of_bot().await;
    for app in ["idle", "failed", "finished", "late", "damaged"] {
        store.create_app(new_app(app)).await.expect("the app is created");
    }
    let queue = store.events();
    store.kv().set(&name("idle"), "", "k", b"v").await.expect("the key is set");
    let mut scheduled = event("1");
    scheduled.not_before = Some(at(60));
    for (app, new) in [("bot", event("1")), ("finished", event("1")), ("late", scheduled), ("damaged", event("1"))] {
        queue.accept(&name(app), vec![new], at(0)).await.expect("it is accepted");
    }
    let seq = EventSeq(1);
    assert_eq!(queue.cancel(&name("finished"), seq, CancelReason::Request, at(0)).await, Ok(Cancelled::Cancelled));
    backend(&store).claim_one(0).await;
    let refused = Outcome::Dead { error: "refused".to_owned() };
    queue.accept(&name("failed"), vec![event("1")], at(0)).await.expect("it is accepted");
    let claim =
        queue.claim(&name("failed"), &process("worker"), 1, at(0)).await.expect("it is claimed").claims.remove(0);
    queue.settle(&name("failed"), claim.lease, refused, at(0)).await.expect("it is settled");
    let sorted = |mut found: Vec<AppQueue>| {
        found.sort_by(|one, other| one.app.cmp(&other.app));
        let counts = |of: &QueueStats| (of.ready, of.delayed, of.dead, of.next_due);
        let shown = |queue: AppQueue| {
            (
                queue.app.to_string(),
                queue.is_pending(),
                queue.stats.ok().map(|of| of.iter().map(counts).collect::<Vec<_>>()),
            )
        };
        found.into_iter().map(shown).collect::<Vec<_>>()
    };
    let ready = || Some(vec![(1, 0, 0, None)]);
    let mut expected = [
        ("bot".to_owned(), true, ready()),
        ("damaged".to_owned(), true, ready()),
        ("failed".to_owned(), false, Some(vec![(0, 0, 1, None)])),
        ("late".to_owned(), true, Some(vec![(0, 1, 0, Some(at(60)))])),
    ];
    let found = queue.app_queues().await.expect("the apps are read");
    assert_eq!(sorted(found), expected, "while the databases are open");
    let with_events = async |store: &Store| {
        let mut found = store.events().apps_with_events().await.expect("the apps are read");
        found.sort();
        found
    };
    assert_eq!(with_events(&store).await, ["bot", "damaged", "failed", "finished", "late"].map(name));
    drop(store);
    std::fs::write(folder.path().join("apps/damaged/kv.db"), "no database").expect("it is overwritten");
    let store = Store::open(folder.path()).expect("the store opens again");
    assert_eq!(with_events(&store).await, ["bot", "damaged", "failed", "finished", "late"].map(name));
    expected[1].2 = None;
    let found = store.events().app_queues().await.expect("the apps are read");
    assert_eq!(sorted(found), expected, "a lease of an ended session is due, and damage is reported on use");
    assert_eq!(store.events().stats(&name("damaged"), at(20)).await, Ok(vec![]), "it has a new database");
    assert_eq!(store.next_loss().await.map(|lost| lost.app), Some(name("damaged")));
}

#[tokio::test]
async fn a_database_at_its_limit_keeps_exactly_the_acknowledged_events() {
    let (folder, store) = store_of_bot().await;
    drop(store);
    let options = Options { pages_max: Some(200), ..Options::default() };
    let store = Store::open_with(folder.path(), &options).expect("the store opens");
    let mut acknowledged = 0;
    let refused = loop {
        let mut new = event(&acknowledged.to_string());
        new.event.payload.data = Some(vec![1; 10_000]);
        match store.events().accept(&name("bot"), vec![new], at(0)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1_000, "the disk never became full");
    };
    assert!(refused.is_of_full_disk(), "{refused}");
    let stats = store.events().stats(&name("bot"), at(20)).await.expect("reading works on a full disk");
    assert_eq!(stats[0].ready, acknowledged);
    let mut handled = 0;
    loop {
        let claims = backend(&store).claim(1).await;
        for claim in &claims {
            backend(&store).settle(claim, done(), 1).await;
        }
        handled += claims.len() as u64;
        if claims.is_empty() {
            break;
        }
    }
    assert_eq!(handled, acknowledged, "a full disk doesn't stop deliveries");
    backend(&store).accept([event("room again")], 2).await;
}

#[tokio::test]
async fn acknowledged_events_and_their_effects_survive_kill_9() {
    if let Some(folder) = victims_folder() {
        return handle_until_killed(&folder).await;
    }
    let folder = tempfile::tempdir().expect("the folder is created");
    for round in 0..3 {
        let test = "events::failures::acknowledged_events_and_their_effects_survive_kill_9";
        let last = run_and_kill(test, folder.path());
        let store = Store::open(folder.path()).expect("the store opens: the kill released the lock");
        let after = backend(&store);
        // Before the kill, the victim may have accepted and handled further events without printing
        // a line.
        let (accepted, handled) = accepted_and_handled(&after).await;
        assert!(accepted >= last, "round {round}: {last} was acknowledged, but {accepted} were accepted");
        assert_eq!(count(&store, "handled").await, handled, "round {round}: each handled event counts once");
        while handle_some(&store).await > 0 {}
        assert_eq!(count(&store, "handled").await, accepted, "round {round}: no event is missing");
    }
}

async fn count(store: &Store, key: &str) -> i64 {
    let value = store.kv().get(&name("bot"), "", key).await.expect("it is read");
    value.map_or(0, |value| String::from_utf8_lossy(&value).parse().expect("it is a number"))
}

/// Returns the number of events, and of those that are done. Their ids are numbers without a gap.
async fn accepted_and_handled(backend: &Backend<'_>) -> (i64, i64) {
    let (mut accepted, mut handled) = (0, 0);
    while let Some(found) =
        backend.queue.get(&name("bot"), &(accepted + 1).to_string(), None).await.expect("it is read")
    {
        accepted += 1;
        handled += i64::from(found.state == EventState::Done);
    }
    (accepted, handled)
}

/// Claims some events, and counts each in its own transaction with the acknowledgement.
async fn handle_some(store: &Store) -> usize {
    let queue = store.events();
    let claimed = queue.claim(&name("bot"), &process("worker"), 8, at(1)).await.expect("it is claimed");
    for claim in &claimed.claims {
        loop {
            let read = store.kv().get_versioned(&name("bot"), "", "handled").await.expect("it is read");
            let count: i64 = read.0.map_or(0, |value| String::from_utf8_lossy(&value).parse().expect("a number"));
            let (bucket, key) = (String::new(), "handled".to_owned());
            let value = Some((count + 1).to_string().into_bytes());
            let effects = Effects {
                reads: vec![KeyRead { bucket: bucket.clone(), key: key.clone(), version: read.1 }],
                writes: vec![KeyWrite { bucket, key, value }],
                emitted: vec![],
            };
            let outcome = Outcome::Done { effects };
            match queue.settle(&name("bot"), claim.lease, outcome, at(1)).await.expect("it is settled") {
                Settled::Committed { .. } => break,
                Settled::Conflict => {}
                Settled::LeaseLost => panic!("two deliveries of one event"),
            }
        }
    }
    claimed.claims.len()
}

async fn handle_until_killed(folder: &Path) {
    let store = Arc::new(Store::open(folder).expect("the store opens"));
    if store.app(&name("bot")).await.expect("it is read").is_none() {
        store.create_app(new_app("bot")).await.expect("the app is created");
    }
    for _ in 0..2 {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            loop {
                handle_some(&store).await;
            }
        });
    }
    let first = accepted_and_handled(&backend(&store)).await.0 + 1;
    // Bounded, so that a victim process ends even if it isn't killed.
    for number in first..first + 100_000 {
        let mut new = event(&number.to_string());
        new.attempts_max = 1_000;
        store.events().accept(&name("bot"), vec![new], at(0)).await.expect("it is accepted");
        println!("acknowledged {number}");
    }
}

#[tokio::test]
async fn a_database_of_the_previous_format_gets_a_queue_and_keeps_its_entries() {
    let (folder, store) = store_of_bot().await;
    drop(store);
    let earlier = "CREATE TABLE entries (bucket TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
            UNIQUE (bucket, key)) STRICT;
        CREATE TABLE usage (bytes INTEGER NOT NULL) STRICT;
        INSERT INTO usage VALUES (66); INSERT INTO entries VALUES ('', 'k', x'76');
        PRAGMA user_version = 1; PRAGMA journal_mode = WAL";
    database(folder.path()).execute_batch(earlier).expect("the tables are created");
    let store = Store::open(folder.path()).expect("the store opens");
    assert_eq!(store.events().app_queues().await, Ok(vec![]), "without a migration");
    assert_eq!(store.kv().get(&name("bot"), "", "k").await, Ok(Some(b"v".to_vec())));
    backend(&store).accept([event("1")], 0).await;
    backend(&store).claim_one(0).await;
    drop(store);
    database(folder.path()).execute_batch("PRAGMA user_version = 3").expect("it is written");
    let store = Store::open(folder.path()).expect("the store opens");
    let newer = StoreError::TooNew { found: 3, known: 2 };
    let found = store.events().app_queues().await.expect("the apps are read");
    assert_eq!(found, [AppQueue { app: name("bot"), stats: Err(newer.clone()) }]);
    assert!(!found[0].is_pending(), "its events wait for a newer host");
    assert_eq!(store.events().stats(&name("bot"), at(20)).await, Err(newer.clone()));
    assert_eq!(store.kv().get(&name("bot"), "", "k").await, Err(newer));
}

#[tokio::test]
async fn a_destroyed_app_has_no_events() {
    let (folder, store) = store_of_bot().await;
    backend(&store).accept([event("1"), event("2")], 0).await;
    let claims = backend(&store).claim(0).await;
    store.delete_app(&name("bot"), crate::destroyed()).await.expect("it is deleted");
    store.remove_data(&name("bot")).await.expect("its data is removed");
    let settled = store.events().settle(&name("bot"), claims[0].lease, done(), at(0)).await;
    assert_eq!(settled, Ok(Settled::LeaseLost));
    assert_eq!(backend(&store).claim(0).await, []);
    assert!(!folder.path().join("apps/bot").exists(), "late calls create no folder");
}
