//! Pushes: their states, their results, and the limits of their records.

use isopod_policy::{PushEvent, PushState, Refused, ReleaseState};
use isopod_store::{Digest, Idempotency, Inserted, NewPush, Page, Paged, Reason, StoreError, limits};

use super::{app_now, booted, create, deploying, number, page, reason, release_now};
use crate::{at, config, name, new_activity, new_push, new_release, push_id};

#[tokio::test]
async fn a_push_follows_its_state_machine() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let queued = store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let Inserted::New(queued) = queued else { panic!("{queued:?}") };
    assert_eq!((queued.state, queued.release, queued.reason), (PushState::Queued, None, None));
    for (event, state) in [
        (PushEvent::Take, PushState::Running),
        (PushEvent::Build, PushState::Building),
        (PushEvent::Deploy, PushState::Deploying),
    ] {
        let moved = store.advance_push(&push_id(1), event, None, at(5)).await.expect("the step is allowed");
        assert_eq!((moved.state, moved.updated_at), (state, at(5)));
    }
    let refused = store.advance_push(&push_id(1), PushEvent::Cancel, None, at(6)).await;
    let Err(StoreError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!((refused.state, refused.event), ("deploying", "cancel"));
    let kept = store.push(&push_id(1)).await.expect("it is read").expect("it exists");
    assert_eq!((kept.state, kept.updated_at), (PushState::Deploying, at(5)));
}

#[tokio::test]
async fn a_failed_push_stores_its_reason() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let reason = Reason { code: "unknown-import".to_owned(), detail: "it imports wasi:gpu".to_owned() };
    store.advance_push(&push_id(1), PushEvent::Fail, Some(reason.clone()), at(2)).await.expect("it fails");
    let kept = store.push(&push_id(1)).await.expect("it is read").expect("it exists");
    assert_eq!((kept.state, kept.reason), (PushState::Failed, Some(reason)));
}

#[tokio::test]
async fn a_push_stores_its_steps_between_its_log_lines() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let log = async |line| store.append_push_log(&push_id(1), line, at(1)).await.expect("it logs");
    let steps = async || {
        let push = store.push(&push_id(1)).await.expect("it is read").expect("it exists");
        push.steps.into_iter().map(|step| (step.state, step.log_lines)).collect::<Vec<_>>()
    };
    log("received").await;
    assert_eq!(steps().await, []);
    store.advance_push(&push_id(1), PushEvent::Take, None, at(2)).await.expect("it is taken");
    store.advance_push(&push_id(1), PushEvent::Build, None, at(2)).await.expect("it is built");
    log("compiled").await;
    let so_far = [(PushState::Running, 1), (PushState::Building, 1)];
    assert_eq!(steps().await, so_far);
    store.advance_push(&push_id(1), PushEvent::Fail, None, at(3)).await.expect("it fails");
    assert_eq!(steps().await, [so_far[0], so_far[1], (PushState::Failed, 2)]);
}

#[tokio::test]
async fn a_push_is_inserted_once_and_only_for_an_existing_app() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let refused = store.insert_push(new_push(1, "ghost")).await;
    assert_eq!(refused, Err(StoreError::UnknownApp { name: name("ghost") }));
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let refused = store.insert_push(new_push(1, "greeter")).await;
    assert_eq!(refused, Err(StoreError::PushExists { id: push_id(1) }));
    let refused = store.advance_push(&push_id(2), PushEvent::Take, None, at(1)).await;
    assert_eq!(refused, Err(StoreError::UnknownPush { id: push_id(2) }));
}

#[tokio::test]
async fn pushes_are_listed_newest_first() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    create(store, "other").await;
    for number in 1..=5 {
        store.insert_push(new_push(number, "greeter")).await.expect("the push is queued");
    }
    store.insert_push(new_push(6, "other")).await.expect("the push is queued");
    let first = store.pushes(&name("greeter"), page(None, 3)).await.expect("the list is read");
    let ids = |paged: &Paged<isopod_store::Push>| paged.items.iter().map(|push| push.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&first), [push_id(5), push_id(4), push_id(3)]);
    let second = store.pushes(&name("greeter"), page(first.next.as_deref(), 3)).await.expect("the list is read");
    assert_eq!((ids(&second), second.next), (vec![push_id(2), push_id(1)], None));
}

