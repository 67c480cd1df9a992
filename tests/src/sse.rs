//! Reads server-sent events. Owns one followed address. Never reconnects.

use crate::{Ask, Host, Wire};
use serde_json::Value;

/// The events of an address from now on.
pub struct Followed {
    wire: Wire,
    /// Received text that was not returned yet.
    text: String,
}

impl Host {
    /// Starts to follow an address of the API.
    ///
    /// # Panics
    /// If it can't be followed.
    #[track_caller]
    pub fn follow(&self, path: &str) -> Followed {
        let ask = Ask::get(format!("{path}?follow=true")).header("authorization", format!("Bearer {}", self.token));
        let mut wire = Wire::open(self.admin).expect("the API accepts connections");
        wire.ask(&ask).expect("it can be sent");
        let answer = wire.head().expect("an answer").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer}");
        Followed { wire, text: String::new() }
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
            while let Some((line, rest)) = self.text.split_once('\n') {
                let event = line.strip_prefix("data:").map(|data| serde_json::from_str(data).expect("events are JSON"));
                if line == "event: end" {
                    return None;
                }
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let piece = self.wire.piece().expect("the stream of events continues")?;
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
}
