//! Activity, tokens, and the rules of every list and text.

use isopod_policy::{PushEvent, Role, Scope};
use isopod_store::{Page, Reason, StoreError, Token, limits};

use super::{create, page};
use crate::{at, name, new_activity, new_app, new_push, push_id};

#[tokio::test]
async fn texts_that_are_too_long_are_truncated() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("the push is queued");
    let long = "ä".repeat(limits::REASON_BYTES_MAX);
    let reason = Reason { code: "build-failed".to_owned(), detail: long.clone() };
    let failed = store.advance_push(&push_id(1), PushEvent::Fail, Some(reason), at(1)).await.expect("it fails");
    assert_eq!(failed.reason.expect("it has a reason").detail.len(), limits::REASON_BYTES_MAX);
    let entry = store.append_activity(new_activity(None, &long)).await.expect("it is recorded");
    assert_eq!(entry.text.len(), limits::ACTIVITY_TEXT_BYTES_MAX);
    assert_eq!(store.activity(None, Page::default()).await.expect("it is read").items, [entry]);
}

#[tokio::test]
async fn activity_is_ordered() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let mut entries = Vec::new();
    for text in ["one", "two", "three"] {
        entries.push(store.append_activity(new_activity(Some("greeter"), text)).await.expect("it is recorded"));
        store.append_activity(new_activity(None, "noise")).await.expect("it is recorded");
    }
    let app = name("greeter");
    let newest = store.activity(Some(&app), page(None, 2)).await.expect("it is read");
    assert_eq!(newest.items, [entries[2].clone(), entries[1].clone()]);
    let oldest = store.activity(Some(&app), page(newest.next.as_deref(), 2)).await.expect("it is read");
    assert_eq!((oldest.items, oldest.next), (vec![entries[0].clone()], None));
    let later = store.activity_after(Some(&app), entries[0].id).await.expect("it is read");
    assert_eq!(later, [entries[1].clone(), entries[2].clone()]);
    assert_eq!(store.activity(None, Page::default()).await.expect("it is read").items.len(), 6);
    assert_eq!(store.activity_after(None, entries[1].id).await.expect("it is read").len(), 3);
}

#[tokio::test]
async fn the_oldest_activity_is_removed_beyond_the_limit() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let many = limits::ACTIVITY_ENTRIES_MAX + limits::ACTIVITY_TRIM_EVERY;
    let first = store.append_activity(new_activity(None, "the very first")).await.expect("it is recorded");
    let appends = (0..many).map(|_| store.append_activity(new_activity(Some("busy"), "again")));
    for appended in futures::future::join_all(appends).await {
        appended.expect("it is recorded");
    }
    let mut kept = 0;
    let mut after = 0;
    loop {
        let some = store.activity_after(Some(&name("busy")), after).await.expect("it is read");
        let Some(last) = some.last() else { break };
        kept += some.len();
        after = last.id;
    }
    assert_eq!(kept, limits::ACTIVITY_ENTRIES_MAX as usize);
    let others = store.activity_after(None, 0).await.expect("it is read");
    assert_eq!(others[0], first, "only the same app's entries are removed");
}

#[tokio::test]
async fn a_token_is_found_by_its_hash() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = store.create_app(new_app("greeter")).await.expect("the app is created");
    let token = |name: &str, hash: &str| Token {
        name: name.to_owned(),
        hash: hash.to_owned(),
        role: Role::Deploy,
        scope: Scope::Apps(vec![crate::name("greeter")]),
        app_ids: vec![app.id.clone()],
        created_at: at(1),
    };
    store.insert_token(token("ci", "aa")).await.expect("it is stored");
    let stored = store.insert_token(token("admin", "bb")).await;
    assert_eq!(stored, Ok(vec![token("admin", "bb"), token("ci", "aa")]));
    assert_eq!(store.token("aa").await, Ok(Some(token("ci", "aa"))));
    assert_eq!(store.token("cc").await, Ok(None));
    assert_eq!(store.tokens().await, Ok(vec![token("admin", "bb"), token("ci", "aa")]));
    let refused = store.insert_token(token("ci", "dd")).await;
    assert_eq!(refused, Err(StoreError::TokenExists { name: "ci".to_owned() }));
    assert_eq!(store.delete_token("ci").await, Ok(vec![token("admin", "bb")]));
    assert_eq!(store.token("aa").await, Ok(None));
    assert_eq!(store.delete_token("ci").await, Err(StoreError::UnknownToken { name: "ci".to_owned() }));
}

#[tokio::test]
async fn a_token_is_removed_with_its_last_app() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let mut ids = Vec::new();
    for app in ["greeter", "other"] {
        ids.push(store.create_app(new_app(app)).await.expect("the app is created").id);
    }
    let token = |name: &str, apps: &[&str]| Token {
        name: name.to_owned(),
        hash: name.to_owned(),
        role: Role::Deploy,
        scope: Scope::Apps(apps.iter().map(|app| crate::name(app)).collect()),
        app_ids: Vec::new(),
        created_at: at(1),
    };
    let stored = store.insert_token(token("one", &["greeter"])).await.expect("it is stored");
    assert_eq!(stored[0].app_ids, ids[..1]);
    store.insert_token(token("both", &["greeter", "other"])).await.expect("it is stored");
    let unknown = store.insert_token(token("none", &["unknown"])).await;
    assert_eq!(unknown, Err(StoreError::UnknownApp { name: name("unknown") }));
    store.delete_app(&name("greeter")).await.expect("it is deleted");
    let again = store.create_app(new_app("greeter")).await.expect("the app is created");
    assert_ne!(again.id, ids[0]);
    assert_eq!(store.token("one").await, Ok(None));
    let rest = store.token("both").await.expect("it is read").expect("it is still valid for the other app");
    assert_eq!((rest.scope, rest.app_ids), (Scope::Apps(vec![name("other")]), vec![ids[1].clone()]));
}

#[tokio::test]
async fn a_cursor_of_another_list_is_refused() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let bad = || page(Some("not-a-number"), 2);
    let expected = StoreError::BadCursor { cursor: "not-a-number".to_owned() };
    assert_eq!(store.pushes(&name("greeter"), bad()).await, Err(expected.clone()));
    assert_eq!(store.releases(&name("greeter"), bad()).await, Err(expected.clone()));
    assert_eq!(store.unfinished_pushes(bad()).await, Err(expected.clone()));
    assert_eq!(store.activity(None, bad()).await, Err(expected));
}
