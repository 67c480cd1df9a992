//! Pools the outbound connections of all programs: counts the open connections per upstream, per
//! app and per host, and keeps idle connections. Never opens a connection and never sends anything.
//!
//! A program uses only its own connections, since they were opened under its grants.

use super::replay::Reader;
use crate::limits;
use hyper::client::conn::http1::SendRequest;
use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// A server that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Upstream {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

/// The program that connections are for, and its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) app: Arc<str>,
    program: u64,
}

/// A connection that a request can be sent on.
pub(super) struct Connection<S = SendRequest<Reader>> {
    pub(super) sender: S,
    pub(super) upstream: Upstream,
    pub(super) generation: u64,
    /// Whether it has already carried a request.
    pub(super) is_reused: bool,
}

/// The sender of a connection, as far as the pool needs it.
pub(super) trait Sender {
    /// Returns whether the connection is open and idle.
    fn is_idle(&self) -> bool;
}

impl Sender for SendRequest<Reader> {
    fn is_idle(&self) -> bool {
        self.is_ready()
    }
}

pub(super) struct Pool<S = SendRequest<Reader>> {
    state: Mutex<State<S>>,
    /// Notified when a connection becomes idle or a permit is released.
    changed: Notify,
    bounds: Bounds,
}

/// The pool's bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) connections_per_app: usize,
    pub(super) requests_per_app: usize,
    pub(super) per_upstream: usize,
    pub(super) idle_time: Duration,
}

struct State<S> {
    /// Idle connections, oldest first.
    idle: Vec<Idle<S>>,
    open: usize,
    apps: HashMap<Arc<str>, Used>,
    upstreams: HashMap<(Arc<str>, Upstream), Used>,
    programs: u64,
    is_swept: bool,
}

/// Usage of an app, or of one of its upstreams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    connections: usize,
    requests: usize,
}

struct Idle<S> {
    owner: Owner,
    since: Instant,
    connection: Connection<S>,
}

/// The result of a request to the pool: a connection, or the permit to open one.
pub(super) enum Acquired<S = SendRequest<Reader>> {
    Kept(Connection<S>),
    /// The permit to open one more connection.
    ConnectionPermit(ConnectionPermit<S>),
}

/// One open connection, counted until this is dropped.
pub(super) struct ConnectionPermit<S = SendRequest<Reader>>(Counted<S>);

/// One request in progress, counted until this is dropped.
pub(super) struct RequestPermit<S = SendRequest<Reader>>(Counted<S>);

struct Counted<S> {
    pool: Arc<Pool<S>>,
    app: Arc<str>,
    upstream: Upstream,
}

impl Bounds {
    pub(super) fn usual(connections: usize, idle_time: Duration) -> Self {
        Self {
            connections,
            connections_per_app: limits::OUTBOUND_CONNECTIONS_PER_APP_MAX,
            requests_per_app: limits::OUTBOUND_REQUESTS_MAX,
            per_upstream: limits::OUTBOUND_PER_UPSTREAM_MAX,
            idle_time,
        }
    }
}

