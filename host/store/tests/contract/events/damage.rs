//! Damaged databases of apps: the store sets a damaged database aside, copies the rows that can be
//! read into a new one, and reports every loss. Owns the kinds of damage. Never tests how the rows
//! are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isopod_store::limits::{CHECKED_BYTES_MAX, DAMAGED_DATABASES_KEPT};
use isopod_store::{
    EventFilter, EventQueue, EventState, Loss, LostData, NewEvent, Options, Page, Rescued, Store, StoreError,
    StoredEvent,
};
use tempfile::TempDir;

use super::{Backend, dead, done, event, ordered, retry};
use crate::{at, name, new_app};

const PAGE: usize = 4_096;
/// Far longer than the closing of a database takes.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(60);
pub(super) const ENTRIES: usize = 40;

fn backend(store: &Store) -> Backend<'_> {
    Backend { queue: store.events(), kv: store.kv() }
}

/// Content of one or two rows per page, so that most pages of the file contain rows.
fn large(id: &str) -> NewEvent {
    let mut new = event(id);
    new.event.payload.data = Some(id.as_bytes().repeat(1_500 / id.len()));
    new
}

/// Returns a data folder whose app `bot` has entries, and events in each state.
pub(super) async fn filled() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    store.create_app(new_app("bot")).await.expect("the app is created");
    let bot = backend(&store);
    for number in 0..ENTRIES {
        bot.kv.set(&name("bot"), "b", &key(number), &[b'v'; 300]).await.expect("the key is set");
    }
    bot.accept(["done", "dead", "delayed"].map(large), 0).await;
    for outcome in [done(), dead(), retry(at(60))] {
        let claim = bot.queue.claim(&name("bot"), &super::process("worker"), 1, at(0)).await.expect("it is claimed");
        bot.settle(&claim.claims[0], outcome, 0).await;
    }
    bot.accept((0..30).map(|number| large(&format!("ready-{number}"))), 0).await;
    bot.accept((0..20).map(|number| ordered(&format!("line-{number}"), "anna")), 0).await;
    (folder, store)
}

fn key(number: usize) -> String {
    format!("key-{number:03}")
}

pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("apps/bot/kv.db")
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("apps/bot/kv.db-wal")
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("it is read");
    change(&mut bytes);
    fs::write(path, &bytes).expect("it is written");
    bytes
}

/// Closes the idle database, and waits until the changes of its journal are in the file.
async fn close_idle(folder: &Path, store: &Store) {
    for _ in 0..2 {
        store.look_for_losses().await.expect("it is closed");
    }
    let closed = async {
        while journal(folder).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CLOSING_TIME_MAX, closed).await.expect("the database is closed");
}

pub(super) async fn events(store: &Store) -> Vec<StoredEvent> {
    let page = Page { limit: Some(1_000), cursor: None };
    let found = store.events().list(&name("bot"), EventFilter::default(), page).await.expect("they are read");
    assert_eq!(found.next, None);
    found.items
}

async fn keys(store: &Store) -> Vec<String> {
    store.kv().list_keys(&name("bot"), "b", None).await.expect("they are read").0
}

/// Opens the data folder, and returns the report of the damaged database.
async fn replaced(folder: &Path) -> (Store, LostData, Rescued) {
    let store = Store::open(folder).expect("the store opens");
    store.events().stats(&name("bot"), at(20)).await.expect("the first call succeeds");
    let (lost, rescued) = report(&store).await;
    (store, lost, rescued)
}

pub(super) async fn report(store: &Store) -> (LostData, Rescued) {
    let lost = store.next_loss().await.expect("it is reported");
    let Loss::Damaged { rescued: Some(rescued), .. } = lost.loss else { panic!("not replaced: {lost:?}") };
    (lost, rescued)
}

