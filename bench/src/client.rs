//! One HTTP/1.1 connection that repeats a request, or sends another in between. Small, since it
//! shares the machine with the server. Never reads responses without a length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The timeout of a response.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The status of a response without a body and length.
const NO_CONTENT: u16 = 204;

/// The largest response; the benchmarks expect none that is larger.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The place of a unique number in a request.
pub(super) const NUMBER: &str = "NNNNNNNNNNNN";

/// The last number.
static SENT: AtomicU64 = AtomicU64::new(1);

pub(super) struct Client {
    stream: TcpStream,
    request: Request,
    buffer: Vec<u8>,
}

/// A request, serialised before the measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request(String);

impl Request {
    pub(super) fn get(host: &str, path: &str) -> Request {
        Request(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }

    pub(super) fn get_with(host: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Request(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n"))
    }

    pub(super) fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        Request(format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
    }
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Client {
    pub(super) fn connect(address: SocketAddr, host: &str) -> io::Result<Client> {
        Client::open(address, Request::get(host, "/"))
    }

    pub(super) fn open(address: SocketAddr, request: Request) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Client { stream, request, buffer: Vec::new() })
    }

    /// Sends the connection's request with a unique number in the place of [`NUMBER`], and returns
    /// the number with the response.
    pub(super) fn get_numbered(&mut self) -> io::Result<(String, Answer)> {
        let number = format!("{:0width$}", SENT.fetch_add(1, Ordering::Relaxed), width = NUMBER.len());
        let request = self.request.0.replace(NUMBER, &number);
        self.stream.write_all(request.as_bytes())?;
        Ok((number, self.answer()?))
    }

    /// Sends the connection's request and returns the response.
    pub(super) fn get(&mut self) -> io::Result<Answer> {
        self.ask()?;
        self.answer()
    }

    /// Sends another request and returns the response.
    pub(super) fn send(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(request.0.as_bytes())?;
        self.answer()
    }

    /// Sends the connection's request without reading the response: the first half of `get`.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(self.request.0.as_bytes())
    }

    /// Reads the response to the last request: the second half of `get`.
    pub(super) fn answer(&mut self) -> io::Result<Answer> {
        self.buffer.clear();
        let mut part = [0; 4096];
        loop {
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
            }
            self.buffer.extend_from_slice(&part[..read]);
            match answer(&self.buffer) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) if self.buffer.len() < ANSWER_BYTES_MAX => {}
                Ok(None) => return Err(io::Error::other("the response is too large")),
                Err(problem) => return Err(io::Error::other(problem)),
            }
        }
    }
}

/// Parses a response; `None` if it is incomplete.
fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let Some(head_length) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_length]).map_err(|_| "the response's head is not text")?;
    let mut lines = head.split("\r\n");
    let status: u16 =
        lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("the response has no status")?;
    let announced: Option<usize> = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    let length = match (announced, status) {
        (Some(length), _) => length,
        (None, NO_CONTENT) => 0,
        (None, _) => return Err("the response has no length"),
    };
    let body = &bytes[head_length + 4..];
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some(Answer { status, body: String::from_utf8_lossy(&body[..length]).into_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length]), Ok(None), "{length} bytes");
        }
        assert_eq!(answer(whole), Ok(Some(Answer { status: 200, body: "hello".to_owned() })));
    }

    #[test]
    fn a_204_response_needs_no_length() {
        let bare = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answer(bare), Ok(Some(Answer { status: 204, body: String::new() })));
    }

    #[test]
    fn a_request_has_a_content_length() {
        let request = Request::post("here", "/events", &[("x-one", "1")], "12345");
        assert_eq!(request.0, "POST /events HTTP/1.1\r\nhost: here\r\nx-one: 1\r\ncontent-length: 5\r\n\r\n12345");
    }

    #[test]
    fn an_invalid_response_is_an_error() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n"), Err("the response has no length"));
        assert_eq!(answer(b"nonsense\r\n\r\n"), Err("the response has no status"));
    }
}
