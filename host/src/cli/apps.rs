//! `isopod apps`: list, create, inspect, start, stop, change and destroy apps.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use isopod_policy::{AppName, AppType};
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output::{self, field};
use super::project::AppArgs;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AppsArgs {
    #[command(subcommand)]
    command: Option<AppsCommand>,
    #[command(flatten)]
    common: Common,
}

#[derive(Subcommand, Debug)]
enum AppsCommand {
    /// List the apps of the host
    List(Common),
    /// Create an app that has no code yet
    Create {
        /// The name: lower-case letters, digits and hyphens, for it becomes part of the app's address
        name: AppName,
        /// dev, staging or production
        #[arg(long = "type", value_name = "TYPE", default_value = "dev")]
        app_type: AppType,
        #[command(flatten)]
        common: Common,
    },
    /// Show one app
    Info(One),
    /// Destroy an app, its releases, its data and its logs
    Destroy {
        #[command(flatten)]
        one: One,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Change the type of a stopped app
    Type {
        /// dev, staging or production
        #[arg(value_name = "TYPE")]
        app_type: AppType,
        #[command(flatten)]
        app: AppArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Start an app
    Start(One),
    /// Stop an app once its accepted work is done
    Stop(One),
}

#[derive(Args, Debug)]
struct Common {
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct One {
    /// The app, as with --app
    #[arg(value_name = "NAME", conflicts_with = "app")]
    name: Option<AppName>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: Common,
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
    match &args.command {
        None => list(&args.common),
        Some(AppsCommand::List(common)) => list(common),
        Some(AppsCommand::Create { name, app_type, common }) => {
            let body = json!({"name": name, "type": app_type});
            let app = Client::new(&common.host)?.send(Method::POST, "/v1/apps", Some(&body))?.success()?;
            show(common, &app, &output::done(&format!("created {name}; `isopod deploy --app {name}` gives it code")));
            Ok(())
        }
        Some(AppsCommand::Info(one)) => info(one),
        Some(AppsCommand::Destroy { one, yes }) => destroy(one, *yes),
        Some(AppsCommand::Type { app_type, app, common }) => {
            let name = app.resolve()?;
            let body = json!({"type": app_type});
            let path = format!("/v1/apps/{name}");
            let answer = Client::new(&common.host)?.send(Method::PATCH, &path, Some(&body))?.success()?;
            show(common, &answer, &output::done(&format!("{name} is now {}", field(&answer, "type"))));
            Ok(())
        }
        Some(AppsCommand::Start(one)) => order(one, "start", "started"),
        Some(AppsCommand::Stop(one)) => order(one, "stop", "stopping once its accepted work is done:"),
    }
}

fn list(common: &Common) -> Result<(), Failure> {
    let client = Client::new(&common.host)?;
    let answer = client.get("/v1/apps")?.success()?;
    if common.json {
        output::json(&answer);
        return Ok(());
    }
    let mut rows = Vec::new();
    let mut page = answer;
    loop {
        rows.extend(output::items(&page).iter().map(row));
        let next = field(&page, "next");
        if next.is_empty() {
            break;
        }
        page = client.get(&format!("/v1/apps?cursor={}", super::client::escape(&next)))?.success()?;
    }
    if rows.is_empty() {
        output::note("no apps yet; `isopod new NAME` writes one and `isopod deploy` brings it here");
    }
    output::emit(&output::table(&["NAME", "TYPE", "STATE", "RELEASE", "URL"], &rows));
    Ok(())
}

fn row(app: &Value) -> Vec<String> {
    vec![field(app, "name"), field(app, "type"), state(app), output::release(app, "release"), url(app)]
}

fn info(one: &One) -> Result<(), Failure> {
    let name = one.resolve()?;
    let app = Client::new(&one.common.host)?.get(&format!("/v1/apps/{name}"))?.success()?;
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
    show(&one.common, &app, output::pairs(&rows).trim_end());
    Ok(())
}

fn destroy(one: &One, yes: bool) -> Result<(), Failure> {
    let name = one.resolve()?;
    // Scripts have said what they want; a person at a terminal may have slipped.
    if !yes && std::io::stdin().is_terminal() {
        output::note(&format!("This destroys {name} with its releases, data and logs. Type its name to go on:"));
        let mut typed = String::new();
        let read = std::io::stdin().lock().read_line(&mut typed);
        if read.is_err() || typed.trim() != name.as_ref() as &str {
            return Err(Failure::new("nothing was destroyed")
                .why("the name was not typed")
                .next("use --yes to not be asked"));
        }
    }
    let answer = Client::new(&one.common.host)?.delete(&format!("/v1/apps/{name}"))?.success()?;
    show(&one.common, &answer, &output::done(&format!("destroyed {name}")));
    Ok(())
}

fn order(one: &One, verb: &str, done: &str) -> Result<(), Failure> {
    let name = one.resolve()?;
    let path = format!("/v1/apps/{name}/{verb}");
    let answer = Client::new(&one.common.host)?.send(Method::POST, &path, None)?.success()?;
    show(&one.common, &answer, &output::done(&format!("{done} {name}")));
    Ok(())
}

fn show(common: &Common, answer: &Value, text: &str) {
    if common.json { output::json(answer) } else { output::emit(&format!("{text}\n")) }
}

fn state(app: &Value) -> String {
    let error = error(app);
    if error.is_empty() { field(app, "state") } else { format!("{} ({error})", field(app, "state")) }
}

fn error(app: &Value) -> String {
    match app.get("error") {
        Some(Value::Object(cause)) => {
            output::first_field(&Value::Object(cause.clone()), &["detail", "message", "cause"])
        }
        _ => field(app, "error"),
    }
}

/// The address of an app, if the host has told one.
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
    fn an_app_is_one_row() {
        let app = json!({"name": "hello", "type": "dev", "state": "error", "error": "health check failed",
            "release": 2, "urls": ["http://hello.localhost:8080/"]});
        let expected = ["hello", "dev", "error (health check failed)", "v2", "http://hello.localhost:8080/"];
        assert_eq!(row(&app), expected);
    }
}
