//! An open connection to an app's database, with the durability of its next commits. Never opens a
//! file.

use std::cell::Cell;
use std::ops::Deref;

use rusqlite::Connection;

use crate::sql::{self, Durability};

#[derive(Debug)]
pub(super) struct OpenConnection {
    connection: Connection,
    /// What the connection's commits survive. `None` if it is unknown.
    durability: Cell<Option<Durability>>,
}

impl OpenConnection {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, durability: Cell::new(None) }
    }

    /// Sets what the next commits survive. SQLite would parse the statement for each group of
    /// writes, so it is executed only for a change.
    pub(super) fn set_durability(&self, durability: Durability) -> rusqlite::Result<()> {
        if self.durability.get() == Some(durability) {
            return Ok(());
        }
        self.durability.set(None);
        sql::set_durability(&self.connection, durability)?;
        self.durability.set(Some(durability));
        Ok(())
    }
}

impl Deref for OpenConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_durability_is_set_only_when_it_changes() {
        let connection = OpenConnection::new(Connection::open_in_memory().expect("it opens"));
        let level = || -> i64 { connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("it is read") };
        let (off, normal, full) = (0, 1, 2);
        connection.set_durability(Durability::Unsynced).expect("it is set");
        assert_eq!(level(), normal);
        connection.pragma_update(None, "synchronous", off).expect("it is set");
        connection.set_durability(Durability::Unsynced).expect("it is set");
        assert_eq!(level(), off, "no statement was executed");
        connection.set_durability(Durability::Synced).expect("it is set");
        assert_eq!(level(), full);
        connection.set_durability(Durability::Unsynced).expect("it is set");
        assert_eq!(level(), normal);
    }
}
