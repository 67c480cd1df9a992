//! Activity, tokens, and the rules of every list and text.

use std::time::Duration;

use futures::future::join_all;
use isopod_policy::{PushEvent, Role, Scope, formation::Change};
use isopod_store::{
    CALLS_REFUSED, FormerSecret, NewActivity, Page, Reason, Rotation, StoreError, Token, TokenUse, limits,
};
use jiff::Timestamp;
use serde_json::json;

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
    for appended in join_all(appends).await {
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
async fn the_audit_trail_has_the_entries_with_an_actor() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let entry = |app, text: &str, data| NewActivity { data, ..new_activity(app, text) };
    let by_ci =
        store.append_activity(entry(Some("greeter"), "one", json!({ "by": "ci" }))).await.expect("it is stored");
    store.append_activity(entry(Some("greeter"), "two", json!({ "by": 7 }))).await.expect("it is stored");
    store.append_activity(entry(None, "three", json!([]))).await.expect("it is stored");
    let by_ann = store.append_activity(entry(None, "four", json!({ "by": "ann" }))).await.expect("it is stored");
    let all = store.audit(None, page(None, 1)).await.expect("it is read");
    assert_eq!(all.items, [by_ann]);
    let rest = store.audit(None, page(all.next.as_deref(), 9)).await.expect("it is read");
    assert_eq!((rest.items, rest.next), (vec![by_ci.clone()], None));
    assert_eq!(store.audit(Some(&name("greeter")), Page::default()).await.expect("it is read").items, [by_ci]);
}

#[tokio::test]
async fn refused_calls_evict_only_refused_calls() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let kept = store.append_activity(new_activity(None, "kept")).await.expect("it is stored");
    let refused = || NewActivity { kind: CALLS_REFUSED.to_owned(), ..new_activity(None, "refused") };
    let most = limits::ACTIVITY_ENTRIES_MAX + limits::ACTIVITY_TRIM_EVERY;
    let stored = join_all((0..most).map(|_| store.append_activity(refused()))).await;
    assert!(stored.iter().all(Result::is_ok));
    let (mut count, mut cursor, mut last) = (0, None, None);
    loop {
        let found = store.activity(None, page(cursor.as_deref(), 1_000)).await.expect("it is read");
        count += found.items.len();
        last = found.items.last().cloned().or(last);
        cursor = found.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((count, last), (limits::ACTIVITY_ENTRIES_MAX as usize + 1, Some(kept)));
}

