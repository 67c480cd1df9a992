//! Acknowledged data exists after the store was closed or killed, or after a second open attempt.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isopod_store::{Options, Page, Store, StoreError};

use crate::{name, new_activity, new_app, new_release, on_disk};

#[tokio::test]
async fn all_data_is_there_after_reopening() {
    let backend = on_disk();
    let app = backend.store.create_app(new_app("greeter")).await.expect("the app is created");
    let release = backend.store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    let digest = backend.store.blobs().put(b"component".to_vec()).await.expect("it is stored");
    backend.store.kv().set(&app.name, "", "k", b"v").await.expect("the key is set");
    drop(backend.store);

    let again = Store::open(backend.folder.path()).expect("the store opens again");
    assert_eq!(again.app(&app.name).await, Ok(Some(app.clone())));
    assert_eq!(again.release(&app.name, release.number).await, Ok(Some(release)));
    assert_eq!(again.blobs().get(&digest).await.expect("it is read"), b"component");
    assert_eq!(again.kv().get(&app.name, "", "k").await, Ok(Some(b"v".to_vec())));
}

#[tokio::test]
async fn a_second_open_is_refused_and_names_the_process_that_uses_the_folder() {
    let backend = on_disk();
    let folder = backend.folder.path().to_owned();
    let refused = Store::open(&folder).expect_err("the folder is in use");
    assert_eq!(refused, StoreError::InUse { folder: folder.clone(), pid: Some(std::process::id()) });
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    backend.store.create_app(new_app("greeter")).await.expect("the first store continues to work");
}

