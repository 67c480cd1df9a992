//! Reports of app data that was lost or damaged outside of the host. Never detects a loss.

use std::path::PathBuf;

use isopod_policy::AppName;

/// The file of an app's key-value database, in the app's folder.
pub(crate) const KEY_VALUE: &str = "kv.db";

/// Data of an app that was lost or damaged outside of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostData {
    pub app: AppName,
    /// The file or folder.
    pub path: PathBuf,
    pub loss: Loss,
    /// The copy of the content that the host had open, if it was saved, or the damaged file after
    /// it was moved.
    pub saved: Option<PathBuf>,
}

impl LostData {
    /// Returns whether the lost data is the app's key-value database rather than a granted folder.
    pub fn is_key_value(&self) -> bool {
        self.path.ends_with(KEY_VALUE)
    }
}

/// How data was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The file or folder doesn't exist.
    Missing,
    /// The file is empty.
    Emptied,
    /// Another file replaced the file that the host had open.
    Replaced,
    /// The file is damaged. If `rescued` is set, a new file with the rows that could be read has
    /// replaced it; otherwise the damaged file is still at its path.
    Damaged { detail: String, rescued: Option<Rescued> },
}

/// The rows of a damaged database that were copied into a new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Key-value entries.
    pub entries: u64,
    /// Events that are neither done nor cancelled.
    pub events: u64,
    /// Whether every row could be read.
    pub is_complete: bool,
}
