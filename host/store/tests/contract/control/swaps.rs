//! Changes of the current release: by a user, and by a rollback. Each is atomic.

use isopod_policy::{AppName, ReleaseEvent, ReleaseNumber, ReleaseState};
use isopod_store::{NewActivity, Page, Store, StoreError};

use super::{app_now, booted, create, number, reason, release_now, serving};
use crate::{at, config, new_activity, new_release};

fn activity(text: &str) -> NewActivity {
    new_activity(Some("greeter"), text)
}

async fn texts(store: &Store, app: &AppName) -> Vec<String> {
    let found = store.activity(Some(app), Page::default()).await.expect("it is read").items;
    found.into_iter().map(|entry| entry.text).collect()
}

#[tokio::test]
async fn the_previous_release_is_retired_when_another_serves() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let (v1, v2) = (booted(store, &app).await, booted(store, &app).await);
    store.make_current(&app, v1, activity("v1 serves"), at(10)).await.expect("it serves");
    let now = store.make_current(&app, v2, activity("v2 serves"), at(20)).await.expect("it serves");
    assert_eq!((now.release, now.updated_at), (Some(v2), at(20)));
    assert_eq!(app_now(store, &app).await, now);
    let (before, after) = (release_now(store, &app, 1).await, release_now(store, &app, 2).await);
    assert_eq!((before.state, before.last_current_at), (ReleaseState::Retired, Some(at(20))));
    assert_eq!((after.state, after.last_current_at), (ReleaseState::Ready, None));
    assert_eq!((before.updated_at, after.updated_at), (at(20), at(20)));
    assert_eq!(texts(store, &app).await, ["v2 serves", "v1 serves"]);
}

#[tokio::test]
async fn an_app_gets_the_config_of_its_current_release() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    store.set_app_config(&app, config("of the app"), at(1)).await.expect("the config is set");
    let v1 = booted(store, &app).await;
    assert_eq!(app_now(store, &app).await.config, config("of the app"), "unchanged until it serves");
    let now = store.make_current(&app, v1, activity("v1 serves"), at(10)).await.expect("it serves");
    assert_eq!(now.config, release_now(store, &app, 1).await.config);
    assert_eq!(app_now(store, &app).await, now);
}

#[tokio::test]
async fn a_frozen_release_serves_again() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let v1 = serving(store, &app, 10).await;
    for (event, state) in [(ReleaseEvent::Freeze, ReleaseState::Frozen), (ReleaseEvent::Serve, ReleaseState::Ready)] {
        let moved = store.step_release(&app, v1, event, None, at(11)).await.expect("the step is allowed");
        assert_eq!((moved.state, moved.last_current_at), (state, None));
        assert_eq!(app_now(store, &app).await.release, Some(v1), "it stays the current release");
    }
    store.step_release(&app, v1, ReleaseEvent::Freeze, None, at(12)).await.expect("it freezes");
    serving(store, &app, 13).await;
    assert_eq!(release_now(store, &app, 1).await.state, ReleaseState::Retired, "a frozen release is retired too");
}

