//! The rows of events: states, times and content in their stored form. Never runs a statement.

use isopod_policy::ProcessName;
use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use super::model::{EventPayload, EventSeq, EventState, StoredEvent};
use crate::StoreError;
use crate::sql::{Sql, parsed};

/// The state of a row. Each number is part of the format.
///
/// ```text
///                    ┌──────────── Retry ◄──┐
///                    ▼                      │ retry
/// accept ──► Ready or Blocked ──► Leased ───┼──► Done
///    │               ▲               │      └──► Dead ──► redrive: Ready or Blocked
///    └► Scheduled ───┘ due           └─ lost lease: Ready or Dead
///
/// A waiting row can be cancelled, and is cancelled when it expires.
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    /// May be claimed.
    Ready = 0,
    /// Waits for its next attempt, at the head of its subject's line.
    Retry = 1,
    Leased = 2,
    /// Waits in its subject's line.
    Blocked = 3,
    /// Waits for the time that its sender set, outside of its subject's line.
    Scheduled = 4,
    Dead = 5,
    Done = 6,
    Cancelled = 7,
}

impl RowState {
    pub(super) const ALL: [Self; 8] = [
        Self::Ready,
        Self::Retry,
        Self::Leased,
        Self::Blocked,
        Self::Scheduled,
        Self::Dead,
        Self::Done,
        Self::Cancelled,
    ];

    pub(super) fn shown(self) -> EventState {
        match self {
            Self::Ready | Self::Blocked => EventState::Ready,
            Self::Retry | Self::Scheduled => EventState::Delayed,
            Self::Leased => EventState::Leased,
            Self::Dead => EventState::Dead,
            Self::Done => EventState::Done,
            Self::Cancelled => EventState::Cancelled,
        }
    }

    /// Returns whether the event may still be delivered.
    pub(super) fn is_active(self) -> bool {
        (self as i64) < Self::Dead as i64
    }

    /// Returns whether the event is at the head of its subject's line, which blocks the rest.
    pub(super) fn is_head(self) -> bool {
        matches!(self, Self::Ready | Self::Retry | Self::Leased)
    }
}

impl ToSql for RowState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((*self as i64).into())
    }
}

impl FromSql for RowState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        Self::ALL.into_iter().find(|state| *state as i64 == number).ok_or(FromSqlError::OutOfRange(number))
    }
}

pub(super) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// Returns a stored time. Clamps a time out of range, so that one such row doesn't count as damage
/// of the whole database.
pub(super) fn timestamp(millis: i64) -> Timestamp {
    let nearest = if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(millis).unwrap_or(nearest)
}

/// The attributes of an event in its payload, as JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(rename = "datacontenttype", skip_serializing_if = "Option::is_none")]
    data_content_type: Option<String>,
    #[serde(rename = "dataschema", skip_serializing_if = "Option::is_none")]
    data_schema: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<(String, String)>,
}

/// Splits a payload into the columns of its row.
pub(super) fn payload_columns(payload: EventPayload) -> Sql<(Option<String>, Option<Vec<u8>>)> {
    let EventPayload { time, data_content_type, data_schema, extensions, data } = payload;
    let attributes = Attributes { time, data_content_type, data_schema, extensions };
    let attributes = if attributes == Attributes::default() { None } else { Some(crate::sql::to_json(&attributes)?) };
    Ok((attributes, data))
}

/// Reads a payload from its row.
pub(super) fn payload(row: &Row<'_>) -> Sql<EventPayload> {
    let attributes = match row.get_ref("attributes")?.as_str_or_null().map_err(rusqlite::Error::from)? {
        None => Attributes::default(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| StoreError::damaged(format_args!("attributes of an event: {error}")))?,
    };
    let Attributes { time, data_content_type, data_schema, extensions } = attributes;
    Ok(EventPayload { time, data_content_type, data_schema, extensions, data: row.get("data")? })
}

/// The columns of [`stored`].
pub(super) const STORED: &str = "seq, (SELECT name FROM queues WHERE queues.process = events.process) AS name, state, \
     attempt, attempts_max, accepted_at, since, due_at, expires_at, id, source, type, subject, error";

/// Reads an event as lists show it. A lease of an earlier session is void, so its event is ready.
pub(super) fn stored(row: &Row<'_>, are_leases_void: bool) -> Sql<StoredEvent> {
    let state: RowState = row.get("state")?;
    let state = if are_leases_void && state == RowState::Leased { RowState::Ready } else { state };
    let time_if_any =
        |column: &str| -> Sql<Option<Timestamp>> { Ok(row.get::<_, Option<i64>>(column)?.map(timestamp)) };
    Ok(StoredEvent {
        seq: EventSeq(row.get("seq")?),
        process: parsed::<ProcessName>(row, "name")?,
        id: row.get("id")?,
        source: row.get("source")?,
        event_type: row.get("type")?,
        subject: row.get("subject")?,
        state: state.shown(),
        is_blocked: state == RowState::Blocked,
        attempt: row.get("attempt")?,
        attempts_max: row.get("attempts_max")?,
        error: row.get("error")?,
        accepted_at: timestamp(row.get("accepted_at")?),
        due_at: time_if_any("due_at")?,
        expires_at: time_if_any("expires_at")?,
        since: timestamp(row.get("since")?),
    })
}
