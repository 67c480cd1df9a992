//! App traffic: accepts connections, routes each request to its app, and returns the response.
//! Never accesses the store, and never waits for the log's disk.
//!
//! ```text
//!  listener ──> acceptor ──> one I/O thread per core: HTTP ──> route ──> runtime ──> response
//! ```
//!
//! Each I/O thread has its own runtime, so that a request is read, run and answered on one thread.
//! The acceptor gives a new connection to the thread with the fewest connections.

mod authority;
mod body;
mod config;
mod connection;
mod connection_fairness;
mod delivery;
mod failure;
mod forwarded;
mod last_host;
pub(crate) mod limits;
mod lookup;
mod normalise;
mod pages;
mod parking;
mod priority;
mod router;
mod timing;
mod trace;
mod trusted;

pub(crate) use config::Config;
pub(crate) use forwarded::{client_address, is_https};
pub(crate) use normalise::checked;
pub(crate) use timing::TimingAccess;
pub(crate) use trusted::{BadProxies, TrustedProxies};

use crate::{
    failpoint,
    http::connections::{self, Accepted, Listener},
    observe::{
        access_log::AccessLog,
        liveness::{self, Liveness},
    },
    runtime::Directory,
};
use connection::Shared;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

/// The bound listener, before it serves.
pub(crate) struct Service {
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
}

impl Service {
    /// Binds the address. Without `timing`, no client sees the phases of its requests.
    pub(crate) fn bind(
        address: SocketAddr,
        config: Config,
        directory: Arc<Directory>,
        access: Arc<dyn AccessLog>,
        timing: Option<Arc<dyn TimingAccess>>,
    ) -> io::Result<Self> {
        let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(limits::TRAFFIC_BACKLOG)?;
        let connections = connections::Settings::new(config.times, limits::TRAFFIC_WINDOW_BYTES);
        let shared = Shared { config, directory, access, timing, connections, liveness: Arc::default() };
        Ok(Self { listener: socket.into(), shared: Arc::new(shared) })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the liveness checks of the serving threads.
    pub(crate) fn liveness(&self) -> Arc<Liveness> {
        Arc::clone(&self.shared.liveness)
    }

    /// Serves until `stop` becomes true, then drains requests in progress within the drain time.
    /// Returns the number of connections that were closed during a request.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> io::Result<usize> {
        let Self { listener, shared } = self;
        let listener = Listener::new(TcpListener::from_std(listener)?, shared.config.connections_max, 0);
        let threads = (0..shared.config.threads.max(1))
            .map(|index| IoThread::start(index, Arc::clone(&shared), stop.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        accept(&listener, &threads, stop).await;
        drop(listener);
        // Closes all threads before it joins the first: each thread starts to drain when its
        // channel closes.
        let ending: Vec<_> = threads.into_iter().map(IoThread::close).collect();
        tokio::task::spawn_blocking(move || ending.into_iter().map(join).sum()).await.map_err(io::Error::other)
    }
}

async fn accept(listener: &Listener, threads: &[IoThread], mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = listener.next() => accepted,
        };
        hand_over(accepted, threads).await;
    }
    // Clients that connected before the stop may already have sent a request.
    let until = tokio::time::Instant::now() + limits::ACCEPT_AFTER_STOP;
    while let Ok(accepted) = tokio::time::timeout_at(until, listener.next()).await {
        hand_over(accepted, threads).await;
    }
}

/// Gives a new connection to the thread with the fewest open connections.
async fn hand_over(accepted: Accepted, threads: &[IoThread]) {
    let thread = threads.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed));
    let Some(thread) = thread else { return };
    thread.open.fetch_add(1, Ordering::Relaxed);
    let handed = Handed { accepted, _open: Open(Arc::clone(&thread.open)) };
    // Fails only if the thread has ended, which also ends the process.
    let _ = thread.connections.send(handed).await;
}

/// Waits for the stop signal. A dropped sender counts as a stop signal.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// A connection in the channel to an I/O thread. It counts as open until it is dropped.
struct Handed {
    accepted: Accepted,
    _open: Open,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a closed connection was open");
    }
}

struct IoThread {
    connections: mpsc::Sender<Handed>,
    open: Arc<AtomicUsize>,
    /// Returns the number of connections that were cut off.
    handle: thread::JoinHandle<usize>,
}

impl IoThread {
    fn start(index: usize, shared: Arc<Shared>, stop: watch::Receiver<bool>) -> io::Result<Self> {
        let (connections, incoming) = mpsc::channel(limits::CONNECTIONS_QUEUED_PER_THREAD_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(limits::IO_BLOCKING_THREADS)
            .thread_name("isopod-io-files")
            .on_thread_park(|| {
                connection_fairness::on_park();
                parking::before_park();
            })
            .on_thread_unpark(parking::after_park)
            .build()?;
        let name = format!("isopod-io-{index}");
        let watched = shared.liveness.watch(&name, runtime.handle());
        let handle = thread::Builder::new().name(name.clone()).spawn(move || {
            priority::request_short_slices();
            let cut_off = liveness::or_abort(&name, || runtime.block_on(serve(incoming, shared, stop)));
            drop(watched);
            cut_off
        })?;
        Ok(Self { connections, open: Arc::default(), handle })
    }

    /// Closes the channel of the thread, which then drains its connections.
    fn close(self) -> thread::JoinHandle<usize> {
        self.handle
    }
}

fn join(thread: thread::JoinHandle<usize>) -> usize {
    thread.join().unwrap_or_else(|_| {
        tracing::error!("an I/O thread panicked");
        0
    })
}

/// Runs an I/O thread. Returns the number of connections that were cut off at the stop.
async fn serve(mut incoming: mpsc::Receiver<Handed>, shared: Arc<Shared>, stop: watch::Receiver<bool>) -> usize {
    let drain = shared.config.drain;
    let connections = tokio_util::task::TaskTracker::new();
    let mut rounds = tokio::spawn(connection_fairness::run_rounds());
    let mut taken = 0;
    loop {
        let accepted = tokio::select! {
            accepted = incoming.recv() => accepted,
            ended = &mut rounds => panic!("the task that admits connections ended: {ended:?}"),
        };
        let Some(accepted) = accepted else { break };
        failpoint::here("io-accepted");
        let Handed { accepted: Accepted { stream, permit }, _open: open } = accepted;
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let (shared, mut stop) = (Arc::clone(&shared), stop.clone());
        connections.spawn(async move {
            let _open = open;
            connection::serve(stream, &permit, shared, stopped(&mut stop)).await;
        });
        taken += 1;
        if taken % limits::CONNECTIONS_PER_ROUND == 0 {
            // Requests of open connections are polled in between.
            tokio::task::yield_now().await;
        }
    }
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_ok() {
        return 0;
    }
    let left = connections.len();
    tracing::warn!(left, "connections were cut off: their requests did not complete within the drain time");
    left
}
