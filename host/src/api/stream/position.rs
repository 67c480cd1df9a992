//! The position in a page's event stream, from which a reconnecting client continues. Never reads
//! a log or an activity.

use std::{fmt, str::FromStr};

use axum::http::HeaderMap;

use crate::{api::bad_request::BadRequest, observe::logs::Cursor};

/// The position after an event. Its text form is the event's id, as in `activity=41,log=3-5120`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The id of the last activity.
    pub(super) activity: Option<u64>,
    /// The position in the log.
    pub(super) log: Option<Cursor>,
}

impl Position {
    /// The text form as a regular expression, for the OpenAPI description.
    pub(super) const PATTERN: &str =
        "^(activity=[0-9]{1,18}(,log=[0-9]{1,18}-[0-9]{1,18})?|log=[0-9]{1,18}-[0-9]{1,18})?$";
    const DIGITS_MAX: usize = 18;

    /// Returns the position after an activity.
    pub(super) fn of_activity(id: u64) -> Self {
        Self { activity: Some(id), log: None }
    }

    /// Returns the position in a log.
    pub(super) fn of_log(cursor: Cursor) -> Self {
        Self { activity: None, log: Some(cursor) }
    }

    /// Moves the parts that `to` has.
    pub(super) fn advance(&mut self, to: Self) {
        self.activity = to.activity.or(self.activity);
        self.log = to.log.or(self.log);
    }

    /// Returns the position of a reconnecting client, from `Last-Event-ID`.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, BadRequest> {
        let Some(id) = headers.get("last-event-id") else { return Ok(Self::default()) };
        id.to_str().ok().and_then(|id| id.parse().ok()).ok_or_else(|| {
            let detail = "not the `id` of an event of this stream".to_owned();
            BadRequest::Header { name: "Last-Event-ID", detail }
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.activity, self.log) {
            (None, None) => Ok(()),
            (Some(id), None) => write!(f, "activity={id}"),
            (None, Some(log)) => write!(f, "log={log}"),
            (Some(id), Some(log)) => write!(f, "activity={id},log={log}"),
        }
    }
}

impl FromStr for Position {
    type Err = ();

    /// Parses the text form. An empty text is the default, as browsers define an empty id.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut position = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            match part.split_once('=').ok_or(())? {
                ("activity", id) if position == Self::default() => {
                    let is_number = id.len() <= Self::DIGITS_MAX && id.bytes().all(|byte| byte.is_ascii_digit());
                    position.activity = Some(id.parse().ok().filter(|_| is_number).ok_or(())?);
                }
                ("log", cursor) if position.log.is_none() => position.log = Some(cursor.parse().map_err(drop)?),
                _ => return Err(()),
            }
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_parsed_as_it_is_written() {
        for text in ["", "activity=41", "log=3-5120", "activity=41,log=3-5120"] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()), Ok(text.to_owned()));
        }
        for text in ["41", "activity=", "activity=+1", "log=3", ",", "activity=1,", "log=1-1,activity=1", "x=1"] {
            assert_eq!(text.parse::<Position>(), Err(()), "{text}");
        }
    }
}
