//! Builds the host: creates every service, passes handles between them, and orders start and stop.
//! The only file that wires services. Never serves a request and never stores data itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use isopod_engine::{Engine, EngineConfig, EngineError};
use isopod_executor::Executor;
use isopod_store::{Options, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api, TokenError, Urls},
    certificates,
    config::Config,
    control::{self, DeployError, data_folder},
    failpoint,
    http::shares::Shares,
    ingress, limits,
    observe::liveness::{self, Liveness},
    observe::{access_recorder::AccessRecorder, exposition::Format, logs, machine, metrics::Metrics, telemetry},
    os::{self, Connections},
    runtime::{Directory, GuestRuntimes, HostResources},
};

/// Why the host can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to bind {address} for {what}: {reason}. Choose another address with {flag}")]
    Bind { what: &'static str, flag: &'static str, address: SocketAddr, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Executor(#[from] isopod_executor::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "the limit of open files is {open_files}, but this process needs at least {}: raise it (`ulimit -n`, or \
         `LimitNOFILE=` of its service)",
        limits::FILES_MIN
    )]
    FewFiles { open_files: usize },
    #[error("failed to restore the apps: {0}")]
    Restore(#[from] DeployError),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

/// The running host.
pub(crate) struct Platform {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    engine: Engine,
    control: control::Service,
    store: Store,
    logs: logs::Service,
    telemetry: Option<telemetry::RunningExporter>,
    traffic: JoinHandle<()>,
    api: tokio::task::JoinHandle<()>,
    stop_traffic: watch::Sender<bool>,
    stop_api: CancellationToken,
    machine: HostResources,
    drain_time: Duration,
}

impl Platform {
    /// Starts all services in the order of their dependencies. Returns when apps can be reached.
    /// `guests` is a runtime that only guests use.
    #[expect(clippy::too_many_lines, reason = "the order of all services is read in one place")]
    pub(crate) async fn start(config: Config, guests: GuestRuntimes) -> Result<Self, PlatformError> {
        let open_files = os::raise_open_files();
        if open_files < limits::FILES_MIN {
            return Err(PlatformError::FewFiles { open_files });
        }
        let wanted = Connections { traffic: config.connections.traffic_max, admin: config.connections.admin_max };
        let connections = Connections::of(open_files, wanted);
        if connections.traffic < wanted.traffic / 2 {
            tracing::warn!(
                clients = connections.traffic,
                "fewer clients than configured can connect, because the limit of open files is too low: raise it \
                 (`ulimit -Hn`, or `LimitNOFILE=` of its service)"
            );
        }
        // First, since its lock prevents a second host from changing anything.
        let options = Options { adopt: config.adopt, ..Options::default() };
        let store = Store::open_with(&config.data_dir, &options)?;
        data_folder::log(&store);
        let admin_service = api::server::Service::bind(config.admin, connections.admin, config.connections.times)
            .map_err(|e| cannot_bind(API, config.admin, &e))?;
        let admin = admin_service.local_addr().map_err(|e| cannot_bind(API, config.admin, &e))?;
        let metrics = Metrics::new();
        let telemetry = config.telemetry.clone().map(|settings| telemetry::Service::new(settings, metrics.telemetry()));
        let export = telemetry.as_ref().map(telemetry::Service::handle);
        let logs = start_logs(&store, &config, export.clone())?;
        let (visits, visitors) = tokio::sync::mpsc::channel(crate::runtime::limits::PREVIEWS_QUEUED_MAX);
        let directory = Arc::new(Directory::new(visits));
        let access = Arc::new(AccessRecorder::new(logs.handle(), metrics.clone(), export, config.logs.access));
        let ingress_config = ingress::Config {
            domain: config.domain.clone(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            drain: config.drain_time,
            only_app: None,
            connections_max: connections.traffic,
            times: config.connections.times,
            trusted_proxies: config.trusted_proxies.clone(),
        };
        let timing = Arc::<api::TimingTokens>::default();
        let seen_by = Some(Arc::<api::TimingTokens>::clone(&timing) as Arc<dyn ingress::TimingAccess>);
        let ingress = ingress::Service::bind(config.listen, ingress_config, Arc::clone(&directory), access, seen_by)
            .map_err(|e| cannot_bind(TRAFFIC, config.listen, &e))?;
        let liveness = ingress.liveness();
        let listen = ingress.local_addr().map_err(|e| cannot_bind(TRAFFIC, config.listen, &e))?;

        let engine = Engine::new(EngineConfig {
            cache_dir: Some(store.folder().join("cache")),
            compile_threads: config.compile_threads,
            instances_max: config.instances_max,
            memory_bytes_max: config.memory_bytes_max,
            frozen_code_bytes_max: config.frozen_code_bytes_max,
            forbidden_addresses: [listen, admin].into_iter().flat_map(reachable_at).collect(),
            resolver: config.outbound.resolver,
            authorities: certificates::ders(&config.roots),
            outbound_connections_max: os::outbound_connections(open_files),
            outbound_idle_time: config.outbound.idle_time,
        })?;
        let executor = start_executor(&guests)?;
        liveness.watch_workers(executor.pulse());
        let watch = Arc::<machine::CpuSampler>::default();
        let shared_machine = HostResources::new(executor, guests);
        shared_machine.require_middleware(config.middleware.clone());
        let options = control::Options {
            machine: shared_machine.clone(),
            cores: config.cores,
            scale_window: config.scale_window,
            app_instances_max: config.app_instances_max,
            ceiling: Arc::new(config.ceiling),
            watch: Arc::clone(&watch),
            store: store.clone(),
            engine: engine.clone(),
            directory,
            logs: logs.handle(),
            metrics: metrics.clone(),
            pushes: config.pushes,
            freeze_after: config.freeze_after,
            required_middleware: config.middleware,
            gates: config.gates,
            alerts: config.alerts,
        };
        let mut control = control::Service::open(options, visitors)
            .map_err(|source| PlatformError::Io { doing: "failed to create the folder for uploads", source })?;
        let tokens = api::load_tokens(&store).await?;
        data_folder::record_missing(&store).await?;
        let restored = control.restore().await?;
        timing.set(tokens.clone(), control.handles());

        let telemetry = start_telemetry(telemetry, &control, (&metrics, &logs))?;
        let (stop_api, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let refused_calls = Arc::<api::RefusedCalls>::default();
        let upkeep = api::TokenUpkeep {
            tokens: tokens.clone(),
            refused_calls: Arc::clone(&refused_calls),
            store: store.clone(),
            stop: stop_api.clone(),
        };
        control.tasks().spawn(upkeep.run());
        let router = api::router(Arc::new(Api {
            control: control.handles(),
            store: store.clone(),
            logs: logs.handle(),
            metrics,
            tokens,
            admin_names: api::AdminNames::new(&config.domain, config.admin_names),
            urls: Urls { domain: config.domain, port: listen.port() },
            ready: Arc::clone(&ready),
            subscribers: Shares::new(api::limits::SUBSCRIBERS_MAX, api::limits::SUBSCRIBERS_PER_TOKEN),
            top: api::SharedTop::default(),
            changes: api::changes::Changes::new(control.tasks()),
            bodies: Shares::new(api::limits::API_BODIES_BYTES, api::limits::API_BODIES_BYTES_PER_TOKEN),
            failures: api::FailureLog::default(),
            refused_calls,
            status_page: api::StatusPage::new(config.status),
            trusted_proxies: config.trusted_proxies.clone(),
            stop: stop_api.clone(),
            liveness: Arc::clone(&liveness),
            machine: watch,
            started_at: jiff::Timestamp::now(),
        }));
        let api = tokio::spawn(admin_service.run(router, stop_api.clone(), config.drain_time));
        if tokio::time::timeout(limits::RESTORE_WAIT, restored.load_plugins()).await.is_err() {
            tracing::warn!("some plugins are still being restored; calls of these plugins fail until then");
        }
        let (stop_traffic, stopped) = watch::channel(false);
        let traffic = start_traffic(ingress, &liveness, stopped)?;
        wait_for_apps(restored, ready).await;
        let (machine, drain_time) = (shared_machine, config.drain_time);
        Ok(Self {
            listen,
            admin,
            engine,
            control,
            store,
            logs,
            telemetry,
            traffic,
            api,
            stop_traffic,
            stop_api,
            machine,
            drain_time,
        })
    }

    /// Stops all services in the opposite order, each within its drain time.
    pub(crate) async fn stop(self) {
        let Self { engine, mut control, store, logs, telemetry, traffic, api, .. } = self;
        let (stop_traffic, stop_api, machine, drain_time) =
            (self.stop_traffic, self.stop_api, self.machine, self.drain_time);
        tracing::info!("stopping: new requests are refused, and requests in progress are drained");
        stop_api.cancel();
        stop_traffic.send_replace(true);
        tokio::spawn(machine.refuse_waiting_after(drain_time));
        control.shut_down(drain_time).await;
        let traffic = tokio::task::spawn_blocking(move || traffic.join());
        match tokio::time::timeout(drain_time + control::limits::FLUSH_TIME, traffic).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_)) | Err(_)) => tracing::error!("the thread that accepts traffic panicked"),
            Err(_) => tracing::warn!("requests were cut off: they did not complete within the drain time"),
        }
        if tokio::time::timeout(drain_time + control::limits::FLUSH_TIME, api).await.is_err() {
            tracing::warn!("the API did not stop within the drain time");
        }
        let flushed = tokio::task::spawn_blocking(move || {
            engine.report_faults();
            logs.stop()
        });
        if tokio::time::timeout(control::limits::FLUSH_TIME, flushed).await.is_err() {
            tracing::warn!("timed out writing the last log lines");
        }
        if let Some(telemetry) = telemetry {
            let sent = tokio::task::spawn_blocking(move || telemetry.stop());
            if tokio::time::timeout(control::limits::FLUSH_TIME, sent).await.is_err() {
                tracing::warn!("timed out sending the last telemetry");
            }
        }
        control.close().await;
        // Closing the store waits for its writer, so it must not block the runtime's own thread.
        drop(tokio::time::timeout(control::limits::FLUSH_TIME, tokio::task::spawn_blocking(move || drop(store))).await);
        tracing::info!("stopped");
    }
}

