//! The rows of the store in memory. Never changes them by itself.

use std::collections::BTreeMap;

use isopod_policy::{AppName, ProcessName, ReleaseNumber};

use crate::model::{Activity, App, Idempotency, LogLine, Push, Release, ScheduleFired, Token};
use crate::page::Page;
use crate::usage::{Month, MonthUsage};

/// The rows. A method that fails changes nothing, like a rolled-back transaction.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) apps: BTreeMap<AppName, App>,
    pub(super) last_releases: BTreeMap<AppName, u32>,
    /// In the order of insertion.
    pub(super) pushes: BTreeMap<u64, PushRow>,
    pub(super) last_push: u64,
    pub(super) releases: BTreeMap<(AppName, ReleaseNumber), Release>,
    pub(super) activity: BTreeMap<u64, Activity>,
    pub(super) last_activity: u64,
    pub(super) activity_counts: BTreeMap<Option<AppName>, u32>,
    pub(super) schedules: BTreeMap<(AppName, ProcessName), ScheduleFired>,
    pub(super) usage: BTreeMap<(AppName, Month), MonthUsage>,
    pub(super) tokens: BTreeMap<String, Token>,
}

/// A push with its log.
#[derive(Debug)]
pub(super) struct PushRow {
    pub(super) push: Push,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) log: Vec<LogLine>,
}

/// Returns one item more than the page has, to detect a next page.
pub(super) fn one_more<T>(items: impl Iterator<Item = T>, page: &Page) -> Vec<T> {
    items.take(page.items() as usize + 1).collect()
}
