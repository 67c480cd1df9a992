//! The statements of one app's key-value entries. Owns the byte count that keeps an app within its
//! limit. Never opens a connection.

use rusqlite::{Connection, params};

use super::version::ValueVersion;
use crate::StoreError;
use crate::error::shown;
use crate::limits::{APP_BYTES_MAX, ENTRY_OVERHEAD_BYTES, KEYS_PER_PAGE};
use crate::sql::{Sql, all, first};

pub(crate) fn get(connection: &Connection, bucket: &str, key: &str) -> Sql<Option<Vec<u8>>> {
    let sql = "SELECT value FROM entries WHERE bucket = ?1 AND key = ?2";
    first(connection, sql, [bucket, key], |row| Ok(row.get(0)?))
}

pub(crate) fn exists(connection: &Connection, bucket: &str, key: &str) -> Sql<bool> {
    let sql = "SELECT 1 FROM entries WHERE bucket = ?1 AND key = ?2";
    Ok(first(connection, sql, [bucket, key], |_| Ok(()))?.is_some())
}

#[expect(clippy::expect_used, reason = "a page is small")]
pub(crate) fn keys(connection: &Connection, bucket: &str, after: Option<&str>) -> Sql<(Vec<String>, Option<String>)> {
    // Keys are never empty, so every key is greater than the empty text.
    let sql = "SELECT key FROM entries WHERE bucket = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
    let limit = i64::try_from(KEYS_PER_PAGE + 1).expect("a page is small");
    let mut keys: Vec<String> =
        all(connection, sql, params![bucket, after.unwrap_or(""), limit], |row| Ok(row.get(0)?))?;
    let more = keys.len() > KEYS_PER_PAGE;
    keys.truncate(KEYS_PER_PAGE);
    let next = if more { keys.last().cloned() } else { None };
    Ok((keys, next))
}

/// Returns the bytes that an entry counts towards the app's limit.
pub(crate) fn counted(bucket: &str, key: &str, value_bytes: u64) -> u64 {
    bucket.len() as u64 + key.len() as u64 + value_bytes + ENTRY_OVERHEAD_BYTES
}

fn bytes_of_entry(connection: &Connection, bucket: &str, key: &str) -> Sql<u64> {
    let sql = "SELECT length(value) FROM entries WHERE bucket = ?1 AND key = ?2";
    let length: Option<i64> = first(connection, sql, [bucket, key], |row| Ok(row.get(0)?))?;
    match length {
        None => Ok(0),
        Some(length) => Ok(counted(bucket, key, u64::try_from(length).map_err(StoreError::damaged)?)),
    }
}

/// The bytes of the entries that a change removes and adds.
#[derive(Debug, Default)]
struct Change {
    removed: u64,
    added: u64,
}

impl Change {
    fn set(&mut self, connection: &Connection, bucket: &str, key: &str, value: &[u8]) -> Sql<()> {
        self.removed += bytes_of_entry(connection, bucket, key)?;
        self.added += counted(bucket, key, value.len() as u64);
        connection
            .prepare_cached(
                "INSERT INTO entries (bucket, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![bucket, key, value])?;
        Ok(())
    }

    fn delete(&mut self, connection: &Connection, bucket: &str, key: &str) -> Sql<()> {
        let removed = bytes_of_entry(connection, bucket, key)?;
        if removed > 0 {
            self.removed += removed;
            let sql = "DELETE FROM entries WHERE bucket = ?1 AND key = ?2";
            connection.prepare_cached(sql)?.execute(params![bucket, key])?;
        }
        Ok(())
    }

    /// Counts the change. Refuses a change that grows the store beyond its limit; the caller rolls
    /// it back.
    fn finish(self, connection: &Connection) -> Sql<()> {
        let Self { removed, added } = self;
        if (removed, added) == (0, 0) {
            return Ok(());
        }
        let used: Option<i64> = first(connection, "SELECT bytes FROM usage", [], |row| Ok(row.get(0)?))?;
        let used = u64::try_from(used.unwrap_or(0)).map_err(StoreError::damaged)?;
        let after = (used + added).saturating_sub(removed);
        if added > removed && after > APP_BYTES_MAX {
            return Err(StoreError::KeyValueFull.into());
        }
        let after = i64::try_from(after).map_err(StoreError::damaged)?;
        connection.prepare_cached("UPDATE usage SET bytes = ?1")?.execute([after])?;
        Ok(())
    }
}

pub(crate) fn set(connection: &Connection, bucket: &str, key: &str, value: &[u8]) -> Sql<()> {
    let mut change = Change::default();
    change.set(connection, bucket, key, value)?;
    change.finish(connection)
}

pub(crate) fn delete(connection: &Connection, bucket: &str, key: &str) -> Sql<()> {
    let mut change = Change::default();
    change.delete(connection, bucket, key)?;
    change.finish(connection)
}

/// Sets and deletes entries. Only their total counts towards the app's limit, so a change may add
/// an entry before it deletes a larger one.
pub(crate) fn write_all<'w>(
    connection: &Connection,
    writes: impl IntoIterator<Item = (&'w str, &'w str, Option<&'w [u8]>)>,
) -> Sql<()> {
    let mut change = Change::default();
    for (bucket, key, value) in writes {
        match value {
            Some(value) => change.set(connection, bucket, key, value)?,
            None => change.delete(connection, bucket, key)?,
        }
    }
    change.finish(connection)
}

pub(crate) fn increment(connection: &Connection, bucket: &str, key: &str, delta: i64) -> Sql<i64> {
    let number = match get(connection, bucket, key)? {
        None => Some(0),
        Some(value) => std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok()),
    };
    let Some(sum) = number.and_then(|number| number.checked_add(delta)) else {
        return Err(StoreError::NotANumber { key: shown(key) }.into());
    };
    set(connection, bucket, key, sum.to_string().as_bytes())?;
    Ok(sum)
}

/// Sets a value if the current one has this version; otherwise returns the current version.
pub(crate) fn set_if(
    connection: &Connection,
    bucket: &str,
    key: &str,
    seen: ValueVersion,
    value: &[u8],
) -> Sql<Result<(), ValueVersion>> {
    let present = ValueVersion::of(get(connection, bucket, key)?.as_deref());
    if present != seen {
        return Ok(Err(present));
    }
    set(connection, bucket, key, value)?;
    Ok(Ok(()))
}