#[tokio::test]
async fn a_token_is_found_by_its_hash() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = store.create_app(new_app("greeter")).await.expect("the app is created");
    let token = |name: &str, hash: &str| Token {
        app_ids: vec![app.id.clone()],
        expires_at: Some(at(100)),
        ..Token::new(name, hash.to_owned(), Role::Deploy, Scope::Apps(vec![crate::name("greeter")]), at(1))
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

fn token(name: &str, expires_at: Option<Timestamp>) -> Token {
    Token { expires_at, ..Token::new(name, name.to_owned(), Role::Read, Scope::All, at(1)) }
}

fn rotation(hash: &str, grace_s: u64, expires_at: Change<Timestamp>, at: Timestamp) -> Rotation {
    Rotation { hash: hash.to_owned(), grace: Duration::from_secs(grace_s), expires_at, at }
}

#[tokio::test]
async fn a_rotation_replaces_the_secret_and_keeps_the_former_one_for_its_grace_period() {
    let backend = crate::on_disk();
    let store = &backend.store;
    store.insert_token(token("ci", Some(at(100)))).await.expect("it is stored");
    let rows = store.rotate_token("ci", rotation("new", 60, Change::Keep, at(10))).await.expect("it is rotated");
    let former = Some(FormerSecret { hash: "ci".to_owned(), until: at(70) });
    assert_eq!(rows, [Token { hash: "new".to_owned(), former, ..token("ci", Some(at(100))) }]);
    let before = rows[0].clone();
    let rows = store.rotate_token("ci", rotation("newer", 0, Change::Clear, at(11))).await.expect("it is rotated");
    assert_eq!(rows, [Token { hash: "newer".to_owned(), ..token("ci", None) }]);
    store.restore_token(before.clone()).await.expect("it is restored");
    assert_eq!(store.tokens().await, Ok(vec![before]));
    let unknown = store.rotate_token("ann", rotation("x", 0, Change::Keep, at(11))).await;
    assert_eq!(unknown, Err(StoreError::UnknownToken { name: "ann".to_owned() }));
}

#[tokio::test]
async fn an_expired_token_is_rotated_only_with_a_later_expiry() {
    let backend = crate::on_disk();
    let store = &backend.store;
    store.insert_token(token("ci", Some(at(100)))).await.expect("it is stored");
    let kept = store.rotate_token("ci", rotation("new", 60, Change::Keep, at(100))).await;
    assert_eq!(kept, Err(StoreError::TokenExpired { name: "ci".to_owned(), expired_at: at(100) }));
    let set = store.rotate_token("ci", rotation("new", 60, Change::Set(at(200)), at(100))).await;
    let rotated = Token { hash: "new".to_owned(), ..token("ci", Some(at(200))) };
    assert_eq!(set, Ok(vec![rotated]), "the expired secret gets no grace period");
}

#[tokio::test]
async fn the_last_use_is_recorded_only_for_the_token_that_was_used() {
    let backend = crate::on_disk();
    let store = &backend.store;
    store.insert_token(token("ci", None)).await.expect("it is stored");
    let used = |name: &str, created: i64| TokenUse { name: name.to_owned(), created_at: at(created), at: at(9) };
    store.record_token_uses(vec![used("ci", 1), used("gone", 1)]).await.expect("they are recorded");
    assert_eq!(store.tokens().await.expect("they are read")[0].last_used_at, Some(at(9)));
    store.delete_token("ci").await.expect("it is deleted");
    store.insert_token(Token { created_at: at(5), ..token("ci", None) }).await.expect("it is stored");
    store.record_token_uses(vec![used("ci", 1)]).await.expect("nothing is recorded");
    assert_eq!(store.tokens().await.expect("they are read")[0].last_used_at, None);
}

#[tokio::test]
async fn a_new_token_replaces_an_expired_one_at_the_limit() {
    let backend = crate::on_disk();
    let store = &backend.store;
    for number in 0..limits::TOKENS_MAX {
        let expires_at = [7, 8].contains(&number).then(|| at(i64::from(100 - number)));
        store.insert_token(token(&format!("t{number}"), expires_at)).await.expect("it is stored");
    }
    let new = |name: &str, second| Token { created_at: at(second), ..token(name, None) };
    assert_eq!(store.insert_token(new("early", 50)).await, Err(StoreError::TooManyTokens));
    let rows = store.insert_token(new("late", 95)).await.expect("an expired token makes room");
    let has = |name: &str| rows.iter().any(|token| token.name == name);
    assert_eq!((rows.len(), has("t7"), has("t8")), (limits::TOKENS_MAX as usize, true, false));
}

#[tokio::test]
async fn a_token_is_removed_with_its_last_app() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let mut ids = Vec::new();
    for app in ["greeter", "other"] {
        ids.push(store.create_app(new_app(app)).await.expect("the app is created").id);
    }
    let token = |name: &str, apps: &[&str]| {
        let scope = Scope::Apps(apps.iter().map(|app| crate::name(app)).collect());
        Token::new(name, name.to_owned(), Role::Deploy, scope, at(1))
    };
    let stored = store.insert_token(token("one", &["greeter"])).await.expect("it is stored");
    assert_eq!(stored[0].app_ids, ids[..1]);
    store.insert_token(token("both", &["greeter", "other"])).await.expect("it is stored");
    let unknown = store.insert_token(token("none", &["unknown"])).await;
    assert_eq!(unknown, Err(StoreError::UnknownApp { name: name("unknown") }));
    store.delete_app(&name("greeter"), crate::destroyed()).await.expect("it is deleted");
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
