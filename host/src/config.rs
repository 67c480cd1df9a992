//! Owns the host's configuration: resolves the command line, the environment and the configuration
//! file. The only reader of the environment. Never builds a service and never changes a file.

mod addresses;
mod alerts;
mod file;
mod status;
mod telemetry;
mod tls;
mod units;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use isopod_engine::limits as engine;
use isopod_policy::{Ceiling, Cores, GateUse, MiddlewareUse, connections::ConnectionTimes, limits as policy};

use ureq::tls::RootCerts;

pub(crate) use self::addresses::{domain_name, written_address};
use self::{
    addresses::{address, admin_names, name_server},
    file::ConfigFile,
};
use crate::{
    api::StatusPageConfig,
    control::{PushLimits, alerts::AlertConfig},
    ingress::{BadProxies, TrustedProxies},
    limits, os,
};

/// The resolved configuration of `isopod up`.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) domain: String,
    pub(crate) pushes: PushLimits,
    pub(crate) logs: Logs,
    pub(crate) drain_time: Duration,
    pub(crate) freeze_after: Duration,
    pub(crate) cores: Cores,
    pub(crate) compile_threads: usize,
    pub(crate) instances_max: u32,
    pub(crate) app_instances_max: u32,
    /// The ceiling on what releases may ask for.
    pub(crate) ceiling: Ceiling,
    pub(crate) memory_bytes_max: u64,
    pub(crate) frozen_code_bytes_max: u64,
    pub(crate) scale_window: Duration,
    pub(crate) trusted_proxies: TrustedProxies,
    /// Further host names of the admin address, for browsers.
    pub(crate) admin_names: Vec<String>,
    /// Whether to start although `control.db` doesn't match the data folder.
    pub(crate) adopt: bool,
    pub(crate) connections: Connections,
    pub(crate) outbound: Outbound,
    /// The authorities that the host's own requests trust.
    pub(crate) roots: RootCerts,
    /// The export of telemetry; `None` exports none.
    pub(crate) telemetry: Option<crate::observe::telemetry::Config>,
    /// The middleware of all apps.
    pub(crate) middleware: Vec<MiddlewareUse>,
    /// The gates that may refuse releases of apps.
    pub(crate) gates: Vec<GateUse>,
    pub(crate) alerts: AlertConfig,
    pub(crate) status: StatusPageConfig,
}

/// The timeouts and limits of connections to both addresses.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pub(crate) times: ConnectionTimes,
    pub(crate) traffic_max: usize,
    pub(crate) admin_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    /// The name server for lookups; the system's name servers if `None`.
    pub(crate) resolver: Option<SocketAddr>,
    pub(crate) idle_time: Duration,
}

/// Whether each app's log has a line for each request, and the retention of the log.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    pub(crate) access: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) kept_bytes: u64,
    pub(crate) kept_for: Duration,
}

/// The settings of the command line, which override the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) admin: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) adopt: bool,
}

/// Why the configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("failed to read the configuration file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is larger than {} bytes", path.display(), limits::CONFIG_BYTES)]
    TooLarge { path: PathBuf },
    #[error("invalid configuration file {}: {message}", path.display())]
    Malformed { path: PathBuf, message: String },
    #[error("invalid configuration file {}: line {line}: {error}", path.display())]
    InFile { path: PathBuf, line: usize, error: Box<Self> },
    #[error("invalid address for `{name}`: `{value}`: {reason}. Write it as host:port, such as 127.0.0.1:8080")]
    BadAddress { name: &'static str, value: String, reason: String },
    #[error(
        "listen ({listen}) and admin ({admin}) have the same address and port: apps and the API need different ones. \
         Choose another port with --listen or --admin"
    )]
    SameAddress { listen: SocketAddr, admin: SocketAddr },
    #[error("invalid domain `{value}`: {reason}")]
    BadDomain { value: String, reason: &'static str },
    #[error("admin_names: {0}")]
    AdminName(Box<Self>),
    #[error("trusted_proxies: {0}")]
    Proxies(#[from] BadProxies),
    #[error("`{setting}`: {reason}")]
    Setting { setting: String, reason: String },
    #[error("`{name}` is {value}, but must be in the range {range}")]
    OutOfRange { name: &'static str, value: String, range: &'static str },
    #[error("`{name}` is invalid: {reason}")]
    BadTelemetry { name: &'static str, reason: &'static str },
    #[error("no data folder: neither XDG_DATA_HOME nor HOME is set. Set one with --data DIR")]
    NoDataDir,
}

impl Config {
    /// Resolves each setting. The command line overrides the file, which overrides the default.
    pub(crate) fn load(overrides: Overrides) -> Result<Self, ConfigError> {
        let environment = |name: &str| std::env::var_os(name);
        let Some(path) = overrides.file.clone() else { return resolve(ConfigFile::default(), overrides, environment) };
        let text = file::read(&path)?;
        let file = file::parse(&path, &text)?;
        resolve(file, overrides.clone(), environment).map_err(|error| error.in_file(path, &text, &overrides))
    }
}

impl ConfigError {
    /// Adds the position in the file, if the invalid value is from the file.
    fn in_file(self, path: PathBuf, text: &str, overrides: &Overrides) -> Self {
        let name = match &self {
            Self::BadAddress { name, .. } | Self::OutOfRange { name, .. } | Self::BadTelemetry { name, .. } => name,
            Self::BadDomain { .. } => "domain",
            Self::Setting { setting, .. } => setting.as_str(),
            Self::AdminName(_) => "admin_names",
            Self::Proxies(_) => "trusted_proxies",
            _ => return self,
        };
        let is_overridden = match name {
            "listen" => overrides.listen.is_some(),
            "admin" => overrides.admin.is_some(),
            "domain" => overrides.domain.is_some(),
            _ => false,
        };
        match file::line_of(text, name) {
            Some(line) if !is_overridden => Self::InFile { path, line, error: Box::new(self) },
            _ => self,
        }
    }
}

/// Returns the default data folder. The CLI reads `admin.token` from it.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    data_dir_from(|name| std::env::var_os(name))
}

