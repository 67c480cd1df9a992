//! The statements for pushes and their logs. Every step is checked against the policy's state
//! machine in the transaction that writes it, so that a push can't be cancelled and started at
//! once. Never decides a state itself.

use isopod_policy::{AppName, PushEvent, PushId, PushState, ReleaseNumber};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params, types::ValueRef};

use super::schema::FINAL;
use super::{apps, releases};
use crate::limits::{PUSH_LINES_STORED_MAX, PUSHES_KEPT, ROWS_PER_PAGE_MAX};
use crate::model::{Idempotency, Inserted, LogLine, NewPush, Push, PushStep, Reason};
use crate::page::{Page, Paged};
use crate::sql::{Sql, all, first, json, parsed, parsed_if_any, reason, time};
use crate::{Digest, StoreError};

const COLUMNS: &str = "number, id, app, state, bundle, release, reason_code, reason, steps, log_lines, created_by,
                       created_at, updated_at";

/// A push with its row number, which is the cursor of lists.
struct Numbered {
    number: i64,
    push: Push,
}

fn make(row: &Row<'_>) -> Sql<Numbered> {
    let push = Push {
        id: parsed(row, "id")?,
        app: parsed(row, "app")?,
        state: parsed(row, "state")?,
        bundle: parsed_if_any(row, "bundle")?,
        release: row.get::<_, Option<u32>>("release")?.and_then(ReleaseNumber::new),
        reason: reason(row)?,
        steps: steps(row)?,
        created_by: row.get("created_by")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    };
    Ok(Numbered { number: row.get("number")?, push })
}

/// Returns the steps of a push. The final state follows the whole log, so only earlier steps are
/// stored.
fn steps(row: &Row<'_>) -> Sql<Vec<PushStep>> {
    if row.get_ref("steps")? == ValueRef::Null {
        return Ok(Vec::new());
    }
    let mut steps: Vec<PushStep> = json(row, "steps")?;
    let state: PushState = parsed(row, "state")?;
    if state.is_final() {
        let log_lines = row.get::<_, u32>("log_lines")?.min(PUSH_LINES_STORED_MAX);
        steps.push(PushStep { state, log_lines });
    }
    Ok(steps)
}

fn numbered(connection: &Connection, id: &PushId) -> Sql<Option<Numbered>> {
    first(connection, &format!("SELECT {COLUMNS} FROM pushes WHERE id = ?1"), [id.as_str()], make)
}

fn existing(connection: &Connection, id: &PushId) -> Sql<Numbered> {
    numbered(connection, id)?.ok_or_else(|| StoreError::UnknownPush { id: id.clone() }.into())
}

pub(crate) fn by_key_sql() -> String {
    format!(
        "SELECT {COLUMNS}, upload_digest FROM pushes WHERE app = ?1 AND idempotency_key = ?2
         ORDER BY number DESC LIMIT 1"
    )
}

/// Returns the result of sending a key again; `None` if the key is unknown or has expired.
pub(crate) fn sent_before(
    connection: &Connection,
    app: &AppName,
    sent: &Idempotency,
    now: Timestamp,
) -> Sql<Option<Inserted>> {
    sent.check()?;
    let newest = first(connection, &by_key_sql(), [app.as_str(), &sent.key], |row| {
        Ok((make(row)?.push, parsed::<Digest>(row, "upload_digest")?))
    })?;
    Ok(newest.and_then(|(earlier, upload)| Inserted::again(earlier, &upload, sent, now)))
}

pub(crate) fn insert(connection: &Connection, push: &NewPush) -> Sql<Inserted> {
    apps::existing(connection, &push.app)?;
    if let Some(sent) = &push.idempotency
        && let Some(again) = sent_before(connection, &push.app, sent, push.created_at)?
    {
        return Ok(again);
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO pushes (id, app, state, bundle, idempotency_key, upload_digest, steps, created_by,
             created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '[]', ?7, ?8, ?8) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            push.id.as_str(),
            push.app.as_str(),
            PushState::Queued.as_str(),
            push.bundle.as_ref().map(Digest::as_str),
            push.idempotency.as_ref().map(|sent| &sent.key),
            push.idempotency.as_ref().map(|sent| sent.upload.as_str()),
            push.created_by,
            push.created_at.to_string()
        ])?;
    if inserted == 0 {
        return Err(StoreError::PushExists { id: push.id.clone() }.into());
    }
    make_room(connection, &push.app)?;
    Ok(Inserted::New(existing(connection, &push.id)?.push))
}

