//! A crash at any point of a deployment leaves the app on a complete release: the previous or the
//! new one.

use std::fs;
use std::path::Path;

use isopod_policy::{AppName, PushEvent, PushId, PushState, ReleaseEvent, ReleaseNumber, ReleaseState};
use isopod_store::{App, Page, Release, Store, StoreError};

use crate::control::{app_now, booted, deploying, number, reason, release_now, serving};
use crate::lasting::{run_and_kill, victims_folder};
use crate::{at, config, name, new_activity, new_app, new_push, new_release, on_disk, push_id};

/// Returns the store that a host would find after a crash now: the files on disk, without closing
/// the store.
fn after_a_crash(folder: &Path) -> (tempfile::TempDir, Store) {
    let copy = tempfile::tempdir().expect("the folder is created");
    for file in ["control.db", "control.db-wal"] {
        fs::copy(folder.join(file), copy.path().join(file)).expect("the test may copy it");
    }
    fs::create_dir_all(copy.path().join("apps/greeter")).expect("the test may make it");
    let store = Store::open(copy.path()).expect("it opens");
    (copy, store)
}

async fn unfinished(store: &Store) -> Vec<PushId> {
    let found = store.unfinished_pushes(Page::default()).await.expect("they are read").items;
    found.into_iter().map(|push| push.id).collect()
}

async fn interrupted(store: &Store) -> Vec<u32> {
    let found = store.interrupted_releases().await.expect("they are read");
    found.into_iter().map(|release| release.number.get()).collect()
}

#[tokio::test]
async fn an_app_keeps_its_release_until_the_last_step_of_a_push() {
    let backend = on_disk();
    let (store, folder) = (&backend.store, backend.folder.path());
    let app = store.create_app(new_app("greeter")).await.expect("the app is created").name;
    serving(store, &app, 10).await;
    let keeps = async |when: &str, under_way: &[u32]| {
        let (_folder, found) = after_a_crash(folder);
        assert_eq!(app_now(&found, &app).await.release, Some(number(1)), "{when}");
        assert_eq!(release_now(&found, &app, 1).await.state, ReleaseState::Ready, "{when}");
        assert_eq!(unfinished(&found).await, [push_id(1)], "{when}");
        assert_eq!(interrupted(&found).await, under_way, "{when}");
    };
    deploying(store, 1).await;
    keeps("the push is deploying", &[]).await;
    store.insert_release(new_release("greeter", 11)).await.expect("the release is created");
    keeps("its release is building", &[2]).await;
    for event in [ReleaseEvent::Built, ReleaseEvent::Booted] {
        store.step_release(&app, number(2), event, None, at(12)).await.expect("the step is allowed");
        keeps("its release is in progress", &[2]).await;
    }

    store
        .complete_push(&push_id(1), number(2), new_activity(Some("greeter"), "v2 serves"), at(13))
        .await
        .expect("done");
    let (_folder, found) = after_a_crash(folder);
    assert_eq!(app_now(&found, &app).await.release, Some(number(2)));
    let (before, after) = (release_now(&found, &app, 1).await, release_now(&found, &app, 2).await);
    assert_eq!((before.state, before.last_current_at), (ReleaseState::Retired, Some(at(13))));
    assert_eq!((after.state, after.last_current_at), (ReleaseState::Ready, None));
    let push = found.push(&push_id(1)).await.expect("it is read").expect("it exists");
    assert_eq!((push.state, push.release), (PushState::Completed, Some(number(2))));
    assert_eq!(found.activity(Some(&app), Page::default()).await.expect("it is read").items[0].text, "v2 serves");
    assert_eq!((unfinished(&found).await, interrupted(&found).await), (vec![], vec![]));
}

#[tokio::test]
async fn config_vars_change_together_with_their_release() {
    let backend = on_disk();
    let (store, folder) = (&backend.store, backend.folder.path());
    let app = store.create_app(new_app("greeter")).await.expect("the app is created").name;
    store.set_app_config(&app, config("before"), at(1)).await.expect("the config is set");
    let v1 = booted(store, &app).await;
    let (_folder, found) = after_a_crash(folder);
    assert_eq!(app_now(&found, &app).await.config, config("before"), "an unreleased change is kept");
    store.make_current(&app, v1, new_activity(Some("greeter"), "v1 serves"), at(2)).await.expect("it serves");
    let (_folder, found) = after_a_crash(folder);
    assert_eq!(app_now(&found, &app).await.config, release_now(&found, &app, 1).await.config);
}