impl<S: Sender + Send + 'static> Pool<S> {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let state = State {
            idle: Vec::new(),
            open: 0,
            apps: HashMap::new(),
            upstreams: HashMap::new(),
            programs: 0,
            is_swept: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), bounds })
    }

    /// Registers a new owner of connections.
    pub(super) fn owner(&self, app: &str) -> Owner {
        let mut state = self.lock();
        state.programs += 1;
        Owner { app: app.into(), program: state.programs }
    }

    /// Counts a request. Returns `None` if the app, or the app's use of this upstream, is at its
    /// limit.
    pub(super) fn begin_request(self: &Arc<Self>, owner: &Owner, upstream: &Upstream) -> Option<RequestPermit<S>> {
        let mut state = self.lock();
        let (app, of_upstream) = state.used(&owner.app, upstream);
        if app.requests >= self.bounds.requests_per_app || of_upstream.requests >= self.bounds.per_upstream {
            return None;
        }
        state.change(&owner.app, upstream, |used| used.requests += 1);
        Some(RequestPermit(self.counted(owner, upstream)))
    }

    /// Returns an idle connection or the permit to open one. At a limit, an idle connection is
    /// closed, the app's own first; if all are in use, this waits.
    pub(super) async fn acquire(self: &Arc<Self>, owner: &Owner, upstream: &Upstream, may_reuse: bool) -> Acquired<S> {
        loop {
            // Registered before the check, so that no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(acquired) = self.try_acquire(owner, upstream, may_reuse) {
                return acquired;
            }
            changed.await;
        }
    }

    fn try_acquire(self: &Arc<Self>, owner: &Owner, upstream: &Upstream, may_reuse: bool) -> Option<Acquired<S>> {
        let mut dead = Vec::new();
        let mut state = self.lock();
        let is_its = |idle: &Idle<S>| idle.owner == *owner && idle.connection.upstream == *upstream;
        while may_reuse && let Some(index) = state.idle.iter().rposition(is_its) {
            let connection = state.idle.remove(index).connection;
            if connection.sender.is_idle() {
                return Some(Acquired::Kept(connection));
            }
            dead.push(connection);
        }
        let (app, of_upstream) = state.used(&owner.app, upstream);
        let is_full = match () {
            () if of_upstream.connections >= self.bounds.per_upstream => {
                Some(state.take_idle(|idle| idle.owner.app == owner.app && idle.connection.upstream == *upstream))
            }
            () if app.connections >= self.bounds.connections_per_app => {
                Some(state.take_idle(|idle| idle.owner.app == owner.app))
            }
            () if state.open >= self.bounds.connections => {
                Some(state.take_idle(|idle| idle.owner.app == owner.app).or_else(|| state.take_idle(|_| true)))
            }
            () => None,
        };
        if let Some(evicted) = is_full {
            // Its permit is released once its socket is closed.
            drop((state, evicted));
            return None;
        }
        state.open += 1;
        state.change(&owner.app, upstream, |used| used.connections += 1);
        Some(Acquired::ConnectionPermit(ConnectionPermit(self.counted(owner, upstream))))
    }

    /// Keeps an idle connection for the program's next request to the same upstream.
    pub(super) fn keep(self: &Arc<Self>, owner: &Owner, connection: Connection<S>) {
        let starts_sweep = {
            let mut state = self.lock();
            state.idle.push(Idle { owner: owner.clone(), since: Instant::now(), connection });
            !mem::replace(&mut state.is_swept, true)
        };
        self.changed.notify_waiters();
        if starts_sweep {
            tokio::spawn(Arc::clone(self).sweep());
        }
    }

    /// Closes all idle connections of a program.
    pub(super) fn close_of(&self, owner: &Owner) {
        let mut state = self.lock();
        let closed: Vec<_> = state.idle.extract_if(.., |idle| idle.owner == *owner).collect();
        drop(state);
        drop(closed);
    }

    /// Closes connections after their idle time, until no idle connection remains.
    async fn sweep(self: Arc<Self>) {
        while let Some(oldest) = self.sweep_once(Instant::now()) {
            tokio::time::sleep_until(oldest + self.bounds.idle_time).await;
        }
    }

    /// Closes expired connections. Returns when the oldest remaining connection became idle; `None`
    /// if none remains.
    fn sweep_once(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let is_due =
            |idle: &mut Idle<S>| now >= idle.since + self.bounds.idle_time || !idle.connection.sender.is_idle();
        let closed: Vec<_> = state.idle.extract_if(.., is_due).collect();
        let next = state.idle.first().map(|idle| idle.since);
        state.is_swept = next.is_some();
        drop(state);
        drop(closed);
        next
    }

    fn counted(self: &Arc<Self>, owner: &Owner, upstream: &Upstream) -> Counted<S> {
        Counted { pool: Arc::clone(self), app: Arc::clone(&owner.app), upstream: upstream.clone() }
    }
}

impl<S> Pool<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> State<S> {
    fn used(&self, app: &Arc<str>, upstream: &Upstream) -> (Used, Used) {
        let of_upstream = self.upstreams.get(&(Arc::clone(app), upstream.clone())).copied().unwrap_or_default();
        (self.apps.get(app).copied().unwrap_or_default(), of_upstream)
    }

