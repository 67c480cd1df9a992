//! Implements `isopod apps`: lists, creates, shows, starts, stops, changes and destroys apps. Never
//! waits or formats advice itself.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use isopod_policy::{AppName, AppType};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output::{self, field};
use super::project::AppArgs;
use super::target::is_stopped;
use super::waiting::{self, Goal, error};
use super::{advice, formation, limits};

const EXAMPLES: &str = "\
Examples:
  isopod apps
  isopod apps create shop --type staging
  isopod apps stop shop --wait
  isopod apps type production --app shop     only while the app is stopped
  isopod apps start shop --wait
  isopod apps advise shop                    recommends a type";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AppsArgs {
    #[command(subcommand)]
    command: Option<AppsCommand>,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand, Debug)]
enum AppsCommand {
    /// List the apps of the host
    List,
    /// Create an app without code
    Create {
        /// The name: lower-case letters, digits and hyphens, since it becomes part of the app's
        /// address
        name: AppName,
        /// dev, staging or production
        #[arg(long = "type", value_name = "TYPE", default_value = "dev")]
        app_type: AppType,
    },
    /// Show one app
    Info(One),
    /// Destroy an app, its releases, its data and its logs
    Destroy {
        #[command(flatten)]
        one: One,
        /// Don't ask for confirmation; required without a terminal
        #[arg(long)]
        yes: bool,
    },
    /// Show the type of an app, or change it while the app is stopped
    Type {
        /// dev, staging or production
        #[arg(value_name = "TYPE")]
        app_type: Option<AppType>,
        /// Skip the gates of the host's settings; needs a token with the role admin
        #[arg(long, requires = "app_type")]
        skip_gates: bool,
        #[command(flatten)]
        one: One,
    },
    /// Start an app
    Start(Order),
    /// Stop an app after it completes its accepted work
    Stop(Order),
    /// Recommend a type for an app, based on last month's users and events
    Advise(One),
}

#[derive(Args, Debug)]
struct Common {
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Args, Debug)]
struct Order {
    #[command(flatten)]
    one: One,
    /// Wait until the app is in its new state
    #[arg(long)]
    wait: bool,
}

#[derive(Args, Debug)]
struct One {
    /// The app, as with --app
    #[arg(value_name = "NAME", conflicts_with = "app")]
    name: Option<AppName>,
    #[command(flatten)]
    app: AppArgs,
}

impl One {
    fn resolve(&self) -> Result<AppName, Failure> {
        match &self.name {
            Some(name) => Ok(name.clone()),
            None => self.app.resolve(),
        }
    }
}

