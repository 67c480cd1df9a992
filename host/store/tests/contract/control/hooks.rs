//! Hooks, and the events that they have not received yet.

use isopod_policy::{AppName, Manifest, ReleaseEvent};
use isopod_store::{HookBacklog, NewActivity, Store, limits};

use super::create;
use crate::{at, name, new_activity, new_release};

/// Puts a release of a plugin in service, which is a hook or a middleware.
async fn install(store: &Store, plugin: &AppName, entry: &str) {
    let text = format!(
        "name = \"{plugin}\"\nkind = \"plugin\"\n[plugin]\nversion = \"1.0.0\"\n\
         [processes.plugin]\nentry = \"{entry}\"\n"
    );
    let manifest = Manifest::parse(&text).expect("the manifest is valid");
    let release = isopod_store::NewRelease { manifest, ..new_release(plugin.as_str(), 1) };
    let number = store.insert_release(release).await.expect("the release is created").number;
    for event in [ReleaseEvent::Built, ReleaseEvent::Booted] {
        store.step_release(plugin, number, event, None, at(2)).await.expect("the step is allowed");
    }
    let activity = new_activity(Some(plugin.as_str()), "installed");
    store.make_current(plugin, number, activity, at(3)).await.expect("it serves");
}

async fn store_with_hook() -> (crate::OnDisk, AppName) {
    let backend = crate::on_disk();
    let hook = create(&backend.store, "notify").await;
    install(&backend.store, &hook, "hook").await;
    (backend, hook)
}

async fn record(store: &Store, app: Option<&str>, text: &str) {
    store.append_activity(new_activity(app, text)).await.expect("it is recorded");
}

/// Returns the texts of the events after the one with this number.
async fn texts(store: &Store, received: u64) -> Vec<String> {
    let events = store.hook_events(received, 100).await.expect("they are read");
    events.into_iter().map(|event| event.text).collect()
}

async fn backlog(store: &Store) -> Vec<HookBacklog> {
    store.hook_backlogs().await.expect("they are read")
}

#[tokio::test]
async fn a_hook_receives_the_activity_of_apps_since_its_install() {
    let backend = crate::on_disk();
    let store = &backend.store;
    record(store, Some("shop"), "before").await;
    let hook = create(store, "notify").await;
    install(store, &hook, "hook").await;
    assert_eq!(backlog(store).await, [], "its own install is no event for it");
    record(store, Some("shop"), "scaled").await;
    record(store, None, "of the host").await;
    record(store, Some("notify"), "its own").await;
    let unknown = NewActivity { kind: "unknown".to_owned(), ..new_activity(Some("shop"), "unknown") };
    store.append_activity(unknown).await.expect("it is recorded");
    let created = create(store, "wiki").await;
    let destroyed = NewActivity { kind: "app-destroyed".to_owned(), ..new_activity(Some("wiki"), "destroyed") };
    store.delete_app(&created, destroyed).await.expect("it is deleted");
    assert_eq!(texts(store, 0).await, ["scaled", "destroyed"]);
    let events = store.hook_events(0, 1).await.expect("they are read");
    assert_eq!(
        (events.len(), events[0].app.as_ref(), events[0].data["cores"].as_u64()),
        (1, Some(&name("shop")), Some(3))
    );
    let [waiting] = backlog(store).await.try_into().expect("one hook waits");
    assert_eq!((waiting.plugin, waiting.received), (hook, 0));
}

#[tokio::test]
async fn a_hook_receives_alerts_of_the_host() {
    let (backend, _) = store_with_hook().await;
    let alert = NewActivity { kind: "alert".to_owned(), ..new_activity(None, "the disk is full") };
    backend.store.append_activity(alert).await.expect("it is recorded");
    let events = backend.store.hook_events(0, 1).await.expect("they are read");
    assert_eq!((events.len(), events[0].app.as_ref(), &*events[0].text), (1, None, "the disk is full"));
}

#[tokio::test]
async fn events_are_removed_once_all_hooks_have_received_them() {
    let (backend, first) = store_with_hook().await;
    let store = &backend.store;
    record(store, Some("shop"), "one").await;
    let second = create(store, "log").await;
    install(store, &second, "hook").await;
    record(store, Some("shop"), "two").await;
    let last = store.hook_events(0, 100).await.expect("they are read").last().expect("an event").number;
    store.advance_hook(&first, last).await.expect("it advances");
    assert_eq!(texts(store, 0).await, ["two"], "the second hook was installed after the first event");
    store.advance_hook(&first, 0).await.expect("it is ignored");
    assert_eq!(
        backlog(store).await.into_iter().map(|hook| hook.plugin).collect::<Vec<_>>(),
        std::slice::from_ref(&second)
    );
    store.delete_app(&second, crate::destroyed()).await.expect("it is deleted");
    assert_eq!((texts(store, 0).await, backlog(store).await), (vec![], vec![]));
    record(store, Some("shop"), "three").await;
    let events = store.hook_events(0, 100).await.expect("they are read");
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [last + 1], "numbers have no gaps");
}

#[tokio::test]
async fn other_hooks_receive_no_event_about_the_removal_of_a_hook() {
    let (backend, first) = store_with_hook().await;
    let store = &backend.store;
    let second = create(store, "log").await;
    install(store, &second, "hook").await;
    record(store, Some("shop"), "one").await;
    for app in [second, create(store, "wiki").await] {
        let text = format!("{app} is destroyed");
        let destroyed = NewActivity { kind: "app-destroyed".to_owned(), ..new_activity(Some(app.as_str()), &text) };
        store.delete_app(&app, destroyed).await.expect("it is deleted");
    }
    assert_eq!(texts(store, 0).await, ["one", "wiki is destroyed"]);
    assert_eq!(backlog(store).await.into_iter().map(|hook| hook.plugin).collect::<Vec<_>>(), [first]);
}

#[tokio::test]
async fn a_plugin_that_stops_being_a_hook_receives_nothing() {
    let (backend, hook) = store_with_hook().await;
    let store = &backend.store;
    record(store, Some("shop"), "one").await;
    install(store, &hook, "middleware").await;
    record(store, Some("shop"), "two").await;
    assert_eq!((texts(store, 0).await, backlog(store).await), (vec![], vec![]));
}

#[tokio::test]
async fn the_oldest_events_are_dropped_beyond_the_limit() {
    let (backend, hook) = store_with_hook().await;
    let store = &backend.store;
    let many = usize::try_from(limits::HOOK_EVENTS_MAX).expect("it fits") + 7;
    let activities: Vec<_> = (0..many).map(|entry| new_activity(Some("shop"), &entry.to_string())).collect();
    store.append_activities(activities).await.expect("they are recorded");
    assert_eq!(backlog(store).await, [HookBacklog { plugin: hook, received: 0 }]);
    let oldest = store.hook_events(0, 1).await.expect("they are read").remove(0);
    assert_eq!((oldest.text.as_str(), oldest.number), ("7", 8), "the number shows how many were dropped");
}
