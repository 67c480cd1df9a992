//! Apps: created once, changed, listed by name, and deleted with all their records.

use isopod_policy::{AppKind, AppType, ConfigVars, CoresOverride, ReleaseNumber};
use isopod_store::{Intended, NewApp, Page, Paged, StoreError};

use super::{app_now, create, month, number, page, process, reason, usage};
use crate::{at, config, name, new_activity, new_app, new_push, new_release, push_id};

#[tokio::test]
async fn a_created_app_is_read_back() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let created = store.create_app(new_app("greeter")).await.expect("the app is created");
    assert_eq!(created.name, name("greeter"));
    assert_eq!((created.app_type, created.intended, created.release), (AppType::Dev, Intended::Running, None));
    assert_eq!(created.config, ConfigVars::default());
    assert_eq!((created.created_at, created.updated_at), (at(0), at(0)));
    assert_eq!(store.app(&name("greeter")).await, Ok(Some(created)));
    assert_eq!(store.app(&name("other")).await, Ok(None));
}

#[tokio::test]
async fn the_kind_of_a_plugin_is_stored() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let new = NewApp { kind: AppKind::Plugin, app_type: AppType::Production, ..new_app("require-jwt") };
    let created = store.create_app(new).await.expect("the plugin is created");
    assert_eq!(created.kind, AppKind::Plugin);
    assert_eq!(store.app(&name("require-jwt")).await, Ok(Some(created)));
    assert_eq!(create(store, "greeter").await, name("greeter"));
    assert_eq!(app_now(store, &name("greeter")).await.kind, AppKind::App);
}

#[tokio::test]
async fn a_second_app_with_the_same_name_is_refused() {
    let backend = crate::on_disk();
    let store = &backend.store;
    create(store, "greeter").await;
    let refused = store.create_app(new_app("greeter")).await;
    assert_eq!(refused, Err(StoreError::AppExists { name: name("greeter") }));
}

