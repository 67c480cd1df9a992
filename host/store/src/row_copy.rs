//! Copies rows of a damaged database into another one. Continues behind the parts that can't be
//! read. Never names a table.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, Row, params_from_iter};

use crate::StoreError;
use crate::limits::RESCUE_ERRORS_MAX;
use crate::sql::{Sql, SqlError};

/// Rows of a table that were copied.
pub(crate) struct Copied {
    pub(crate) rows: u64,
    /// Whether every row could be read.
    pub(crate) is_complete: bool,
}

/// Copies the rows that can be read, in the order of their first column, the row's id, which is
/// positive. `check` reads a row or refuses it; `copied` receives its result once it is copied.
pub(crate) fn copy<T>(
    from: &Connection,
    to: &Connection,
    select: &str,
    insert: &str,
    check: impl Fn(&Row<'_>) -> Sql<T>,
    mut copied: impl FnMut(T) -> Sql<()>,
) -> Sql<Copied> {
    let mut insert = to.prepare(insert)?;
    let mut take = |row: &Row<'_>| -> Sql<bool> {
        let Ok(checked) = check(row) else { return Ok(false) };
        let columns = row.as_ref().column_count();
        let values = (0..columns).map(|column| row.get_ref(column).map(ToSqlOutput::Borrowed));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        match insert.execute(params_from_iter(values)) {
            Ok(1) => copied(checked).map(|()| true),
            // The row has the key of another row, or a value of the wrong type.
            Ok(_) => Ok(false),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    let sql = format!("{select} WHERE rowid > ?1 ORDER BY rowid");
    let mut statement = match from.prepare(&sql) {
        Ok(statement) => statement,
        Err(error) if is_damage_of(&error) || is_missing(&error) => {
            return Ok(Copied { rows: 0, is_complete: false });
        }
        Err(error) => return Err(error.into()),
    };
    let mut all = Copied { rows: 0, is_complete: true };
    let (mut after, mut skipped, mut errors) = (0_i64, 0_i64, 0);
    loop {
        let mut rows = statement.query([after + skipped])?;
        let failed = loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let is_copied = take(row)?;
                    all.rows += u64::from(is_copied);
                    all.is_complete &= is_copied;
                    (after, skipped) = (row.get(0)?, 0);
                }
                Ok(None) => return Ok(all),
                Err(error) => break error,
            }
        };
        if !is_damage_of(&failed) {
            return Err(failed.into());
        }
        all.is_complete = false;
        errors += 1;
        // Grows with each error, so that a large damaged part is skipped in few steps.
        skipped = skipped.saturating_add(1 + skipped / 64);
        if errors == RESCUE_ERRORS_MAX || after.checked_add(skipped).is_none() {
            return Ok(all);
        }
    }
}

/// Returns whether the error says that a part of the file can't be read.
pub(crate) fn is_damage(error: &SqlError) -> bool {
    match error {
        SqlError::Sqlite(error) => is_damage_of(error),
        SqlError::Store(error) => matches!(error, StoreError::Damaged { .. }),
    }
}

fn is_damage_of(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Returns whether the error says that a table or column doesn't exist.
fn is_missing(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
}
