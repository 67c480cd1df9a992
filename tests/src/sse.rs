//! Server-sent events as they come. Owns one followed address.

use crate::{Ask, Host, Wire};
use serde_json::Value;

/// What an address tells, from now on.
pub struct Followed {
    wire: Wire,
    /// What has come and was not told yet.
    text: String,
}

impl Host {
    /// Begins to follow an address of the API.
    ///
    /// # Panics
    /// Where it can't be followed.
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

    /// The next event, as soon as there is one; none at the end, which the host may say with an event of its own.
    ///
    /// # Panics
    /// Where the connection breaks off.
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
            let piece = self.wire.piece().expect("events go on")?;
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
}
