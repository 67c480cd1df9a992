//! Implements `isopod grants`: shows and changes the capabilities of an app. Never checks whether
//! the host permits a grant.

use std::str::FromStr;

use clap::{Args, Subcommand};
use isopod_policy::{
    Access, AppName, HttpGrant, InterfaceName, InterfaceNameError, PluginReference, PluginReferenceError,
};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::output::{self, setting};
use super::target::{RemoteApp, Target};

pub(crate) const HEADINGS: [&str; 3] = ["GRANT", "WHAT", "ACCESS"];

const EXAMPLES: &str = "\
An app may use only the capabilities that are granted to it. Every change creates a release, which is started and
checked before it serves.

Examples:
  isopod grants
  isopod grants set --http api.github.com '*.example.org:8443'
  isopod grants set --keyvalue true --file data=read-write
  isopod grants set --events billing
  isopod grants set --no-http --no-file data";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GrantsArgs {
    #[command(subcommand)]
    command: Option<GrantsCommand>,
    #[command(flatten)]
    target: Target,
}

#[derive(Subcommand, Debug)]
enum GrantsCommand {
    /// Change an app's grants; those not given stay unchanged
    Set(SetArgs),
}

#[derive(Args, Debug)]
struct SetArgs {
    /// The hosts that the app may send requests to; replaces the previous list
    #[arg(long, value_name = "HOST", num_args = 1..)]
    http: Vec<HttpGrant>,
    /// Remove the grant for all hosts
    #[arg(long, conflicts_with = "http")]
    no_http: bool,
    /// A folder of the app, with read-only or read-write access
    #[arg(long, value_name = "NAME=ACCESS", num_args = 1..)]
    file: Vec<Folder>,
    /// Remove the grant for a folder; its content stays on the host
    #[arg(long, value_name = "NAME", num_args = 1..)]
    no_file: Vec<String>,
    /// Whether the app has a key-value store
    #[arg(long, value_name = "BOOL")]
    keyvalue: Option<bool>,
    /// The other apps that the app may send events to; replaces the previous list
    #[arg(long, value_name = "APP", num_args = 1..)]
    events: Vec<AppName>,
    /// Remove the grant for all other apps
    #[arg(long, conflicts_with = "events")]
    no_events: bool,
    /// An interface that the app may call, and the provider that offers it
    #[arg(long, value_name = "INTERFACE=PROVIDER", num_args = 1..)]
    interface: Vec<Interface>,
    /// Remove the grant for an interface
    #[arg(long, value_name = "INTERFACE", num_args = 1..)]
    no_interface: Vec<InterfaceName>,
}

/// An interface with its provider.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: InterfaceName,
    provider: PluginReference,
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Interface, String> {
        let (name, provider) = text.split_once('=').ok_or("write it as acme:text/shout@1.0.0=PROVIDER")?;
        let name = name.parse().map_err(|error: InterfaceNameError| error.to_string())?;
        let provider = provider.parse().map_err(|error: PluginReferenceError| error.to_string())?;
        Ok(Interface { name, provider })
    }
}

/// A folder with its access.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    name: String,
    access: Access,
}

impl FromStr for Folder {
    type Err = String;

    fn from_str(text: &str) -> Result<Folder, String> {
        let example = "write it as data=read-write or data=read-only";
        let (name, access) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(example)?;
        let access = access.parse().map_err(|error| format!("{error}; {example}"))?;
        Ok(Folder { name: name.to_owned(), access })
    }
}

pub(crate) fn run(args: &GrantsArgs) -> Result<(), Failure> {
    match &args.command {
        None => list(&args.target.look()?),
        Some(GrantsCommand::Set(set)) => {
            let patch = patch(set)?;
            let app = args.target.change()?;
            let grants = app.rolling_out(|| app.patch("/grants", &patch))?;
            app.done("changed the grants");
            app.show(&grants, || Ok(output::table(&HEADINGS, &rows(&grants))))
        }
    }
}

fn list(app: &RemoteApp) -> Result<(), Failure> {
    let grants = app.get("/grants")?;
    app.show(&grants, || {
        let rows = rows(&grants);
        if rows.is_empty() {
            output::note(&format!("{} has no grants; see `isopod grants set --help`", app.name));
        }
        Ok(output::table(&HEADINGS, &rows))
    })
}