/// Checks that the counters match the rows, and that the queue works.
pub(super) async fn works(store: &Store) {
    let (bot, found) = (backend(store), events(store).await);
    let stats = bot.queue.stats(&name("bot"), at(20)).await.expect("they are read");
    let counted = |state| found.iter().filter(|event| event.state == state).count() as u64;
    let expected = [EventState::Ready, EventState::Delayed, EventState::Dead].map(counted);
    let stats = stats.first().map_or([0; 3], |stats| [stats.ready, stats.delayed, stats.dead]);
    assert_eq!(stats, expected);
    let mut handled = BTreeSet::new();
    loop {
        let claims = bot.claim(90).await;
        if claims.is_empty() {
            break;
        }
        for claim in &claims {
            let (id, data) = (&claim.event.id, claim.event.payload.data.as_deref().unwrap_or_default());
            assert!(data.starts_with(id.as_bytes()), "{id} lost its content");
            assert!(handled.insert(id.clone()), "{id} was delivered twice");
        }
        let outcomes = claims.iter().map(|claim| (claim.lease, done())).collect();
        let settled = bot.queue.settle_all(&name("bot"), outcomes, at(90)).await.expect("they are settled");
        assert!(settled.iter().all(|settled| *settled == super::COMMITTED), "{settled:?}");
    }
    let waiting = found.iter().filter(|event| matches!(event.state, EventState::Ready | EventState::Delayed));
    assert_eq!(handled, waiting.map(|event| event.id.clone()).collect(), "each waiting event was delivered");
    bot.accept([event("new")], 100).await;
    bot.kv.set(&name("bot"), "b", "new", b"v").await.expect("it is set");
}

/// The content of an app that must be rescued, or reported as lost.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    keys: Vec<String>,
    events: Vec<(String, EventState)>,
}

async fn content(store: &Store) -> Content {
    let kept = |event: &StoredEvent| !matches!(event.state, EventState::Done | EventState::Cancelled);
    let events = events(store).await.into_iter().filter(kept).map(|event| (event.id, event.state)).collect();
    Content { keys: keys(store).await, events }
}

/// Returns the files of the damaged databases in `lost+found/`.
fn set_aside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("lost+found")) else { return Vec::new() };
    entries.map(|entry| entry.expect("it is read").path().join("kv.db")).collect()
}

/// Damages each page in turn, including the first page, free pages and the pages of indexes.
#[tokio::test]
async fn damage_to_any_page_is_survived_and_every_loss_is_reported() {
    let (folder, store) = filled().await;
    let before = content(&store).await;
    drop(store);
    let path = database(folder.path());
    let intact = fs::read(&path).expect("it is read");
    let (mut complete, mut incomplete, mut kept) = (0, 0, Vec::new());
    for page in 0..intact.len() / PAGE {
        fs::remove_dir_all(folder.path().join("lost+found")).unwrap_or_default();
        fs::write(&path, &intact).expect("it is written");
        let damaged = change(&path, |bytes| bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5));
        let (store, lost, rescued) = replaced(folder.path()).await;
        let after = content(&store).await;
        assert_eq!(rescued.entries, after.keys.len() as u64, "page {page}");
        assert_eq!(rescued.events, after.events.len() as u64, "page {page}");
        if rescued.is_complete {
            assert_eq!(after, before, "page {page}");
            complete += 1;
        } else {
            incomplete += 1;
            kept.push(rescued.entries + rescued.events);
        }
        works(&store).await;
        drop(store);
        assert_eq!(fs::read(lost.saved.expect("it was moved")).expect("it is read"), damaged, "page {page}");
    }
    assert!(complete > 3 && incomplete > 10, "{complete} and {incomplete} pages");
    // Without the first page or the root page of a table, more rows are lost than those of the
    // page.
    let most = (before.keys.len() + before.events.len()) as u64 - 30;
    assert!(kept.iter().filter(|kept| **kept < most).count() < 5, "{kept:?}");
}

#[tokio::test]
async fn a_truncated_database_keeps_the_rows_that_are_left() {
    let (folder, store) = filled().await;
    drop(store);
    let path = database(folder.path());
    change(&path, |bytes| bytes.truncate(bytes.len() / PAGE / 2 * PAGE + 100));
    let (store, _, rescued) = replaced(folder.path()).await;
    assert!(!rescued.is_complete && rescued.entries > 0, "{rescued:?}");
    works(&store).await;
}