#[tokio::test]
async fn a_rollback_is_atomic() {
    let backend = on_disk();
    let (store, folder) = (&backend.store, backend.folder.path());
    let app = store.create_app(new_app("greeter")).await.expect("the app is created").name;
    let (good, bad) = (serving(store, &app, 10).await, serving(store, &app, 20).await);
    let back = |to: ReleaseNumber| {
        let activity = new_activity(Some("greeter"), "back");
        store.return_to(&app, bad, to, reason("crash-loop"), activity, at(30))
    };
    let unknown = back(number(7)).await;
    assert_eq!(unknown, Err(StoreError::UnknownRelease { app: app.clone(), number: number(7) }));
    let (_folder, found) = after_a_crash(folder);
    assert_eq!(release_now(&found, &app, 2).await.state, ReleaseState::Ready, "its failure was rolled back too");
    assert_eq!(app_now(&found, &app).await.release, Some(bad));

    back(good).await.expect("it rolls back");
    let (_folder, found) = after_a_crash(folder);
    assert_eq!(release_now(&found, &app, 2).await.state, ReleaseState::DeploymentError);
    assert_eq!(release_now(&found, &app, 1).await.state, ReleaseState::Ready);
    assert_eq!(app_now(&found, &app).await.release, Some(good));
}

#[tokio::test]
async fn a_host_killed_during_a_deploy_leaves_one_current_release() {
    let app = name("victim");
    if let Some(folder) = victims_folder() {
        return deploy_until_killed(&folder, &app).await;
    }
    let folder = tempfile::tempdir().expect("the folder is created");
    for round in 0..3 {
        let last = run_and_kill("crash::a_host_killed_during_a_deploy_leaves_one_current_release", folder.path());
        let store = Store::open(folder.path()).expect("the store opens: the kill released the lock");
        assert_is_whole(&store, &app, last, round).await;
    }
}

async fn assert_is_whole(store: &Store, app: &AppName, last: i64, round: u32) {
    let now: App = app_now(store, app).await;
    let page = Page { cursor: None, limit: Some(1_000) };
    let releases = store.releases(app, page.clone()).await.expect("they are read").items;
    let releases: Vec<Release> = releases.into_iter().collect::<Result<_, _>>().expect("no release is damaged");
    for release in &releases {
        let serves = matches!(release.state, ReleaseState::Ready | ReleaseState::Frozen);
        assert_eq!(serves, now.release == Some(release.number), "round {round}: {}", release.number);
    }
    let state = |number: i64| {
        let found = releases.iter().find(|release| i64::from(release.number.get()) == number);
        found.map(|release: &Release| release.state)
    };
    let acknowledged = state(last).expect("the acknowledged release exists");
    assert!(!acknowledged.is_under_way(), "round {round}: v{last} was acknowledged, but is {acknowledged}");
    for push in store.pushes(app, page).await.expect("they are read").items {
        assert_eq!(push.state == PushState::Completed, push.release.is_some(), "round {round}: {}", push.id);
        let made = push.release.and_then(|release| state(release.get().into()));
        assert!(!made.is_some_and(ReleaseState::is_under_way), "round {round}: {}", push.id);
    }
}

async fn deploy_until_killed(folder: &Path, app: &AppName) {
    let store = Store::open(folder).expect("the store opens");
    if store.app(app).await.expect("it is read").is_none() {
        store.create_app(new_app(app.as_str())).await.expect("the app is created");
    }
    for release in store.interrupted_releases().await.expect("they are read") {
        let ended = store.step_release(app, release.number, ReleaseEvent::DeployFails, None, at(1)).await;
        ended.expect("an interrupted step can be ended");
    }
    for id in unfinished(&store).await {
        store.advance_push(&id, PushEvent::Fail, None, at(1)).await.expect("an interrupted step can be ended");
    }
    // Bounded, so that a victim process that isn't killed ends too.
    for _ in 0..10_000 {
        let before = app_now(&store, app).await.release;
        let v = booted(&store, app).await;
        let id = push_id(v.get());
        store.insert_push(new_push(v.get(), app.as_str())).await.expect("the push is queued");
        for event in [PushEvent::Take, PushEvent::Build, PushEvent::Deploy] {
            store.advance_push(&id, event, None, at(1)).await.expect("the step is allowed");
        }
        let activity = || new_activity(Some(app.as_str()), "it serves");
        store.complete_push(&id, v, activity(), at(2)).await.expect("it is completed");
        println!("acknowledged {}", v.get());
        if let Some(before) = before.filter(|_| v.get() % 3 == 0) {
            store.return_to(app, v, before, reason("crash-loop"), activity(), at(3)).await.expect("it rolls back");
            println!("acknowledged {}", before.get());
        }
    }
}