/// Returns the grants as rows, one per grant.
pub(crate) fn rows(grants: &Value) -> Vec<Vec<String>> {
    let row = |grant: &str, what: String, access: String| vec![grant.to_owned(), what, access];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for host in grants["http"].as_array().into_iter().flatten() {
        rows.push(row("http", setting(host), "requests".to_owned()));
    }
    for (name, access) in grants["files"].as_object().into_iter().flatten() {
        rows.push(row("files", name.clone(), setting(access)));
    }
    if grants["keyvalue"] == json!(true) {
        rows.push(row("keyvalue", "its own store".to_owned(), "read-write".to_owned()));
    }
    for app in grants["events"].as_array().into_iter().flatten() {
        rows.push(row("events", setting(app), "send".to_owned()));
    }
    for (interface, provider) in grants["interfaces"].as_object().into_iter().flatten() {
        rows.push(row("interfaces", interface.clone(), format!("calls of {}", setting(provider))));
    }
    rows
}

/// Returns the change as a merge patch: lists are replaced, null removes an entry.
fn patch(set: &SetArgs) -> Result<Value, Failure> {
    let mut patch = Map::new();
    if !set.http.is_empty() || set.no_http {
        patch.insert("http".into(), json!(set.http));
    }
    let mut files: Map<String, Value> = set.no_file.iter().map(|name| (name.clone(), Value::Null)).collect();
    for Folder { name, access } in &set.file {
        if files.insert(name.clone(), json!(access)).is_some() {
            return Err(Failure::usage(format!("the folder {name} is given twice"))
                .why("a folder has only one access mode")
                .next("name each folder once, with --file or with --no-file"));
        }
    }
    if !files.is_empty() {
        patch.insert("files".into(), Value::Object(files));
    }
    patch.extend(set.keyvalue.map(|granted| ("keyvalue".to_owned(), json!(granted))));
    if !set.events.is_empty() || set.no_events {
        patch.insert("events".into(), json!(set.events));
    }
    let removed = set.no_interface.iter().map(|name| (name.to_string(), Value::Null));
    let granted = set.interface.iter().map(|Interface { name, provider }| (name.to_string(), json!(provider)));
    let interfaces: Map<String, Value> = removed.chain(granted).collect();
    if !interfaces.is_empty() {
        patch.insert("interfaces".into(), Value::Object(interfaces));
    }
    if patch.is_empty() {
        return Err(Failure::usage("nothing to change")
            .why("no grant was given")
            .next("for example: isopod grants set --http api.github.com; --help lists all grants"));
    }
    Ok(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        set: SetArgs,
    }

    fn patch_of(words: &[&str]) -> Result<Value, String> {
        let parsed = Wrapper::try_parse_from([&["set"], words].concat()).map_err(|error| error.to_string())?;
        patch(&parsed.set).map_err(|failure| failure.text())
    }

    #[test]
    fn a_change_contains_only_the_given_grants() {
        let http = patch_of(&["--http", "api.github.com", "*.example.org:8443"]).unwrap();
        assert_eq!(http, json!({"http": ["api.github.com", "*.example.org:8443"]}));
        let rest = patch_of(&["--file", "data=read-write", "in=read-only", "--keyvalue", "false"]).unwrap();
        assert_eq!(rest, json!({"files": {"data": "read-write", "in": "read-only"}, "keyvalue": false}));
        assert_eq!(patch_of(&["--events", "billing", "crm"]).unwrap(), json!({"events": ["billing", "crm"]}));
    }

    #[test]
    fn removed_grants_are_an_empty_list_or_null() {
        let gone = patch_of(&["--no-http", "--no-file", "data"]).unwrap();
        assert_eq!(gone, json!({"http": [], "files": {"data": null}}));
        assert_eq!(patch_of(&["--no-events"]).unwrap(), json!({"events": []}));
    }

    #[test]
    fn slips_are_wrong_usage() {
        assert!(patch_of(&[]).unwrap_err().contains("--http api.github.com"));
        assert!(patch_of(&["--file", "data"]).unwrap_err().contains("data=read-write"));
        assert!(patch_of(&["--file", "data=all"]).unwrap_err().contains("read-only"));
        assert!(patch_of(&["--http", "http://x/"]).is_err());
        assert!(patch_of(&["--events", "Billing"]).unwrap_err().contains("lowercase"));
        assert!(patch_of(&["--file", "data=read-only", "--no-file", "data"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn each_grant_is_one_row() {
        let grants = json!({"http": ["*"], "files": {"data": "read-write"}, "keyvalue": true, "events": ["billing"]});
        let expected = [
            ["http", "*", "requests"],
            ["files", "data", "read-write"],
            ["keyvalue", "its own store", "read-write"],
            ["events", "billing", "send"],
        ];
        assert_eq!(rows(&grants), expected);
        assert!(rows(&json!({"http": [], "files": {}, "keyvalue": false})).is_empty());
    }
}