#[tokio::test]
async fn a_database_without_its_header_is_set_aside() {
    for bytes in [16, 100, PAGE] {
        let (folder, store) = filled().await;
        drop(store);
        change(&database(folder.path()), |file| file[..bytes].fill(0));
        let (store, lost, rescued) = replaced(folder.path()).await;
        assert_eq!(rescued, Rescued::default(), "{bytes}");
        assert!(lost.saved.is_some_and(|path| path.is_file()));
        works(&store).await;
    }
}

/// Makes the content of an event unreadable, in an intact file.
pub(super) fn damage_content(folder: &Path, id: &str) {
    let connection = rusqlite::Connection::open(database(folder)).expect("it opens");
    let damage = "UPDATE payloads SET attributes = '{' WHERE seq IN (SELECT seq FROM events WHERE id = ?1)";
    assert_eq!(connection.execute(damage, [id]), Ok(1));
}

#[tokio::test]
async fn a_damaged_database_of_a_newer_format_is_not_replaced() {
    let (folder, store) = filled().await;
    drop(store);
    let path = database(folder.path());
    let connection = rusqlite::Connection::open(&path).expect("it opens");
    connection.pragma_update(None, "user_version", 99).expect("it is set");
    drop(connection);
    let damaged = change(&path, |bytes| {
        let at = bytes.len() - 2 * PAGE;
        bytes[at..at + PAGE].fill(0xa5);
    });
    let store = Store::open(folder.path()).expect("the store opens");
    let refused = store.kv().get(&name("bot"), "b", "key-001").await;
    let is_named = |detail: &str| detail.contains("format 99") && detail.contains("run the newer isopod");
    assert!(matches!(&refused, Err(StoreError::AppDataDamaged { detail }) if is_named(detail)), "{refused:?}");
    drop(store);
    assert_eq!(fs::read(&path).expect("it is read"), damaged);
    assert_eq!((copies(&path), set_aside(folder.path())), (0, vec![]));
}

#[tokio::test]
async fn leases_survive_the_replacement_of_a_damaged_database() {
    let (folder, store) = filled().await;
    let bot = backend(&store);
    let claims = bot.claim(0).await;
    damage_content(folder.path(), "ready-20");
    let claimed = bot.queue.claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
    assert!(matches!(claimed, Err(StoreError::AppDataDamaged { .. })), "{claimed:?}");
    report(&store).await;
    for claim in &claims {
        bot.settle(claim, done(), 1).await;
        assert_eq!(bot.state(&claim.event.id).await, EventState::Done);
    }
    works(&store).await;
}

/// Changes rows without an index, so that the index has its old content, as after a lost write.
fn make_index_stale(folder: &Path, index: &str, change: &str) {
    let open = || {
        let connection = rusqlite::Connection::open(database(folder)).expect("it opens");
        connection.execute_batch("PRAGMA writable_schema = ON").expect("it is set");
        connection
    };
    let hide = format!(
        "CREATE TABLE hidden AS SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = '{index}';
         DELETE FROM sqlite_schema WHERE name = '{index}'"
    );
    open().execute_batch(&hide).expect("the index is hidden");
    let changed = open().execute(change, []).expect("the rows are changed");
    assert!(changed > 0);
    open().execute_batch("INSERT INTO sqlite_schema SELECT * FROM hidden").expect("the index is restored");
    open().execute_batch("DROP TABLE hidden").expect("it is removed");
}

