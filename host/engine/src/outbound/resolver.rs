//! Looks up names for outbound requests: asynchronously, cached, and bounded in number and time. A
//! lookup is cancelled with its request, and blocks no thread. Never decides whether an address may
//! be reached.

use super::pool::Owner;
use crate::limits;
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
        ServerOrderingStrategy,
    },
    net::runtime::TokioRuntimeProvider,
    system_conf,
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Instant, SystemTime},
};
use tokio::{
    sync::{AcquireError, Semaphore},
    time::timeout,
};

/// The configuration files of name lookup. The resolver is rebuilt when a file changes.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

pub(super) struct Resolver {
    /// The name server to query; the system's name servers if `None`.
    server: Option<SocketAddr>,
    current: Mutex<Option<Current>>,
    lookups: Semaphore,
    apps: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

struct Current {
    resolver: Arc<TokioResolver>,
    files: [Option<SystemTime>; 2],
    looked: Instant,
}

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("no name server answered within {:?}", limits::LOOKUP_TIME_MAX)]
    TimedOut,
    #[error("the name has no address")]
    NoAddress,
    #[error("{0}")]
    Failed(String),
}

impl From<AcquireError> for Unresolved {
    fn from(error: AcquireError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Resolver {
    pub(super) fn new(server: Option<SocketAddr>) -> Self {
        let lookups = Semaphore::new(limits::LOOKUPS_MAX);
        Self { server, current: Mutex::default(), lookups, apps: Mutex::default() }
    }

    /// Returns the addresses of a host, which is a name or an address.
    pub(super) async fn addresses(&self, owner: &Owner, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        if let Some(known) = known(host) {
            return Ok(known);
        }
        let of_app = self.of_app(owner);
        let _of_app = of_app.acquire().await?;
        let _of_host = self.lookups.acquire().await?;
        let resolver = self.current();
        match timeout(limits::LOOKUP_TIME_MAX, resolver.lookup_ip(host)).await {
            Err(_) => Err(Unresolved::TimedOut),
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(hickory_resolver::net::NetError::Timeout)) => Err(Unresolved::TimedOut),
            Ok(Err(error)) if error.is_no_records_found() => Err(Unresolved::NoAddress),
            Ok(Err(error)) => Err(Unresolved::Failed(error.to_string())),
        }
    }

    /// Returns the semaphore for an app's lookups. It is removed after the last lookup.
    fn of_app(&self, owner: &Owner) -> Arc<Semaphore> {
        let mut apps = lock(&self.apps);
        if let Some(known) = apps.get(&owner.app).and_then(Weak::upgrade) {
            return known;
        }
        apps.retain(|_, app| app.strong_count() > 0);
        let fresh = Arc::new(Semaphore::new(limits::LOOKUPS_PER_APP_MAX));
        apps.insert(Arc::clone(&owner.app), Arc::downgrade(&fresh));
        fresh
    }

    fn current(&self) -> Arc<TokioResolver> {
        let mut current = lock(&self.current);
        if let Some(known) = &*current
            && known.looked.elapsed() < limits::RESOLVER_FILES_LOOK
        {
            return Arc::clone(&known.resolver);
        }
        let files = FILES.map(|file| Path::new(file).metadata().and_then(|found| found.modified()).ok());
        let resolver = match current.take() {
            Some(known) if known.files == files => known.resolver,
            _ => Arc::new(self.make()),
        };
        *current = Some(Current { resolver: Arc::clone(&resolver), files, looked: Instant::now() });
        resolver
    }

    #[expect(clippy::expect_used, reason = "building a resolver without TLS cannot fail")]
    fn make(&self) -> TokioResolver {
        let (config, mut options) = match self.server {
            Some(server) => (asking(server), ResolverOpts::default()),
            None => system_conf::read_system_conf().unwrap_or_else(|error| {
                tracing::warn!(%error, "no name server in /etc/resolv.conf: names are looked up at 127.0.0.1:53");
                (asking(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))), ResolverOpts::default())
            }),
        };
        options.timeout = options.timeout.min(limits::LOOKUP_ATTEMPT_TIME_MAX);
        options.attempts = options.attempts.min(limits::LOOKUP_ATTEMPTS_MAX);
        options.max_active_requests = 2 * limits::LOOKUPS_MAX;
        options.cache_size = limits::LOOKUPS_KEPT;
        options.positive_max_ttl = Some(limits::LOOKUP_KEPT_FOR_MAX);
        options.negative_max_ttl = Some(limits::LOOKUP_FAILURE_KEPT_FOR_MAX);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let built = builder.with_options(options).build();
        built.expect("building a resolver without TLS cannot fail")
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn asking(server: SocketAddr) -> ResolverConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections.into())])
}

/// Returns the addresses of a host that needs no lookup: a literal address, or `localhost` and all
/// names below it, which are always loopback (RFC 6761 §6.3).
fn known(host: &str) -> Option<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Some(vec![address]);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost");
    is_local.then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_need_no_lookup() {
        for host in ["localhost", "LOCALHOST", "localhost.", "a.localhost", "a.b.LocalHost."] {
            assert_eq!(known(host).map(|known| known.len()), Some(2), "{host}");
        }
        assert_eq!(known("10.0.0.1"), Some(vec!["10.0.0.1".parse().expect("is an address")]));
        assert_eq!(known("::1"), Some(vec![IpAddr::V6(Ipv6Addr::LOCALHOST)]));
        for host in ["localhost.example.org", "notlocalhost", "example.org", "localhost..", ""] {
            assert_eq!(known(host), None, "{host}");
        }
    }
}
