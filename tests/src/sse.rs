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
