//! The contract of the control store.

mod alerts;
mod apps;
mod drains;
mod hooks;
mod pushes;
mod records;
mod releases;
mod swaps;
mod usage;

use isopod_policy::{AppName, ProcessName, PushEvent, ReleaseEvent, ReleaseNumber};
use isopod_store::{App, Month, MonthUsage, Page, Reason, Release, Store};

use crate::{at, new_activity, new_app, new_push, new_release, push_id};

pub(crate) fn page(cursor: Option<&str>, limit: u32) -> Page {
    Page { cursor: cursor.map(str::to_owned), limit: Some(limit) }
}

pub(crate) async fn create(store: &Store, app: &str) -> AppName {
    store.create_app(new_app(app)).await.expect("the app can be created").name
}

pub(crate) fn number(release: u32) -> ReleaseNumber {
    ReleaseNumber::new(release).expect("releases count from 1")
}

/// Returns the current state of the app.
pub(crate) async fn app_now(store: &Store, app: &AppName) -> App {
    store.app(app).await.expect("it is read").expect("it exists")
}

/// Returns the current state of a release.
pub(crate) async fn release_now(store: &Store, app: &AppName, release: u32) -> Release {
    store.release(app, number(release)).await.expect("it is read").expect("it exists")
}

/// Advances a push to the state before its completion.
pub(crate) async fn deploying(store: &Store, push: u32) {
    store.insert_push(new_push(push, "greeter")).await.expect("the push is queued");
    for event in [PushEvent::Take, PushEvent::Build, PushEvent::Deploy] {
        store.advance_push(&push_id(push), event, None, at(1)).await.expect("the step is allowed");
    }
}

/// Creates a release and advances it to the state before it serves.
pub(crate) async fn booted(store: &Store, app: &AppName) -> ReleaseNumber {
    let made = store.insert_release(new_release(app.as_str(), 1)).await.expect("the release is created");
    for event in [ReleaseEvent::Built, ReleaseEvent::Booted] {
        store.step_release(app, made.number, event, None, at(2)).await.expect("the step is allowed");
    }
    made.number
}

/// Creates a release that is current from the given second on.
pub(crate) async fn serving(store: &Store, app: &AppName, second: i64) -> ReleaseNumber {
    let number = booted(store, app).await;
    let activity = new_activity(Some(app.as_str()), &format!("{number} serves"));
    store.make_current(app, number, activity, at(second)).await.expect("it serves");
    number
}

pub(crate) fn reason(code: &str) -> Reason {
    Reason { code: code.to_owned(), detail: format!("{code}: what happened, why, and what to do") }
}

pub(crate) fn process(name: &str) -> ProcessName {
    name.parse().expect("the test writes valid names")
}

pub(crate) fn month(text: &str) -> Month {
    text.parse().expect("the test writes valid months")
}

pub(crate) fn usage(events: u64) -> MonthUsage {
    MonthUsage { users: format!("a sketch of the senders of {events}").into_bytes(), events }
}
