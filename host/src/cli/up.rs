//! Implements `isopod up`: runs the host until it receives a stop signal. Owns the process: its log
//! on stderr, its ready line on stdout, its signals. Never builds a service (see `platform`).

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{
    client,
    host_log::{Form, HostLog},
    new, output,
    signals::Signals,
};
use crate::{
    api::Urls,
    config::{self, Config, Overrides},
    limits,
    platform::Platform,
    runtime::GuestRuntimes,
};

const OUTPUT: &str = "\
Output: standard output has the single line `isopod ready …`, and standard error has the host's own log. The output of
apps is in their logs: `isopod logs -f --app NAME`.";

#[derive(Debug, clap::Args)]
#[command(after_help = OUTPUT)]
pub(crate) struct Args {
    /// The folder for all stored data: apps, releases, logs, the admin token [default:
    /// ~/.local/share/isopod]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address of app traffic; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", value_parser = config::written_address)]
    listen: Option<String>,
    /// The address of the API and the dashboard; port 0 picks a free one [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", value_parser = config::written_address)]
    admin: Option<String>,
    /// The domain of all apps, each with its name as subdomain [default: localhost]
    #[arg(long, value_name = "DOMAIN", value_parser = config::domain_name)]
    domain: Option<String>,
    /// A TOML file with these and further settings; the command line overrides it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start even if control.db doesn't match the data folder; folders without an app move to its
    /// lost+found/
    #[arg(long)]
    adopt: bool,
    /// The format of the host's own log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// The level of the host's own log: error, warn, info, debug or trace, or a filter such as
    /// isopod=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Text lines
    Text,
    /// One JSON object per line
    Json,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    start_log(args.log_format, &args.log)?;
    let config = Config::load(Overrides {
        data_dir: args.data,
        listen: args.listen,
        admin: args.admin,
        domain: args.domain,
        file: args.config,
        adopt: args.adopt,
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::ADMIN_THREADS)
        .max_blocking_threads(limits::ADMIN_BLOCKING_THREADS)
        .thread_name("isopod-admin")
        .enable_all()
        .build()
        .context("can't start the threads of the admin runtime")?;
    let guests = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::GUEST_THREADS)
        .max_blocking_threads(limits::GUEST_BLOCKING_THREADS)
        .thread_name("isopod-guests")
        .enable_all()
        .build()
        .context("can't start the threads of the guests' runtime")?;
    let code = runtime.block_on(serve(config, GuestRuntimes::on(guests.handle().clone())));
    // Tasks that still block have already had the drain time.
    runtime.shutdown_background();
    guests.shutdown_background();
    code
}

async fn serve(config: Config, guests: GuestRuntimes) -> Result<ExitCode> {
    let data = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let domain = config.domain.clone();
    // Register first, so that a signal during the start doesn't kill the process.
    let mut signals = Signals::new().context("can't listen for stop signals")?;
    let platform = tokio::select! {
        started = Platform::start(config, guests) => started?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    print_ready(&platform)?;
    if std::io::stderr().is_terminal() {
        output::note(&first_steps(&data, platform.admin, &Urls { domain, port: platform.listen.port() }));
    }
    signals.next().await;
    tokio::spawn(signals.exit_at_the_next());
    platform.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Prints the ready line on stdout, from which programs read the addresses.
fn print_ready(platform: &Platform) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "isopod ready listen={} admin={}", platform.listen, platform.admin)
        .and_then(|()| stdout.flush())
        .context("can't write the ready line to stdout")
}

/// Returns the paths and the next commands, for a user who starts the host in a terminal.
fn first_steps(data: &Path, admin: SocketAddr, urls: &Urls) -> String {
    let token = data.join("admin.token");
    // Commands find the default host and its token without these variables.
    let at_defaults = client::DEFAULT_HOST.ends_with(&format!("//{admin}"));
    let uses_defaults = at_defaults && config::default_data_dir().is_some_and(|default| default == data);
    let export = match uses_defaults {
        true => String::new(),
        false => format!("  export ISOPOD_HOST=http://{admin} ISOPOD_TOKEN=$(cat {})\n", new::quoted(&token)),
    };
    format!(
        "\nData: {}\nToken: {}\nDashboard: http://{admin}/ (sign in with the token)\n\
         Next, in another terminal, in a project's folder (create one with `isopod new NAME`):\n\
         {export}  isopod deploy\nThe app then serves at {}; Ctrl-C here stops the host.\n",
        data.display(),
        token.display(),
        urls.of("NAME").unwrap_or_default(),
    )
}