#[tokio::test]
async fn unfinished_pushes_are_listed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    for number in 1..=4 {
        store.insert_push(new_push(number, "greeter")).await.expect("the push is queued");
    }
    store.advance_push(&push_id(1), PushEvent::Take, None, at(1)).await.expect("it is taken");
    store.advance_push(&push_id(2), PushEvent::Cancel, None, at(1)).await.expect("it is cancelled");
    store.advance_push(&push_id(3), PushEvent::Fail, None, at(1)).await.expect("it fails");
    let first = store.unfinished_pushes(page(None, 1)).await.expect("the list is read");
    assert_eq!(first.items[0].id, push_id(1));
    let second = store.unfinished_pushes(page(first.next.as_deref(), 1)).await.expect("the list is read");
    assert_eq!((second.items[0].id.clone(), second.next), (push_id(4), None));
}

#[tokio::test]
async fn a_completed_push_makes_its_release_current() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    deploying(store, 1).await;
    let v1 = booted(store, &app).await;
    store.set_app_config(&app, config("set meanwhile"), at(6)).await.expect("the config is set");
    let activity = new_activity(Some("greeter"), "v1 serves");
    let done = store.complete_push(&push_id(1), v1, activity, at(7)).await.expect("it is completed");
    assert_eq!((done.state, done.release), (PushState::Completed, Some(v1)));
    assert_eq!(store.push(&push_id(1)).await, Ok(Some(done)));
    assert_eq!(release_now(store, &app, 1).await.state, ReleaseState::Ready);
    let app = app_now(store, &app).await;
    assert_eq!((app.release, app.updated_at), (Some(v1), at(7)));
    assert_eq!(app.config, config("set meanwhile"), "the config vars set meanwhile are for the next release");
    let activity = store.activity(Some(&app.name), Page::default()).await.expect("it is read");
    assert_eq!(activity.items[0].text, "v1 serves");
}

#[tokio::test]
async fn a_push_that_cannot_be_completed_changes_nothing() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    deploying(store, 1).await;
    let activity = new_activity(Some("greeter"), "v1 serves");
    let refused = store.complete_push(&push_id(1), number(1), activity.clone(), at(7)).await;
    assert_eq!(refused, Err(StoreError::UnknownRelease { app: app.clone(), number: number(1) }));
    booted(store, &app).await;
    store.insert_push(new_push(2, "greeter")).await.expect("the push is queued");
    let refused = store.complete_push(&push_id(2), number(1), activity.clone(), at(7)).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refused { state: "queued", .. }))), "{refused:?}");
    store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    let refused = store.complete_push(&push_id(1), number(2), activity, at(7)).await;
    assert!(matches!(refused, Err(StoreError::Refused(Refused { state: "building", .. }))), "{refused:?}");

    let push = store.push(&push_id(1)).await.expect("it is read").expect("it exists");
    assert_eq!((push.state, push.release), (PushState::Deploying, None));
    assert_eq!(app_now(store, &app).await.release, None);
    assert_eq!(release_now(store, &app, 1).await.state, ReleaseState::Booted);
    assert_eq!(store.activity(Some(&app), Page::default()).await.expect("it is read").items, []);
}

#[tokio::test]
async fn the_log_of_a_push_is_ordered_and_bounded() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    for line in ["received", "compiled", "ready"] {
        assert_eq!(store.append_push_log(&push_id(1), line, at(3)).await, Ok(true));
    }
    let lines = store.push_log(&push_id(1), 1).await.expect("the log is read");
    let texts: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str(), line.at)).collect();
    assert_eq!(texts, [(2, "compiled", at(3)), (3, "ready", at(3))]);

    let long = "ä".repeat(limits::PUSH_LOG_LINE_BYTES_MAX);
    store.append_push_log(&push_id(1), &long, at(3)).await.expect("a long line is cut");
    let kept = store.push_log(&push_id(1), 3).await.expect("the log is read").remove(0).text;
    assert!(kept.len() <= limits::PUSH_LOG_LINE_BYTES_MAX && long.starts_with(&kept));
    let unknown = store.append_push_log(&push_id(2), "lost", at(3)).await;
    assert_eq!(unknown, Err(StoreError::UnknownPush { id: push_id(2) }));
}

#[tokio::test]
async fn the_oldest_final_pushes_are_removed_beyond_the_limit() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let queue = |number: u32| store.insert_push(new_push(number, "greeter"));
    for number in 0..3 {
        queue(number).await.expect("the push is queued");
    }
    store.advance_push(&push_id(0), PushEvent::Cancel, None, at(1)).await.expect("it is done");
    store.advance_push(&push_id(1), PushEvent::Take, None, at(1)).await.expect("it is running");
    store.advance_push(&push_id(2), PushEvent::Fail, None, at(1)).await.expect("it is done");
    for queued in futures::future::join_all((3..limits::PUSHES_KEPT + 2).map(queue)).await {
        queued.expect("the push is queued");
    }
    assert_eq!(store.push(&push_id(0)).await, Ok(None), "the oldest final push is removed");
    assert!(store.push(&push_id(1)).await.expect("it is read").is_some(), "an unfinished push is kept");
    assert!(store.push(&push_id(2)).await.expect("it is read").is_some(), "a push within the limit is kept");
}

