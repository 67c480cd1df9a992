//! Releases: their numbers, their states before they serve, and how long they are kept.

use isopod_policy::retention::StoredRelease;
use isopod_policy::{Manifest, ReleaseEvent, ReleaseNumber, ReleaseState};
use isopod_store::{NewRelease, Reason, StoreError, limits};

use super::{app_now, booted, create, number, page, reason, release_now, serving};
use crate::{at, name, new_activity, new_release};

#[tokio::test]
async fn releases_are_numbered_per_app_and_never_reused() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    create(store, "other").await;
    let mut made = Vec::new();
    for second in 1..=3 {
        made.push(store.insert_release(new_release("greeter", second)).await.expect("the release is created"));
    }
    let other = store.insert_release(new_release("other", 4)).await.expect("the release is created");
    assert_eq!(made.iter().map(|release| release.number.get()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(other.number, ReleaseNumber::FIRST);
    let expected = new_release("greeter", 2);
    assert_eq!((&made[1].manifest, &made[1].bundle), (&expected.manifest, &expected.bundle));
    assert_eq!(store.release(&name("greeter"), number(2)).await, Ok(Some(made[1].clone())));
    assert_eq!(store.release(&name("greeter"), number(4)).await, Ok(None));
    let listed = store.releases(&name("greeter"), page(None, 2)).await.expect("the list is read");
    assert_eq!(listed.items, [Ok(made[2].clone()), Ok(made[1].clone())]);
    let rest = store.releases(&name("greeter"), page(listed.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!((rest.items, rest.next), (vec![Ok(made[0].clone())], None));
}

#[tokio::test]
async fn the_oldest_releases_are_removed_beyond_the_limit_except_the_current_release() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    serving(store, &app, 10).await;
    serving(store, &app, 11).await;
    store.insert_release(new_release("greeter", 12)).await.expect("the release is created");
    store
        .step_release(&app, number(3), ReleaseEvent::BuildFails, Some(reason("build-failed")), at(13))
        .await
        .expect("it fails");
    let more = (3..limits::RELEASES_STORED_MAX).map(|_| store.insert_release(new_release("greeter", 14)));
    for made in futures::future::join_all(more).await {
        made.expect("the release is created");
    }
    let oldest = async || {
        let stamps = store.release_stamps(&app).await.expect("they are read");
        assert_eq!(stamps.len(), limits::RELEASES_STORED_MAX as usize);
        stamps.iter().map(|stamp| stamp.number.get()).take(3).collect::<Vec<_>>()
    };
    assert_eq!(oldest().await, [1, 2, 3], "all are within the limit");
    for (left, why) in [
        ([1, 2, 4], "the failed release is removed first"),
        ([2, 4, 5], "then the release that served the longest ago"),
        ([2, 5, 6], "never the current release"),
    ] {
        store.insert_release(new_release("greeter", 15)).await.expect("the release is created");
        assert_eq!(oldest().await, left, "{why}");
    }
}

#[tokio::test]
async fn a_new_release_is_building() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let made = store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    assert_eq!((made.state, &made.reason, made.last_current_at), (ReleaseState::Building, &None, None));
    let expected = new_release("greeter", 1);
    assert_eq!((&made.cause, &made.config), (&expected.cause, &expected.config));
    assert_eq!((made.created_at, made.updated_at), (at(1), at(1)));
    assert_eq!(release_now(store, &app, 1).await, made);
    assert_eq!(app_now(store, &app).await.release, None, "it does not serve yet");
}

#[tokio::test]
async fn a_release_follows_its_state_machine() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    for (event, state) in [(ReleaseEvent::Built, ReleaseState::Deploying), (ReleaseEvent::Booted, ReleaseState::Booted)]
    {
        let moved = store.step_release(&app, number(1), event, None, at(5)).await.expect("the step is allowed");
        assert_eq!((moved.state, moved.updated_at), (state, at(5)));
        assert_eq!(release_now(store, &app, 1).await, moved);
    }
    let refused = store.step_release(&app, number(1), ReleaseEvent::BuildFails, None, at(6)).await;
    let Err(StoreError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.state, refused.event), ("booted", "fail the build"));
    assert_eq!(release_now(store, &app, 1).await.updated_at, at(5));
    let unknown = store.step_release(&app, number(2), ReleaseEvent::Built, None, at(6)).await;
    assert_eq!(unknown, Err(StoreError::UnknownRelease { app, number: number(2) }));
}