#[tokio::test]
async fn a_database_with_a_stale_index_is_replaced() {
    let (folder, store) = filled().await;
    drop(store);
    make_index_stale(folder.path(), "events_kept", "UPDATE events SET due_at = due_at + 1 WHERE due_at IS NOT NULL");
    let store = Store::open(folder.path()).expect("the store opens");
    let claim = async || store.events().claim(&name("bot"), &super::process("worker"), 100, at(90)).await;
    let claimed = claim().await;
    assert!(matches!(claimed, Err(StoreError::AppDataDamaged { .. })), "{claimed:?}");
    let (_, rescued) = report(&store).await;
    assert!(rescued.is_complete, "only an index was damaged: {rescued:?}");
    works(&store).await;
}

/// Copies the files of a running store's database, as a killed host leaves them.
async fn killed() -> (TempDir, Content) {
    let (folder, store) = filled().await;
    close_idle(folder.path(), &store).await;
    for number in 0..8 {
        store.kv().set(&name("bot"), "b", &format!("late-{number}"), &[b'v'; 300]).await.expect("the key is set");
    }
    let before = content(&store).await;
    let left = tempfile::tempdir().expect("the folder is created");
    for file in ["kv.db", "kv.db-wal", "kv.db-shm"] {
        fs::copy(folder.path().join("apps/bot").join(file), left.path().join(file)).expect("it is copied");
    }
    drop(store);
    for file in ["kv.db", "kv.db-wal", "kv.db-shm"] {
        fs::copy(left.path().join(file), folder.path().join("apps/bot").join(file)).expect("it is copied");
    }
    (folder, before)
}

#[tokio::test]
async fn the_journal_of_a_killed_host_is_applied_without_a_report() {
    let (folder, before) = killed().await;
    let store = Store::open(folder.path()).expect("the store opens");
    store.events().app_queues().await.expect("they are read");
    assert_eq!(content(&store).await, before);
    assert_eq!(set_aside(folder.path()), Vec::<PathBuf>::new());
}

/// SQLite drops the changes after the damaged part without an error.
#[tokio::test]
async fn changes_in_a_damaged_journal_are_reported_as_lost() {
    type Damage = fn(&mut Vec<u8>);
    let middle: Damage = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 16].fill(0xa5);
    };
    let last: Damage = |bytes| {
        let end = bytes.len();
        bytes[end - 16..].fill(0xa5);
    };
    let header: Damage = |bytes| bytes[..32].fill(0);
    let cut: Damage = |bytes| bytes.truncate(bytes.len() / 2);
    let emptied: Damage = Vec::clear;
    for (number, damage) in [middle, last, header, cut, emptied].into_iter().enumerate() {
        for scans_first in [false, true] {
            let (folder, before) = killed().await;
            let damaged = change(&journal(folder.path()), damage);
            let store = Store::open(folder.path()).expect("the store opens");
            if scans_first {
                // At its start, the host reads every database.
                let pending = store.events().app_queues().await.expect("they are read");
                assert_eq!(pending.len(), 1, "damage {number}");
            }
            store.events().stats(&name("bot"), at(20)).await.expect("the first call succeeds");
            let (lost, rescued) = report(&store).await;
            assert!(!rescued.is_complete, "damage {number}");
            let after = content(&store).await;
            assert!(after.keys.len() >= ENTRIES && after.keys.len() < before.keys.len(), "damage {number}: {after:?}");
            assert_eq!(after.events, before.events, "damage {number}");
            let saved = lost.saved.expect("it was moved");
            assert_eq!(fs::read(saved.with_extension("db-wal")).expect("it was moved"), damaged, "damage {number}");
            works(&store).await;
        }
    }
}

