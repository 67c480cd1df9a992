//! The disk space of a queue: the file shrinks after its events were handled, and its journal stays
//! bounded. Owns the allowed sizes. Never measures time.

use std::fs;
use std::path::Path;

use isopod_store::limits::{CLAIMS_MAX, FREE_BYTES_KEPT, JOURNAL_BYTES_KEPT};
use isopod_store::{EventQueue, Store};
use rusqlite::Connection;

use super::{Backend, done, event, process};
use crate::{at, name, new_app};

const DATA: usize = 4 << 10;
const EVENTS: usize = 4_000;

fn size(folder: &Path, file: &str) -> u64 {
    fs::metadata(folder.join("apps/bot").join(file)).map_or(0, |found| found.len())
}

/// Accepts and handles events, with a write of another kind between the batches.
async fn drained(store: &Store) {
    let bot = Backend { queue: store.events(), kv: store.kv() };
    for batch in 0..EVENTS / 500 {
        let events = (0..500).map(|number| {
            let mut new = event(&format!("{batch}-{number}"));
            new.event.payload.data = Some(vec![b'x'; DATA]);
            new
        });
        bot.accept(events, 0).await;
    }
    loop {
        let claimed = bot.queue.claim(&name("bot"), &process("worker"), CLAIMS_MAX, at(0)).await;
        let claims = claimed.expect("they are claimed").claims;
        if claims.is_empty() {
            return;
        }
        let outcomes = claims.iter().map(|claim| (claim.lease, done())).collect();
        bot.queue.settle_all(&name("bot"), outcomes, at(0)).await.expect("they are settled");
    }
}

#[tokio::test]
async fn a_file_shrinks_in_steps_after_a_drain() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    store.create_app(new_app("bot")).await.expect("the app is created");
    drained(&store).await;
    drop(store);
    let before = size(folder.path(), "kv.db");
    assert!(before > (EVENTS * DATA) as u64, "{before}");
    let store = Store::open(folder.path()).expect("the store opens");
    store.kv().set(&name("bot"), "", "key", b"value").await.expect("it is set");
    let mut steps = 1;
    while store.events().shrink(&name("bot")).await.expect("it shrinks") {
        steps += 1;
    }
    assert!(steps > 1, "one step is short");
    assert_eq!(store.events().shrink(&name("bot")).await, Ok(false));
    assert_eq!(store.kv().get(&name("bot"), "", "key").await, Ok(Some(b"value".to_vec())));
    drop(store);
    let after = size(folder.path(), "kv.db");
    let rows = EVENTS as u64 * 400;
    assert!(after < u64::from(FREE_BYTES_KEPT) + rows, "{before} to {after}");
    let connection = Connection::open(folder.path().join("apps/bot/kv.db")).expect("it opens");
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is checked");
    assert_eq!(found, "ok");
}

#[tokio::test]
async fn a_small_database_of_format_1_can_shrink_after_its_migration() {
    let folder = tempfile::tempdir().expect("the folder is created");
    drop(Store::open(folder.path()).expect("the store opens"));
    fs::create_dir_all(folder.path().join("apps/bot")).expect("it is created");
    let path = folder.path().join("apps/bot/kv.db");
    let connection = Connection::open(&path).expect("it is created");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE entries (bucket TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, UNIQUE (bucket, key))
                 STRICT;
             CREATE TABLE usage (bytes INTEGER NOT NULL) STRICT;
             INSERT INTO usage VALUES (75);
             INSERT INTO entries VALUES ('', 'key', X'76616c7565');
             PRAGMA user_version = 1;",
        )
        .expect("the old tables are created");
    drop(connection);
    let kv = isopod_store::KvStore::open(folder.path()).expect("the store opens");
    assert_eq!(kv.get(&name("bot"), "", "key").await, Ok(Some(b"value".to_vec())));
    kv.set(&name("bot"), "", "other", b"value").await.expect("it is set");
    drop(kv);
    let connection = Connection::open(&path).expect("it opens");
    let mode: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).expect("it is read");
    assert_eq!(mode, 2, "incremental");
}

/// The journal is reused from its beginning even if calls never pause.
#[tokio::test]
async fn the_journal_stays_bounded_under_continuous_writes() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    let queue = store.events();
    let write = async |writer: usize| {
        for number in 0..200 {
            let mut new = event(&format!("{writer}-{number}"));
            new.event.payload.data = Some(vec![b'x'; 16 << 10]);
            queue.accept(&name("bot"), vec![new], at(0)).await.expect("it is accepted");
        }
    };
    let read = async || {
        for _ in 0..400 {
            queue.stats(&name("bot"), at(0)).await.expect("they are read");
        }
    };
    futures::join!(write(0), write(1), write(2), write(3), write(4), write(5), write(6), write(7), read());
    let (file, journal) = (size(folder.path(), "kv.db"), size(folder.path(), "kv.db-wal"));
    assert!(file > 8 << 20, "changes are moved into the file: {file}");
    assert!(journal <= u64::from(JOURNAL_BYTES_KEPT), "{journal}");
}