/// Returns the cache folder of this user's commands.
pub(crate) fn default_cache_dir() -> Option<PathBuf> {
    base_dir("XDG_CACHE_HOME", ".cache", |name| std::env::var_os(name))
}

/// Returns the admin address of the host for commands, from the variable `ISOPOD_HOST`.
pub(crate) fn host_address() -> Option<String> {
    text_of("ISOPOD_HOST", |name| std::env::var_os(name))
}

/// Returns the token for commands, from the variable `ISOPOD_TOKEN`.
pub(crate) fn token() -> Option<String> {
    text_of("ISOPOD_TOKEN", |name| std::env::var_os(name))
}

/// Returns the value of a variable; an empty variable counts as unset. A value that isn't UTF-8
/// gets replacement characters, so that the error about it shows it.
fn text_of(name: &str, environment: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let value = environment(name)?.to_string_lossy().trim().to_owned();
    (!value.is_empty()).then_some(value)
}

/// Returns whether the user disables colours (<https://no-color.org>).
pub(crate) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn data_dir_from(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    base_dir("XDG_DATA_HOME", ".local/share", environment)
}

/// Returns the program's folder in an XDG base directory, from `variable` or below the home folder.
fn base_dir(variable: &str, below_home: &str, environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder(variable).or_else(|| folder("HOME").map(|home| home.join(below_home)));
    base.map(|base| base.join("isopod"))
}