fn start_logs(
    store: &Store,
    config: &Config,
    telemetry: Option<telemetry::Telemetry>,
) -> Result<logs::Service, PlatformError> {
    let settings = logs::Config {
        apps_dir: store.folder().join("apps"),
        segment_bytes: config.logs.segment_bytes,
        kept_bytes: config.logs.kept_bytes,
        kept_for: config.logs.kept_for,
    };
    logs::Service::start(settings, telemetry)
        .map_err(|source| PlatformError::Io { doing: "failed to start the log writer", source })
}

/// Starts the export of telemetry, if it is configured.
fn start_telemetry(
    service: Option<telemetry::Service>,
    control: &control::Service,
    (metrics, logs): (&Metrics, &logs::Service),
) -> Result<Option<telemetry::RunningExporter>, PlatformError> {
    let Some(service) = service else { return Ok(None) };
    let (metrics, logs, queries) = (metrics.clone(), logs.handle(), control.handles().queries);
    let runtime = tokio::runtime::Handle::current();
    // Encoded on another thread: the exporter's has a low priority, and an export holds locks that
    // requests need.
    let text = move || {
        let (metrics, logs, queries) = (metrics.clone(), logs.clone(), queries.clone());
        let sample = move || queries.sample(logs.dropped());
        let export = runtime.spawn(async move { metrics.exported(sample, Format::OpenMetrics).await });
        let encoded = runtime.block_on(export).ok().and_then(Result::ok);
        encoded.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default()
    };
    let started = service.start(Box::new(text));
    started.map(Some).map_err(|source| PlatformError::Io { doing: "failed to start the export of telemetry", source })
}

