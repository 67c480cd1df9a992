//! Implements `isopod policy`: shows the ceiling on what releases may ask for, and changes it for
//! one app. Never compares a bundle with it.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::output::{self, setting};
use super::project::AppArgs;
use ureq::http::Method;

const HEADINGS: [&str; 3] = ["SETTING", "CEILING", "SET BY"];

/// The settings, in the order of the documentation.
const SETTINGS: [&str; 11] = [
    "http",
    "private_addresses",
    "files",
    "keyvalue",
    "events",
    "providers",
    "middleware",
    "memory",
    "instances",
    "types",
    "approve",
];

const EXAMPLES: &str = "\
The ceiling limits what tokens with the roles `operate` and `deploy` may request. [policy] in the host's
configuration file sets it for all apps; an administrator can override settings for one app.

Examples:
  isopod policy                                           the ceiling of all apps, or of the project's app
  isopod policy --app shop                                the ceiling of one app
  isopod policy set --app shop --http '*.example.org' 10.0.0.5:5432
  isopod policy set --app shop --memory 256MiB --types dev staging
  isopod policy set --app shop --http default             restores the host's setting";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: Option<PolicyCommand>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    /// Override settings of the ceiling for an app; those not given stay unchanged
    Set(SetArgs),
}

/// Each setting also takes `default`, which removes the override.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct SetArgs {
    /// The hosts that may be granted; without a port, every port. `none` allows no host
    #[arg(long, value_name = "HOST", num_args = 1..)]
    http: Vec<String>,
    /// Whether private and loopback addresses may be granted: `true` or `false`
    #[arg(long, value_name = "BOOL", value_parser = flag)]
    private_addresses: Option<Value>,
    /// The widest access to folders that may be granted: `none`, `read-only` or `read-write`
    #[arg(long, value_name = "ACCESS")]
    files: Option<String>,
    /// Whether a key-value store may be granted: `true` or `false`
    #[arg(long, value_name = "BOOL", value_parser = flag)]
    keyvalue: Option<Value>,
    /// The apps to which events may be granted. `none` allows no app
    #[arg(long, value_name = "APP", num_args = 1..)]
    events: Vec<String>,
    /// The providers whose interfaces may be granted. `none` allows no provider
    #[arg(long, value_name = "PLUGIN", num_args = 1..)]
    providers: Vec<String>,
    /// The plugins that may be used as middleware. `none` allows no plugin
    #[arg(long, value_name = "PLUGIN", num_args = 1..)]
    middleware: Vec<String>,
    /// The largest limits.memory, such as 256MiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The largest limits.instances_max
    #[arg(long, value_name = "N", value_parser = count)]
    instances: Option<Value>,
    /// The types that the app may have
    #[arg(long, value_name = "TYPE", num_args = 1..)]
    types: Vec<String>,
    /// Whether the host builds a push beyond the ceiling, for an administrator to approve: `true`
    /// or `false`
    #[arg(long, value_name = "BOOL", value_parser = flag)]
    approve: Option<Value>,
}

fn flag(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(Value::Null),
        text => text.parse::<bool>().map(Value::from).map_err(|_| "use true, false or default".to_owned()),
    }
}

fn count(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(Value::Null),
        text => text.parse::<u32>().map(Value::from).map_err(|_| "use a whole number, or default".to_owned()),
    }
}

pub(crate) fn run(args: &PolicyArgs) -> Result<(), Failure> {
    let client = Client::near_project(&args.host)?;
    let policy = match &args.command {
        None => {
            // Outside a project, this is the ceiling of the host.
            let path = args.app.resolve().map(|app| format!("/v1/apps/{app}/policy"));
            client.get(path.as_deref().unwrap_or("/v1/policy"))?.success()?
        }
        Some(PolicyCommand::Set(set)) => {
            let app = args.app.resolve()?;
            let path = format!("/v1/apps/{app}/policy");
            let policy = client.send(Method::PATCH, &path, Some(&patch(set)))?.success()?;
            if !args.json {
                output::note(&output::done(&format!("changed the ceiling of {app}; it applies to new releases")));
            }
            policy
        }
    };
    if args.json {
        output::json(&policy)
    } else {
        output::emit(&output::table(&HEADINGS, &rows(&policy)))
    }
    Ok(())
}

fn patch(set: &SetArgs) -> Value {
    let list = |items: &[String]| match items {
        [only] if only == "default" => Value::Null,
        [only] if only == "none" => json!([]),
        items => json!(items),
    };
    let text =
        |text: &Option<String>| text.as_ref().map(|text| if text == "default" { Value::Null } else { json!(text) });
    let lists = [
        ("http", &set.http),
        ("events", &set.events),
        ("providers", &set.providers),
        ("middleware", &set.middleware),
        ("types", &set.types),
    ];
    let lists = lists.into_iter().filter(|(_, items)| !items.is_empty()).map(|(name, items)| (name, list(items)));
    let others = [
        ("private_addresses", set.private_addresses.clone()),
        ("files", text(&set.files)),
        ("keyvalue", set.keyvalue.clone()),
        ("memory", text(&set.memory)),
        ("instances", set.instances.clone()),
        ("approve", set.approve.clone()),
    ];
    let others = others.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Value::Object(lists.chain(others).map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn rows(policy: &Value) -> Vec<Vec<String>> {
    let row = |name: &&str| {
        let ceiling = match policy["ceiling"].get(*name) {
            None if *name == "approve" => "no".to_owned(),
            None => "no limit".to_owned(),
            Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
            Some(Value::Array(items)) => items.iter().map(setting).collect::<Vec<_>>().join(", "),
            Some(value) => setting(value),
        };
        let by = if policy["override"].get(*name).is_some() { "the administrator" } else { "the host, for all apps" };
        vec![(*name).to_owned(), ceiling, by.to_owned()]
    };
    SETTINGS.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        set: SetArgs,
    }

    fn patch_of(words: &[&str]) -> Option<Value> {
        Wrapper::try_parse_from([&["set"], words].concat()).ok().map(|parsed| patch(&parsed.set))
    }

    #[test]
    fn a_change_contains_only_the_given_settings() {
        let change = patch_of(&["--http", "*.example.org", "--keyvalue", "false", "--memory", "64MiB"]);
        assert_eq!(change, Some(json!({ "http": ["*.example.org"], "keyvalue": false, "memory": "64MiB" })));
        let reset =
            patch_of(&["--http", "default", "--events", "none", "--instances", "default", "--files", "default"]);
        assert_eq!(reset, Some(json!({ "http": null, "events": [], "instances": null, "files": null })));
        let plugins = patch_of(&["--middleware", "cors", "require-jwt", "--providers", "none"]);
        assert_eq!(plugins, Some(json!({ "middleware": ["cors", "require-jwt"], "providers": [] })));
        assert!(
            [&[][..], &["--keyvalue", "maybe"], &["--instances", "-1"]].into_iter().all(|it| patch_of(it).is_none())
        );
    }

    #[test]
    fn the_table_shows_who_set_each_limit() {
        let shown = rows(&json!({ "ceiling": { "private_addresses": false, "http": [] }, "override": { "http": [] } }));
        assert_eq!(shown[0], ["http", "none", "the administrator"]);
        assert_eq!(shown[1], ["private_addresses", "no", "the host, for all apps"]);
        assert_eq!(shown[7], ["memory", "no limit", "the host, for all apps"]);
    }
}
