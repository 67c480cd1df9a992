//! Owns the making of the host: builds every service, hands out handles, and orders start and stop. The only file that
//! wires. Never serves, decides or stores anything itself.

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
    config::Config,
    control::data_folder,
    control::{DeployError, Deployer, Parts},
    failpoint,
    http::byte_budget::ByteBudget,
    ingress, limits,
    observe::liveness::{self, Liveness},
    observe::{access::Access, logs, machine, metrics::Metrics},
    os::{self, Connections},
    runtime::{Directory, Guests, HostResources},
};

/// Why the host can't start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlatformError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{address} can't be listened on for {what}: {reason}. Choose another address with {flag}")]
    Bind { what: &'static str, flag: &'static str, address: SocketAddr, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Executor(#[from] isopod_executor::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(
        "this process may have only {open_files} files open, and needs at least {}: raise its limit (`ulimit -n`, or \
         `LimitNOFILE=` of its service)",
        limits::FILES_MIN
    )]
    FewFiles { open_files: usize },
    #[error("the apps can't be brought back: {0}")]
    Restore(#[from] DeployError),
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

/// A host that runs.
pub(crate) struct Platform {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    deployer: Deployer,
    store: Store,
    logs: logs::Service,
    traffic: JoinHandle<()>,
    api: tokio::task::JoinHandle<()>,
    stop_traffic: watch::Sender<bool>,
    stop_api: CancellationToken,
    machine: HostResources,
    drain_time: Duration,
}

impl Platform {
    /// Starts everything, from what nothing depends on to what depends on all. Ready when apps can be reached.
    /// `guests` is a runtime for guests alone.
    pub(crate) async fn start(config: Config, guests: Guests) -> Result<Self, PlatformError> {
        os::keep_pages_small();
        let open_files = os::raise_open_files();
        if open_files < limits::FILES_MIN {
            return Err(PlatformError::FewFiles { open_files });
        }
        let wanted = Connections { traffic: config.connections.traffic_max, admin: config.connections.admin_max };
        let connections = Connections::of(open_files, wanted);
        if connections.traffic < wanted.traffic / 2 {
            tracing::warn!(
                clients = connections.traffic,
                "fewer clients than usual can be connected at once, since this process may not open more files: raise its \
                 limit (`ulimit -Hn`, or `LimitNOFILE=` of its service)"
            );
        }
        // First, since its lock keeps a second host from touching anything.
        let options = Options { adopt: config.adopt, ..Options::default() };
        let store = Store::open_with(&config.data_dir, &options)?;
        data_folder::log(&store);
        let admin_service = api::server::Service::bind(config.admin, connections.admin, config.connections.times)
            .map_err(|e| cannot_bind(API, config.admin, &e))?;
        let admin = admin_service.local_addr().map_err(|e| cannot_bind(API, config.admin, &e))?;
        let logs = start_logs(&store, &config)?;
        let metrics = Metrics::new();
        let (visits, visitors) = tokio::sync::mpsc::channel(limits::VISITS_WAITING);
        let directory = Arc::new(Directory::new(visits));
        let access = Arc::new(Access::new(logs.handle(), metrics.clone()));
        let ingress_config = ingress::Config {
            domain: config.domain.clone(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            drain: config.drain_time,
            only_app: None,
            connections_max: connections.traffic,
            times: config.connections.times,
            trusted_proxies: config.trusted_proxies,
        };
        let ingress = ingress::Service::bind(config.listen, ingress_config, Arc::clone(&directory), access)
            .map_err(|e| cannot_bind(TRAFFIC, config.listen, &e))?;
        let liveness = ingress.liveness();
        let listen = ingress.local_addr().map_err(|e| cannot_bind(TRAFFIC, config.listen, &e))?;

        let engine = Engine::new(EngineConfig {
            cache_dir: Some(store.folder().join("cache")),
            compile_threads: config.compile_threads,
            instances_max: config.instances_max,
            memory_bytes_max: config.memory_bytes_max,
            frozen_code_bytes_max: config.frozen_code_bytes_max,
            forbidden_addresses: [listen, admin].into_iter().flat_map(ways_to).collect(),
            resolver: config.outbound.resolver,
            outbound_connections_max: os::outbound_connections(open_files),
            outbound_idle_time: config.outbound.idle_time,
        })?;
        let executor = start_executor(&guests)?;
        liveness.watch_workers(executor.pulse());
        let watch = Arc::<machine::Watch>::default();
        let shared_machine = HostResources::new(executor, guests);
        let parts = Parts {
            machine: shared_machine.clone(),
            cores: config.cores,
            scale_window: config.scale_window,
            app_instances_max: config.app_instances_max,
            watch: Arc::clone(&watch),
            store: store.clone(),
            engine,
            directory,
            logs: logs.handle(),
            metrics: metrics.clone(),
            pushes: config.pushes,
            freeze_after: config.freeze_after,
        };
        let deployer = Deployer::open(parts, visitors)
            .map_err(|source| PlatformError::Io { doing: "the folder for uploads can't be made", source })?;
        let tokens = api::load_tokens(&store).await?;
        data_folder::record_missing(&store).await?;
        let restored = deployer.restore().await?;

        let (stop_api, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let router = api::router(Arc::new(Api {
            deployer: deployer.clone(),
            store: store.clone(),
            logs: logs.handle(),
            metrics,
            tokens,
            urls: Urls { domain: config.domain, port: listen.port() },
            ready: Arc::clone(&ready),
            subscribers: Arc::default(),
            changes: api::changes::Changes::new(deployer.tasks()),
            bodies: ByteBudget::of(limits::API_BODIES_BYTES),
            stop: stop_api.clone(),
            liveness: Arc::clone(&liveness),
            machine: watch,
            started_at: jiff::Timestamp::now(),
        }));
        let api = tokio::spawn(admin_service.run(router, stop_api.clone(), config.drain_time));
        let (stop_traffic, stopped) = watch::channel(false);
        let traffic = start_traffic(ingress, &liveness, stopped)?;
        wait_for_apps(restored, ready).await;
        let (machine, drain_time) = (shared_machine, config.drain_time);
        Ok(Self { listen, admin, deployer, store, logs, traffic, api, stop_traffic, stop_api, machine, drain_time })
    }

    /// Stops everything in the opposite order, each part within its time.
    pub(crate) async fn stop(self) {
        let Self { deployer, store, logs, traffic, api, stop_traffic, stop_api, machine, drain_time, .. } = self;
        tracing::info!("stopping: no new requests are taken, and those under way are finished");
        stop_api.cancel();
        stop_traffic.send_replace(true);
        tokio::spawn(machine.refuse_waiting_after(drain_time));
        deployer.shut_down(limits::PUSH_DRAIN_TIME).await;
        let traffic = tokio::task::spawn_blocking(move || traffic.join());
        match tokio::time::timeout(drain_time + limits::FLUSH_TIME, traffic).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_)) | Err(_)) => tracing::error!("the thread that accepts traffic ended with a panic"),
            Err(_) => tracing::warn!("requests were still under way after the drain time and are cut off"),
        }
        if tokio::time::timeout(drain_time + limits::FLUSH_TIME, api).await.is_err() {
            tracing::warn!("the API did not end in time");
        }
        let flushed = tokio::task::spawn_blocking(move || logs.stop());
        if tokio::time::timeout(limits::FLUSH_TIME, flushed).await.is_err() {
            tracing::warn!("the last log lines could not be written in time");
        }
        drop(deployer);
        // Closing the store waits for its writer, so it must not hold up the runtime's own thread.
        drop(tokio::time::timeout(limits::FLUSH_TIME, tokio::task::spawn_blocking(move || drop(store))).await);
        tracing::info!("stopped");
    }
}

