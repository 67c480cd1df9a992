//! The end-to-end tests, as one binary. Each starts a host of its own, so they run side by side. Promises of the
//! project that a test proves are named by their ids (`I1`) where they are proved.

mod advice;
mod bundles;
mod clients;
mod commands;
mod config;
mod crashes;
mod deploy;
mod disk;
mod events;
mod folders;
mod formation;
mod greed;
mod guests;
mod health;
mod instances;
mod logs;
mod meanwhile;
mod model;
mod outbound;
mod protocol;
mod pushes;
mod releases;
mod reload;
mod replies;
mod requests;
mod rolling;
mod schedules;
mod snapshots;
mod starting;
mod streaming;
mod terminal;
mod types;