fn sent(number: u32, key: &str, bytes: &[u8]) -> NewPush {
    let idempotency = Some(Idempotency { key: key.to_owned(), upload: Digest::of(bytes) });
    NewPush { idempotency, ..new_push(number, "greeter") }
}

#[tokio::test]
async fn a_repeated_push_is_the_same_push() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let first = store.insert_push(sent(1, "key", b"bytes")).await.expect("the push is queued");
    assert!(matches!(&first, Inserted::New(push) if push.id == push_id(1)), "{first:?}");
    store.advance_push(&push_id(1), PushEvent::Take, None, at(2)).await.expect("it runs");
    let again = store.insert_push(sent(2, "key", b"bytes")).await.expect("it is known");
    let Inserted::Same(push) = again.clone() else { panic!("{again:?}") };
    assert_eq!((push.id, push.state), (push_id(1), PushState::Running), "the sender gets the push's current state");
    let other = store.insert_push(sent(3, "key", b"other bytes")).await.expect("it is known");
    assert!(matches!(&other, Inserted::Conflict(push) if push.id == push_id(1)), "{other:?}");
    let ask = async |key: &str, bytes: &[u8]| {
        let asked = Idempotency { key: key.to_owned(), upload: Digest::of(bytes) };
        store.sent_before(&name("greeter"), asked, at(3)).await.expect("it is read")
    };
    assert_eq!(ask("key", b"bytes").await, Some(again), "the key can be looked up without sending the push");
    assert_eq!(ask("key", b"other bytes").await, Some(other));
    assert_eq!(ask("other key", b"bytes").await, None);
    let queued = store.insert_push(sent(4, "other key", b"bytes")).await.expect("the push is queued");
    assert!(matches!(queued, Inserted::New(_)), "{queued:?}");
    let queued = store.insert_push(new_push(5, "greeter")).await.expect("a push without a key is always queued");
    assert!(matches!(queued, Inserted::New(_)), "{queued:?}");
    for unknown in [2, 3] {
        assert_eq!(store.push(&push_id(unknown)).await, Ok(None));
    }
}

#[tokio::test]
async fn the_key_of_a_failed_or_cancelled_push_can_be_reused() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    for (number, end) in [(1, PushEvent::Fail), (2, PushEvent::Cancel)] {
        let queued = store.insert_push(sent(number, "key", &number.to_le_bytes())).await.expect("the push is queued");
        assert!(matches!(&queued, Inserted::New(push) if push.id == push_id(number)), "{queued:?}");
        let reason = (end == PushEvent::Fail).then(|| reason("time-limit"));
        store.advance_push(&push_id(number), end, reason, at(2)).await.expect("it ends");
    }
    assert!(matches!(store.insert_push(sent(3, "key", b"bytes")).await, Ok(Inserted::New(_))));
    assert!(matches!(store.insert_push(sent(4, "key", b"bytes")).await, Ok(Inserted::Same(_))));
}

#[tokio::test]
async fn a_key_expires_after_a_day() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let day = i64::try_from(limits::IDEMPOTENCY_KEPT.as_secs()).expect("it is a day");
    let send =
        |number: u32, second: i64| store.insert_push(NewPush { created_at: at(second), ..sent(number, "key", b"b") });
    assert!(matches!(send(1, 0).await, Ok(Inserted::New(_))));
    assert!(matches!(send(2, day - 1).await, Ok(Inserted::Same(_))));
    assert!(matches!(send(3, day).await, Ok(Inserted::New(_))));
    let again = send(4, day + 1).await;
    assert!(matches!(&again, Ok(Inserted::Same(push)) if push.id == push_id(3)), "{again:?}");
}

#[tokio::test]
async fn a_key_belongs_to_one_app_and_is_bounded() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    create(store, "other").await;
    store.insert_push(sent(1, "key", b"bytes")).await.expect("the push is queued");
    let elsewhere = NewPush { app: name("other"), ..sent(2, "key", b"other bytes") };
    assert!(matches!(store.insert_push(elsewhere).await, Ok(Inserted::New(_))));
    let bytes = limits::IDEMPOTENCY_KEY_BYTES_MAX;
    assert!(matches!(store.insert_push(sent(3, &"k".repeat(bytes), b"")).await, Ok(Inserted::New(_))));
    for bytes in [0, bytes + 1] {
        let refused = store.insert_push(sent(4, &"k".repeat(bytes), b"")).await;
        assert_eq!(refused, Err(StoreError::BadIdempotencyKey { bytes }));
    }
}
