//! A local HTTP server that accepts the requests of a hook and keeps their bodies, for the demo and
//! the benchmarks. Never sends a request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

/// Requests that are kept. A further one gets a 503.
const POSTS_MAX: usize = 10_000;

/// Bytes of a line of a request's head. A longer line ends the connection.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// Bytes of a request's body. A longer body ends the connection.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A request that has arrived.
#[derive(Debug, Clone)]
pub struct Post {
    pub at: Instant,
    pub body: String,
}

/// The server. It runs until the process ends.
pub struct Webhook {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Webhook {
    /// Starts the server on a free port of this machine.
    pub fn start() -> Result<Webhook> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let (address, posts) = (listener.local_addr()?, Arc::<Mutex<Vec<Post>>>::default());
        let shared = Arc::clone(&posts);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let posts = Arc::clone(&shared);
                // A client that breaks the protocol loses its connection.
                thread::spawn(move || serve(stream, &posts).ok());
            }
        });
        Ok(Webhook { address, posts })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL to which a hook posts.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        lock(&self.posts).len()
    }

    /// Returns the requests so far, in the order of their arrival.
    pub fn posts(&self) -> Vec<Post> {
        lock(&self.posts).clone()
    }
}

fn lock(posts: &Mutex<Vec<Post>>) -> MutexGuard<'_, Vec<Post>> {
    posts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the requests of a connection until the client closes it.
fn serve(stream: TcpStream, posts: &Mutex<Vec<Post>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(body) = next_body(&mut reader)? {
        let mut kept = lock(posts);
        let status = if kept.len() < POSTS_MAX {
            kept.push(Post { at: Instant::now(), body });
            "200 OK"
        } else {
            "503 Service Unavailable"
        };
        drop(kept);
        writer.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    }
    Ok(())
}

/// Reads a request and returns its body. `None` at the end of the connection.
fn next_body(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if !line.ends_with('\n') {
            return Err(io::Error::other("the line is too long"));
        }
        let field = line.trim_end();
        if field.is_empty() {
            break;
        }
        if let Some((name, value)) = field.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(io::Error::other("the body is too long"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(String::from_utf8_lossy(&body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bodies_of_requests_are_kept_in_order() {
        let webhook = Webhook::start().expect("a free port");
        let mut stream = TcpStream::connect(webhook.address()).expect("a connection");
        for body in ["one", "two"] {
            let request = format!("POST / HTTP/1.1\r\nhost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).expect("it is written");
            let mut answer = [0; 17];
            stream.read_exact(&mut answer).expect("a response");
            assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n");
            let mut rest = [0; 21];
            stream.read_exact(&mut rest).expect("the end of the response");
        }
        let bodies: Vec<String> = webhook.posts().into_iter().map(|post| post.body).collect();
        assert_eq!((webhook.count(), bodies), (2, vec!["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn a_request_without_a_length_has_no_body() {
        let mut connection = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_bytes();
        assert_eq!(next_body(&mut connection).expect("a request").as_deref(), Some(""));
        assert!(next_body(&mut connection).expect("the end").is_none());
        let mut long = "POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n".as_bytes();
        assert!(next_body(&mut long).is_err());
    }
}
