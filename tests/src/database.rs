//! Opens a host's databases from another process, as a backup or an operator does. Never changes
//! rows that the host has in memory.

use crate::Host;
use rusqlite::{Connection, Params};
use std::{fs::File, mem, os::fd::AsRawFd, path::Path};

/// The first byte of the range in SQLite's file format that every open connection locks.
const SHARED_FIRST: i64 = 0x4000_0002;
const SHARED_BYTES: i64 = 510;

impl Host {
    /// Opens the database of apps, pushes, releases and activity.
    #[track_caller]
    pub fn control_database(&self) -> Connection {
        open(&self.data().join("control.db"))
    }

    /// Opens an app's key-value database.
    #[track_caller]
    pub fn database_of(&self, app: &str) -> Connection {
        open(&self.data().join("apps").join(app).join("kv.db"))
    }

    /// Changes rows of a stopped host, at least one.
    ///
    /// # Panics
    /// If no row changes.
    #[track_caller]
    pub fn change_rows(&self, sql: &str, params: impl Params) {
        let changed = self.control_database().execute(sql, params).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(changed > 0, "no row was changed by {sql}");
    }
}

/// The maximum number of an app's events that have not ended, including dead letters.
const EVENTS_PER_APP_MAX: i64 = 2_000_000;

impl Host {
    /// Fills the event queue of a stopped host's app except for this number of events. The app must
    /// have had an event.
    ///
    /// # Panics
    /// If the queue can't be changed.
    #[track_caller]
    pub fn fill_event_queue(&self, app: &str, free: i64) {
        let sql = "UPDATE queues SET dead = ?1 - (ready + delayed + leased) WHERE process = 1";
        let changed = self.database_of(app).execute(sql, [EVENTS_PER_APP_MAX - free]);
        assert_eq!(changed.expect("the queue can be changed"), 1, "the app had an event");
    }

    /// Removes the events that [`Host::fill_event_queue`] counted.
    ///
    /// # Panics
    /// If the queue can't be changed.
    #[track_caller]
    pub fn empty_event_queue(&self, app: &str) {
        let sql = "UPDATE queues SET dead = (SELECT count(*) FROM events \
                   WHERE events.process = queues.process AND state = 5)";
        self.database_of(app).execute(sql, []).expect("the queue can be changed");
    }
}

/// The number of the state of claimed events in the column `events.state`.
const LEASED: i64 = 2;

impl Host {
    /// Returns the number of claimed events in the database of a killed host's app. Reads a copy:
    /// SQLite would apply the journal of the database and remove it.
    ///
    /// # Panics
    /// If the database can't be copied.
    #[track_caller]
    pub fn leased_events(&self, app: &str) -> u64 {
        let (from, copy) = (self.data().join("apps").join(app), tempfile::tempdir().expect("a folder can be made"));
        for file in ["kv.db", "kv.db-wal"].into_iter().filter(|file| from.join(file).exists()) {
            std::fs::copy(from.join(file), copy.path().join(file)).expect("it can be copied");
        }
        let count = open(&copy.path().join("kv.db")).query_row(
            "SELECT count(*) FROM events WHERE state = ?1",
            [LEASED],
            |row| row.get::<_, i64>(0),
        );
        // The app may have had no event yet.
        u64::try_from(count.unwrap_or(0)).expect("it is not negative")
    }
}

/// Returns the process that holds SQLite's shared lock. Without this lock an older SQLite assumes
/// that it has the only connection, and takes the database over when it closes.
#[track_caller]
pub fn lock_holder(database: &Path) -> Option<u32> {
    let file = File::options().read(true).write(true).open(database).expect("the database can be opened");
    // SAFETY: a C structure of plain integers, for which zeros are valid.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    (lock.l_start, lock.l_len) = (SHARED_FIRST, SHARED_BYTES);
    // SAFETY: the file is open, and the kernel writes into this structure only.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) };
    assert_eq!(asked, 0, "{}: {}", database.display(), std::io::Error::last_os_error());
    (lock.l_type != libc::F_UNLCK as i16).then(|| u32::try_from(lock.l_pid).expect("process ids are positive"))
}

#[track_caller]
fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap_or_else(|error| panic!("{} cannot be opened: {error}", path.display()))
}
