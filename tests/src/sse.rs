//! Reads server-sent events. Owns one followed address. Never reconnects.

use crate::{Ask, Host, Wire};
use serde_json::Value;

/// The events of an address from now on.
pub struct Followed {
    wire: Wire,
    /// Received bytes that were not returned yet. A piece may end within a character.
    bytes: Vec<u8>,
}

impl Host {
    /// Starts to follow an address of the API.
    ///
    /// # Panics
    /// If it can't be followed.
    #[track_caller]
    pub fn follow(&self, path: &str) -> Followed {
        let separator = if path.contains('?') { '&' } else { '?' };
        let ask =
            Ask::get(format!("{path}{separator}follow=true")).header("authorization", format!("Bearer {}", self.token));
        let mut wire = Wire::open(self.admin).expect("the API accepts connections");
        wire.ask(&ask).expect("it can be sent");
        let answer = wire.head().expect("an answer").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer}");
        Followed { wire, bytes: Vec::new() }
    }
}

impl Iterator for Followed {
    type Item = Value;

    /// Returns the next event as soon as it arrives. Returns `None` at the end, which the host may
    /// announce with an event.
    ///
    /// # Panics
    /// If the connection breaks.
    fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let line = std::str::from_utf8(&line).expect("events are text").trim_end();
                if line == "event: end" {
                    return None;
                }
                if let Some(data) = line.strip_prefix("data:") {
                    return Some(serde_json::from_str(data).expect("events are JSON"));
                }
            }
            self.bytes.extend(self.wire.piece().expect("the stream of events continues")?);
        }
    }
}

/// An event of a page's stream.
#[derive(Debug, Clone)]
pub struct PageEvent {
    pub of: String,
    pub id: String,
    pub data: Value,
}

/// The events of a page's stream, `GET /v1/stream`.
pub struct PageStream {
    wire: Wire,
    /// Received bytes that were not returned yet.
    bytes: Vec<u8>,
}

impl Host {
    /// Opens a page's stream of these topics, as in `apps=true&log=hello`, after the event with
    /// this id.
    ///
    /// # Panics
    /// If the host refuses it.
    #[track_caller]
    pub fn page_stream(&self, token: &str, topics: &str, last_id: &str) -> PageStream {
        let ask = Ask::get(format!("/v1/stream?{topics}")).header("authorization", format!("Bearer {token}"));
        let mut wire = Wire::open(self.admin).expect("the API accepts connections");
        wire.ask(&ask.header("last-event-id", last_id)).expect("it can be sent");
        let answer = wire.head().expect("an answer").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer}");
        PageStream { wire, bytes: Vec::new() }
    }
}

impl PageStream {
    /// Waits until each of these topics has started.
    ///
    /// # Panics
    /// If the stream ends before.
    #[track_caller]
    pub fn until_started(&mut self, topics: &[&str]) {
        let mut left = topics.to_vec();
        while !left.is_empty() {
            let started = self.until("started", |_| true).data;
            left.retain(|topic| started["topic"] != *topic);
        }
    }

    /// Waits for an event of a type.
    ///
    /// # Panics
    /// If the stream ends before.
    #[track_caller]
    pub fn until(&mut self, of: &str, is_it: impl Fn(&Value) -> bool) -> PageEvent {
        let found = self.find(|event| event.of == of && is_it(&event.data));
        found.unwrap_or_else(|| panic!("the stream ended without the event `{of}`"))
    }
}

impl Iterator for PageStream {
    type Item = PageEvent;

    /// Returns the next event as soon as it arrives. Returns `None` at the end.
    ///
    /// # Panics
    /// If the connection breaks.
    fn next(&mut self) -> Option<PageEvent> {
        loop {
            while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("events are UTF-8");
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                // A comment keeps the connection alive.
                let Some(data) = field("data") else { continue };
                let data = serde_json::from_str(data).expect("events are JSON");
                let text = |name| field(name).unwrap_or_default().to_owned();
                return Some(PageEvent { of: text("event"), id: text("id"), data });
            }
            let piece = self.wire.piece().expect("the stream of events continues")?;
            self.bytes.extend_from_slice(&piece);
        }
    }
}
