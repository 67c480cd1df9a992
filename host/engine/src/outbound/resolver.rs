//! Looks up names for outbound requests, bounded in number and time. Never decides whether an address may be reached.

use super::pool::Owner;
use crate::limits;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::{
    sync::{AcquireError, Semaphore},
    time::timeout,
};

pub(super) struct Resolver {
    lookups: Semaphore,
    apps: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("no name server answered within {:?}", limits::LOOKUP_TIME_MAX)]
    TimedOut,
    #[error("{0}")]
    Failed(String),
}

impl From<AcquireError> for Unresolved {
    fn from(error: AcquireError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Resolver {
    pub(super) fn new() -> Self {
        Self { lookups: Semaphore::new(limits::LOOKUPS_MAX), apps: Mutex::default() }
    }

    /// The addresses of a host, which is a name or an address already.
    pub(super) async fn addresses(&self, owner: &Owner, host: &str) -> Result<Vec<IpAddr>, Unresolved> {
        if let Some(known) = known(host) {
            return Ok(known);
        }
        let of_app = self.of_app(owner);
        let _of_app = of_app.acquire().await?;
        let _of_host = self.lookups.acquire().await?;
        match timeout(limits::LOOKUP_TIME_MAX, tokio::net::lookup_host((host, 0))).await {
            Err(_) => Err(Unresolved::TimedOut),
            Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
            Ok(Err(error)) => Err(Unresolved::Failed(error.to_string())),
        }
    }

    /// What bounds an app's lookups; forgotten with its last one.
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
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a host that needs no lookup: one that is an address, and `localhost` with all names below it, which
/// are loopback whatever a name server says (RFC 6761 §6.3).
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
