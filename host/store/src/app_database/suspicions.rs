//! Tests suspicions of damage: an intact database stays in use, and a replaced database is not
//! suspected again. Never tests how rows are copied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use isopod_policy::AppName;
use tokio::sync::mpsc;

use super::AppDatabases;
use crate::app_folders::AppFolders;
use crate::data_record::DataRecord;
use crate::loss::{KEY_VALUE, Loss, LostData};
use crate::{KvStore, Options, StoreError};

const PAGE: usize = 4_096;
/// Far longer than the replacement of a database takes.
const TIME_MAX: Duration = Duration::from_secs(60);

struct Opened {
    databases: AppDatabases,
    store: KvStore,
    losses: mpsc::Receiver<LostData>,
}

fn shop() -> AppName {
    "shop".parse().expect("a valid name")
}

fn database(folder: &Path) -> PathBuf {
    folder.join("apps/shop").join(KEY_VALUE)
}

fn open(folder: &Path, options: &Options) -> Opened {
    let folders = AppFolders::of(folder);
    let (record, losses) = DataRecord::new(folders.clone(), BTreeMap::new(), Weak::new());
    let copy_rows = crate::rescue::copy_rows;
    let databases = AppDatabases::open_recording(folder, options, folders, Arc::new(record), copy_rows)
        .expect("the databases open");
    Opened { store: KvStore::of(databases.clone()), databases, losses }
}

impl Opened {
    /// Fills the app's database with more than `bytes`.
    async fn fill(&self, bytes: usize) {
        let value = vec![b'v'; 1_000];
        for number in 0..=bytes / value.len() {
            self.store.set(&shop(), "", &number.to_string(), &value).await.expect("it is set");
        }
    }

    fn suspect(&self) {
        self.databases.inner.shared.health.suspect(&shop(), "a read failed");
    }

    fn is_suspect(&self) -> bool {
        self.databases.inner.shared.health.suspicion(&shop()).is_some()
    }

    async fn close_idle(&self) {
        while self.databases.is_open(&shop()) {
            self.databases.look_for_losses();
            tokio::task::yield_now().await;
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(&shop(), "", key).await
    }
}

#[tokio::test]
async fn an_intact_database_is_not_reported_as_damaged() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let mut opened = open(folder.path(), &Options::default());
    opened.fill(100_000).await;
    opened.suspect();
    assert_eq!(opened.get("7").await, Ok(Some(vec![b'v'; 1_000])));
    assert!(!opened.is_suspect());
    assert_eq!(opened.losses.try_recv().ok(), None);
    assert!(!folder.path().join("lost+found").exists());
}

#[tokio::test]
async fn an_intact_database_without_space_for_a_copy_stays_in_use() {
    let folder = tempfile::tempdir().expect("the folder is created");
    open(folder.path(), &Options::default()).fill(100 * PAGE).await;
    let mut opened = open(folder.path(), &Options { pages_max: Some(25), ..Options::default() });
    opened.suspect();
    assert_eq!(opened.get("7").await, Ok(Some(vec![b'v'; 1_000])));
    assert_eq!(opened.losses.try_recv().ok(), None);
}

/// Damages the root page of the index, which each write to an entry reads.
fn damage_index(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("it opens");
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_entries_1'";
    let page: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("it exists");
    drop(connection);
    let page = usize::try_from(page).expect("a page number");
    let mut bytes = fs::read(path).expect("it is read");
    bytes[(page - 1) * PAGE..page * PAGE].fill(0xa5);
    fs::write(path, bytes).expect("it is written");
}

/// The caller may receive its error only after the replacement.
#[tokio::test]
async fn a_write_that_encounters_damage_does_not_make_the_new_database_suspect() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let mut opened = open(folder.path(), &Options::default());
    opened.fill(10_000).await;
    opened.close_idle().await;
    damage_index(&database(folder.path()));
    let name = shop();
    let mut writing = Box::pin(opened.store.set(&name, "", "7", b"new"));
    let polled = futures::poll!(&mut writing);
    let replaced = async {
        while opened.is_suspect() || !folder.path().join("lost+found").exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIME_MAX, replaced).await.expect("it is replaced");
    let refused = match polled {
        Poll::Ready(refused) => refused,
        Poll::Pending => writing.await,
    };
    assert!(matches!(refused, Err(StoreError::AppDataDamaged { .. })), "{refused:?}");
    assert!(!opened.is_suspect(), "the new database is intact");
    assert_eq!(opened.get("7").await, Ok(Some(vec![b'v'; 1_000])));
    let lost = opened.losses.try_recv().expect("the damage is reported");
    assert!(matches!(lost.loss, Loss::Damaged { rescued: Some(_), .. }), "{lost:?}");
    assert_eq!(opened.losses.try_recv().ok(), None);
}

/// The disk failed after the damaged file was moved.
#[tokio::test]
async fn a_replacement_that_failed_halfway_is_completed_by_the_next_attempt() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let mut opened = open(folder.path(), &Options::default());
    opened.fill(10_000).await;
    opened.close_idle().await;
    let path = database(folder.path());
    fs::rename(&path, path.with_file_name("kv.db.rescued")).expect("it is renamed");
    opened.suspect();
    assert_eq!(opened.get("7").await, Ok(Some(vec![b'v'; 1_000])));
    assert!(!opened.is_suspect());
    assert_eq!(opened.losses.try_recv().ok(), None);
}
