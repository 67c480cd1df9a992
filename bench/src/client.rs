//! Owns one HTTP/1.1 connection that asks for the same thing again and again, or for something else in between. Small on
//! purpose: it shares the machine with what it measures. It reads only answers that say their length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The status of an answer that has no body and need not say so.
const NO_CONTENT: u16 = 204;

/// An answer that is larger is none of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(super) struct Client {
    stream: TcpStream,
    request: Request,
    buffer: Vec<u8>,
}

/// What is sent, put together before any time is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request(String);

impl Request {
    pub(super) fn get(host: &str, path: &str) -> Request {
        Request(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }

    pub(super) fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        Request(format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}"))
    }
}

/// What was answered.
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

    /// Asks for what the connection was opened for.
    pub(super) fn get(&mut self) -> io::Result<Answer> {
        self.ask()?;
        self.answer()
    }

    /// Asks for something else.
    pub(super) fn send(&mut self, request: &Request) -> io::Result<Answer> {
        self.stream.write_all(request.0.as_bytes())?;
        self.answer()
    }

    /// The first half of `get`, for who asks over many connections before it reads an answer.
    pub(super) fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(self.request.0.as_bytes())
    }

    /// The second half: waits for the answer to what was asked last.
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
                Ok(None) => return Err(io::Error::other("the answer is too large")),
                Err(problem) => return Err(io::Error::other(problem)),
            }
        }
    }
}

/// The answer in `bytes`, or none while it is not whole.
fn answer(bytes: &[u8]) -> Result<Option<Answer>, &'static str> {
    let Some(head_length) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_length]).map_err(|_| "the answer's head is no text")?;
    let mut lines = head.split("\r\n");
    let status: u16 =
        lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("the answer has no status")?;
    let told: Option<usize> = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    let length = match (told, status) {
        (Some(length), _) => length,
        (None, NO_CONTENT) => 0,
        (None, _) => return Err("the answer does not say its length"),
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
    fn an_answer_is_whole_with_its_last_byte() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for length in 0..whole.len() {
            assert_eq!(answer(&whole[..length]), Ok(None), "{length} bytes");
        }
        assert_eq!(answer(whole), Ok(Some(Answer { status: 200, body: "hello".to_owned() })));
    }

    #[test]
    fn an_answer_without_content_needs_no_length() {
        let bare = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answer(bare), Ok(Some(Answer { status: 204, body: String::new() })));
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let request = Request::post("here", "/events", &[("x-one", "1")], "12345");
        assert_eq!(request.0, "POST /events HTTP/1.1\r\nhost: here\r\nx-one: 1\r\ncontent-length: 5\r\n\r\n12345");
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n"), Err("the answer does not say its length"));
        assert_eq!(answer(b"nonsense\r\n\r\n"), Err("the answer has no status"));
    }
}
