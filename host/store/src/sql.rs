//! Shared by all statements: the setup of connections, the conversion of columns, and the mapping
//! of errors. Never names a table.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use crate::StoreError;
use crate::control_file::SAVED;
use crate::failed_reads;
use crate::files::private_file;
use crate::limits::{JOURNAL_BYTES_KEPT, LOCK_WAIT_MS_MAX};
use crate::model::Reason;

/// The result of a statement.
pub(crate) type Sql<T> = Result<T, SqlError>;

/// An error inside a database job, before its file is known.
#[derive(Debug)]
pub(crate) enum SqlError {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl SqlError {
    /// Converts the error for callers outside; `path` is the database file.
    pub(crate) fn explain(self, path: &Path) -> StoreError {
        match self {
            Self::Sqlite(error) => StoreError::sqlite(path, &error),
            Self::Store(error) => error,
        }
    }
}

/// Opens a database so that committed changes survive a crash of the process and of the machine.
pub(crate) fn connect(path: &Path, pages_max: Option<u32>) -> Result<Connection, StoreError> {
    connect_with(path, pages_max, |_| Ok(()))
}

/// Opens a database like [`connect`]. `set_up_file` receives the connection before a new file is
/// written.
pub(crate) fn connect_with(
    path: &Path,
    pages_max: Option<u32>,
    set_up_file: impl Fn(&Connection) -> rusqlite::Result<()>,
) -> Result<Connection, StoreError> {
    // Created in advance with our own mode, which SQLite copies to its journal. Only if it is
    // missing: closing a file drops all locks of this process on it, including those of SQLite's
    // other connections. Another process that opens the database would then treat it as unused.
    if !path.exists() {
        drop(private_file(path)?);
    }
    failed_reads::detect();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let set_up = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(LOCK_WAIT_MS_MAX.into()))?;
        set_up_file(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        set_durability(&connection, Durability::Synced)?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES_KEPT)?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        // The jobs of a group commit run in savepoints, whose journal would otherwise be written to
        // a file.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        limit_pages(&connection, pages_max)?;
        // Without this setting, SQLite plans a statement again whenever a parameter of its `WHERE`
        // changes.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    set_up().map_err(|error| StoreError::sqlite(path, &error))
}

/// Limits the size of a database.
pub(crate) fn limit_pages(connection: &Connection, pages_max: Option<u32>) -> rusqlite::Result<()> {
    match pages_max {
        // The pragma returns the value, so it is queried rather than executed.
        Some(pages) => connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())),
        None => Ok(()),
    }
}

/// Opens a database for reading without creating or changing a file. `is_settled` says that the
/// file contains all changes: no process has it open, and it has no journal.
pub(crate) fn look_into(path: &Path, is_settled: bool) -> Result<Connection, StoreError> {
    failed_reads::detect();
    let text = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{text}{}", if is_settled { "?immutable=1" } else { "" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(uri, flags)?;
        connection.busy_timeout(Duration::from_millis(LOCK_WAIT_MS_MAX.into()))?;
        Ok(connection)
    };
    open().map_err(|error| StoreError::sqlite(path, &error))
}

/// What a commit survives besides an end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// A power failure may undo the last such commits, each as a whole, back to the last synced
    /// commit. A commit doesn't wait for the disk.
    Unsynced,
    /// The commit also survives a power failure: it waits for the disk.
    Synced,
}

/// Sets what the connection's next commits survive.
pub(crate) fn set_durability(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let level = match durability {
        Durability::Unsynced => "NORMAL",
        Durability::Synced => "FULL",
    };
    connection.pragma_update(None, "synchronous", level)
}

/// Disables checkpoints by this connection, also on close: its changes stay in the journal.
pub(crate) fn disable_checkpoints(connection: &Connection) {
    // Both only set flags of the connection.
    let _ = connection.pragma_update(None, "wal_autocheckpoint", 0);
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// Writes the content of an open database to another file, which only its owner may read. Its
/// application id says that no journal belongs to it.
pub(crate) fn save(connection: &Connection, to: &Path) -> Sql<()> {
    drop(private_file(to)?);
    let write = || -> rusqlite::Result<()> {
        connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(to, flags)?.pragma_update(None, "application_id", SAVED)
    };
    write().map_err(|error| {
        // A partial copy is useless. If it can't be removed, the next start reports it as lost.
        let _ = std::fs::remove_file(to);
        error.into()
    })
}

/// Parses a column that contains the text of one of our types.
pub(crate) fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Sql<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| StoreError::damaged(format_args!("{column}: {error}")).into())
}

/// Parses a column like [`parsed`], for a column that may be empty.
pub(crate) fn parsed_if_any<T: FromStr<Err: Display>>(row: &Row<'_>, column: &str) -> Sql<Option<T>> {
    match row.get::<_, Option<String>>(column)? {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(StoreError::damaged(format_args!("{column}: {error}")).into()),
        },
    }
}

/// Parses a time. Times are stored as RFC 3339 in UTC, so that people can read them in the
/// database.
pub(crate) fn time(row: &Row<'_>, column: &str) -> Sql<Timestamp> {
    parsed(row, column)
}

/// Parses a time like [`time`], for a column that may be empty.
pub(crate) fn time_if_any(row: &Row<'_>, column: &str) -> Sql<Option<Timestamp>> {
    parsed_if_any(row, column)
}

/// Reads the reason of a failure.
pub(crate) fn reason(row: &Row<'_>) -> Sql<Option<Reason>> {
    let code: Option<String> = row.get("reason_code")?;
    let detail: Option<String> = row.get("reason")?;
    Ok(code.map(|code| Reason { code, detail: detail.unwrap_or_default() }))
}

/// Parses a column of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Sql<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| StoreError::damaged(format_args!("{column}: {error}")).into())
}

/// Parses a column of JSON like [`json`]. Returns `None` for NULL.
pub(crate) fn json_if_any<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Sql<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| StoreError::damaged(format_args!("{column}: {error}")).into())
}

/// Returns a value as JSON for a column.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Sql<String> {
    serde_json::to_string(value).map_err(|error| StoreError::damaged(error).into())
}

/// Runs a query and converts each row.
pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    make: impl Fn(&Row<'_>) -> Sql<T>,
) -> Sql<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(make(row)?);
    }
    Ok(items)
}

/// Runs a query and converts its first row, if it has one.
pub(crate) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    make: impl Fn(&Row<'_>) -> Sql<T>,
) -> Sql<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(make).transpose()
}
