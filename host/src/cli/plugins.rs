//! Implements `isopod plugins`: lists, installs, shows and removes plugins. Never uploads a bundle
//! itself: `deploy.rs` does.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use isopod_policy::AppName;
use serde_json::Value;

use super::client::{Client, HostArgs};
use super::deploy::{self, DeployArgs};
use super::failure::Failure;
use super::output::{self, field};
use super::waiting::error;
use super::{grants, installed, limits};

const EXAMPLES: &str = "\
Examples:
  isopod plugins
  isopod plugins install plugins/require-jwt   builds the project and installs it
  isopod plugins install require-jwt.tar.gz    installs a bundle, or upgrades to its version
  isopod plugins info require-jwt              shows which apps use it
  isopod rollback v1 --app require-jwt         returns to an earlier release of a plugin";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum PluginsCommand {
    /// List the plugins of the host
    List,
    /// Install a plugin, or a new version of it
    Install {
        /// A project's folder or a bundle (.tar.gz)
        #[arg(value_name = "DIR|FILE", default_value = ".")]
        source: PathBuf,
        /// Install the existing component without running the build command
        #[arg(long)]
        no_build: bool,
        /// Accept grants that the current version doesn't have
        #[arg(long)]
        accept_grants: bool,
    },
    /// Show one plugin
    Info { name: AppName },
    /// Remove a plugin that no app uses, with its releases, data and logs
    Remove { name: AppName },
}

pub(crate) fn run(args: &PluginsArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        None | Some(PluginsCommand::List) => list(args)?,
        Some(PluginsCommand::Install { source, no_build, accept_grants }) => {
            let (source, host) = (source.clone(), args.host.clone());
            return deploy::install(&DeployArgs::of_plugin(source, *no_build, *accept_grants, host, args.json));
        }
        Some(PluginsCommand::Info { name }) => {
            let plugin = Client::new(&args.host)?.get(&format!("/v1/plugins/{name}"))?.success()?;
            if args.json { output::json(&plugin) } else { output::emit(&info(&plugin)) }
        }
        Some(PluginsCommand::Remove { name }) => {
            let answer = Client::new(&args.host)?.delete(&format!("/v1/plugins/{name}"))?.success()?;
            match args.json {
                true => output::json(&answer),
                false => output::emit(&format!("{}\n", output::done(&format!("removed {name}")))),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &PluginsArgs) -> Result<(), Failure> {
    let answer = Client::new(&args.host)?.all("/v1/plugins", limits::LIST_ITEMS_MAX)?;
    if args.json {
        output::json(&answer);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = output::items(&answer).iter().map(row).collect();
    if rows.is_empty() {
        output::note("no plugins yet; install one with `isopod plugins install PATH`");
    }
    output::emit(&output::table(&["NAME", "KIND", "VERSION", "RELEASE", "STATE", "USED BY"], &rows));
    Ok(())
}

fn row(plugin: &Value) -> Vec<String> {
    vec![
        field(plugin, "name"),
        field(plugin, "kind"),
        field(plugin, "version"),
        output::release(plugin, "release"),
        field(plugin, "state"),
        users(plugin),
    ]
}

/// Returns the users of a plugin.
fn users(plugin: &Value) -> String {
    let by_host = if plugin["kind"] == "gate" { "the host" } else { "all apps" };
    let host = (plugin["required"] == true).then_some(by_host);
    let apps = plugin["used_by"].as_array().into_iter().flatten().filter_map(Value::as_str);
    host.into_iter().chain(apps).collect::<Vec<_>>().join(", ")
}

fn info(plugin: &Value) -> String {
    let rows = [
        ("name", field(plugin, "name")),
        ("kind", field(plugin, "kind")),
        ("version", field(plugin, "version")),
        ("release", output::release(plugin, "release")),
        ("state", field(plugin, "state")),
        ("error", error(plugin)),
        ("used by", users(plugin)),
        ("offers", installed::interfaces(plugin).join(", ")),
        ("receives", installed::received(plugin)),
        ("time limit", plugin["time_limit_ms"].as_u64().map(|limit| format!("{limit} ms")).unwrap_or_default()),
        ("created", output::time(&field(plugin, "created_at"))),
    ];
    let granted = grants::rows(&plugin["grants"]);
    let table = if granted.is_empty() { String::new() } else { output::table(&grants::HEADINGS, &granted) };
    let gap = if table.is_empty() { "" } else { "\n" };
    format!("{}{gap}{table}", output::pairs(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plugin() -> Value {
        json!({"name": "require-jwt", "kind": "middleware", "version": "1.2.0", "release": 3, "state": "running",
            "error": null, "used_by": ["shop", "wiki"], "required": true, "time_limit_ms": 500,
            "grants": {"http": ["id.example.org"], "files": {}, "keyvalue": false, "events": []},
            "created_at": "2026-01-02T03:04:05Z"})
    }

    #[test]
    fn a_plugin_is_one_row_with_its_users() {
        assert_eq!(row(&plugin()), ["require-jwt", "middleware", "1.2.0", "v3", "running", "all apps, shop, wiki"]);
    }

    #[test]
    fn a_plugin_shows_its_grants_and_time_limit() {
        let text = info(&plugin());
        for shown in ["500 ms", "id.example.org", "all apps, shop, wiki", "v3"] {
            assert!(text.contains(shown), "{shown} is not in:\n{text}");
        }
        let hook = json!({"kind": "hook", "subscription": {"events": null, "apps": ["shop", "wiki"]}});
        assert!(info(&hook).contains("all events of shop, wiki") && !text.contains("receives"));
        let gate = json!({"kind": "gate", "required": true, "used_by": []});
        assert_eq!(users(&gate), "the host");
        let bare = json!({"name": "new", "kind": null, "version": null, "release": null, "state": "stopped"});
        assert!(info(&bare).contains("new"));
    }
}