/// Libraries that log a warning for each malformed request, so that any client could fill the
/// host's log.
const QUIET_LIBRARIES: &str = "wasmtime_wasi_http=error,h2=error";

fn start_log(format: LogFormat, filter: &str) -> Result<()> {
    let filter = match filter {
        "error" | "warn" | "info" => format!("{filter},{QUIET_LIBRARIES}"),
        other => other.to_owned(),
    };
    let filter = EnvFilter::try_new(&filter).with_context(|| format!("invalid filter for --log: `{filter}`"))?;
    let colour = std::io::stderr().is_terminal() && !config::no_colour();
    let form = match (format, colour) {
        (LogFormat::Json, _) => Form::Json,
        (LogFormat::Text, true) => Form::Coloured,
        (LogFormat::Text, false) => Form::Plain,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(HostLog(form)).with_ansi(colour);
    let started = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| anyhow::anyhow!("can't start the host's log: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_steps_export_only_what_commands_do_not_find() {
        let urls = |port| Urls { domain: "localhost".into(), port };
        let default = config::default_data_dir().unwrap_or_default();
        let usual = first_steps(&default, SocketAddr::from(([127, 0, 0, 1], 8081)), &urls(8080));
        assert!(usual.contains("  isopod deploy\n") && !usual.contains("export"), "{usual}");
        assert!(usual.contains("http://NAME.localhost:8080/") && usual.contains("isopod/admin.token\n"), "{usual}");
        let other = first_steps(Path::new("/srv/a b"), SocketAddr::from(([127, 0, 0, 1], 9001)), &urls(80));
        let export = "  export ISOPOD_HOST=http://127.0.0.1:9001 ISOPOD_TOKEN=$(cat '/srv/a b/admin.token')\n";
        assert!(other.contains(export) && other.contains("http://NAME.localhost/;"), "{other}");
    }

    fn load(folder: &Path, text: &str) -> Result<Config, config::ConfigError> {
        let file = folder.join("isopod.conf");
        std::fs::write(&file, text).unwrap();
        Config::load(Overrides { data_dir: Some(folder.to_owned()), file: Some(file), ..Overrides::default() })
    }

    #[test]
    fn the_documented_settings_are_the_defaults() {
        let page = include_str!("../../../docs/configuration.md");
        let shown = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [documented, default] = [shown, ""].map(|text| format!("{:?}", load(folder.path(), text).unwrap()));
        assert_eq!(documented, default);
    }

    #[test]
    fn every_setting_is_documented() {
        let page = include_str!("../../../docs/configuration.md");
        let folder = tempfile::tempdir().unwrap();
        const TABLES: [&str; 10] =
            ["policy", "pushes", "logs", "cores", "connections", "outbound", "tls", "alerts", "status", "telemetry"];
        for table in [""].into_iter().chain(TABLES) {
            let (table, prefix) = match table {
                "" => (String::new(), String::new()),
                table => (format!("[{table}]\n"), format!("{table}.")),
            };
            let error = load(folder.path(), &format!("{table}nonsense = 1\n")).unwrap_err().to_string();
            let (_, known) =
                error.split_once("; known: ").unwrap_or_else(|| panic!("the error lists no keys: {error}"));
            let known = known.split(", ").filter(|key| !TABLES.contains(key));
            for key in known {
                // Each rule of an alert is a table with the same keys.
                let is_rule = prefix == "alerts." && page.contains(&format!("| `{key}` |"));
                let is_setting = page.contains(&format!("| `{prefix}{key}`"));
                assert!(is_rule || is_setting, "{prefix}{key} is not in docs/configuration.md");
            }
        }
    }
}