#[tokio::test]
async fn only_the_owner_may_read_the_folder() {
    let backend = on_disk();
    backend.store.create_app(new_app("greeter")).await.expect("the app is created");
    backend.store.kv().set(&name("greeter"), "", "k", b"v").await.expect("the key is set");
    backend.store.blobs().put(b"bytes".to_vec()).await.expect("it is stored");
    let mut folders = vec![backend.folder.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).expect("it is read") {
            let path = entry.expect("it is read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files >= 4, "lock, control.db, kv.db and a blob");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_folder_without_an_app_is_moved_to_lost_and_found() {
    let backend = on_disk();
    backend.store.create_app(new_app("kept")).await.expect("the app is created");
    for app in ["kept", "gone"] {
        backend.store.kv().set(&name(app), "", "k", b"v").await.expect("the key is set");
    }
    drop(backend.store);
    let again = Store::open(backend.folder.path()).expect("the store opens again");
    assert_eq!(again.kv().get(&name("kept"), "", "k").await, Ok(Some(b"v".to_vec())));
    assert!(!backend.folder.path().join("apps/gone").exists());
    let [moved] = again.folder_report().moved.as_slice() else { panic!("{:?}", again.folder_report()) };
    assert!(moved.to.starts_with(backend.folder.path().join("lost+found")) && moved.to.join("kv.db").is_file());
}

#[tokio::test]
async fn the_folder_of_a_deleted_app_is_removed_at_the_next_start() {
    let backend = on_disk();
    for app in ["kept", "gone"] {
        backend.store.create_app(new_app(app)).await.expect("the app is created");
        backend.store.kv().set(&name(app), "", "k", b"v").await.expect("the key is set");
    }
    backend.store.delete_app(&name("gone"), crate::destroyed()).await.expect("it is deleted");
    drop(backend.store);
    let again = Store::open(backend.folder.path()).expect("the store opens again");
    assert_eq!(again.folder_report().removed, [name("gone")]);
    assert!(!backend.folder.path().join("apps/gone").exists() && !backend.folder.path().join("lost+found").exists());
}

#[tokio::test]
async fn a_database_that_does_not_belong_to_its_folder_is_refused() {
    let (one, other) = (on_disk(), on_disk());
    for backend in [&one, &other] {
        backend.store.create_app(new_app("greeter")).await.expect("the app is created");
        backend.store.kv().set(&name("greeter"), "", "k", b"v").await.expect("the key is set");
    }
    let (folder, from) = (one.folder.path().to_owned(), other.folder.path().to_owned());
    drop((one.store, other.store));
    fs::copy(from.join("control.db"), folder.join("control.db")).expect("it is copied");
    assert_eq!(Store::open(&folder).expect_err("another id"), StoreError::OtherDatabase { folder: folder.clone() });
    fs::remove_file(folder.join("control.db")).expect("it is removed");
    let refused = Store::open(&folder).expect_err("no app is listed");
    assert_eq!(refused, StoreError::AppsWithoutDatabase { folder: folder.clone(), apps: "greeter".to_owned() });
    assert!(!folder.join("control.db").exists(), "the refusal created no database");
    fs::rename(from.join("apps"), from.join("elsewhere")).expect("it is moved");
    let refused = Store::open(&from).expect_err("no app has a folder");
    assert_eq!(refused, StoreError::DatabaseWithoutApps { folder: from.clone(), apps: "greeter".to_owned() });
    assert!(!from.join("apps/greeter").exists());
    let adopted =
        Store::open_with(&from, &Options { adopt: true, ..Options::default() }).expect("the store adopts the folder");
    assert_eq!(adopted.folder_report().missing, [name("greeter")]);
}

/// The environment variable that makes this test program run as the host that is killed.
const VICTIM_FOLDER: &str = "ISOPOD_TEST_VICTIM_FOLDER";

/// Returns the folder to use, if this is the process that is killed.
pub(crate) fn victims_folder() -> Option<PathBuf> {
    std::env::var_os(VICTIM_FOLDER).map(PathBuf::from)
}

/// Runs a test of this program as another process, kills it after twenty acknowledgements, and
/// returns the last acknowledged number.
pub(crate) fn run_and_kill(test: &str, folder: &Path) -> i64 {
    let mut victim = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the victim starts");
    let mut lines = BufReader::new(victim.stdout.take().expect("it is piped")).lines();
    let acknowledged = lines.by_ref().map_while(Result::ok).filter(|line| line.starts_with("acknowledged")).nth(20);
    victim.kill().expect("it can be killed");
    victim.wait().expect("it ends");
    // Acknowledgements between the twentieth line and the kill count too.
    let rest = lines.map_while(Result::ok).filter(|line| line.starts_with("acknowledged")).last();
    let last = rest.or(acknowledged).expect("the victim acknowledged a write");
    last.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("the line ends with a number")
}

#[tokio::test]
async fn acknowledged_writes_survive_kill_9() {
    if let Some(folder) = victims_folder() {
        return write_until_killed(&folder).await;
    }
    let folder = tempfile::tempdir().expect("the folder is created");
    for round in 0..3 {
        let last = run_and_kill("lasting::acknowledged_writes_survive_kill_9", folder.path());
        let store = Store::open(folder.path()).expect("the store opens: the kill released the lock");
        let entries = store.activity(None, Page { cursor: None, limit: Some(1) }).await.expect("it is read");
        let newest: i64 = entries.items[0].text.parse().expect("the victim writes numbers");
        assert!(newest >= last, "round {round}: {last} was acknowledged, but {newest} is the newest");
        let counted = store.kv().get(&name("victim"), "", "count").await.expect("it is read").expect("it exists");
        let counted: i64 = String::from_utf8_lossy(&counted).parse().expect("it is a number");
        assert!(counted >= last, "round {round}: {last} was acknowledged, but {counted} is counted");
    }
}

async fn write_until_killed(folder: &Path) {
    let store = Store::open(folder).expect("the store opens");
    let app = name("victim");
    if store.app(&app).await.expect("it is read").is_none() {
        store.create_app(new_app("victim")).await.expect("the app is created");
    }
    // Bounded, so that a victim process that isn't killed ends too.
    for _ in 0..100_000 {
        let number = store.kv().increment(&app, "", "count", 1).await.expect("it counts");
        store.append_activity(new_activity(None, &number.to_string())).await.expect("it is recorded");
        println!("acknowledged {number}");
    }
}
