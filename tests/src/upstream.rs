//! Owns a scripted HTTP/1.1 upstream: the test's function chooses each response. Counts requests
//! and open connections. Keeps chunked bodies encoded.

use crate::tls::Identity;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its number on that connection, from 0.
    pub number: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Arrived {
    /// The values of a header field.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Then {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes and nothing more until the client closes the connection.
    SendAndStall(Vec<u8>),
}

/// A whole response with this body.
pub fn response(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The server. It runs until the test's process ends.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Arrived>>,
    open: Mutex<usize>,
}

impl Upstream {
    /// Starts a server whose responses have the status that the test stores in the cell. With 0,
    /// the server never responds.
    pub fn with_status(first: u16) -> (Self, Arc<AtomicU16>) {
        let status = Arc::new(AtomicU16::new(first));
        let current = Arc::clone(&status);
        let upstream = Self::start(move |_| match current.load(Ordering::SeqCst) {
            0 => Then::SendAndStall(Vec::new()),
            200 => Then::Send(response("ok")),
            other => Then::Send(format!("HTTP/1.1 {other} No\r\ncontent-length: 0\r\n\r\n").into_bytes()),
        });
        (upstream, status)
    }

    /// Starts a server.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start(script: impl Fn(&Arrived) -> Then + Send + Sync + 'static) -> Self {
        Self::start_over(script, Some)
    }

    /// Starts a server whose connections are encrypted, with this certificate.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start_tls(identity: &Identity, script: impl Fn(&Arrived) -> Then + Send + Sync + 'static) -> Self {
        let identity = identity.clone();
        Self::start_over(script, move |client| identity.accept(client))
    }

    fn start_over<S: Read + Write>(
        script: impl Fn(&Arrived) -> Then + Send + Sync + 'static,
        accept: impl Fn(TcpStream) -> Option<S> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (seen, script) = (Arc::<Seen>::default(), Arc::new(script));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (connection, client) in listener.incoming().enumerate() {
                let Ok(client) = client else { return };
                let (seen, script, accept) = (Arc::clone(&shared), Arc::clone(&script), accept.clone());
                *lock(&seen.open) += 1;
                std::thread::spawn(move || {
                    if let Some(client) = accept(client) {
                        serve(client, connection, &seen, &*script);
                    }
                    *lock(&seen.open) -= 1;
                });
            }
        });
        Self { address, seen }
    }

    /// Returns the requests so far.
    pub fn requests(&self) -> Vec<Arrived> {
        lock(&self.seen.requests).clone()
    }

    /// Returns the number of open connections.
    pub fn open(&self) -> usize {
        *lock(&self.seen.open)
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut client: impl Read + Write, connection: usize, seen: &Seen, script: &dyn Fn(&Arrived) -> Then) {
    for number in 0.. {
        let Some((head, body)) = read(&mut client) else { return };
        let arrived = Arrived { connection, number, head, body };
        lock(&seen.requests).push(arrived.clone());
        let without_body = |bytes: Vec<u8>| if arrived.head.starts_with("HEAD ") { head_of(bytes) } else { bytes };
        let (bytes, goes_on) = match script(&arrived) {
            Then::Send(bytes) => (without_body(bytes), true),
            Then::SendAndClose(bytes) => (without_body(bytes), false),
            Then::SendAndStall(bytes) => {
                let _ = client.write_all(&bytes);
                while client.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
                return;
            }
        };
        if client.write_all(&bytes).is_err() || !goes_on {
            return;
        }
    }
}

/// Returns a response without its body, as for HEAD.
fn head_of(mut response: Vec<u8>) -> Vec<u8> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").map_or(response.len(), |at| at + 4);
    response.truncate(end);
    response
}

/// Returns a request's head and its body, or `None` if the client has closed the connection.
fn read(client: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let mut piece = [0; 4096];
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let named = head.to_ascii_lowercase();
    let length = named.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    if named.contains("transfer-encoding: chunked") {
        // The requests of the tests contain this end marker only at their end.
        while !body.ends_with(b"0\r\n\r\n") {
            let mut piece = [0; 4096];
            let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
            body.extend_from_slice(&piece[..read]);
        }
        return Some((head, body));
    }
    let arrived = body.len();
    body.resize(length, 0);
    client.read_exact(body.get_mut(arrived..)?).ok()?;
    Some((head, body))
}

/// A port whose kernel completes no further connection: the listener accepts none, and its queue is
/// full.
pub struct Unaccepting {
    pub address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<TcpStream>,
}

impl Unaccepting {
    /// Fills the queue of a new listener.
    ///
    /// # Panics
    /// If the queue never fills.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        // SAFETY: the call gets the listener's own descriptor and an integer.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0, "the queue can be made short");
        let address = listener.local_addr().expect("it has an address");
        let mut filling = Vec::new();
        while let Ok(taken) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            filling.push(taken);
            assert!(filling.len() < 1_000, "the kernel's queue never fills");
        }
        Self { address, _listener: listener, _filling: filling }
    }
}
