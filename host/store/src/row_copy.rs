//! Copies rows of a damaged database into another one. Continues behind the parts that can't be
//! read. Never names a table.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, Row, Statement, params_from_iter};

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
    // `>=`, since a search with `>` would also read the page of the given row.
    let sql = format!("{select} WHERE rowid >= ?1 ORDER BY rowid");
    let mut statement = match from.prepare(&sql) {
        Ok(statement) => statement,
        Err(error) if is_damage_of(&error) || is_missing(&error) => {
            return Ok(Copied { rows: 0, is_complete: false });
        }
        Err(error) => return Err(error.into()),
    };
    let mut all = Copied { rows: 0, is_complete: true };
    let (mut next, mut skipped, mut errors, mut unreadable) = (0_i64, 0_i64, 0, 0_i64);
    loop {
        let mut first = next + skipped;
        if first - unreadable > 1 && can_read(&mut statement, first)? {
            first = first_readable(&mut statement, unreadable, first)?;
        }
        let mut rows = statement.query([first])?;
        let failed = loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let id: i64 = row.get(0)?;
                    // A page with old content may contain smaller ids. If the copy continued behind
                    // such a row, it would read the same pages again endlessly.
                    if id < first {
                        all.is_complete = false;
                        continue;
                    }
                    let is_copied = take(row)?;
                    all.rows += u64::from(is_copied);
                    all.is_complete &= is_copied;
                    (next, skipped) = (id.saturating_add(1), 0);
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
        unreadable = next + skipped;
        // Grows with each error, so that a large damaged part is skipped in few steps.
        skipped = skipped.saturating_add(1 + skipped / 64);
        if errors == RESCUE_ERRORS_MAX || next.checked_add(skipped).is_none() {
            return Ok(all);
        }
    }
}

/// Returns whether the first row from this position on can be read.
fn can_read(statement: &mut Statement<'_>, from: i64) -> Sql<bool> {
    match statement.query([from])?.next() {
        Ok(_) => Ok(true),
        Err(error) if is_damage_of(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the first position from which the table can be read again. It is after `unreadable`, and
/// at most `readable`: a step over a damaged part may skip readable rows.
fn first_readable(statement: &mut Statement<'_>, mut unreadable: i64, mut readable: i64) -> Sql<i64> {
    while readable - unreadable > 1 {
        let middle = unreadable + (readable - unreadable) / 2;
        if can_read(statement, middle)? {
            readable = middle;
        } else {
            unreadable = middle;
        }
    }
    Ok(readable)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const PAGE: usize = 4_096;
    /// The byte that begins a page of rows.
    const LEAF: u8 = 0x0d;

    const TABLE: &str = "CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT";
    const ROWS: usize = 20_000;

    /// Returns a database with damaged pages, and its rows that can be read. `damage` changes the
    /// bytes of the pages.
    fn damaged(folder: &tempfile::TempDir, damage: impl FnOnce(&mut [&mut [u8]])) -> (Connection, BTreeSet<i64>) {
        let path = folder.path().join("rows.db");
        let connection = Connection::open(&path).expect("it opens");
        let fill = format!(
            "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < {ROWS}) \
             INSERT INTO numbers SELECT n, 'text' FROM count"
        );
        connection.execute_batch(&format!("PRAGMA page_size = {PAGE}; {TABLE}; {fill}")).expect("it is filled");
        drop(connection);
        let mut bytes = fs::read(&path).expect("it is read");
        damage(&mut bytes.chunks_mut(PAGE).collect::<Vec<_>>());
        fs::write(&path, bytes).expect("it is written");
        let from = Connection::open(&path).expect("it opens");
        let is_readable = |n: &i64| from.query_row("SELECT 1 FROM numbers WHERE n = ?1", [n], |_| Ok(())).is_ok();
        let readable = (1..=ROWS as i64).filter(is_readable).collect();
        (from, readable)
    }

    fn overwrite(page: &mut [u8]) {
        assert_eq!(page[0], LEAF);
        page.fill(0xa5);
    }

    /// Copies the database, and returns the copied rows.
    fn copied(from: &Connection) -> (Copied, BTreeSet<i64>) {
        let to = Connection::open_in_memory().expect("it opens");
        to.execute_batch(TABLE).expect("it is created");
        let (select, insert) = ("SELECT n, text FROM numbers", "INSERT INTO numbers VALUES (?1, ?2)");
        let (mut copied, reads) = (BTreeSet::new(), Cell::new(0));
        let check = |row: &Row<'_>| {
            reads.set(reads.get() + 1);
            assert!(reads.get() < 5 * ROWS, "rows are read repeatedly");
            Ok(row.get::<_, i64>(0)?)
        };
        let insert_into = |n| {
            copied.insert(n);
            Ok(())
        };
        let all = copy(from, &to, select, insert, check, insert_into).expect("it is copied");
        assert_eq!(all.rows, copied.len() as u64);
        (all, copied)
    }

    /// A page contains more rows than the copy skips in steps of one.
    #[test]
    fn only_the_rows_of_damaged_pages_are_left_out() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (from, readable) = damaged(&folder, |pages| {
            let count = pages.len();
            [count / 4, count / 2, count / 2 + 1, count - 1].into_iter().for_each(|page| overwrite(pages[page]));
        });
        assert!(readable.len() > 15_000 && readable.len() < ROWS - 4 * 200, "{}", readable.len());
        let (all, copied) = copied(&from);
        assert!(!all.is_complete);
        let lost: Vec<_> = readable.difference(&copied).collect();
        assert_eq!((lost, copied.len()), (vec![], readable.len()));
    }

    /// After a lost write, an intact page contains outdated rows.
    #[test]
    fn a_page_with_old_content_does_not_end_the_copy() {
        let folder = tempfile::tempdir().expect("the folder is created");
        let (from, readable) = damaged(&folder, |pages| {
            let middle = pages.len() / 2;
            let old = pages[5].to_vec();
            assert_eq!((old[0], pages[middle][0]), (LEAF, LEAF));
            pages[middle].copy_from_slice(&old);
            overwrite(pages[middle + 1]);
        });
        assert!(readable.len() > 15_000 && readable.len() < ROWS - 2 * 200, "{}", readable.len());
        let (all, copied) = copied(&from);
        assert!(!all.is_complete);
        let lost: Vec<_> = readable.difference(&copied).collect();
        assert_eq!((lost, copied.len()), (vec![], readable.len()));
    }
}
