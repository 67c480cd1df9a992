//! A full disk refuses writes with a clear error and damages nothing. Writes succeed again once
//! space is free.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use isopod_store::{Options, Page, Store, StoreError};

use crate::{name, new_activity, new_app};

/// Writes activity until the store refuses. Returns the number of acknowledged entries, and the
/// refusal.
async fn fill(store: &Store, app: &str) -> (usize, StoreError) {
    let text = "x".repeat(8 << 10);
    for kept in 0..100_000 {
        if let Err(error) = store.append_activity(new_activity(Some(app), &text)).await {
            return (kept, error);
        }
    }
    panic!("the disk never became full");
}

async fn entries(store: &Store) -> usize {
    let page = Page { cursor: None, limit: Some(1_000) };
    store.activity(None, page).await.expect("reading works on a full disk").items.len()
}

#[tokio::test]
async fn a_database_at_its_limit_refuses_and_recovers() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let options = Options { pages_max: Some(100), ..Options::default() };
    let store = Store::open_with(folder.path(), &options).expect("the store opens");
    store.create_app(new_app("greedy")).await.expect("the app is created");
    store.create_app(new_app("other")).await.expect("the app is created");
    let (kept, refused) = fill(&store, "greedy").await;
    assert_eq!(refused, StoreError::DiskFull { folder: folder.path().to_owned() });
    assert!(refused.to_string().contains("free some space"), "{refused}");
    assert_eq!(entries(&store).await, kept, "exactly the acknowledged entries are stored");

    let value = vec![0; 100_000];
    let refused = fill_keys(&store, &value).await;
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");

    store.delete_app(&name("greedy"), crate::destroyed()).await.expect("deleting works on a full disk");
    store.append_activity(new_activity(Some("other"), "room again")).await.expect("writing works again");
    drop(store);
    let again = Store::open(folder.path()).expect("the store opens again");
    assert_eq!(entries(&again).await, 1);
}

async fn fill_keys(store: &Store, value: &[u8]) -> StoreError {
    for number in 0..1_000 {
        if let Err(error) = store.kv().set(&name("greedy"), "", &number.to_string(), value).await {
            return error;
        }
    }
    panic!("the database never became full");
}

#[tokio::test]
async fn concurrent_writes_on_a_full_disk_are_each_answered() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open_with(folder.path(), &Options { pages_max: Some(100), ..Options::default() })
        .expect("the store opens");
    let text = "x".repeat(8 << 10);
    let many = (0..300).map(|_| store.append_activity(new_activity(None, &text)));
    let outcomes = futures::future::join_all(many).await;
    let acknowledged = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(acknowledged < outcomes.len());
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    }
    assert_eq!(entries(&store).await, acknowledged);
}

/// A small file system in memory, unmounted at the end of the test.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// Returns `None` if the test's user may not mount; the database's own limit is tested above in
    /// any case.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("the folder is created");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("only root can mount a small disk: testing only the database's own limit");
        return;
    };
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 700 << 10]).expect("the ballast fits");
    let store = Store::open(disk.path().join("data")).expect("the store opens");
    store.create_app(new_app("greedy")).await.expect("the app is created");
    let (kept, refused) = fill(&store, "greedy").await;
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    let refused = store.blobs().put(vec![1; 1 << 20]).await.expect_err("a blob has no room either");
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert_eq!(entries(&store).await, kept);

    fs::remove_file(&ballast).expect("the ballast is removed");
    store.append_activity(new_activity(Some("greedy"), "room again")).await.expect("writing works again");
    let digest = store.blobs().put(vec![1; 100]).await.expect("a small blob fits");
    drop(store);
    let again = Store::open(disk.path().join("data")).expect("the store opens again");
    assert_eq!(entries(&again).await, kept + 1);
    assert_eq!(again.blobs().get(&digest).await.expect("it is whole"), vec![1; 100]);
}

/// Fills a disk to its last byte.
fn fill_disk(path: &Path) {
    let mut ballast = fs::File::create(path).expect("it is created");
    for bytes in [64 << 10, 1 << 10, 1] {
        while ballast.write_all(&vec![0; bytes]).is_ok() {}
    }
}

#[tokio::test]
async fn a_failure_to_open_a_closed_database_on_a_full_disk_is_reported_as_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not tested: only root can mount a small disk");
        return;
    };
    let data = disk.path().join("data");
    let store = Store::open(&data).expect("the store opens");
    store.create_app(new_app("greedy")).await.expect("the app is created");
    store.kv().set(&name("greedy"), "", "me", b"here").await.expect("the key is set");
    drop(store);
    let store = Store::open(&data).expect("the store opens again");
    let ballast = disk.path().join("ballast");
    fill_disk(&ballast);
    let refused = store.kv().get(&name("greedy"), "", "me").await.expect_err("the journal's index has no room");
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused:?}");
    fs::remove_file(&ballast).expect("the ballast is removed");
    assert_eq!(store.kv().get(&name("greedy"), "", "me").await, Ok(Some(b"here".to_vec())));
}
