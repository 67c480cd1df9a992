//! Copies the key-value entries that can be read from a damaged database. Never decides that a
//! database is damaged.

use rusqlite::Connection;

use super::tables;
use crate::StoreError;
use crate::loss::Rescued;
use crate::row_copy::copy;
use crate::sql::Sql;

/// Copies the entries, records their number in `rescued`, and sets the byte count of the new
/// database.
pub(crate) fn rescue_entries(from: &Connection, to: &Connection, rescued: &mut Rescued) -> Sql<()> {
    let mut bytes = 0;
    let sql = "INSERT OR IGNORE INTO entries (rowid, bucket, key, value) VALUES (?1, ?2, ?3, ?4)";
    let copied = copy(
        from,
        to,
        "SELECT rowid, bucket, key, value FROM entries",
        sql,
        |row| {
            let (bucket, key): (String, String) = (row.get(1)?, row.get(2)?);
            let value = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
            Ok(tables::counted(&bucket, &key, value.len() as u64))
        },
        |counted| {
            bytes += counted;
            Ok(())
        },
    )?;
    let counted: Option<i64> = from.query_row("SELECT bytes FROM usage", [], |row| row.get(0)).ok();
    let bytes = i64::try_from(bytes).map_err(StoreError::damaged)?;
    to.execute("UPDATE usage SET bytes = ?1", [bytes])?;
    rescued.entries = copied.rows;
    rescued.is_complete &= copied.is_complete && counted == Some(bytes);
    Ok(())
}
