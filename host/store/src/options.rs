//! How a store is opened. Never opens one.

/// Options for opening a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The maximum number of 4 KiB pages of each database; `None` for no limit.
    pub pages_max: Option<u32>,
    /// Whether to open a folder that its `control.db` does not match. Nothing is deleted: entries
    /// that no app owns, and a journal of another `control.db`, are moved to `lost+found/`.
    pub adopt: bool,
}