/// Starts the threads that guests share. Their timers and sockets run on the guests' own runtime.
pub(crate) fn start_executor(guests: &GuestRuntimes) -> Result<Executor, isopod_executor::Error> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let guests = guests.clone();
    Executor::new(&isopod_executor::Config {
        around_thread: Arc::new(move |number, work| {
            guests.enter(|| {
                liveness::or_abort(&format!("isopod-work-{number}"), || {
                    failpoint::here("worker-thread");
                    work();
                });
            });
        }),
        ..isopod_executor::Config::new(cores)
    })
}

/// Accepts traffic on a separate thread, so that a busy API doesn't delay new connections.
fn start_traffic(
    ingress: ingress::Service,
    liveness: &Arc<Liveness>,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, PlatformError> {
    let failed = |source| PlatformError::Io { doing: "failed to start the thread that accepts traffic", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    const NAME: &str = "isopod-accept";
    let watched = liveness.watch(NAME, runtime.handle());
    let serve = move || {
        liveness::or_abort(NAME, || {
            if let Err(error) = runtime.block_on(ingress.run(stopped)) {
                tracing::error!(%error, "the traffic service failed");
                liveness::abort(NAME);
            }
        });
        drop(watched);
    };
    std::thread::Builder::new().name(NAME.to_owned()).spawn(serve).map_err(failed)
}

/// Waits for the restored apps up to [`limits::RESTORE_WAIT`]: one slow app must not delay all
/// others.
async fn wait_for_apps(restored: control::Restored, ready: Arc<AtomicBool>) {
    let restoring = tokio::spawn(async move {
        restored.activate().await;
        ready.store(true, Ordering::Release);
    });
    if tokio::time::timeout(limits::RESTORE_WAIT, restoring).await.is_err() {
        tracing::warn!("some apps are still being restored; they answer 503 until then");
    }
}

struct Address {
    what: &'static str,
    flag: &'static str,
}

const API: Address = Address { what: "the API", flag: "--admin" };
const TRAFFIC: Address = Address { what: "app traffic", flag: "--listen" };

fn cannot_bind(Address { what, flag }: Address, address: SocketAddr, error: &std::io::Error) -> PlatformError {
    let reason = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "the address is in use by another program, such as another host or `isopod dev`".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "this user has no permission to use the port".to_owned(),
        _ => error.to_string(),
    };
    PlatformError::Bind { what, flag, address, reason }
}

/// Returns the addresses by which a guest on this machine could reach an address of the host.
pub(crate) fn reachable_at(address: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = vec![address];
    if address.ip().is_unspecified() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        addresses.extend(loopback.map(|ip| SocketAddr::new(ip, address.port())));
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_also_reachable_by_loopback() {
        let all: SocketAddr = "0.0.0.0:8081".parse().expect("is an address");
        assert!(reachable_at(all).contains(&"127.0.0.1:8081".parse().expect("is an address")));
        assert_eq!(reachable_at("10.0.0.1:1".parse().expect("is an address")).len(), 1);
    }

    #[test]
    fn the_error_of_a_port_in_use_names_the_flag_that_changes_it() {
        let error = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let text = cannot_bind(API, "127.0.0.1:8081".parse().expect("is an address"), &error).to_string();
        assert!(text.contains("127.0.0.1:8081") && text.contains("in use") && text.contains("--admin"), "{text}");
    }
}