/// A power failure loses commits that were not synced.
#[tokio::test]
async fn an_incomplete_journal_of_an_earlier_boot_is_not_damaged() {
    let (folder, before) = killed().await;
    change(&journal(folder.path()), |bytes| bytes.truncate(bytes.len() / 2));
    // The clock has been set back since.
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    let file = fs::File::options().write(true).open(journal(folder.path())).expect("it opens");
    file.set_modified(later).expect("the time is set");
    fs::write(folder.path().join("boot.id"), "another").expect("it is written");
    let store = Store::open(folder.path()).expect("the store opens");
    let after = content(&store).await;
    assert!(after.keys.len() < before.keys.len() && after.events == before.events, "{after:?}");
    works(&store).await;
    assert_eq!(set_aside(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn damage_in_a_large_database_is_found_while_it_is_used() {
    let (folder, store) = filled().await;
    let value = vec![b'v'; 1 << 20];
    for number in 0..CHECKED_BYTES_MAX / value.len() as u64 + 1 {
        store.kv().set(&name("bot"), "large", &key(number as usize), &value).await.expect("the key is set");
    }
    drop(store);
    // Damages the page of an index, which no call reads.
    let connection = rusqlite::Connection::open(database(folder.path())).expect("it opens");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'events_in_line'";
    let page: usize = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("it exists") as usize;
    drop(connection);
    change(&database(folder.path()), |bytes| bytes[(page - 1) * PAGE..page * PAGE].fill(0xa5));
    let store = Store::open(folder.path()).expect("the store opens");
    assert_eq!(store.kv().get(&name("bot"), "b", &key(1)).await, Ok(Some(vec![b'v'; 300])));
    let (_, rescued) = report(&store).await;
    assert!(rescued.is_complete, "{rescued:?}");
    works(&store).await;
}

#[tokio::test]
async fn a_damaged_page_that_a_call_meets_is_replaced_for_the_next_call() {
    let (folder, store) = filled().await;
    close_idle(folder.path(), &store).await;
    let connection = rusqlite::Connection::open(database(folder.path())).expect("it opens");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_entries_1'";
    let page: usize = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("it exists") as usize;
    drop(connection);
    change(&database(folder.path()), |bytes| bytes[(page - 1) * PAGE..page * PAGE].fill(0xa5));
    let get = async || store.kv().get(&name("bot"), "b", "key-001").await;
    assert!(matches!(get().await, Err(StoreError::AppDataDamaged { .. })), "it was checked in this run");
    assert_eq!(get().await, Ok(Some(vec![b'v'; 300])));
    let (_, rescued) = report(&store).await;
    assert!(rescued.is_complete, "only an index was damaged: {rescued:?}");
    works(&store).await;
}

#[tokio::test]
async fn a_file_that_is_damaged_again_and_again_does_not_fill_the_disk() {
    let (folder, store) = filled().await;
    drop(store);
    let path = database(folder.path());
    let damage = || change(&path, |bytes| bytes[PAGE..2 * PAGE].fill(0xa5));
    for number in 1..=DAMAGED_DATABASES_KEPT {
        damage();
        drop(replaced(folder.path()).await);
        assert_eq!(set_aside(folder.path()).len(), number);
    }
    let damaged = damage();
    let store = Store::open(folder.path()).expect("the store opens");
    for _ in 0..2 {
        let refused = store.kv().get(&name("bot"), "b", "key-001").await;
        assert!(
            matches!(&refused, Err(StoreError::AppDataDamaged { detail }) if detail.contains("lost+found")),
            "{refused:?}"
        );
    }
    let lost = store.next_loss().await.expect("it is reported");
    assert!(matches!(lost.loss, Loss::Damaged { rescued: None, .. }), "{lost:?}");
    drop(store);
    assert_eq!(set_aside(folder.path()).len(), DAMAGED_DATABASES_KEPT);
    assert_eq!(fs::read(&path).expect("it is read"), damaged, "nothing was written");
    assert_eq!(copies(&path), 0, "no copy is left");
    // The operator moves a damaged database elsewhere.
    fs::remove_dir_all(folder.path().join("lost+found")).expect("it exists");
    let (store, _, _) = replaced(folder.path()).await;
    works(&store).await;
}

/// Counts the new databases beside a damaged one.
fn copies(database: &Path) -> usize {
    let files = fs::read_dir(database.parent().expect("it is in a folder")).expect("it is read");
    let names = files.map(|file| file.expect("it is read").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("kv.db.")).count()
}

#[tokio::test]
async fn a_damaged_database_stays_while_the_disk_has_no_space_for_a_new_one() {
    let (folder, store) = filled().await;
    drop(store);
    let path = database(folder.path());
    let damaged = change(&path, |bytes| {
        let at = bytes.len() - 2 * PAGE;
        bytes[at..at + PAGE].fill(0xa5);
    });
    let full = Options { pages_max: Some(25), ..Options::default() };
    let store = Store::open_with(folder.path(), &full).expect("the store opens");
    for _ in 0..2 {
        let refused = store.kv().get(&name("bot"), "b", "key-001").await;
        assert!(
            matches!(&refused, Err(StoreError::AppDataDamaged { detail }) if detail.contains("can't be replaced")),
            "{refused:?}"
        );
    }
    let lost = store.next_loss().await.expect("it is reported");
    assert!(matches!(lost.loss, Loss::Damaged { rescued: None, .. }), "{lost:?}");
    drop(store);
    assert_eq!(fs::read(&path).expect("it is read"), damaged);
    assert_eq!((copies(&path), set_aside(folder.path())), (0, vec![]), "no partial copy is left");
    let (store, _, rescued) = replaced(folder.path()).await;
    assert!(rescued.entries + rescued.events > 0);
    works(&store).await;
}

#[tokio::test]
async fn a_damaged_database_in_a_folder_of_another_disk_stays() {
    let other = Path::new("/dev/shm");
    let Ok(elsewhere) = tempfile::tempdir_in(other) else {
        eprintln!("not tested: there is no other disk at {}", other.display());
        return;
    };
    let (folder, store) = filled().await;
    drop(store);
    let (home, target) = (folder.path().join("apps/bot"), elsewhere.path().join("bot"));
    fs::create_dir(&target).expect("it is created");
    fs::copy(home.join("kv.db"), target.join("kv.db")).expect("it is copied");
    fs::remove_dir_all(&home).expect("it exists");
    std::os::unix::fs::symlink(&target, &home).expect("it is linked");
    let damaged = change(&database(folder.path()), |bytes| bytes[PAGE..2 * PAGE].fill(0xa5));
    let store = Store::open(folder.path()).expect("the store opens");
    let refused = store.kv().get(&name("bot"), "b", "key-001").await;
    assert!(matches!(refused, Err(StoreError::AppDataDamaged { .. })), "{refused:?}");
    drop(store);
    assert_eq!(fs::read(target.join("kv.db")).expect("it is read"), damaged);
    assert_eq!(copies(&target.join("kv.db")), 0, "no copy is left");
    assert_eq!(fs::read_dir(folder.path().join("lost+found")).expect("it is read").count(), 0);
}

#[tokio::test]
async fn an_interrupted_replacement_is_completed_by_the_next_start() {
    let (folder, store) = filled().await;
    let before = content(&store).await;
    drop(store);
    let (path, app) = (database(folder.path()), folder.path().join("apps/bot"));
    // Interrupted before the damaged file was moved: the copy may be incomplete.
    fs::write(app.join("kv.db.rescuing"), "incomplete").expect("it is written");
    fs::write(app.join("kv.db.rescued"), "older").expect("it is written");
    let store = Store::open(folder.path()).expect("the store opens");
    assert_eq!(content(&store).await, before);
    drop(store);
    let files: Vec<_> =
        fs::read_dir(&app).expect("it is read").map(|entry| entry.expect("it is read").path()).collect();
    assert_eq!(files, std::slice::from_ref(&path));
    // Interrupted afterwards: the new file is complete, and the journal belongs to the damaged
    // file.
    fs::rename(&path, app.join("kv.db.rescued")).expect("it is renamed");
    fs::write(journal(folder.path()), "of the damaged file").expect("it is written");
    let store = Store::open(folder.path()).expect("the store opens");
    assert_eq!(store.folder_report().lost, []);
    assert_eq!(content(&store).await, before);
    let lost = fs::read_dir(folder.path().join("lost+found")).expect("it is read");
    assert_eq!(lost.count(), 1, "the journal was moved");
}