#[tokio::test]
async fn a_failed_release_stores_its_reason() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    let long = Reason { code: "build-failed".to_owned(), detail: "x".repeat(limits::REASON_BYTES_MAX + 1) };
    store.step_release(&app, number(1), ReleaseEvent::BuildFails, Some(long), at(2)).await.expect("it fails");
    let failed = release_now(store, &app, 1).await;
    let kept = failed.reason.expect("it has a reason");
    assert_eq!((failed.state, kept.code.as_str()), (ReleaseState::BuildError, "build-failed"));
    assert_eq!(kept.detail.len(), limits::REASON_BYTES_MAX);
}

#[tokio::test]
async fn interrupted_releases_are_listed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    for name in ["b", "a"] {
        let app = create(store, name).await;
        serving(store, &app, 10).await;
        booted(store, &app).await;
        store.insert_release(new_release(name, 11)).await.expect("the release is created");
        let failed = booted(store, &app).await;
        store.step_release(&app, failed, ReleaseEvent::DeployFails, None, at(12)).await.expect("it fails");
    }
    let found = store.interrupted_releases().await.expect("they are read");
    let found: Vec<_> = found.iter().map(|release| (release.app.as_str(), release.number.get())).collect();
    assert_eq!(found, [("a", 2), ("a", 3), ("b", 2), ("b", 3)]);
}

#[tokio::test]
async fn release_stamps_contain_the_data_for_retention() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    create(store, "other").await;
    store.insert_release(new_release("other", 1)).await.expect("the release is created");
    serving(store, &app, 10).await;
    serving(store, &app, 11).await;
    store.insert_release(new_release("greeter", 12)).await.expect("the release is created");
    let stamp = |release, state, last_current_at| StoredRelease { number: number(release), state, last_current_at };
    let expected = vec![
        stamp(1, ReleaseState::Retired, Some(at(11))),
        stamp(2, ReleaseState::Ready, None),
        stamp(3, ReleaseState::Building, None),
    ];
    assert_eq!(store.release_stamps(&app).await, Ok(expected));
}

#[tokio::test]
async fn the_current_release_is_never_removed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    for second in [10, 11, 12] {
        serving(store, &app, second).await;
    }
    let refused = store.delete_releases(&app, &[number(1), number(3)]).await;
    assert_eq!(refused, Err(StoreError::ReleaseServes { app: app.clone(), number: number(3) }));
    assert!(store.release(&app, number(1)).await.expect("it is read").is_some(), "no release was removed");
    assert_eq!(store.delete_releases(&app, &[number(1), number(7)]).await, Ok(1));
    assert_eq!(store.release(&app, number(1)).await, Ok(None));
    let next = store.insert_release(new_release("greeter", 13)).await.expect("the release is created");
    assert_eq!(next.number, number(4), "a number is never reused");
}

#[tokio::test]
async fn the_uses_of_a_plugin_are_those_of_current_releases() {
    let backend = crate::on_disk();
    let store = &backend.store;
    for app in ["a", "b", "c"] {
        create(store, app).await;
    }
    let deploy = async |app: &str, second: i64, middleware: &[&str]| {
        let tables = middleware.iter().map(|used| format!("[[middleware]]\nuse = \"{used}\"\n")).collect::<String>();
        let manifest = Manifest::parse(&format!("name = \"{app}\"\n{tables}")).expect("the manifest is valid");
        let release = NewRelease { manifest, ..new_release(app, second) };
        let number = store.insert_release(release).await.expect("the release is created").number;
        for event in [ReleaseEvent::Built, ReleaseEvent::Booted] {
            store.step_release(&name(app), number, event, None, at(second)).await.expect("the step is allowed");
        }
        store.make_current(&name(app), number, new_activity(Some(app), "serves"), at(second)).await.expect("it serves");
    };
    let uses = async |plugin: Option<&str>| {
        let found = store.plugin_uses(plugin.map(name).as_ref()).await.expect("they are read");
        found.iter().map(|found| format!("{} {}", found.app, found.used.plugin)).collect::<Vec<_>>()
    };
    deploy("a", 1, &["jwt"]).await;
    deploy("b", 2, &["cors", "jwt@^1.2", "jwt2"]).await;
    deploy("c", 3, &[]).await;
    assert_eq!(uses(Some("jwt")).await, ["a jwt", "b jwt@^1.2"]);
    assert_eq!(uses(None).await, ["a jwt", "b cors", "b jwt@^1.2", "b jwt2"]);
    assert_eq!(uses(Some("other")).await, Vec::<String>::new());
    deploy("a", 4, &[]).await;
    assert_eq!(uses(Some("jwt")).await, ["b jwt@^1.2"], "the former release of an app uses nothing");
}
