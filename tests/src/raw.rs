//! One HTTP/1 exchange as raw bytes. Sends a test's bytes unchanged, and reads a response without
//! applying the rules for its length, which tests check.

use crate::Wire;
use std::net::SocketAddr;

/// A response, and all bytes that came after its head.
#[derive(Debug)]
pub struct Raw {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub rest: Vec<u8>,
}

impl Raw {
    /// Sends these bytes and reads until the host closes the connection, which the request must ask
    /// for.
    ///
    /// # Panics
    /// If no response arrives.
    #[track_caller]
    pub fn exchange(to: SocketAddr, bytes: &str) -> Self {
        let mut wire = Wire::open(to).expect("the host accepts connections");
        wire.send(bytes.as_bytes()).expect("it can be sent");
        let said = wire.until_closed().expect("the host closes the connection");
        let end = said.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let (head, rest) = said.split_at(end.unwrap_or_else(|| panic!("{bytes:?} got no response: {said:?}")) + 4);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Self { status: status.unwrap_or_else(|| panic!("no status line: {head}")), headers, rest: rest.to_vec() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.rest).into_owned()
    }
}
