//! Owns a listener's connection permits: accepts connections, counts them per client, and reserves
//! a few beyond the cap for liveness checks. Never reads or writes a connection.

use crate::http::limits;
use isopod_policy::connections::{Admission, Occupancy, client_of, is_crowded};
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

/// A bound address. Counts its connections.
pub(crate) struct Listener {
    listener: TcpListener,
    permits: Arc<ConnectionPermits>,
}

/// A connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) permit: ConnectionPermit,
}

impl Listener {
    /// Binds a listener. `reserve` connections beyond `cap` are accepted for one request each.
    pub(crate) fn new(listener: TcpListener, cap: usize, reserve: usize) -> Self {
        // Accepted sockets inherit this option. Without keepalive, the host would never detect that
        // a client's machine has vanished.
        let alive = socket2::TcpKeepalive::new()
            .with_time(limits::TCP_KEEPALIVE_IDLE)
            .with_interval(limits::TCP_KEEPALIVE_INTERVAL);
        if let Err(error) = socket2::SockRef::from(&listener).set_tcp_keepalive(&alive) {
            tracing::debug!(%error, "TCP keepalive is off: vanished clients are detected late");
        }
        Self { listener, permits: Arc::new(ConnectionPermits::new(cap, reserve)) }
    }

    /// Returns the next connection. Cancel safe.
    pub(crate) async fn next(&self) -> Accepted {
        loop {
            self.permits.room().await;
            match self.accept().await {
                Ok((stream, peer)) => {
                    if let Some(permit) = self.permits.acquire(peer.ip()) {
                        return Accepted { stream, permit };
                    }
                }
                // Out of file descriptors, or a client that disconnected during the handshake:
                // neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(limits::ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((stream.into_std()?, peer))
    }
}

/// The connection permits of one listener.
struct ConnectionPermits {
    cap: usize,
    reserve_cap: usize,
    open: AtomicUsize,
    taken: Mutex<Taken>,
    freed: Notify,
    /// Whether a refusal was already logged.
    is_refusing: AtomicBool,
}

#[derive(Default)]
struct Taken {
    /// The number of open connections of each connected client.
    of_clients: HashMap<IpAddr, usize>,
    /// The connections of the reserve, oldest first.
    reserve: VecDeque<CancellationToken>,
}

impl ConnectionPermits {
    fn new(cap: usize, reserve_cap: usize) -> Self {
        let (open, taken, freed) = Default::default();
        Self { cap, reserve_cap, open, taken, freed, is_refusing: AtomicBool::new(false) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a connection can be accepted. With a reserve, one always can.
    async fn room(&self) {
        while self.reserve_cap == 0 && self.open.load(Relaxed) >= self.cap {
            self.freed.notified().await;
        }
    }

    /// Acquires a permit for a new connection of this client. Returns `None` if it must be refused.
    fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let client = client_of(address);
        let mut taken = self.taken();
        let of_client = taken.of_clients.get(&client).copied().unwrap_or(0);
        let open = self.open.load(Relaxed);
        let admission = Occupancy { open, cap: self.cap, of_client }.admission();
        if admission == Admission::Admitted {
            *taken.of_clients.entry(client).or_default() += 1;
            self.open.fetch_add(1, Relaxed);
            if !is_crowded(open, self.cap) {
                self.is_refusing.store(false, Relaxed);
            }
            return Some(ConnectionPermit { permits: Arc::clone(self), kind: Kind::Regular { client } });
        }
        if !self.is_refusing.swap(true, Relaxed) {
            tracing::warn!(%client, of_client, open, cap = self.cap, ?admission, "new connections are refused");
        }
        if self.reserve_cap == 0 {
            return None;
        }
        // The oldest reserved connection is closed: a liveness check completes quickly.
        while taken.reserve.len() >= self.reserve_cap
            && let Some(oldest) = taken.reserve.pop_front()
        {
            oldest.cancel();
        }
        let evicted = CancellationToken::new();
        taken.reserve.push_back(evicted.clone());
        Some(ConnectionPermit { permits: Arc::clone(self), kind: Kind::Reserve { evicted } })
    }
}

/// Permission for one connection to stay open. Dropping it releases the permit.
pub(crate) struct ConnectionPermit {
    permits: Arc<ConnectionPermits>,
    kind: Kind,
}

enum Kind {
    Regular { client: IpAddr },
    Reserve { evicted: CancellationToken },
}

impl ConnectionPermit {
    /// Returns whether the connection is beyond the cap: it serves one request, and only a liveness
    /// check.
    pub(crate) fn is_reserve(&self) -> bool {
        matches!(self.kind, Kind::Reserve { .. })
    }

    /// Returns whether idle connections are closed early, because too many are open.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_reserve() || is_crowded(self.permits.open.load(Relaxed), self.permits.cap)
    }

    /// Waits until a newer connection evicts this one.
    pub(super) fn evicted(&self) -> impl Future<Output = ()> + Send + 'static {
        let evicted = match &self.kind {
            Kind::Regular { .. } => None,
            Kind::Reserve { evicted } => Some(evicted.clone()),
        };
        async move {
            match evicted {
                Some(evicted) => evicted.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut taken = self.permits.taken();
        match &self.kind {
            Kind::Regular { client } => {
                if let Some(count) = taken.of_clients.get_mut(client) {
                    debug_assert!(*count > 0, "more connection permits of a client were released than acquired");
                    *count -= 1;
                    if *count == 0 {
                        taken.of_clients.remove(client);
                    }
                }
                let before = self.permits.open.fetch_sub(1, Relaxed);
                debug_assert!(before > 0, "a permit was released that was not acquired");
                self.permits.freed.notify_one();
            }
            Kind::Reserve { evicted } => {
                evicted.cancel();
                taken.reserve.retain(|kept| !kept.is_cancelled());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn permits_are_counted_for_each_client_and_released() {
        let permits = Arc::new(ConnectionPermits::new(8, 0));
        let held: Vec<_> = (0..6).map(|_| permits.acquire(address(1)).expect("there is room")).collect();
        assert!(permits.acquire(address(1)).is_none(), "one client can't take the last quarter");
        let others: Vec<_> = (2..4).map(|last| permits.acquire(address(last)).expect("there is room")).collect();
        assert!(permits.acquire(address(4)).is_none(), "all permits are in use");
        drop((held, others));
        assert_eq!(permits.open.load(Relaxed), 0);
        assert!(permits.taken().of_clients.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_reserved_connection_is_closed_for_a_new_one() {
        let permits = Arc::new(ConnectionPermits::new(1, 2));
        let _regular = permits.acquire(address(1)).expect("there is room");
        let [first, second, third] =
            [2, 3, 4].map(|last| permits.acquire(address(last)).expect("the reserve has room"));
        assert!(first.is_reserve() && second.is_reserve() && third.is_reserve());
        first.evicted().await;
        assert!(futures::poll!(std::pin::pin!(second.evicted())).is_pending());
        drop((first, second));
        assert_eq!(permits.taken().reserve.len(), 1);
    }
}
