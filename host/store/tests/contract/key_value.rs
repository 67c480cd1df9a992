//! The key-value stores of apps: each app has its own store, bounded, and written values are
//! durable.

use isopod_store::{KvStore, StoreError, limits};

use crate::{name, new_app, on_disk};

fn store() -> (tempfile::TempDir, KvStore) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = KvStore::open(folder.path()).expect("the store opens");
    (folder, store)
}

#[tokio::test]
async fn a_key_has_its_last_value() {
    let (_folder, store) = store();
    let app = name("greeter");
    assert_eq!(store.get(&app, "b", "k").await, Ok(None));
    assert_eq!(store.exists(&app, "b", "k").await, Ok(false));
    store.set(&app, "b", "k", b"one").await.expect("the key is set");
    store.set(&app, "b", "k", b"two\0\xff").await.expect("the key is set");
    assert_eq!(store.get(&app, "b", "k").await, Ok(Some(b"two\0\xff".to_vec())));
    assert_eq!(store.exists(&app, "b", "k").await, Ok(true));
    store.delete(&app, "b", "k").await.expect("it is deleted");
    store.delete(&app, "b", "k").await.expect("deleting again is fine");
    assert_eq!(store.get(&app, "b", "k").await, Ok(None));
}

#[tokio::test]
async fn apps_and_buckets_do_not_see_each_others_keys() {
    let (_folder, store) = store();
    store.set(&name("a"), "one", "k", b"a-one").await.expect("the key is set");
    store.set(&name("a"), "two", "k", b"a-two").await.expect("the key is set");
    assert_eq!(store.get(&name("a"), "one", "k").await, Ok(Some(b"a-one".to_vec())));
    assert_eq!(store.get(&name("b"), "one", "k").await, Ok(None));
    assert_eq!(store.list_keys(&name("a"), "two", None).await, Ok((vec!["k".to_owned()], None)));
    assert_eq!(store.list_keys(&name("b"), "one", None).await, Ok((vec![], None)));
}

#[tokio::test]
async fn concurrent_increments_are_all_counted() {
    let (_folder, store) = store();
    let app = name("counter");
    let many = (0..200).map(|_| store.increment(&app, "", "visits", 1));
    let mut sums: Vec<i64> =
        futures::future::join_all(many).await.into_iter().map(|sum| sum.expect("it counts")).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).collect::<Vec<_>>());
    assert_eq!(store.increment(&app, "", "visits", -300).await, Ok(-100));
    assert_eq!(store.get(&app, "", "visits").await, Ok(Some(b"-100".to_vec())));
}

#[tokio::test]
async fn a_value_that_changed_since_it_was_read_is_not_overwritten() {
    let (_folder, store) = store();
    let app = name("notes");
    let (none, unset) = store.get_versioned(&app, "", "k").await.expect("it is read");
    assert_eq!(none, None);
    assert_eq!(store.set_if(&app, "", "k", unset, b"one").await, Ok(Ok(())));
    let (one, version) = store.get_versioned(&app, "", "k").await.expect("it is read");
    assert_eq!(one.as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.set_if(&app, "", "k", unset, b"two").await, Ok(Err(version)));
    assert_eq!(store.get(&app, "", "k").await, Ok(Some(b"one".to_vec())));
    store.delete(&app, "", "k").await.expect("it is deleted");
    assert_eq!(store.set_if(&app, "", "k", version, b"two").await, Ok(Err(unset)));
    let large = vec![0; limits::VALUE_BYTES_MAX + 1];
    assert!(store.set_if(&app, "", "k", unset, &large).await.is_err());
    assert_eq!(store.exists(&app, "", "k").await, Ok(false));
}

#[tokio::test]
async fn one_of_several_concurrent_swaps_succeeds() {
    let (_folder, store) = store();
    let app = name("notes");
    let (_, unset) = store.get_versioned(&app, "", "k").await.expect("it is read");
    let many = (0..50_u8).map(|number| {
        let (store, app) = (&store, &app);
        async move { store.set_if(app, "", "k", unset, &[number]).await.expect("it answers").is_ok() }
    });
    let swapped = futures::future::join_all(many).await;
    let winners: Vec<u8> = (0..50).filter(|number| swapped[usize::from(*number)]).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(&app, "", "k").await, Ok(Some(winners)));
}

#[tokio::test]
async fn only_a_number_can_be_incremented() {
    let (_folder, store) = store();
    let app = name("counter");
    let refused = Err(StoreError::NotANumber { key: "k".to_owned() });
    store.set(&app, "", "k", b"many").await.expect("the key is set");
    assert_eq!(store.increment(&app, "", "k", 1).await, refused);
    store.set(&app, "", "k", i64::MAX.to_string().as_bytes()).await.expect("the key is set");
    assert_eq!(store.increment(&app, "", "k", 1).await, refused);
    assert_eq!(store.increment(&app, "", "k", -1).await, Ok(i64::MAX - 1));
}

