//! A local HTTP server that accepts and discards everything: the telemetry collector, the endpoint
//! of the log drain and the webhook of alerts. Never keeps a body.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// Bytes of a line of a request's head. A longer line ends the connection.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// The server. It runs until the process ends.
pub(super) struct Sink {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

/// The number of requests, and the lines of the log drains.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Received {
    traces: u64,
    metrics: u64,
    drains: u64,
    pub(super) drain_lines: u64,
}

impl Received {
    fn add(&mut self, path: &str, lines: u64) {
        match path {
            "/v1/traces" => self.traces += 1,
            "/v1/metrics" => self.metrics += 1,
            "/drain" => {
                self.drains += 1;
                self.drain_lines += lines;
            }
            _ => {}
        }
    }

    /// Returns what was received since an earlier moment.
    pub(super) fn since(&self, earlier: &Received) -> Received {
        Received {
            traces: self.traces - earlier.traces,
            metrics: self.metrics - earlier.metrics,
            drains: self.drains - earlier.drains,
            drain_lines: self.drain_lines - earlier.drain_lines,
        }
    }

    /// Returns whether traces, metrics and log lines were received.
    pub(super) fn has_all(&self) -> bool {
        self.traces > 0 && self.metrics > 0 && self.drains > 0
    }
}

impl fmt::Display for Received {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Received { traces, metrics, drains, drain_lines } = self;
        write!(out, "{traces} exports of traces, {metrics} of metrics, {drains} of log lines ({drain_lines} lines)")
    }
}

impl Sink {
    /// Starts the server on a free port of this machine.
    pub(super) fn start() -> Result<Sink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let (address, received) = (listener.local_addr()?, Arc::<Mutex<Received>>::default());
        let shared = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let received = Arc::clone(&shared);
                // A client that breaks the protocol loses its connection.
                thread::spawn(move || serve(stream, &received).ok());
            }
        });
        Ok(Sink { address, received })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn received(&self) -> Received {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves the requests of a connection until the client closes it.
fn serve(stream: TcpStream, received: &Mutex<Received>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    while let Some((path, lines)) = next_request(&mut reader)? {
        received.lock().unwrap_or_else(PoisonError::into_inner).add(&path, lines);
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads a request, and returns its path and the number of line feeds in its body. `None` at the
/// end of the connection.
fn next_request(reader: &mut impl BufRead) -> io::Result<Option<(String, u64)>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut is_chunked) = (0, false);
    while let Some(field) = line(reader)?.filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    if !is_chunked {
        return discard(reader, length).map(|lines| Some((path, lines)));
    }
    let mut lines = 0;
    while let Some(size) = line(reader)? {
        let size = u64::from_str_radix(&size, 16).map_err(io::Error::other)?;
        lines += discard(reader, size)?;
        line(reader)?;
        if size == 0 {
            break;
        }
    }
    Ok(Some((path, lines)))
}

/// Reads a line without its end. `None` at the end of the connection.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with('\n') {
        return Err(io::Error::other("the line is too long"));
    }
    line.truncate(line.trim_end().len());
    Ok(Some(line))
}

/// Reads `length` bytes, and returns the number of line feeds in them.
fn discard(reader: &mut impl BufRead, length: u64) -> io::Result<u64> {
    let (mut left, mut lines) = (length, 0);
    while left > 0 {
        let buffered = reader.fill_buf()?;
        let bytes = &buffered[..buffered.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let read = bytes.len();
        reader.consume(read);
        left -= read as u64;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_path() {
        let mut connection: &[u8] = b"POST /v1/traces HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc\
            POST /drain HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\na\n\r\na\r\n01234\n678\n\r\n0\r\n\r\n\
            POST /v1/metrics HTTP/1.1\r\n\r\nPOST /other HTTP/1.1\r\n\r\n";
        let mut received = Received::default();
        while let Some((path, bytes)) = next_request(&mut connection).expect("a request") {
            received.add(&path, bytes);
        }
        assert_eq!(received, Received { traces: 1, metrics: 1, drains: 1, drain_lines: 3 });
        assert!(received.has_all() && !received.since(&received).has_all());
    }

    #[test]
    fn a_request_that_ends_early_is_an_error() {
        for mut connection in [&b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\na"[..], b"POST"] {
            assert!(next_request(&mut connection).is_err());
        }
    }
}
