//! `isopod dev`: builds a project, runs it, watches it, and brings each change into the running app. What to do when is
//! decided in [`plan`]; this file carries it out and tells the person.
//!
//! ```text
//!  files ──▶ watch ─┐                ┌──▶ builder (a thread for each build)
//!  builds ended ────┼──▶ Session ────┤
//!  pushes ended ────┤    (this loop) └──▶ courier ──▶ the host
//!  log lines ───────┤
//!  Ctrl-C ──────────┘
//! ```

mod courier;
mod host;
mod ignore;
mod plan;
mod push;
mod session;
mod watch;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use self::courier::Courier;
use self::host::OwnHost;
use self::push::{Pushed, Pusher};
use self::session::Session;
use super::client::Client;
use super::failure::Failure;
use super::guest::{BuildFailed, Built};
use super::limits;
use super::project::Project;
use super::{apps, logs, output};
use crate::config::written_address;

/// How long to wait before the app's log is asked for again after its stream has ended.
const LOG_RETRY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Use a running host, given by its admin address, instead of one of our own
    #[arg(long, value_name = "URL", conflicts_with = "listen")]
    to: Option<String>,
    /// The token for --to
    #[arg(long, value_name = "TOKEN", env = "ISOPOD_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Where the app is served by our own host
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = written_address)]
    listen: String,
    /// Show a line for every request, and not only for those that the app failed to answer
    #[arg(long)]
    access: bool,
}

/// Everything the session reacts to.
enum Happening {
    File(notify::Event),
    BuildEnded {
        number: u32,
        result: Result<Built, BuildFailed>,
    },
    Pushed(Pushed),
    /// Something to tell the person, ready to print.
    Say(String),
    Stop,
}

pub(crate) fn run(args: &DevArgs) -> Result<(), Failure> {
    let project = Project::open(&args.folder)?;
    let (happenings, receiver) = sync_channel(limits::HAPPENINGS_WAITING_MAX);
    listen_for_signals(happenings.clone());
    let mut own_host = match args.to {
        Some(_) => None,
        None => Some(OwnHost::start(&project.folder, &args.listen)?),
    };
    let result = run_with_host(args, project, own_host.as_mut(), happenings, receiver);
    if let Some(host) = &mut own_host {
        host.stop();
    }
    result
}

fn run_with_host(
    args: &DevArgs,
    project: Project,
    own_host: Option<&mut OwnHost>,
    happenings: SyncSender<Happening>,
    receiver: std::sync::mpsc::Receiver<Happening>,
) -> Result<(), Failure> {
    let client = match (&own_host, &args.to) {
        (Some(host), _) => host.client()?,
        (None, to) => {
            let token = args.token.clone().filter(|token| !token.trim().is_empty());
            let address = to.as_deref().unwrap_or_default();
            Client::open(address, token, crate::config::default_data_dir().as_deref())?
        }
    };
    let name = project.manifest.name.clone();
    let pusher = Pusher::new(client.clone(), name.clone());
    let app = pusher.prepare()?;
    let url = match (apps::url(&app), &own_host) {
        (url, _) if !url.is_empty() => url,
        (_, Some(host)) => format!("http://{name}.localhost:{}/", host.listen.rsplit(':').next().unwrap_or("8080")),
        (_, None) => format!("on {}", client.address()),
    };
    let has_release = app["release"].is_u64();
    output::emit(&match project.takes_no_http() {
        true => format!("{name} takes no HTTP requests; `isopod events send` sends it events  (Ctrl-C stops)\n"),
        false => format!("{name} is at {url}  (Ctrl-C stops)\n"),
    });
    follow_log(client, format!("/v1/apps/{name}/logs?follow=true&limit=0"), args.access, happenings.clone());
    let courier = Courier::start(pusher, happenings.clone());
    Session::new(project, courier, happenings, has_release)?.run(&receiver, own_host)
}

/// Shows the app's log as it comes, for as long as we live.
fn follow_log(client: Client, path: String, all_requests: bool, happenings: SyncSender<Happening>) {
    std::thread::spawn(move || {
        loop {
            let Ok(events) = client.follow(&path) else {
                std::thread::sleep(LOG_RETRY);
                continue;
            };
            for event in events.map_while(Result::ok) {
                let text = match serde_json::from_str::<Value>(&event) {
                    Ok(entry) if is_about_a_push(&entry) => continue,
                    Ok(entry) if !all_requests && is_about_a_good_request(&entry) => continue,
                    Ok(entry) => logs::line(&entry),
                    Err(_) => format!("{event}\n"),
                };
                if happenings.send(Happening::Say(text)).is_err() {
                    return;
                }
            }
            std::thread::sleep(LOG_RETRY);
        }
    });
}

/// The session tells about its own pushes in one line each.
fn is_about_a_push(entry: &Value) -> bool {
    output::field(entry, "stream") == "host" && output::field(entry, "message").starts_with("push ")
}

/// A page loads dozens of things, whose lines would carry the compiler's words off the screen.
fn is_about_a_good_request(entry: &Value) -> bool {
    output::field(entry, "stream") == "access" && entry["status"].as_u64().is_none_or(|status| status < 500)
}

/// Turns the first Ctrl-C into an orderly end; the second ends us at once.
fn listen_for_signals(happenings: SyncSender<Happening>) {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
            for orderly in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if !orderly || happenings.try_send(Happening::Stop).is_err() {
                    // 128 and the number of SIGINT, as shells report it.
                    std::process::exit(130);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_requests_only_those_that_failed_are_shown() {
        let line = |stream: &str, status: u16| json!({"stream": stream, "status": status, "message": "GET /"});
        assert!(is_about_a_good_request(&line("access", 404)));
        assert!(!is_about_a_good_request(&line("access", 502)));
        assert!(!is_about_a_good_request(&json!({"stream": "stdout", "message": "hello"})));
    }
}
