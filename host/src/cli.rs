//! Lists the subcommands, and maps each to its file and its result to an exit status. Never
//! implements a command.

mod accept_grants;
mod activity;
mod advice;
mod alerts;
mod apps;
mod archive;
mod assets;
mod broadcast;
mod build;
mod client;
mod compiled;
mod completions;
mod config_vars;
mod cores;
mod dead_letters;
mod deploy;
mod dev;
mod doctor;
mod drains;
mod events;
mod failure;
#[cfg(test)]
mod fake;
mod finding;
mod following;
mod following_push;
mod formation;
mod grants;
mod guest;
mod host_log;
mod installed;
mod interrupt;
mod limits;
pub(crate) mod local;
mod logs;
mod lost;
mod new;
mod output;
mod plugins;
mod policy;
mod progress;
mod project;
mod ps;
mod pushes;
mod releases;
mod rollback;
mod run;
mod scale;
mod schedules;
mod screen;
mod secret;
mod serve;
mod signals;
mod sse;
mod target;
mod templates;
mod terminal;
mod tokens;
mod top;
mod up;
mod waiting;
mod wire;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use failure::Failure;

/// An app platform in one binary: WebAssembly components, deployed over HTTP and run in a sandbox
#[derive(Parser, Debug)]
#[command(name = "isopod", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the host: app traffic on one address, the API on another
    Up(up::Args),
    /// Serve one component over HTTP without storing anything
    Serve(serve::Args),
    /// Run one command-line component in the sandbox
    Run(run::Args),
    /// Create a project that builds and passes its tests
    New(new::NewArgs),
    /// Build, run, watch and hot-reload a project
    Dev(dev::DevArgs),
    /// Build a project's bundle and show its contents
    Build(build::BuildArgs),
    /// Upload a bundle and follow its push job until the app serves it
    Deploy(deploy::DeployArgs),
    /// List, create, inspect, start, stop, change and destroy apps
    Apps(apps::AppsArgs),
    /// List, install, show and remove plugins, which extend the host
    Plugins(plugins::PluginsArgs),
    /// List an app's push jobs, show one with its log, or cancel one
    Pushes(pushes::PushesArgs),
    /// List an app's releases, show one, or compare two
    Releases(releases::ReleasesArgs),
    /// Roll back to an earlier release
    Rollback(rollback::RollbackArgs),
    /// List an app's running instances
    Ps(ps::PsArgs),
    /// Show or set how many instances of each process type run
    Scale(scale::ScaleArgs),
    /// Restart an instance
    Restart(ps::RestartArgs),
    /// Add a process type to an app
    #[command(name = "ps:create")]
    PsCreate(formation::CreateArgs),
    /// Change a process type of an app
    #[command(name = "ps:update")]
    PsUpdate(formation::UpdateArgs),
    /// Remove a process type from an app
    #[command(name = "ps:destroy")]
    PsDestroy(formation::DestroyArgs),
    /// List, set and unset an app's config vars
    Config(config_vars::ConfigArgs),
    /// Show and change an app's grants: the capabilities it may use
    Grants(grants::GrantsArgs),
    /// Show and change what releases may ask for
    Policy(policy::PolicyArgs),
    /// Show and change how many jobs of an app run at the same time
    Cores(cores::CoresArgs),
    /// Show an app's logs
    Logs(logs::LogsArgs),
    /// List an app's log drains, add one, or remove one
    Drains(drains::DrainsArgs),
    /// Show what happened to an app, and why
    Activity(activity::ActivityArgs),
    /// List the alerts that fire, and the rules
    Alerts(alerts::AlertsArgs),
    /// Show a live view of the load of each app
    Top(top::TopArgs),
    /// Send an event to an app; list, show and cancel stored events
    Events(events::EventsArgs),
    /// Send many events to an app, from a file with one event per line
    Broadcast(broadcast::BroadcastArgs),
    /// List an app's dead letters, show one, deliver them again, or drop them
    DeadLetters(dead_letters::DeadLettersArgs),
    /// List an app's schedules, and run one by hand
    Schedules(schedules::SchedulesArgs),
    /// List, create, rotate and revoke the tokens of a host
    Tokens(tokens::TokensArgs),
    /// Check this machine, and show how to fix each problem
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command line and returns the exit status: 0 done, 1 failed, 2 wrong usage.
pub(crate) fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    match parsed {
        Ok((cli, matches)) => run(cli.command).unwrap_or_else(|failure| failure.report(wants_json(&matches))),
        Err(error) if !error.use_stderr() => {
            output::emit_help(&error.render());
            ExitCode::SUCCESS
        }
        Err(error) => {
            // An invalid command line has no parsed flags, so `--json` is searched in the raw
            // arguments.
            if std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json") {
                output::json_line(&Failure::usage("wrong usage").why(error.to_string().trim_end()).problem());
            }
            error.exit()
        }
    }
}

