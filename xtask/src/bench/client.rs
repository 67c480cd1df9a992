//! Owns one HTTP/1.1 connection that asks for the same page again and again. Small on purpose: it shares the machine
//! with what it measures. It reads only answers that say their length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// An answer that is larger is none of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;

pub(super) struct Client {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Client {
    pub(super) fn connect(address: SocketAddr, host: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Client { stream, request: format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"), buffer: Vec::new() })
    }

    pub(super) fn get(&mut self) -> io::Result<Answer> {
        self.stream.write_all(self.request.as_bytes())?;
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
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("the answer has no status")?;
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or("the answer does not say its length")?;
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
    fn what_is_not_understood_is_said() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\n\r\n"), Err("the answer does not say its length"));
        assert_eq!(answer(b"nonsense\r\n\r\n"), Err("the answer has no status"));
    }
}
