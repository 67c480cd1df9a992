//! App traffic: accepts connections, finds the app that a request is for, and brings the answer back. Never touches
//! the store, and never waits for a log.
//!
//! ```text
//!  listener ──> acceptor ──> one I/O thread per core: HTTP ──> route ──> dispatch ──> answer
//! ```
//!
//! Each I/O thread has a runtime of its own, so that a request is read, run and answered where it stands. A new
//! connection goes to the thread that has the fewest.

mod access;
mod body;
mod build_page;
mod connection;
mod page;
mod priority;
mod problem_page;
mod route;
mod turns;

pub(crate) use access::{AccessLine, AccessLog};

use crate::{dispatch::Directory, limits};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};

/// What ingress is told by its embedder.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The domain below which the apps are: `hello.localhost` is the app `hello` of `localhost`.
    pub(crate) domain: String,
    /// Threads that serve traffic.
    pub(crate) threads: usize,
    /// How long requests that are under way at a stop may go on.
    pub(crate) drain: Duration,
    /// An app that gets every request whatever its host name: for serving one component.
    pub(crate) only_app: Option<String>,
    /// Connections at one time. Further ones wait in the kernel's backlog.
    pub(crate) connections_max: usize,
}

/// The bound listener, not yet serving.
pub(crate) struct Service {
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
}

/// What every connection needs.
pub(crate) struct Shared {
    config: Config,
    directory: Arc<Directory>,
    access: Arc<dyn AccessLog>,
}

impl Service {
    pub(crate) fn bind(
        address: SocketAddr,
        config: Config,
        directory: Arc<Directory>,
        access: Arc<dyn AccessLog>,
    ) -> io::Result<Self> {
        let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(limits::TRAFFIC_BACKLOG)?;
        Ok(Self { listener: socket.into(), shared: Arc::new(Shared { config, directory, access }) })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true, then lets what is under way finish within the drain time.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> io::Result<()> {
        let Self { listener, shared } = self;
        let listener = TcpListener::from_std(listener)?;
        let places = Arc::new(Semaphore::new(shared.config.connections_max));
        let threads = (0..shared.config.threads.max(1))
            .map(|index| IoThread::start(index, Arc::clone(&shared), stop.clone()))
            .collect::<io::Result<Vec<_>>>()?;
        accept(&listener, &threads, &places, stop).await;
        drop(listener);
        // All of them, before the first is waited for: each drains from when it is told that nobody comes any more.
        let ending: Vec<_> = threads.into_iter().map(IoThread::close).collect();
        tokio::task::spawn_blocking(move || ending.into_iter().for_each(join)).await.map_err(io::Error::other)
    }
}

async fn accept(
    listener: &TcpListener,
    threads: &[IoThread],
    places: &Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let next = async || {
        let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
        (place, listener.accept().await)
    };
    loop {
        let (place, accepted) = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            next = next() => next,
        };
        let Err(error) = hand_over(place, accepted, threads).await else { continue };
        // Out of file descriptors or a client that left in the handshake: neither ends the service.
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(limits::ACCEPT_PAUSE).await;
    }
    // Those who were connected by then may have asked already.
    let until = tokio::time::Instant::now() + limits::ACCEPT_AFTER_STOP;
    while let Ok((place, Ok(accepted))) = tokio::time::timeout_at(until, next()).await {
        if hand_over(place, Ok(accepted), threads).await.is_err() {
            return;
        }
    }
}

/// Gives a new connection to the thread that has the fewest.
async fn hand_over(
    place: OwnedSemaphorePermit,
    accepted: io::Result<(TcpStream, SocketAddr)>,
    threads: &[IoThread],
) -> io::Result<()> {
    let stream = accepted?.0.into_std()?;
    let thread = threads.iter().min_by_key(|thread| thread.open.load(Ordering::Relaxed));
    let Some(thread) = thread else { return Ok(()) };
    thread.open.fetch_add(1, Ordering::Relaxed);
    let accepted = Accepted { stream, _open: Open(Arc::clone(&thread.open)), _place: place };
    // A thread that has ended has nobody to serve it.
    thread.connections.send(accepted).await.map_err(io::Error::other)
}

/// Waits for the word to stop; an embedder that is gone counts as one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|&stop| stop).await;
}

/// A connection on its way to an I/O thread; it counts as open until it is dropped.
struct Accepted {
    stream: std::net::TcpStream,
    _open: Open,
    _place: OwnedSemaphorePermit,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct IoThread {
    connections: mpsc::Sender<Accepted>,
    open: Arc<AtomicUsize>,
    handle: thread::JoinHandle<()>,
}

impl IoThread {
    fn start(index: usize, shared: Arc<Shared>, stop: watch::Receiver<bool>) -> io::Result<Self> {
        let (connections, incoming) = mpsc::channel(limits::CONNECTIONS_HANDED_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(turns::rest).build()?;
        let handle = thread::Builder::new().name(format!("isopod-io-{index}")).spawn(move || {
            priority::ask_for_short_slices();
            runtime.block_on(serve(incoming, shared, stop));
        })?;
        Ok(Self { connections, open: Arc::default(), handle })
    }

    /// Gives it no further connections.
    fn close(self) -> thread::JoinHandle<()> {
        self.handle
    }
}

fn join(thread: thread::JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("an I/O thread panicked");
    }
}

/// The life of an I/O thread.
async fn serve(mut incoming: mpsc::Receiver<Accepted>, shared: Arc<Shared>, stop: watch::Receiver<bool>) {
    let drain = shared.config.drain;
    let connections = tokio_util::task::TaskTracker::new();
    tokio::spawn(turns::keep_turns());
    let mut taken = 0;
    while let Some(accepted) = incoming.recv().await {
        let Accepted { stream, _open, _place } = accepted;
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let connection = connection::serve(stream, Arc::clone(&shared), stop.clone());
        connections.spawn(async move {
            let _counted = (_open, _place);
            connection.await;
        });
        taken += 1;
        if taken % limits::CONNECTIONS_PER_ROUND == 0 {
            // Those who are connected already come between.
            tokio::task::yield_now().await;
        }
    }
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        let left = connections.len();
        tracing::warn!(left, "connections were cut off: they did not finish within the drain time");
    }
}