fn resolve(
    file: ConfigFile,
    overrides: Overrides,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, ConfigError> {
    let data_dir = overrides.data_dir.or(file.data).or_else(|| data_dir_from(environment));
    let listen = overrides.listen.or(file.listen).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let admin = overrides.admin.or(file.admin).unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let domain = overrides.domain.or(file.domain).unwrap_or_else(|| "localhost".to_owned());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let instances_max = file.instances_max.unwrap_or(1000);
    let roots = tls::resolve(file.tls)?;
    let config = Config {
        data_dir: data_dir.ok_or(ConfigError::NoDataDir)?,
        adopt: overrides.adopt,
        listen: address("listen", &listen)?,
        admin: address("admin", &admin)?,
        domain: domain_name(&domain)?,
        pushes: PushLimits {
            parallel: file.pushes.parallel.unwrap_or(crate::control::limits::PUSHES_PARALLEL),
            queued_max: file.pushes.queued_max.unwrap_or(crate::control::limits::PUSHES_QUEUED_MAX),
            time_limit: file.pushes.time_limit.map_or(crate::control::limits::PUSH_TIME, |span| span.0),
        },
        logs: Logs {
            access: file.logs.access.unwrap_or(true),
            segment_bytes: file.logs.segment.map_or(crate::observe::limits::LOG_SEGMENT_BYTES, |size| size.0),
            kept_bytes: file.logs.kept.map_or(crate::observe::limits::LOG_KEPT_BYTES, |size| size.0),
            kept_for: file.logs.kept_for.map_or(crate::observe::limits::LOG_KEPT_FOR, |span| span.0),
        },
        drain_time: file.drain_time.map_or(crate::control::limits::DRAIN_TIME, |span| span.0),
        freeze_after: file.freeze_after.map_or(crate::control::limits::FREEZE_AFTER, |span| span.0),
        cores: Cores { pull: policy::CORES_PULL_USUAL, push: policy::CORES_PUSH_USUAL }.with(file.cores),
        compile_threads: file.compile_threads.unwrap_or(processors.div_ceil(2)),
        instances_max,
        app_instances_max: file.app_instances_max.unwrap_or((instances_max / 10).max(10)),
        ceiling: Ceiling::usual().with(&file.policy),
        memory_bytes_max: file.memory_max.map_or_else(os::default_guest_memory, |size| size.0),
        frozen_code_bytes_max: file.frozen_code_max.map_or(engine::FROZEN_CODE_BYTES_MAX, |size| size.0),
        scale_window: file.scale_window.map_or(policy::SCALE_WINDOW, |span| span.0),
        connections: Connections {
            times: ConnectionTimes {
                idle: file.connections.idle.map_or(crate::http::limits::CONNECTION_IDLE, |span| span.0),
                head: file.connections.head.map_or(crate::http::limits::CONNECTION_HEAD, |span| span.0),
                age: file.connections.age.map_or(crate::http::limits::CONNECTION_AGE, |span| span.0),
                write: file.connections.write.map_or(crate::http::limits::CONNECTION_WRITE, |span| span.0),
            },
            traffic_max: file.connections.traffic_max.unwrap_or(crate::ingress::limits::TRAFFIC_CONNECTIONS_MAX),
            admin_max: file.connections.admin_max.unwrap_or(crate::api::limits::ADMIN_CONNECTIONS_MAX),
        },
        outbound: Outbound {
            resolver: file.outbound.resolver.map(|value| name_server(&value)).transpose()?,
            idle_time: file.outbound.idle_time.map_or(engine::OUTBOUND_IDLE_TIME, |span| span.0),
        },
        telemetry: telemetry::resolve(file.telemetry, &roots)?,
        trusted_proxies: TrustedProxies::read(&file.trusted_proxies)?,
        admin_names: admin_names(&file.admin_names)?,
        middleware: file.middleware,
        gates: file.gates,
        alerts: file.alerts.resolve(roots.clone())?,
        status: file.status.resolve()?,
        roots,
    };
    check_ranges(&config)?;
    check_addresses(&config)?;
    Ok(config)
}

#[expect(clippy::too_many_lines, reason = "one list of all ranges")]
fn check_ranges(config: &Config) -> Result<(), ConfigError> {
    let seconds = |span: Duration| format!("{} s", span.as_secs());
    let checks: [(&'static str, bool, String, &'static str); 18] = [
        ("pushes.parallel", (1..=64).contains(&config.pushes.parallel), config.pushes.parallel.to_string(), "1 to 64"),
        (
            "pushes.queued_max",
            (1..=10_000).contains(&config.pushes.queued_max),
            config.pushes.queued_max.to_string(),
            "1 to 10000",
        ),
        (
            "pushes.time_limit",
            (1..=86_400).contains(&config.pushes.time_limit.as_secs()),
            seconds(config.pushes.time_limit),
            "1 second to 1 day",
        ),
        (
            "logs.segment",
            (64 << 10..=1 << 30).contains(&config.logs.segment_bytes),
            format!("{} bytes", config.logs.segment_bytes),
            "64KiB to 1GiB",
        ),
        (
            "logs.kept",
            config.logs.kept_bytes >= config.logs.segment_bytes,
            format!("{} bytes", config.logs.kept_bytes),
            "at least one segment (logs.segment)",
        ),
        ("drain_time", config.drain_time.as_secs() <= 3600, seconds(config.drain_time), "0 seconds to 1 hour"),
        (
            "freeze_after",
            (Duration::from_millis(100)..=Duration::from_secs(24 * 3600)).contains(&config.freeze_after),
            format!("{} ms", config.freeze_after.as_millis()),
            "100 milliseconds to 24 hours",
        ),
        ("cores.pull", policy::CORES.contains(&config.cores.pull), config.cores.pull.to_string(), "1 to 1000"),
        ("cores.push", policy::CORES.contains(&config.cores.push), config.cores.push.to_string(), "1 to 1000"),
        (
            "compile_threads",
            (1..=256).contains(&config.compile_threads),
            config.compile_threads.to_string(),
            "1 to 256",
        ),
        (
            "memory_max",
            config.memory_bytes_max >= 64 << 20,
            format!("{} bytes", config.memory_bytes_max),
            "at least 64MiB",
        ),
        (
            "scale_window",
            (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&config.scale_window),
            format!("{} ms", config.scale_window.as_millis()),
            "1 second to 1 hour",
        ),
        (
            "outbound.idle_time",
            (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&config.outbound.idle_time),
            format!("{} ms", config.outbound.idle_time.as_millis()),
            "100 milliseconds to 1 hour",
        ),
        (
            "instances_max",
            (1..=100_000).contains(&config.instances_max),
            config.instances_max.to_string(),
            "1 to 100000",
        ),
        (
            "app_instances_max",
            (1..=100_000).contains(&config.app_instances_max),
            config.app_instances_max.to_string(),
            "1 to 100000",
        ),
        (
            "middleware",
            config.middleware.len() <= policy::MIDDLEWARE_MAX,
            format!("a list of {}", config.middleware.len()),
            "0 to 16 entries",
        ),
        (
            "admin_names",
            config.admin_names.len() <= crate::api::limits::ADMIN_NAMES_MAX,
            format!("a list of {}", config.admin_names.len()),
            "0 to 64 entries",
        ),
        (
            "gates",
            config.gates.len() <= policy::GATES_MAX,
            format!("a list of {}", config.gates.len()),
            "0 to 16 entries",
        ),
    ];
    let times = &config.connections.times;
    let spans = [
        ("connections.idle", times.idle, Duration::from_millis(100), "100 milliseconds to 1 day"),
        ("connections.head", times.head, Duration::from_millis(100), "100 milliseconds to 1 day"),
        ("connections.age", times.age, Duration::from_secs(1), "1 second to 1 day"),
        ("connections.write", times.write, Duration::from_millis(100), "100 milliseconds to 1 day"),
    ];
    let day = Duration::from_secs(86_400);
    let spans = spans.map(|(name, span, least, range)| {
        (name, (least..=day).contains(&span), format!("{} ms", span.as_millis()), range)
    });
    let counts = [
        ("connections.traffic_max", config.connections.traffic_max),
        ("connections.admin_max", config.connections.admin_max),
    ];
    let counts =
        counts.map(|(name, count)| (name, (8..=1_000_000).contains(&count), count.to_string(), "8 to 1000000"));
    let checks = checks.into_iter().chain(spans).chain(counts);
    for (name, holds, value, range) in checks {
        if !holds {
            return Err(ConfigError::OutOfRange { name, value, range });
        }
    }
    Ok(())
}

/// Refuses overlapping addresses: binding the second would fail as "in use by another program".
fn check_addresses(config: &Config) -> Result<(), ConfigError> {
    let (listen, admin) = (config.listen, config.admin);
    // Port 0 picks a free one for each.
    if listen.port() == 0 || listen.port() != admin.port() {
        return Ok(());
    }
    let (one, other) = (listen.ip().to_canonical(), admin.ip().to_canonical());
    let overlap = one == other || one.is_unspecified() || other.is_unspecified();
    if overlap { Err(ConfigError::SameAddress { listen, admin }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, overrides: Overrides) -> Result<Config, ConfigError> {
        let file = toml::from_str(text)
            .map_err(|e| ConfigError::Malformed { path: PathBuf::from("isopod.conf"), message: e.to_string() })?;
        resolve(file, overrides, |name| (name == "HOME").then(|| OsString::from("/home/ada")))
    }

    #[test]
    fn the_defaults_are_those_of_the_interface() {
        let config = resolved("", Overrides::default()).expect("resolves");
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin.to_string(), "127.0.0.1:8081");
        assert_eq!(config.domain, "localhost");
        assert_eq!(config.data_dir, PathBuf::from("/home/ada/.local/share/isopod"));
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let overrides = Overrides { listen: Some("127.0.0.1:0".to_owned()), ..Overrides::default() };
        let config = resolved("listen = \"127.0.0.1:9000\"\nadmin = \"127.0.0.1:9001\"", overrides).expect("resolves");
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.admin.port(), 9001);
    }

    #[test]
    fn apps_and_the_api_have_different_addresses() {
        let both = |listen: &str, admin: &str| {
            resolved(&format!("listen = \"{listen}\"\nadmin = \"{admin}\""), Overrides::default())
        };
        for (listen, admin) in [
            ("127.0.0.1:90", "127.0.0.1:90"),
            ("0.0.0.0:90", "127.0.0.1:90"),
            ("[::ffff:127.0.0.1]:90", "127.0.0.1:90"),
        ] {
            let error = both(listen, admin).expect_err(listen).to_string();
            assert!(error.contains(admin) && error.contains("--admin"), "{error}");
        }
        for (listen, admin) in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.2:90", "127.0.0.1:90")] {
            both(listen, admin).expect(listen);
        }
    }

    #[test]
    fn a_name_server_is_an_address_with_or_without_a_port() {
        let resolver = |text: &str| {
            let config = resolved(&format!("outbound.resolver = \"{text}\""), Overrides::default());
            config.map(|config| config.outbound.resolver.map(|server| server.to_string()))
        };
        for (text, server) in [("10.0.0.1", "10.0.0.1:53"), ("[::1]:5353", "[::1]:5353"), ("::1", "[::1]:53")] {
            assert_eq!(resolver(text).expect(text).as_deref(), Some(server));
        }
        assert!(resolver("dns.example").expect_err("it is a name").to_string().contains("outbound.resolver"));
    }

    #[test]
    fn the_ceiling_of_the_file_overrides_the_usual_one() {
        let ceiling = |text: &str| resolved(text, Overrides::default()).expect("resolves").ceiling;
        assert_eq!(ceiling(""), Ceiling::usual());
        let set = ceiling("[policy]\nprivate_addresses = true\nmemory = \"64MiB\"\ntypes = [\"dev\"]");
        assert_eq!(
            (set.private_addresses, set.memory.map(|it| it.0), set.keyvalue),
            (Some(true), Some(64 << 20), None)
        );
        for (text, why) in [
            ("[policy]\nhttp = [\"http://x\"]", "without scheme"),
            ("[policy]\nhttp = [\"169.254.169.254\"]", "metadata"),
            ("[policy]\nmemory = 7", "string"),
            ("[policy]\nfolders = \"none\"", "folders"),
        ] {
            assert!(resolved(text, Overrides::default()).expect_err(text).to_string().contains(why), "{text}");
        }
    }

    #[test]
    fn a_misspelt_key_is_an_error_that_names_it() {
        let error = resolved("domian = \"x\"", Overrides::default()).expect_err("is refused");
        assert!(error.to_string().contains("domian"), "{error}");
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        for (text, name) in [
            ("pushes.parallel = 0", "pushes.parallel"),
            ("logs.segment = \"1KiB\"", "logs.segment"),
            ("drain_time = \"2h\"", "drain_time"),
            ("outbound.idle_time = \"1ms\"", "outbound.idle_time"),
            ("domain = \"-x.org\"", "-x.org"),
            ("listen = \"nonsense\"", "listen"),
            ("trusted_proxies = [\"10.0.0.0/99\"]", "10.0.0.0/99"),
            ("trusted_proxies = [\"proxy.example.org\"]", "trusted_proxies"),
            ("admin_names = [\"isopod.example.org:8081\"]", "admin_names"),
        ] {
            let error = resolved(text, Overrides::default()).expect_err(text);
            assert!(error.to_string().contains(name), "{text}: {error}");
        }
    }

    #[test]
    fn an_invalid_value_of_the_file_is_reported_with_its_line() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let path = folder.path().join("isopod.conf");
        let load = |text: &str, overrides: Overrides| {
            std::fs::write(&path, text).expect("it is written");
            Config::load(Overrides { file: Some(path.clone()), ..overrides }).expect_err("is refused").to_string()
        };
        let data = "data = \"/tmp/x\"\n";
        for (text, line) in [
            ("[pushes]\nqueued_max = 3\nparallel = 0", "line 4: `pushes.parallel`"),
            ("domain = \"-x.org\"", "line 2: invalid domain"),
            ("outbound.idle_time = \"1ms\"", "line 2: `outbound.idle_time`"),
            ("trusted_proxies = [\"10.0.0.0/99\"]", "line 2: trusted_proxies"),
        ] {
            let error = load(&format!("{data}{text}"), Overrides::default());
            assert!(error.contains(line) && error.contains("isopod.conf"), "{text}: {error}");
        }
        let overrides = Overrides { domain: Some("-y.org".to_owned()), ..Overrides::default() };
        let error = load(&format!("{data}domain = \"example.org\""), overrides);
        assert!(!error.contains("isopod.conf"), "the value is from the command line: {error}");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let read = |value: &str| text_of("ISOPOD_HOST", |name| (name == "ISOPOD_HOST").then(|| value.into()));
        assert_eq!(read(" http://127.0.0.1:9001\n").as_deref(), Some("http://127.0.0.1:9001"));
        assert_eq!((read(""), read(" ")), (None, None));
        assert_eq!(text_of("ISOPOD_HOST", |_| None), None);
    }
}