    /// Updates the usage of an app and its upstream, and removes entries without usage.
    fn change(&mut self, app: &Arc<str>, upstream: &Upstream, change: impl Fn(&mut Used)) {
        let key = (Arc::clone(app), upstream.clone());
        change(self.apps.entry(Arc::clone(app)).or_default());
        change(self.upstreams.entry(key.clone()).or_default());
        if self.apps.get(app) == Some(&Used::default()) {
            self.apps.remove(app);
        }
        if self.upstreams.get(&key) == Some(&Used::default()) {
            self.upstreams.remove(&key);
        }
    }

    /// Removes the oldest idle connection among those that may be closed.
    fn take_idle(&mut self, may_go: impl Fn(&Idle<S>) -> bool) -> Option<Idle<S>> {
        let index = self.idle.iter().position(may_go)?;
        Some(self.idle.remove(index))
    }
}

impl<S> Drop for ConnectionPermit<S> {
    fn drop(&mut self) {
        let Counted { pool, app, upstream } = &self.0;
        let mut state = pool.lock();
        debug_assert!(state.open > 0, "an open connection is counted");
        state.open -= 1;
        state.change(app, upstream, |used| {
            debug_assert!(used.connections > 0, "an open connection is counted for its app");
            used.connections -= 1;
        });
        drop(state);
        pool.changed.notify_waiters();
    }
}