#[tokio::test]
async fn a_step_does_not_change_the_current_release() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let (v1, v2) = (serving(store, &app, 10).await, serving(store, &app, 20).await);
    let v3 = booted(store, &app).await;
    for release in [v1, v3] {
        let refused = store.step_release(&app, release, ReleaseEvent::Serve, None, at(21)).await;
        assert_eq!(refused, Err(StoreError::NotCurrent { app: app.clone(), number: release }));
    }
    let refused = store.step_release(&app, v2, ReleaseEvent::Supersede, None, at(21)).await;
    assert_eq!(refused, Err(StoreError::ReleaseServes { app: app.clone(), number: v2 }));
    let states = store.release_stamps(&app).await.expect("they are read").into_iter().map(|release| release.state);
    let expected = [ReleaseState::Retired, ReleaseState::Ready, ReleaseState::Booted];
    assert_eq!(states.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_release_that_cannot_serve_changes_nothing() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    serving(store, &app, 10).await;
    store.insert_release(new_release("greeter", 11)).await.expect("the release is created");
    let before = (app_now(store, &app).await, release_now(store, &app, 1).await, texts(store, &app).await);
    for (release, state) in [(1, "ready"), (2, "building")] {
        let refused = store.make_current(&app, number(release), activity("it serves"), at(12)).await;
        let Err(StoreError::Refused(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!((refused.state, refused.event), (state, "serve"));
    }
    let unknown = store.make_current(&app, number(3), activity("it serves"), at(12)).await;
    assert_eq!(unknown, Err(StoreError::UnknownRelease { app: app.clone(), number: number(3) }));
    assert_eq!((app_now(store, &app).await, release_now(store, &app, 1).await, texts(store, &app).await), before);
}

#[tokio::test]
async fn a_release_that_failed_while_current_stays_failed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let v1 = serving(store, &app, 10).await;
    let failed = store.step_release(&app, v1, ReleaseEvent::DeployFails, Some(reason("crash-loop")), at(11)).await;
    assert_eq!(failed.expect("it fails").last_current_at, None, "it is still the current release");
    serving(store, &app, 12).await;
    let failed = release_now(store, &app, 1).await;
    assert_eq!((failed.state, failed.reason), (ReleaseState::DeploymentError, Some(reason("crash-loop"))));
    assert_eq!(failed.last_current_at, Some(at(12)));
}

#[tokio::test]
async fn an_app_rolls_back_from_a_failed_release() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let (good, bad) = (serving(store, &app, 10).await, serving(store, &app, 20).await);
    store.set_app_config(&app, config("set with the bad one"), at(21)).await.expect("the config is set");
    let now = store.return_to(&app, bad, good, reason("crash-loop"), activity("back to v1"), at(30)).await;
    let now = now.expect("it rolls back");
    assert_eq!((now.release, now.updated_at), (Some(good), at(30)));
    assert_eq!(app_now(store, &app).await, now);
    let (good, bad) = (release_now(store, &app, 1).await, release_now(store, &app, 2).await);
    assert_eq!(now.config, good.config);
    assert_eq!((good.state, good.reason, good.last_current_at), (ReleaseState::Ready, None, None));
    assert_eq!((bad.state, bad.reason), (ReleaseState::DeploymentError, Some(reason("crash-loop"))));
    assert_eq!(bad.last_current_at, Some(at(30)));
    assert_eq!(texts(store, &app).await[0], "back to v1");
}

#[tokio::test]
async fn a_rollback_to_a_release_that_cannot_serve_changes_nothing() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let failed = booted(store, &app).await;
    store.step_release(&app, failed, ReleaseEvent::DeployFails, None, at(9)).await.expect("it fails");
    let bad = serving(store, &app, 10).await;
    let before = (app_now(store, &app).await, release_now(store, &app, 2).await, texts(store, &app).await);
    let back = |good: ReleaseNumber| store.return_to(&app, bad, good, reason("crash-loop"), activity("back"), at(11));
    for good in [failed, bad] {
        let refused = back(good).await;
        let Err(StoreError::Refused(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.event, "serve");
    }
    assert_eq!(back(number(3)).await, Err(StoreError::UnknownRelease { app: app.clone(), number: number(3) }));
    assert_eq!((app_now(store, &app).await, release_now(store, &app, 2).await, texts(store, &app).await), before);
}

#[tokio::test]
async fn only_the_current_release_can_be_rolled_back() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let (v1, v2) = (serving(store, &app, 10).await, serving(store, &app, 20).await);
    let v3 = serving(store, &app, 30).await;
    let refused = store.return_to(&app, v2, v1, reason("crash-loop"), activity("back to v1"), at(31)).await;
    assert_eq!(refused, Err(StoreError::NotCurrent { app: app.clone(), number: v2 }));
    assert_eq!(app_now(store, &app).await.release, Some(v3));
    assert_eq!(release_now(store, &app, 2).await.state, ReleaseState::Retired);
}
