//! Implements `isopod dev`: builds a project, runs it, watches it, and reloads the running app
//! after each change. Never decides what to do next; [`plan`] does.
//!
//! ```text
//!  files ──▶ watch ─┐                ┌──▶ builder (a thread for each build)
//!  builds ended ────┼──▶ Session ────┤
//!  pushes ended ────┤    (this loop) └──▶ host_client ──▶ the host
//!  log lines ───────┤
//!  Ctrl-C ──────────┘
//! ```

mod event;
mod host;
mod host_client;
mod ignore;
mod plan;
mod push;
mod session;
mod watch;

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use isopod_policy::AppKind;
use serde_json::Value;

use self::event::SessionEvent;
use self::host::OwnHost;
use self::host_client::HostClient;
use self::push::Pusher;
use self::session::Session;
use super::client::{Client, token_or_variable};
use super::failure::Failure;
use super::limits;
use super::project::Project;
use super::signals::Signals;
use super::{apps, logs, output};
use crate::config::written_address;

/// The pause before the app's log is followed again after its stream has ended.
const LOG_RETRY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Use a running host, given by its admin address, instead of starting one
    #[arg(long, value_name = "URL", conflicts_with = "listen")]
    to: Option<String>,
    /// The token for --to [env: ISOPOD_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Accept grants that the app on the host of --to doesn't have yet
    #[arg(long, requires = "to")]
    accept_grants: bool,
    /// The address at which the started host serves the app
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = written_address)]
    listen: String,
    /// Show a line for every request, not only for failed requests
    #[arg(long)]
    access: bool,
}

pub(crate) fn run(args: &DevArgs) -> Result<(), Failure> {
    let project = Project::open(&args.folder)?;
    if project.manifest.kind == AppKind::Plugin {
        return Err(Failure::new(format!(
            "{} is a plugin, which serves no requests of its own",
            project.manifest.name
        ))
        .next("install it with `isopod plugins install`, and run an app that uses it"));
    }
    let (events, receiver) = sync_channel(limits::DEV_EVENTS_WAITING_MAX);
    listen_for_signals(events.clone());
    let mut own_host = match args.to {
        Some(_) => None,
        None => Some(OwnHost::start(&project.folder, &args.listen)?),
    };
    let result = run_with_host(args, project, own_host.as_mut(), events, receiver);
    if let Some(host) = &mut own_host {
        host.stop();
    }
    result
}

fn run_with_host(
    args: &DevArgs,
    project: Project,
    own_host: Option<&mut OwnHost>,
    events: SyncSender<SessionEvent>,
    receiver: std::sync::mpsc::Receiver<SessionEvent>,
) -> Result<(), Failure> {
    let client = match (&own_host, &args.to) {
        (Some(host), _) => host.client()?,
        (None, to) => {
            let token = token_or_variable(args.token.as_deref());
            let address = to.as_deref().unwrap_or_default();
            Client::open(address, token, crate::config::default_data_dir().as_deref())?
        }
    };
    let name = project.manifest.name.clone();
    // A host that the session starts belongs to the project, so wider grants need no option.
    let pusher = Pusher::new(client.clone(), name.clone(), args.accept_grants || own_host.is_some());
    let app = pusher.prepare()?;
    let url = match (apps::url(&app), &own_host) {
        (url, _) if !url.is_empty() => url,
        (_, Some(host)) => format!("http://{name}.localhost:{}/", host.listen.rsplit(':').next().unwrap_or("8080")),
        (_, None) => format!("on {}", client.address()),
    };
    let has_release = app["release"].is_u64();
    if let Some(host) = &own_host {
        output::note(&host.dashboard());
    }
    output::emit(&match project.takes_no_http() {
        true => format!("{name} {}  (Ctrl-C stops)\n", apps::without_http(project.takes_events())),
        false => format!("{name} is at {url}  (Ctrl-C stops)\n"),
    });
    follow_log(client, format!("/v1/apps/{name}/logs?follow=true&limit=0"), args.access, events.clone());
    let host_client = HostClient::start(pusher, events.clone());
    Session::new(project, host_client, events, has_release)?.run(&receiver, own_host)
}

/// Prints the app's log as it arrives, until the session ends.
fn follow_log(client: Client, path: String, all_requests: bool, events: SyncSender<SessionEvent>) {
    std::thread::spawn(move || {
        loop {
            let Ok(lines) = client.follow(&path) else {
                std::thread::sleep(LOG_RETRY);
                continue;
            };
            for line in lines.map_while(Result::ok) {
                let text = match serde_json::from_str::<Value>(&line) {
                    Ok(entry) if is_about_a_push(&entry) => continue,
                    Ok(entry) if !all_requests && is_about_a_served_request(&entry) => continue,
                    Ok(entry) => logs::line(&entry),
                    Err(_) => format!("{line}\n"),
                };
                if events.send(SessionEvent::Print(text)).is_err() {
                    return;
                }
            }
            std::thread::sleep(LOG_RETRY);
        }
    });
}

/// Log lines of pushes are skipped, since the session reports each push in one line.
fn is_about_a_push(entry: &Value) -> bool {
    output::field(entry, "stream") == "host" && output::field(entry, "message").starts_with("push ")
}

/// Lines of successful requests are skipped: a page loads many files, whose lines would scroll the
/// compiler's errors away.
fn is_about_a_served_request(entry: &Value) -> bool {
    output::field(entry, "stream") == "access" && entry["status"].as_u64().is_none_or(|status| status < 500)
}

/// Turns the first Ctrl-C into an orderly stop; the second one exits immediately.
fn listen_for_signals(events: SyncSender<SessionEvent>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::new() else { return };
            for orderly in [true, false] {
                signals.next().await;
                if !orderly || events.try_send(SessionEvent::Stop).is_err() {
                    // 128 plus the number of SIGINT, as shells report it.
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
    fn only_failed_requests_are_shown() {
        let line = |stream: &str, status: u16| json!({"stream": stream, "status": status, "message": "GET /"});
        assert!(is_about_a_served_request(&line("access", 404)));
        assert!(!is_about_a_served_request(&line("access", 502)));
        assert!(!is_about_a_served_request(&json!({"stream": "stdout", "message": "hello"})));
    }
}
