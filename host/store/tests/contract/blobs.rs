//! Content-addressed files: a stored blob is complete, under its own name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use isopod_policy::PushEvent;
use isopod_store::{Blobs, Digest, NewRelease, StoreError, StoredAssets, remove_unused_files};

use crate::{at, new_app, new_push, new_release, on_disk, push_id};

fn blobs() -> (tempfile::TempDir, Blobs) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let blobs = Blobs::open(&folder.path().join("blobs")).expect("the blobs open");
    (folder, blobs)
}

#[tokio::test]
async fn a_blob_is_read_back_by_its_digest() {
    let (_folder, blobs) = blobs();
    let digest = blobs.put(b"abc".to_vec()).await.expect("it is stored");
    assert_eq!(digest.as_str(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(blobs.get(&digest).await.expect("it is read"), b"abc");
    let mode = fs::metadata(blobs.path(&digest)).expect("it is a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_same_bytes_are_stored_once() {
    let (_folder, blobs) = blobs();
    let many: Vec<_> = (0..8).map(|_| blobs.put(vec![7; 100_000])).collect();
    let digests: Vec<_> =
        futures::future::join_all(many).await.into_iter().map(|put| put.expect("it is stored")).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(blobs.list(None).await.expect("they are listed"), digests[..1]);
    let names = fs::read_dir(blobs.path(&digests[0]).parent().expect("it is in a folder")).expect("it is read");
    assert_eq!(names.count(), 1, "no unfinished file remains");
}

#[tokio::test]
async fn a_damaged_blob_is_detected_and_replaced_by_the_next_put() {
    let (_folder, blobs) = blobs();
    let digest = blobs.put(b"good".to_vec()).await.expect("it is stored");
    fs::write(blobs.path(&digest), b"evil").expect("the test may write");
    assert!(matches!(blobs.get(&digest).await, Err(StoreError::Damaged { .. })));
    blobs.put(b"good".to_vec()).await.expect("it is stored again");
    assert_eq!(blobs.get(&digest).await.expect("it is repaired"), b"good");
}

#[tokio::test]
async fn a_removed_blob_does_not_exist() {
    let (_folder, blobs) = blobs();
    let digest = blobs.put(b"abc".to_vec()).await.expect("it is stored");
    assert!(blobs.remove(&digest).await.expect("it is removed"));
    assert!(!blobs.remove(&digest).await.expect("it is removed already"));
    assert_eq!(blobs.get(&digest).await, Err(StoreError::UnknownBlob { digest: digest.to_string() }));
}

#[tokio::test]
async fn blobs_are_listed_in_order_after_a_digest() {
    let (_folder, blobs) = blobs();
    let mut digests = Vec::new();
    for byte in 0..5u8 {
        digests.push(blobs.put(vec![byte]).await.expect("it is stored"));
    }
    digests.sort();
    assert_eq!(blobs.list(None).await.expect("they are listed"), digests);
    assert_eq!(blobs.list(Some(&digests[1])).await.expect("they are listed"), digests[2..]);
}

#[tokio::test]
async fn only_unused_blobs_that_were_not_put_recently_are_removed() {
    let backend = on_disk();
    let store = &backend.store;
    store.create_app(new_app("greeter")).await.expect("the app is created");
    let used = store.put_blob(b"greeter".to_vec()).await.expect("it is stored");
    assert_eq!(store.insert_release(new_release("greeter", 1)).await.expect("it is created").bundle, used);
    let unused = store.put_blob(b"unused".to_vec()).await.expect("it is stored");
    let hour = Duration::from_secs(3_600);
    let age = |digest: &Digest, by: Duration| {
        let file = fs::File::open(store.blobs().path(digest)).expect("it exists");
        file.set_modified(SystemTime::now() - by).expect("the test may change it");
    };
    age(&used, hour * 2);
    let removed = async || store.sweep_blobs(hour).await.map(|swept| swept.removed.len());
    assert_eq!(removed().await, Ok(0), "the first is in use, the second was put recently");
    age(&unused, hour * 2);
    store.put_blob(b"unused".to_vec()).await.expect("it exists already");
    assert_eq!(removed().await, Ok(0), "it was put again");
    age(&unused, hour * 2);
    store.blobs().touch(&unused).await.expect("it exists");
    assert_eq!(removed().await, Ok(0), "its time was renewed");
    age(&unused, hour * 2);
    let other = store.blobs().put(b"of another database".to_vec()).await.expect("it is stored");
    age(&other, hour * 2);
    let swept = store.sweep_blobs(hour).await.expect("they are swept");
    assert_eq!((swept.removed, swept.moved), (vec![unused], 1));
    assert_eq!(store.blobs().list(None).await, Ok(vec![used]));
    let lost = backend.folder.path().join("lost+found/blobs").join(other.as_str());
    assert_eq!(fs::read(lost).expect("it was moved"), b"of another database");
    let missing = StoreError::UnknownBlob { digest: other.clone().into() };
    assert_eq!(store.blobs().touch(&other).await, Err(missing), "a missing blob isn't created");
}

#[tokio::test]
async fn the_bundle_of_a_push_is_in_use_until_the_push_is_final() {
    let backend = on_disk();
    let store = &backend.store;
    store.create_app(new_app("greeter")).await.expect("the app is created");
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let bundle = new_push(1, "greeter").bundle.expect("the test's pushes have a bundle");
    assert_eq!(store.bundles_in_use().await, Ok([bundle].into()));
    store.advance_push(&push_id(1), PushEvent::Fail, None, at(1)).await.expect("it fails");
    assert_eq!(store.bundles_in_use().await, Ok([].into()));
}

#[tokio::test]
async fn a_snapshot_is_in_use_as_long_as_its_release() {
    let backend = on_disk();
    let store = &backend.store;
    let app = store.create_app(new_app("greeter")).await.expect("the app is created").name;
    let snapshot = Some(Digest::of(b"image"));
    let made = NewRelease { snapshot: snapshot.clone(), ..new_release("greeter", 1) };
    let first = store.insert_release(made).await.expect("it is created");
    assert_eq!(
        store.release(&app, first.number).await.expect("it is read").map(|release| release.snapshot),
        Some(snapshot.clone())
    );
    assert_eq!(store.bundles_in_use().await, Ok(snapshot.into_iter().chain([first.bundle]).collect()));
    store.delete_releases(&app, &[first.number]).await.expect("it is removed");
    assert_eq!(store.bundles_in_use().await, Ok([].into()));
}

#[tokio::test]
async fn the_assets_of_a_release_are_in_use_as_long_as_the_release() {
    let backend = on_disk();
    let store = &backend.store;
    let app = store.create_app(new_app("greeter")).await.expect("the app is created").name;
    let assets = StoredAssets { digest: Digest::of(b"pack"), files: 2, bytes: 3 };
    let made = NewRelease { assets: Some(assets.clone()), ..new_release("greeter", 1) };
    let first = store.insert_release(made).await.expect("it is created");
    let found = store.release(&app, first.number).await.expect("it is read").and_then(|release| release.assets);
    assert_eq!(found, Some(assets.clone()));
    assert_eq!(store.bundles_in_use().await, Ok([assets.digest, first.bundle].into()));
    store.delete_releases(&app, &[first.number]).await.expect("it is removed");
    assert_eq!(store.bundles_in_use().await, Ok([].into()));
}

#[tokio::test]
async fn only_unwanted_files_that_were_not_written_recently_are_removed() {
    let folder = tempfile::tempdir().expect("the folder is created");
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("old-folder")).expect("the test may make it");
    let hour = Duration::from_secs(3_600);
    for name in ["wanted-1.cwasm", "old-1.cwasm", "old-1.sha256", "young-1.cwasm", "old-folder"] {
        if name != "old-folder" {
            fs::write(path(name), b"code").expect("the test may write");
        }
        let modified = SystemTime::now() - if name.starts_with("young") { hour / 2 } else { hour * 2 };
        fs::File::open(path(name)).and_then(|file| file.set_modified(modified)).expect("the test may change it");
    }
    let removed = remove_unused_files(folder.path(), |name| name.starts_with("wanted"), hour).await;
    assert_eq!(removed, Ok(2));
    let mut left: Vec<_> = fs::read_dir(folder.path()).expect("it is read").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["old-folder", "wanted-1.cwasm", "young-1.cwasm"]);
}

#[tokio::test]
async fn files_that_a_crash_left_unfinished_are_removed() {
    let (folder, blobs) = blobs();
    let path = folder.path().join("blobs");
    let digest = blobs.put(b"abc".to_vec()).await.expect("it is stored");
    fs::write(path.join(".unfinished-0-abc"), b"half").expect("the test may write");
    let again = Blobs::open(&path).expect("the blobs open again");
    assert_eq!(again.list(None).await.expect("they are listed"), [digest]);
    assert!(!path.join(".unfinished-0-abc").exists());
}

#[test]
fn only_a_valid_digest_is_parsed() {
    let digest = Digest::of(b"abc");
    assert_eq!(digest.as_str().parse(), Ok(digest.clone()));
    for text in ["", "abc", "../../etc/passwd", &digest.as_str().to_uppercase(), &format!("{digest}0")] {
        assert!(matches!(text.parse::<Digest>(), Err(StoreError::BadDigest { .. })), "{text}");
    }
}