#[tokio::test]
async fn keys_are_listed_in_order_page_by_page() {
    let (_folder, store) = store();
    let app = name("many");
    let keys: Vec<String> = (0..limits::KEYS_PER_PAGE + 5).map(|number| format!("key-{number:06}")).collect();
    for set in futures::future::join_all(keys.iter().map(|key| store.set(&app, "", key, b""))).await {
        set.expect("the key is set");
    }
    let (first, cursor) = store.list_keys(&app, "", None).await.expect("they are listed");
    assert_eq!(first, keys[..limits::KEYS_PER_PAGE]);
    let (rest, end) = store.list_keys(&app, "", cursor.as_deref()).await.expect("they are listed");
    assert_eq!((rest.as_slice(), end), (&keys[limits::KEYS_PER_PAGE..], None));
}

#[tokio::test]
async fn keys_and_values_that_are_too_large_are_refused() {
    let (_folder, store) = store();
    let app = name("greedy");
    let bytes = limits::KEY_BYTES_MAX + 1;
    assert_eq!(store.get(&app, "", &"k".repeat(bytes)).await, Err(StoreError::BadKey { bytes }));
    assert_eq!(store.set(&app, "", "", b"").await, Err(StoreError::BadKey { bytes: 0 }));
    let bytes = limits::BUCKET_BYTES_MAX + 1;
    assert_eq!(store.list_keys(&app, &"b".repeat(bytes), None).await, Err(StoreError::BadBucket { bytes }));
    let bytes = limits::VALUE_BYTES_MAX + 1;
    assert_eq!(store.set(&app, "", "k", &vec![0; bytes]).await, Err(StoreError::ValueTooLarge { bytes }));
    store.set(&app, "", "k", &vec![0; limits::VALUE_BYTES_MAX]).await.expect("the largest value is stored");
}

#[tokio::test]
async fn a_full_store_refuses_writes_until_keys_are_deleted() {
    let (_folder, store) = store();
    let app = name("greedy");
    let value = vec![1; limits::VALUE_BYTES_MAX];
    let mut kept = 0;
    let refused = loop {
        match store.set(&app, "", &format!("key-{kept}"), &value).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::KeyValueFull);
    assert_eq!(kept, 255, "the overhead of 255 entries uses the space of the last");
    store.set(&app, "", "key-0", b"small").await.expect("a smaller value is always taken");
    store.set(&app, "", "key-255", &value).await.expect("space is free again");
    store.set(&name("neighbour"), "", "k", &value).await.expect("another app has its own limit");
}

#[tokio::test]
async fn a_deleted_apps_keys_are_removed() {
    let backend = on_disk();
    let app = name("greeter");
    backend.store.create_app(new_app("greeter")).await.expect("the app is created");
    backend.store.kv().set(&app, "", "k", b"old").await.expect("the key is set");
    assert!(backend.folder.path().join("apps/greeter/kv.db").exists());
    backend.store.delete_app(&app, crate::destroyed()).await.expect("it is deleted");
    let kv = backend.store.kv().clone();
    // A call may still be running after its caller was cancelled.
    let late = futures::future::join_all((0..50).map(|_| kv.set(&app, "", "k", b"late")));
    drop(tokio::time::timeout(std::time::Duration::from_micros(200), late).await);
    backend.store.remove_data(&app).await.expect("it is removed");
    assert!(!backend.folder.path().join("apps/greeter").exists());
    backend.store.create_app(new_app("greeter")).await.expect("it is created again");
    assert_eq!(backend.store.kv().get(&app, "", "k").await, Ok(None));
}

/// Guests and the control plane share the runtime's blocking threads with other work, such as name
/// lookups.
#[test]
fn reads_and_writes_need_no_blocking_thread_of_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("it is built").block_on(async {
        let backend = on_disk();
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let taken = tokio::task::spawn_blocking(move || held.recv().is_err());
        let app = backend.store.create_app(new_app("greeter")).await.expect("the app is created").name;
        assert!(backend.store.app(&app).await.expect("it is read").is_some());
        backend.store.kv().set(&app, "", "k", b"v").await.expect("the key is set");
        assert_eq!(backend.store.kv().get(&app, "", "k").await, Ok(Some(b"v".to_vec())));
        drop(release);
        assert!(taken.await.expect("it ends"), "the thread was blocked until now");
    });
}