pub(crate) fn run(args: &AppsArgs) -> Result<(), Failure> {
    let common = &args.common;
    match &args.command {
        None | Some(AppsCommand::List) => list(common),
        Some(AppsCommand::Create { name, app_type }) => {
            let body = json!({"name": name, "type": app_type});
            let app = Client::new(&common.host)?.send(Method::POST, "/v1/apps", Some(&body))?.success()?;
            show(
                common,
                &app,
                &output::done(&format!("created {name}; deploy code with `isopod deploy --app {name}`")),
            );
            Ok(())
        }
        Some(AppsCommand::Info(one)) => info(common, one),
        Some(AppsCommand::Destroy { one, yes }) => destroy(common, one, *yes),
        Some(AppsCommand::Type { app_type, skip_gates, one }) => {
            let name = one.resolve()?;
            let (client, path) = (Client::new(&common.host)?, format!("/v1/apps/{name}"));
            let Some(app_type) = app_type else {
                let app = client.get(&path)?.success()?;
                show(common, &app, &field(&app, "type"));
                return Ok(());
            };
            let body = json!({"type": app_type});
            let path = if *skip_gates { format!("{path}?skip_gates=true") } else { path };
            let answer = client.send(Method::PATCH, &path, Some(&body))?.success()?;
            let stopped = if is_stopped(&answer) { "; it is stopped: start it with `isopod apps start`" } else { "" };
            show(common, &answer, &output::done(&format!("{name} is now {}{stopped}", field(&answer, "type"))));
            Ok(())
        }
        Some(AppsCommand::Start(order)) => start_or_stop(common, order, Goal::Running),
        Some(AppsCommand::Stop(order)) => start_or_stop(common, order, Goal::Stopped),
        Some(AppsCommand::Advise(one)) => advise(common, one),
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    let client = Client::new(&common.host)?;
    let answer = client.all("/v1/apps", limits::LIST_ITEMS_MAX)?;
    if common.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = output::items(&answer).iter().map(row).collect();
    if rows.is_empty() {
        output::note("no apps yet; create a project with `isopod new NAME` and deploy it with `isopod deploy`");
    }
    output::emit(&output::table(&["NAME", "TYPE", "STATE", "RELEASE", "URL"], &rows));
    Ok(())
}

fn row(app: &Value) -> Vec<String> {
    vec![field(app, "name"), field(app, "type"), state(app), output::release(app, "release"), url(app)]
}

fn info(common: &Common, one: &One) -> Result<(), Failure> {
    let name = one.resolve()?;
    let client = Client::new(&common.host)?;
    let mut app = client.get(&format!("/v1/apps/{name}"))?.success()?;
    // Without a release there are no process types yet.
    let formation = match app["release"].is_null() {
        true => None,
        false => Some(client.get(&format!("/v1/apps/{name}/formation"))?.success()?),
    };
    if common.json {
        app["formation"] = json!(formation);
        output::json(&app);
        return Ok(());
    }
    let rows = [
        ("name", field(&app, "name")),
        ("type", field(&app, "type")),
        ("state", field(&app, "state")),
        ("error", error(&app)),
        ("build error", field(&app, "build_error")),
        ("release", output::release(&app, "release")),
        ("url", url(&app)),
        ("created", output::time(&field(&app, "created_at"))),
    ];
    output::emit(&output::pairs(&rows));
    if let Some(formation) = formation {
        output::emit(&format!("\n{}", formation::table(&formation)));
    }
    Ok(())
}

fn destroy(common: &Common, one: &One, yes: bool) -> Result<(), Failure> {
    let name = one.resolve()?;
    if !yes {
        confirm(&name, std::io::stdin().is_terminal())?;
    }
    let answer = Client::new(&common.host)?.delete(&format!("/v1/apps/{name}"))?.success()?;
    show(common, &answer, &output::done(&format!("destroyed {name}")));
    Ok(())
}

/// Asks the user to type the app's name, since destroying it can't be undone. Fails without a
/// terminal.
fn confirm(name: &AppName, at_terminal: bool) -> Result<(), Failure> {
    if !at_terminal {
        return Err(Failure::usage("nothing was destroyed")
            .why(format!(
                "destroying {name} deletes its releases, data and logs, and there is no terminal for the confirmation"
            ))
            .next(format!("isopod apps destroy {name} --yes")));
    }
    output::note(&format!("This destroys {name} with its releases, data and logs. Type its name to confirm:"));
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_err() || typed.trim() != name.as_ref() as &str {
        return Err(Failure::new("nothing was destroyed")
            .why("the typed text is not the app's name")
            .next("try again, or skip the confirmation with --yes"));
    }
    Ok(())
}

fn start_or_stop(common: &Common, order: &Order, goal: Goal) -> Result<(), Failure> {
    let name = order.one.resolve()?;
    let client = Client::new(&common.host)?;
    let (verb, so_far) = match goal {
        Goal::Running => ("start", "was asked to start"),
        Goal::Stopped => ("stop", "was asked to stop"),
    };
    let mut answer = client.send(Method::POST, &format!("/v1/apps/{name}/{verb}"), None)?.success()?;
    if order.wait {
        answer = waiting::until(&client, &name, goal, so_far)?;
    }
    show(common, &answer, &output::done(&format!("{name} {}", progress(goal, &field(&answer, "state")))));
    Ok(())
}

/// Describes an app after a start or stop request, based on its state.
fn progress(goal: Goal, state: &str) -> &'static str {
    match (goal, state) {
        (Goal::Running, "running") => "is running",
        (Goal::Running, _) => "is starting",
        (Goal::Stopped, "stopped") => "is stopped: it accepts no requests, and completes those already accepted",
        (Goal::Stopped, _) => "is stopping: it completes its accepted work first",
    }
}

fn advise(common: &Common, one: &One) -> Result<(), Failure> {
    let name = one.resolve()?;
    let client = Client::new(&common.host)?;
    let answer = client.get(&format!("/v1/apps/{name}/advice"))?.success()?;
    let app = client.get(&format!("/v1/apps/{name}"))?.success()?;
    show(common, &answer, advice::text(&app, &answer).trim_end());
    Ok(())
}

fn show(common: &Common, answer: &Value, text: &str) {
    if common.json { output::json(answer) } else { output::emit(&format!("{text}\n")) }
}

/// Returns the state, with the short cause of an error. The full error text would make the table
/// too wide.
fn state(app: &Value) -> String {
    let cause = match app.get("error") {
        Some(error @ Value::Object(_)) => field(error, "cause"),
        _ => error(app),
    };
    if cause.is_empty() { field(app, "state") } else { format!("{} ({cause})", field(app, "state")) }
}

/// Returns how to use an app that serves no HTTP.
pub(crate) fn without_http(takes_events: bool) -> &'static str {
    match takes_events {
        true => "serves no HTTP; send it events with `isopod events send`",
        false => "serves neither HTTP nor events; `isopod ps` shows its processes, and `isopod logs` their output",
    }
}

/// Returns the app's address, or an empty text if the host reports none.
pub(crate) fn url(app: &Value) -> String {
    match app.get("urls") {
        Some(Value::Array(urls)) => urls.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        Some(Value::Object(urls)) => {
            let web = urls.get("web").or_else(|| urls.values().next());
            web.and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => field(app, "url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destroying_without_a_terminal_needs_yes() {
        let failure = confirm(&"shop".parse().unwrap(), false).unwrap_err();
        assert!(failure.text().contains("isopod apps destroy shop --yes"), "{failure:?}");
    }

    #[test]
    fn a_starting_app_is_not_reported_as_running() {
        assert_eq!(
            (progress(Goal::Running, "starting"), progress(Goal::Running, "running")),
            ("is starting", "is running")
        );
        assert!(progress(Goal::Stopped, "stopped").starts_with("is stopped"));
    }

    #[test]
    fn an_app_is_one_row() {
        let app = json!({"name": "hello", "type": "dev", "state": "error",
            "error": {"cause": "health-check", "detail": "GET /healthz answered 503 Service Unavailable"},
            "release": 2, "urls": ["http://hello.localhost:8080/"]});
        let expected = ["hello", "dev", "error (health-check)", "v2", "http://hello.localhost:8080/"];
        assert_eq!(row(&app), expected);
    }
}
