//! A data folder of an earlier version is taken over as it is. Owns the statements of every earlier format, as they were.

use std::path::Path;

use isopod_store::Store;
use rusqlite::Connection;

/// The tables of format 1.
const FORMAT_1: &str = include_str!("upgrade/format_1.sql");

/// What a host of format 1 had stored: an app with three releases of which the second serves again, one that was pushed
/// once, and one that never was.
const ROWS_1: &str = "
    INSERT INTO apps VALUES
        ('busy', 'staging', 'running', 3, 3, '2027-01-01T00:00:00Z', '2027-01-03T10:00:00Z'),
        ('once', 'dev', 'stopped', 1, 1, '2027-01-01T00:00:00Z', '2027-01-01T10:00:00Z'),
        ('new', 'dev', 'running', NULL, 0, '2027-01-01T00:00:00Z', '2027-01-01T00:00:00Z');
    INSERT INTO releases VALUES
        ('busy', 1, ?, ?, 100, 'admin', '2027-01-01T10:00:00.5Z'),
        ('busy', 2, ?, ?, 200, 'admin', '2027-01-02T10:00:00Z'),
        ('busy', 3, ?, ?, 300, 'admin', '2027-01-03T10:00:00Z'),
        ('once', 1, ?, ?, 100, 'admin', '2027-01-01T10:00:00Z');
";