#[tokio::test]
async fn apps_are_listed_by_name_page_by_page() {
    let backend = crate::on_disk();
    let store = &backend.store;
    for app in ["c", "a", "e", "b", "d"] {
        create(store, app).await;
    }
    let names = |paged: &Paged<isopod_store::App>| {
        paged.items.iter().map(|app| app.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let first = store.apps(page(None, 2)).await.expect("the list is read");
    assert_eq!((names(&first).as_str(), first.next.as_deref()), ("a b", Some("b")));
    let second = store.apps(page(first.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!(names(&second), "c d");
    let last = store.apps(page(second.next.as_deref(), 2)).await.expect("the list is read");
    assert_eq!((names(&last).as_str(), last.next), ("e", None));
    let all = store.apps(Page::default()).await.expect("the list is read");
    assert_eq!((names(&all).as_str(), all.next), ("a b c d e", None));
}

#[tokio::test]
async fn changes_of_an_app_are_stored() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    store.set_app_type(&app, AppType::Production, at(1)).await.expect("the type is set");
    let changed = store.set_intended(&app, Intended::Stopped, at(2)).await.expect("the intent is set");
    assert_eq!((changed.app_type, changed.intended), (AppType::Production, Intended::Stopped));
    assert_eq!((changed.created_at, changed.updated_at), (at(0), at(2)));
    let configured = store.set_app_config(&app, config("hi"), at(3)).await.expect("the config is set");
    assert_eq!((&configured.config, configured.updated_at), (&config("hi"), at(3)));
    assert_eq!(store.app(&app).await, Ok(Some(configured)));
    let cores = CoresOverride { pull: Some(3), push: None };
    let allotted = store.set_app_cores(&app, cores, at(4)).await.expect("the cores are set");
    assert_eq!((allotted.cores, &allotted.config, allotted.updated_at), (cores, &config("hi"), at(4)));
    assert_eq!(store.app(&app).await, Ok(Some(allotted)));
}

#[tokio::test]
async fn operations_on_an_unknown_app_are_refused() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let ghost = name("ghost");
    let unknown = StoreError::UnknownApp { name: ghost.clone() };
    assert_eq!(store.delete_app(&ghost, crate::destroyed()).await, Err(unknown.clone()));
    assert_eq!(store.set_app_type(&ghost, AppType::Dev, at(1)).await, Err(unknown.clone()));
    assert_eq!(store.set_intended(&ghost, Intended::Stopped, at(1)).await, Err(unknown.clone()));
    assert_eq!(store.set_app_config(&ghost, config("hi"), at(1)).await, Err(unknown.clone()));
    assert_eq!(store.set_app_cores(&ghost, CoresOverride::default(), at(1)).await, Err(unknown.clone()));
    assert_eq!(store.insert_release(new_release("ghost", 1)).await, Err(unknown.clone()));
    let activity = || new_activity(Some("ghost"), "it serves");
    assert_eq!(store.make_current(&ghost, number(1), activity(), at(1)).await, Err(unknown.clone()));
    let back = store.return_to(&ghost, number(2), number(1), reason("crash-loop"), activity(), at(1)).await;
    assert_eq!(back, Err(unknown.clone()));
    assert_eq!(store.delete_releases(&ghost, &[number(1)]).await, Err(unknown.clone()));
    assert_eq!(store.schedule_fired(&ghost, &process("nightly"), at(1)).await, Err(unknown.clone()));
    assert_eq!(store.put_usage(&ghost, month("2026-11"), usage(1)).await, Err(unknown));
    assert_eq!(store.release_stamps(&ghost).await, Ok(vec![]));
    assert_eq!(store.usage(&ghost, month("2026-11")).await, Ok(None));
    assert_eq!(store.release(&ghost, number(1)).await, Ok(None));
    assert_eq!(store.pushes(&ghost, Page::default()).await, Ok(Paged { items: vec![], next: None }));
}

#[tokio::test]
async fn a_deleted_app_leaves_no_records() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    store.insert_push(new_push(1, "greeter")).await.expect("a push is queued");
    store.append_push_log(&push_id(1), "compiling", at(1)).await.expect("it logs");
    store.insert_release(new_release("greeter", 1)).await.expect("the release is created");
    store.schedule_fired(&app, &process("nightly"), at(1)).await.expect("it is recorded");
    store.put_usage(&app, month("2026-11"), usage(1)).await.expect("it is recorded");
    store.append_activity(new_activity(Some("greeter"), "scaled")).await.expect("it is recorded");
    store.append_activity(new_activity(None, "host started")).await.expect("it is recorded");
    store.delete_app(&app, crate::destroyed()).await.expect("it is deleted");

    assert_eq!(store.app(&app).await, Ok(None));
    assert_eq!(store.push(&push_id(1)).await, Ok(None));
    assert_eq!(store.push_log(&push_id(1), 0).await, Err(StoreError::UnknownPush { id: push_id(1) }));
    let left = store.activity(None, Page::default()).await.expect("activity is read").items;
    assert_eq!(left.iter().map(|entry| entry.text.as_str()).collect::<Vec<_>>(), ["host started"]);

    store.append_activity(new_activity(Some("greeter"), "too late")).await.expect("it is recorded");
    create(store, "greeter").await;
    let left = store.activity(Some(&app), Page::default()).await.expect("activity is read").items;
    assert_eq!(left, [], "the new app has no records of the deleted app");
    assert_eq!(store.releases(&app, Page::default()).await, Ok(Paged { items: vec![], next: None }));
    assert_eq!(store.schedules().await, Ok(vec![]));
    assert_eq!(store.usage(&app, month("2026-11")).await, Ok(None));
    let first = store.insert_release(new_release("greeter", 2)).await.expect("the release is created");
    assert_eq!(first.number, ReleaseNumber::FIRST);
}

#[tokio::test]
async fn only_one_of_many_creators_of_a_name_succeeds() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let creations = (0..20).map(|_| store.create_app(new_app("greeter")));
    let outcomes = futures::future::join_all(creations).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}
