//! Owns looking into a host's databases from a process that is not the host, as a backup or a curious operator does.

use crate::Host;
use rusqlite::{Connection, Params};
use std::path::Path;

impl Host {
    /// The database of apps, pushes, releases and activity.
    #[track_caller]
    pub fn control_database(&self) -> Connection {
        open(&self.data().join("control.db"))
    }

    /// The database of what an app keeps.
    #[track_caller]
    pub fn database_of(&self, app: &str) -> Connection {
        open(&self.data().join("apps").join(app).join("kv.db"))
    }

    /// Changes rows of a stopped host, at least one.
    ///
    /// # Panics
    /// Where there is none to change.
    #[track_caller]
    pub fn change_rows(&self, sql: &str, params: impl Params) {
        let changed = self.control_database().execute(sql, params).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(changed > 0, "no row was changed by {sql}");
    }
}

#[track_caller]
fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap_or_else(|error| panic!("{} cannot be opened: {error}", path.display()))
}
