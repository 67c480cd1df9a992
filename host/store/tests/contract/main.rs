//! The contract of the store. Owns a suite that every backend of the control store passes, and
//! suites for the durable store only: reopening, `kill -9`, a full disk and a second open. Never
//! tests private parts.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

mod blobs;
mod control;
mod crash;
mod earlier_formats;
mod events;
mod full_disk;
mod key_value;
mod lasting;
mod secrets;
mod upgrade;

use isopod_policy::{AppKind, AppName, AppType, ConfigVars, Manifest, PushId};
use isopod_store::{Digest, Intended, NewActivity, NewApp, NewPush, NewRelease, Store};
use jiff::Timestamp;
use tempfile::TempDir;

/// A store in a temporary folder, removed with the test.
struct OnDisk {
    store: Store,
    folder: TempDir,
}

fn on_disk() -> OnDisk {
    let folder = tempfile::tempdir().expect("the folder is created");
    let store = Store::open(folder.path()).expect("the store opens");
    OnDisk { store, folder }
}

fn name(text: &str) -> AppName {
    text.parse().expect("the test writes valid names")
}

/// Returns a timestamp that differs by its argument; tests need no other clock.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("the moment exists")
}

fn new_app(text: &str) -> NewApp {
    NewApp {
        name: name(text),
        kind: AppKind::App,
        app_type: AppType::Dev,
        intended: Intended::Running,
        created_at: at(0),
    }
}

/// Returns an id that differs by the number.
fn push_id(number: u32) -> PushId {
    PushId::from_random(std::array::from_fn(|place| (u64::from(number) >> (5 * place) & 31) as u8))
}

fn new_push(number: u32, app: &str) -> NewPush {
    let bundle = Some(Digest::of(&number.to_be_bytes()));
    let created_by = "tester".to_owned();
    let (id, app, created_at) = (push_id(number), name(app), at(number.into()));
    NewPush { id, app, bundle, idempotency: None, created_by, created_at }
}

/// Returns config vars that differ by the argument.
fn config(greeting: &str) -> ConfigVars {
    let json = serde_json::json!({ "GREETING": greeting, "TOKEN": { "sealed": "c2VhbGVk" } });
    serde_json::from_value(json).expect("they are config vars")
}

fn new_release(app: &str, second: i64) -> NewRelease {
    let text = format!("name = \"{app}\"\n[limits]\nmemory = \"32MiB\"\n[processes.web]\nhealth = \"/healthz\"");
    NewRelease {
        app: name(app),
        bundle: Digest::of(app.as_bytes()),
        snapshot: None,
        assets: None,
        manifest: Manifest::parse(&text).expect("the manifest is valid"),
        config: config("hello"),
        size_bytes: 12_345,
        cause: "push p-7f3k2m9q0z".to_owned(),
        created_by: "tester".to_owned(),
        created_at: at(second),
    }
}

/// The activity of a deletion, which no hook receives here.
fn destroyed() -> NewActivity {
    new_activity(None, "destroyed")
}

fn new_activity(app: Option<&str>, text: &str) -> NewActivity {
    let data = serde_json::json!({ "cores": 3, "why": text });
    NewActivity { app: app.map(name), kind: "app-scaled".to_owned(), text: text.to_owned(), data, at: at(9) }
}
