//! A proxy that forwards connections to a host and breaks some connections. Its address stays the
//! same when the host restarts on another port. Never changes a byte.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The bytes that the proxy reads at a time.
const PIECE_BYTES: usize = 16 << 10;

/// A proxy. It ends with the test's process.
pub struct CuttingProxy {
    pub address: SocketAddr,
    left: Arc<Mutex<VecDeque<usize>>>,
    target: Arc<Mutex<SocketAddr>>,
    sent: Arc<AtomicUsize>,
}

impl CuttingProxy {
    /// Starts a proxy to `target`. It cuts off one connection for each element of `after`, once the
    /// client has sent this number of bytes over it. Later connections are not cut off.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(target: SocketAddr, after: impl IntoIterator<Item = usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let left = Arc::new(Mutex::new(after.into_iter().collect()));
        let proxy = Self { address, left, target: Arc::new(Mutex::new(target)), sent: Arc::default() };
        let (cuts, target, sent) = (Arc::clone(&proxy.left), Arc::clone(&proxy.target), Arc::clone(&proxy.sent));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = *target.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(host) = TcpStream::connect(target) else { continue };
                let (cuts, sent) = (Arc::clone(&cuts), Arc::clone(&sent));
                thread::spawn(move || forward(client, host, &cuts, &sent));
            }
        });
        proxy
    }

    /// Forwards new connections to another address.
    pub fn forward_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Returns the number of bytes that clients have sent so far.
    pub fn bytes_sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that are still to be cut off.
    pub fn cuts_left(&self) -> usize {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Forwards one connection until it ends or is cut off.
fn forward(client: TcpStream, host: TcpStream, cuts: &Mutex<VecDeque<usize>>, all: &AtomicUsize) {
    let (Ok(replies), Ok(answered)) = (host.try_clone(), client.try_clone()) else { return };
    thread::spawn(move || copy(replies, answered, |_| false));
    let mut sent = 0;
    copy(client, host, |bytes| {
        sent += bytes;
        all.fetch_add(bytes, Ordering::Relaxed);
        let mut cuts = cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cut = cuts.front().is_some_and(|after| sent >= *after);
        is_cut && cuts.pop_front().is_some()
    });
}

/// Copies bytes until either side ends or `is_cut` returns true. Then closes both sides.
fn copy(mut from: TcpStream, mut to: TcpStream, mut is_cut: impl FnMut(usize) -> bool) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..read]).is_err() || is_cut(read) {
            break;
        }
    }
    for stream in [from, to] {
        // Fails only if the connection is already closed.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
