//! Writes the new file for a damaged database, with the rows that can be read. Owns both
//! connections. Never changes the damaged file, and never names a table.

use std::fs::{self, File};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::schema;
use crate::StoreError;
use crate::failed_reads::{self, Reads};
use crate::files::private_file;
use crate::loss::Rescued;
use crate::row_copy::is_damage;
use crate::sql::{Sql, disable_checkpoints, limit_pages};

/// A function that copies the rows that can be read from a damaged database into one with empty
/// tables. The flag says whether the damaged database may contain events.
pub(crate) type CopyRows = fn(&Connection, &Connection, bool) -> Sql<Rescued>;

/// Writes the rows that can be read to a new file, and syncs it. Removes a partial copy after an
/// error.
pub(super) fn rescue(
    from: &Path,
    to: &Path,
    pages_max: Option<u32>,
    copy_rows: CopyRows,
) -> Result<Rescued, StoreError> {
    remove(to)?;
    drop(private_file(to)?);
    let reads = Reads::begin();
    let written = write(from, to, pages_max, copy_rows).map_err(|error| error.explain(to));
    // Without this check, the copy could lack rows that can't be read now.
    let written = reads.check().map_err(|error| StoreError::sqlite(from, &error)).and(written);
    let copied = written.and_then(|rescued| {
        let synced = File::open(to).and_then(|file| file.sync_all());
        synced.map(|()| rescued).map_err(|error| StoreError::file(to, &error))
    });
    if copied.is_err() {
        // Other writes may need the space of the partial copy.
        let _ = remove(to);
    }
    copied
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::file(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens a damaged database for reading, even if the file is shorter than its header says. Makes no
/// checkpoint.
pub(super) fn open_damaged(path: &Path) -> Sql<Connection> {
    failed_reads::detect();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    disable_checkpoints(&connection);
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "query_only", "ON")?;
    connection.pragma_update(None, "writable_schema", "ON")?;
    Ok(connection)
}

fn write(from: &Path, to: &Path, pages_max: Option<u32>, copy_rows: CopyRows) -> Sql<Rescued> {
    let to = Connection::open(to)?;
    // The file is used only once it is complete.
    to.pragma_update(None, "journal_mode", "OFF")?;
    to.pragma_update(None, "synchronous", "OFF")?;
    schema::set_up(&to)?;
    limit_pages(&to, pages_max)?;
    schema::make(&to)?;
    let from = match open_damaged(from) {
        Ok(from) => from,
        Err(error) if is_damage(&error) => return Ok(Rescued::default()),
        Err(error) => return Err(error),
    };
    let format = schema::format_of(&from).ok();
    if let Some(found) = format.filter(|format| *format > schema::FORMAT) {
        // A copy would lack the tables and columns that only the newer version has.
        return Err(StoreError::TooNew { found, known: schema::FORMAT }.into());
    }
    to.execute_batch("BEGIN IMMEDIATE")?;
    let has_events = format != Some(schema::FORMAT_WITHOUT_EVENTS);
    let rescued = copy_rows(&from, &to, has_events)?;
    to.execute_batch("COMMIT")?;
    to.close().map_err(|(_, error)| error)?;
    Ok(rescued)
}