/// Removes an app's oldest final pushes beyond the limit, with their logs.
fn make_room(connection: &Connection, app: &AppName) -> Sql<()> {
    connection
        .prepare_cached(&format!(
            "DELETE FROM pushes WHERE app = ?1 AND state IN {FINAL} AND number <=
             (SELECT number FROM pushes WHERE app = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"
        ))?
        .execute(params![app.as_str(), PUSHES_KEPT])?;
    Ok(())
}

pub(crate) fn get(connection: &Connection, id: &PushId) -> Sql<Option<Push>> {
    Ok(numbered(connection, id)?.map(|found| found.push))
}

fn page_of(items: Vec<Numbered>, page: &Page) -> Paged<Push> {
    let paged = Paged::from_one_more(items, page, |item| item.number.to_string());
    Paged { items: paged.items.into_iter().map(|item| item.push).collect(), next: paged.next }
}

pub(crate) fn list(connection: &Connection, app: &AppName, page: &Page) -> Sql<Paged<Push>> {
    let before = page.number(i64::MAX)?;
    let sql = format!("SELECT {COLUMNS} FROM pushes WHERE app = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
    let items = all(connection, &sql, params![app.as_str(), before, page.items() + 1], make)?;
    Ok(page_of(items, page))
}

pub(crate) fn unfinished_sql() -> String {
    format!("SELECT {COLUMNS} FROM pushes WHERE state NOT IN {FINAL} AND number > ?1 ORDER BY number LIMIT ?2")
}

pub(crate) fn unfinished(connection: &Connection, page: &Page) -> Sql<Paged<Push>> {
    let after = page.number(0_i64)?;
    let items = all(connection, &unfinished_sql(), params![after, page.items() + 1], make)?;
    Ok(page_of(items, page))
}

pub(crate) fn advance(
    connection: &Connection,
    id: &PushId,
    event: PushEvent,
    reason: Option<Reason>,
    at: Timestamp,
) -> Sql<Push> {
    let found = existing(connection, id)?;
    let state = found.push.state.step(event).map_err(StoreError::from)?;
    let (code, detail) = reason.map(Reason::truncated).map(|reason| (reason.code, reason.detail)).unzip();
    connection
        .prepare_cached(
            "UPDATE pushes SET state = ?2, reason_code = ?3, reason = ?4, updated_at = ?5 WHERE number = ?1",
        )?
        .execute(params![found.number, state.as_str(), code, detail, at.to_string()])?;
    if !state.is_final() {
        connection
            .prepare_cached(
                "UPDATE pushes SET steps = json_insert(steps, '$[#]', json_object('state', state, 'log_lines',
                 min(log_lines, ?2))) WHERE number = ?1",
            )?
            .execute(params![found.number, PUSH_LINES_STORED_MAX])?;
    }
    Ok(existing(connection, id)?.push)
}

pub(crate) fn complete(connection: &Connection, id: &PushId, number: ReleaseNumber, at: Timestamp) -> Sql<Push> {
    let push = advance(connection, id, PushEvent::Complete, None, at)?;
    releases::put_in_service(connection, &push.app, number, at)?;
    connection
        .prepare_cached("UPDATE pushes SET release = ?2 WHERE id = ?1")?
        .execute(params![id.as_str(), number.get()])?;
    Ok(existing(connection, id)?.push)
}

pub(crate) fn append_log(connection: &Connection, id: &PushId, text: &str, at: Timestamp) -> Sql<bool> {
    let sql = "UPDATE pushes SET log_lines = log_lines + 1 WHERE id = ?1 RETURNING number, log_lines";
    let counted = first(connection, sql, [id.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?)))?;
    let Some((push, number)) = counted else {
        return Err(StoreError::UnknownPush { id: id.clone() }.into());
    };
    if number > PUSH_LINES_STORED_MAX {
        return Ok(false);
    }
    let line = LogLine::truncated(number, at, text);
    connection
        .prepare_cached("INSERT INTO push_log (push, number, at, text) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![push, line.number, line.at.to_string(), line.text])?;
    Ok(true)
}

pub(crate) fn log(connection: &Connection, id: &PushId, after: u32) -> Sql<Vec<LogLine>> {
    let push = existing(connection, id)?.number;
    let sql = "SELECT number, at, text FROM push_log WHERE push = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
    all(connection, sql, params![push, after, ROWS_PER_PAGE_MAX], |row| {
        Ok(LogLine { number: row.get("number")?, at: time(row, "at")?, text: row.get("text")? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_states_match_the_policy() {
        for state in PushState::ALL {
            assert_eq!(FINAL.contains(&format!("'{state}'")), state.is_final(), "{state}");
        }
    }
}