fn start_logs(store: &Store, config: &Config) -> Result<logs::Service, PlatformError> {
    logs::Service::start(logs::Config {
        apps_dir: store.folder().join("apps"),
        segment_bytes: config.logs.segment_bytes,
        kept_bytes: config.logs.kept_bytes,
        kept_for: config.logs.kept_for,
    })
    .map_err(|source| PlatformError::Io { doing: "the log writer can't be started", source })
}

/// Starts the threads that guests share. Their timers and sockets run on the guests' own runtime.
pub(crate) fn start_executor(guests: &Guests) -> Result<Executor, isopod_executor::Error> {
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

/// Accepts traffic on a thread of its own, so that a busy API delays no new connection.
fn start_traffic(
    ingress: ingress::Service,
    liveness: &Arc<Liveness>,
    stopped: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, PlatformError> {
    let failed = |source| PlatformError::Io { doing: "the thread that accepts traffic can't be started", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    const NAME: &str = "isopod-accept";
    let watched = liveness.watch(NAME, runtime.handle());
    let serve = move || {
        liveness::or_abort(NAME, || {
            if let Err(error) = runtime.block_on(ingress.run(stopped)) {
                tracing::error!(%error, "traffic is not served any more");
                liveness::abort(NAME);
            }
        });
        drop(watched);
    };
    std::thread::Builder::new().name(NAME.to_owned()).spawn(serve).map_err(failed)
}

/// Waits for the apps that are brought back, but not for ever: one slow app must not keep all others from being reached.
async fn wait_for_apps(restored: crate::control::Restored, ready: Arc<AtomicBool>) {
    let bringing = tokio::spawn(async move {
        restored.bring_up().await;
        ready.store(true, Ordering::Release);
    });
    if tokio::time::timeout(limits::RESTORE_WAIT, bringing).await.is_err() {
        tracing::warn!("some apps are still being brought back; they answer 503 until they are");
    }
}

struct Listened {
    what: &'static str,
    flag: &'static str,
}

const API: Listened = Listened { what: "the API", flag: "--admin" };
const TRAFFIC: Listened = Listened { what: "app traffic", flag: "--listen" };

fn cannot_bind(listened: Listened, address: SocketAddr, error: &std::io::Error) -> PlatformError {
    let reason = match error.kind() {
        std::io::ErrorKind::AddrInUse => "the address is in use by another program".to_owned(),
        std::io::ErrorKind::PermissionDenied => "this user may not use the port".to_owned(),
        _ => error.to_string(),
    };
    PlatformError::Bind { what: listened.what, flag: listened.flag, address, reason }
}

/// The addresses by which a guest could reach one of ours from this machine.
pub(crate) fn ways_to(address: SocketAddr) -> Vec<SocketAddr> {
    let mut ways = vec![address];
    if address.ip().is_unspecified() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        ways.extend(loopback.map(|ip| SocketAddr::new(ip, address.port())));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_reached_by_loopback_too() {
        let all: SocketAddr = "0.0.0.0:8081".parse().expect("is an address");
        assert!(ways_to(all).contains(&"127.0.0.1:8081".parse().expect("is an address")));
        assert_eq!(ways_to("10.0.0.1:1".parse().expect("is an address")).len(), 1);
    }

    #[test]
    fn a_port_in_use_is_told_with_the_flag_that_changes_it() {
        let error = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let told = cannot_bind(API, "127.0.0.1:8081".parse().expect("is an address"), &error).to_string();
        assert!(told.contains("127.0.0.1:8081") && told.contains("in use") && told.contains("--admin"), "{told}");
    }
}
