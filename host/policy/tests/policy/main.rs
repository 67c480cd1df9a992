//! Tests of the policy's decisions, as facts and as properties. Owns one module per kind of
//! decision; uses only the public interface.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

mod app_machine;
mod bundle_assets;
mod bundles;
mod ceilings;
mod config_vars;
mod formations;
mod forms;
mod grants;
mod hooks;
mod ids;
mod manifests;
mod names;
mod release_diffs;
mod schedules;
mod timetables;