/// Returns whether the command or any of its subcommands has `--json`.
fn wants_json(matches: &ArgMatches) -> bool {
    let here = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or(false);
    here || matches.subcommand().is_some_and(|(_, deeper)| wants_json(deeper))
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    if !matches!(command, Command::Up(_) | Command::Serve(_) | Command::Run(_)) {
        // The programs that a command starts, such as compilers, inherit the setting.
        crate::os::set_huge_pages(true);
    }
    match command {
        Command::Up(args) => return Ok(up::run(args)?),
        Command::Serve(args) => return Ok(serve::run(args)?),
        Command::Run(args) => return Ok(run::run(args)?),
        Command::New(args) => new::run(&args)?,
        Command::Dev(args) => dev::run(&args)?,
        Command::Build(args) => build::run(&args)?,
        Command::Deploy(args) => return deploy::run(&args),
        Command::Apps(args) => apps::run(&args)?,
        Command::Plugins(args) => return plugins::run(&args),
        Command::Pushes(args) => pushes::run(&args)?,
        Command::Releases(args) => releases::run(&args)?,
        Command::Rollback(args) => rollback::run(&args)?,
        Command::Ps(args) => ps::run(&args)?,
        Command::Scale(args) => scale::run(&args)?,
        Command::Restart(args) => ps::restart(&args)?,
        Command::PsCreate(args) => formation::create(&args)?,
        Command::PsUpdate(args) => formation::update(&args)?,
        Command::PsDestroy(args) => formation::destroy(&args)?,
        Command::Config(args) => config_vars::run(&args)?,
        Command::Grants(args) => grants::run(&args)?,
        Command::Policy(args) => policy::run(&args)?,
        Command::Cores(args) => cores::run(&args)?,
        Command::Logs(args) => logs::run(&args)?,
        Command::Drains(args) => drains::run(&args)?,
        Command::Activity(args) => activity::run(&args)?,
        Command::Alerts(args) => alerts::run(&args)?,
        Command::Top(args) => top::run(&args)?,
        Command::Events(args) => events::run(&args)?,
        Command::Broadcast(args) => broadcast::run(&args)?,
        Command::DeadLetters(args) => dead_letters::run(&args)?,
        Command::Schedules(args) => schedules::run(&args)?,
        Command::Tokens(args) => tokens::run(&args)?,
        Command::Doctor(args) => return doctor::run(&args),
        Command::Completions(args) => completions::run(&args, Cli::command()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn json_is_requested_at_any_depth_but_not_by_a_guests_argument() {
        let asks = |line: &str| {
            let words = ["isopod"].into_iter().chain(line.split(' '));
            super::wants_json(&super::Cli::command().get_matches_from(words))
        };
        assert!(["apps --json", "apps info shop --json", "config --json set A=1", "ps --json"].into_iter().all(asks));
        assert!(["apps", "config set A=1", "run x.wasm --json", "up"].into_iter().all(|line| !asks(line)));
    }

    #[test]
    fn the_app_and_the_host_may_precede_or_follow_the_verb() {
        let lines = [
            "config --app shop set A=1",
            "config set A=1 --app shop",
            "--json",
            "apps --json list",
            "events --app shop list",
            "events -n 4 --state leased --app shop",
            "dead-letters --app shop --type order",
        ];
        for line in lines {
            let words = ["isopod"].into_iter().chain(line.split(' '));
            assert_eq!(super::Cli::try_parse_from(words).is_ok(), line != "--json", "{line}");
        }
    }

    #[test]
    fn an_empty_name_is_a_usage_error() {
        for line in [
            "events show ",
            "events cancel ",
            "dead-letters show ",
            "logs --event ",
            "releases info ",
            "pushes info ",
            "schedules run ",
            "config get ",
            "config unset ",
            "drains add ",
            "drains remove ",
        ] {
            let words = ["isopod"].into_iter().chain(line.split(' '));
            let error = super::Cli::try_parse_from(words).err().unwrap_or_else(|| panic!("{line} is accepted"));
            assert_eq!(error.exit_code(), 2, "{error}");
        }
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        super::Cli::command().debug_assert();
    }
}
