//! An app with all three entries. Its responses name the release; its config vars HEALTH and SHAPE
//! and its arguments select its health, responses and exit status.

mod health;
mod notes;

use isopod_sdk::prelude::*;
use std::time::Duration;

isopod_sdk::http!(app);
isopod_sdk::events!(on_event);

async fn app(request: Request) -> Result<Response> {
    match request.path() {
        "/healthz" => return health::check().await,
        "/var" => return var(&request.query_param("name").unwrap_or_default()),
        "/ticks" => return Ok(Response::text(kv::open("default")?.increment("ticks", 0)?.to_string())),
        "/notes" => return notes::answer(&request),
        "/trap" => panic!("shapes was asked to panic"),
        "/slow" => sleep(Duration::from_millis(300)).await,
        _ => assert!(config::get("SHAPE").as_deref() != Some("trap"), "shapes is made to panic"),
    }
    let text = |name: &str| config::get(name).unwrap_or_default();
    Ok(Response::text(format!("{} {}", text("ISOPOD_RELEASE"), text("GREETING"))))
}

/// Returns a config var from `wasi:config` and from the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the SDK reads only `wasi:config` if the environment has no such variable"
)]
fn var(name: &str) -> Result<Response> {
    let env = std::env::var(name).ok();
    // SAFETY: an instance has one thread.
    unsafe { std::env::remove_var(name) };
    let config = config::get(name);
    if let Some(value) = &env {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
    Response::json(&[config, env])
}

async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    let ticks = kv::open("default")?.increment("ticks", i64::from(event.kind == "isopod.schedule"))?;
    Ok(Some(Reply::text(ticks.to_string())))
}

/// Runs forever as a command, unless its arguments name an exit status.
fn main() {
    println!("shapes works as {:?}", std::env::args().next());
    if let Some(status) = std::env::args().nth(1).and_then(|status| status.parse().ok()) {
        std::process::exit(status);
    }
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}