impl<S> Drop for RequestPermit<S> {
    fn drop(&mut self) {
        let Counted { pool, app, upstream } = &self.0;
        pool.lock().change(app, upstream, |used| {
            debug_assert!(used.requests > 0, "a request in progress is counted for its app");
            used.requests -= 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// A connection that is open (`true`) or closed.
    struct Fake(bool);

    impl Sender for Fake {
        fn is_idle(&self) -> bool {
            self.0
        }
    }

    const BOUNDS: Bounds = Bounds {
        connections: 4,
        connections_per_app: 3,
        requests_per_app: 3,
        per_upstream: 2,
        idle_time: Duration::from_secs(60),
    };

    fn upstream(host: &str) -> Upstream {
        Upstream { host: host.into(), port: 80, is_tls: false }
    }

    fn open(pool: &Arc<Pool<Fake>>, owner: &Owner, host: &str) -> Option<Acquired<Fake>> {
        pool.acquire(owner, &upstream(host), true).now_or_never()
    }

    fn permit(pool: &Arc<Pool<Fake>>, owner: &Owner, host: &str) -> ConnectionPermit<Fake> {
        match open(pool, owner, host) {
            Some(Acquired::ConnectionPermit(permit)) => permit,
            _ => panic!("no permit to open a connection"),
        }
    }

    fn keep(pool: &Arc<Pool<Fake>>, owner: &Owner, host: &str, is_open: bool) {
        let (sender, upstream) = (Fake(is_open), upstream(host));
        pool.keep(owner, Connection { sender, upstream, generation: 0, is_reused: true });
    }

    #[tokio::test]
    async fn a_kept_connection_is_for_its_own_program_and_upstream() {
        let pool = Pool::new(BOUNDS);
        let (one, other) = (pool.owner("a"), pool.owner("a"));
        keep(&pool, &one, "x", true);
        assert!(matches!(open(&pool, &other, "x"), Some(Acquired::ConnectionPermit(_))));
        assert!(matches!(open(&pool, &one, "y"), Some(Acquired::ConnectionPermit(_))));
        assert!(matches!(open(&pool, &one, "x"), Some(Acquired::Kept(_))));
        assert!(
            matches!(open(&pool, &one, "x"), Some(Acquired::ConnectionPermit(_))),
            "a kept connection is returned only once"
        );
        keep(&pool, &one, "x", false);
        assert!(
            matches!(open(&pool, &one, "x"), Some(Acquired::ConnectionPermit(_))),
            "a closed connection is not used"
        );
        keep(&pool, &one, "x", true);
        pool.close_of(&one);
        assert!(
            matches!(open(&pool, &one, "x"), Some(Acquired::ConnectionPermit(_))),
            "the program's connections were closed"
        );
    }

    #[tokio::test]
    async fn connections_are_bounded_for_an_upstream_an_app_and_the_host() {
        let pool = Pool::new(BOUNDS);
        let (a, b, c) = (pool.owner("a"), pool.owner("b"), pool.owner("c"));
        let x = [permit(&pool, &a, "x"), permit(&pool, &a, "x")];
        assert!(open(&pool, &a, "x").is_none(), "the upstream is at its limit");
        let y = permit(&pool, &a, "y");
        assert!(open(&pool, &a, "z").is_none(), "the app is at its limit");
        let of_b = permit(&pool, &b, "x");
        assert!(open(&pool, &c, "x").is_none(), "the host is at its limit");
        drop(y);
        drop(permit(&pool, &c, "x"));
        drop((x, of_b));
        assert!(pool.lock().apps.is_empty() && pool.lock().upstreams.is_empty());
        assert_eq!(pool.lock().open, 0);
    }

    #[tokio::test]
    async fn idle_connections_are_closed_for_new_ones_the_apps_own_first() {
        let pool = Pool::new(BOUNDS);
        let (a, b) = (pool.owner("a"), pool.owner("b"));
        let permits = [permit(&pool, &b, "x"), permit(&pool, &b, "y"), permit(&pool, &a, "y"), permit(&pool, &a, "z")];
        keep(&pool, &b, "x", true);
        keep(&pool, &a, "y", true);
        assert!(open(&pool, &a, "w").is_none(), "the permit is free once the connection is closed");
        assert!(pool.lock().idle.iter().all(|idle| idle.owner == b));
        assert!(open(&pool, &a, "w").is_none());
        assert!(pool.lock().idle.is_empty(), "another app's idle connection is evicted too");
        drop(permits);
    }

    #[tokio::test]
    async fn a_waiting_request_gets_a_connection_that_becomes_free() {
        let pool = Pool::new(BOUNDS);
        let (a, x) = (pool.owner("a"), upstream("x"));
        let permits = [permit(&pool, &a, "x"), permit(&pool, &a, "x")];
        let mut waiting = Box::pin(pool.acquire(&a, &x, true));
        assert!((&mut waiting).now_or_never().is_none());
        keep(&pool, &a, "x", true);
        assert!(matches!((&mut waiting).now_or_never(), Some(Acquired::Kept(_))));
        let mut waiting = Box::pin(pool.acquire(&a, &x, true));
        assert!((&mut waiting).now_or_never().is_none());
        drop(permits);
        assert!(matches!((&mut waiting).now_or_never(), Some(Acquired::ConnectionPermit(_))));
    }

    #[tokio::test]
    async fn requests_are_bounded_for_an_upstream_and_an_app() {
        let pool = Pool::<Fake>::new(BOUNDS);
        let (a, b) = (pool.owner("a"), pool.owner("b"));
        let x = [pool.begin_request(&a, &upstream("x")), pool.begin_request(&a, &upstream("x"))];
        assert!(x.iter().all(Option::is_some) && pool.begin_request(&a, &upstream("x")).is_none());
        let y = pool.begin_request(&a, &upstream("y"));
        assert!(y.is_some() && pool.begin_request(&a, &upstream("z")).is_none());
        assert!(pool.begin_request(&b, &upstream("x")).is_some());
        drop(x);
        assert!(pool.begin_request(&a, &upstream("x")).is_some());
    }

    #[tokio::test]
    async fn connections_that_were_idle_for_too_long_are_closed() {
        let pool = Pool::new(BOUNDS);
        let a = pool.owner("a");
        keep(&pool, &a, "x", true);
        let since = pool.sweep_once(Instant::now()).expect("the connection has not expired");
        assert_eq!(pool.sweep_once(since + BOUNDS.idle_time), None);
        assert!(pool.lock().idle.is_empty() && !pool.lock().is_swept);
    }
}
