//! One connection, byte by byte: HTTP/1.1 as far as tests need it, and the bytes of hostile
//! clients. Never retries.

use crate::{
    http::{Answer, Ask, Broken},
    limits::{BODY_BYTES_MAX, PATIENCE},
    wait_for,
};
use std::{
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

/// A connection.
pub struct Wire {
    reader: BufReader<TcpStream>,
    rest: Rest,
    trailers: Vec<(String, String)>,
}

/// The unread part of a response's body.
enum Rest {
    Nothing,
    Bytes(u64),
    Chunks,
    UntilClosed,
}

impl Wire {
    pub fn open(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream), rest: Rest::Nothing, trailers: Vec::new() })
    }

    /// Returns the address of this side.
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Sends one chunk of a chunked body. An empty chunk ends the body.
    pub fn send_chunk(&mut self, bytes: &[u8]) -> Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk)
    }

    /// Sends a complete request.
    pub fn ask(&mut self, ask: &Ask) -> Result<()> {
        let mut bytes = ask.head().into_bytes();
        bytes.extend_from_slice(&ask.body);
        match self.send(&bytes) {
            // A host that rejects a body may close before the body arrives; its response can still
            // be read.
            Err(error) if is_gone(&error) => Ok(()),
            sent => sent,
        }
    }

    /// Reads a complete response.
    pub fn answer(&mut self) -> std::result::Result<Answer, Broken> {
        let mut answer = self.head()?;
        loop {
            match self.piece() {
                Ok(Some(piece)) => answer.body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => {
                    return Err(Broken { reason: format!("the body broke off: {error}"), answer: Some(answer) });
                }
            }
            if answer.body.len() > BODY_BYTES_MAX {
                return Err(Broken { reason: "the body has no end".to_owned(), answer: None });
            }
        }
        answer.trailers = self.trailers();
        Ok(answer)
    }

    /// Shuts down the sending direction.
    pub fn end_sending(&mut self) -> Result<()> {
        self.reader.get_mut().shutdown(Shutdown::Write)
    }

    /// Waits until the host has reset the connection, and reads nothing.
    pub fn until_reset_unread(&self) {
        wait_for("the connection is reset", || self.reader.get_ref().take_error().ok().flatten());
    }

    /// Reads a response's head. The body remains to be read, piece by piece.
    pub fn head(&mut self) -> Result<Answer> {
        loop {
            // 100 Continue is followed by the final response.
            let answer = self.any_head()?;
            if answer.status >= 200 {
                self.rest = rest_of(&answer)?;
                return Ok(answer);
            }
        }
    }

    /// Reads the next head, which may belong to an interim response.
    pub fn any_head(&mut self) -> Result<Answer> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| broken(format!("no status line: {status_line:?}")))?;
        Ok(Answer { status, headers: self.fields()?, ..Answer::default() })
    }

    /// Returns the next piece of a body as soon as it arrives, or `None` at its proper end. An
    /// earlier end is an error.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::Nothing => Ok(None),
            Rest::Bytes(0) => {
                self.rest = Rest::Nothing;
                Ok(None)
            }
            Rest::Bytes(left) => {
                let piece = self.some(left)?;
                if piece.is_empty() {
                    return Err(broken(format!("closed {left} bytes before the end")));
                }
                self.rest = Rest::Bytes(left - piece.len() as u64);
                Ok(Some(piece))
            }
            Rest::UntilClosed => {
                let piece = self.some(u64::MAX)?;
                Ok(if piece.is_empty() { None } else { Some(piece) })
            }
            Rest::Chunks => self.chunk(),
        }
    }

    /// Returns the fields after the last chunk.
    pub fn trailers(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.trailers)
    }

    /// Waits until the peer has closed the connection, and returns the bytes it sent before.
    pub fn until_closed(&mut self) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        match self.reader.read_to_end(&mut said) {
            Ok(_) => Ok(said),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(said),
            Err(error) => Err(error),
        }
    }

    /// Waits until the peer has shut down its side, and returns the bytes it sent before. A reset
    /// is an error.
    pub fn until_end(&mut self) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        self.reader.read_to_end(&mut said)?;
        Ok(said)
    }

    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken(format!("no size of a chunk: {line:?}")))?;
        if size == 0 {
            self.trailers = self.fields()?;
            self.rest = Rest::Nothing;
            return Ok(None);
        }
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk)?;
        let end = self.line()?;
        if end.is_empty() { Ok(Some(chunk)) } else { Err(broken(format!("unexpected bytes after a chunk: {end:?}"))) }
    }

    /// Returns the buffered bytes, or else the next bytes; empty at the end.
    fn some(&mut self, most: u64) -> Result<Vec<u8>> {
        let there = self.reader.fill_buf()?;
        let taken = there.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let piece = there[..taken].to_vec();
        self.reader.consume(taken);
        Ok(piece)
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(format!("invalid header: {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed in the middle"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| broken("a line is not valid UTF-8".to_owned()))
    }
}

impl Ask {
    /// Sends the request over its own connection and reads the complete response.
    pub fn send(&self, to: SocketAddr) -> std::result::Result<Answer, Broken> {
        let mut wire = Wire::open(to)?;
        wire.ask(self)?;
        wire.answer()
    }
}

fn rest_of(answer: &Answer) -> Result<Rest> {
    if matches!(answer.status, 204 | 304) {
        return Ok(Rest::Nothing);
    }
    if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(Rest::Chunks);
    }
    match answer.header("content-length") {
        None => Ok(Rest::UntilClosed),
        Some(length) => length.parse().map(Rest::Bytes).map_err(|_| broken(format!("content-length is {length:?}"))),
    }
}

fn broken(what: String) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

fn is_gone(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}
