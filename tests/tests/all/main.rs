//! The end-to-end tests, as one binary. Each starts a host of its own, so they run side by side. Promises of the
//! project that a test proves are named by their ids (`I1`) where they are proved.

mod bundles;
mod clients;
mod commands;
mod deploy;
mod disk;
mod events;
mod folders;
mod greed;
mod guests;
mod logs;
mod outbound;
mod protocol;
mod reload;
mod replies;
mod requests;
mod starting;
mod streaming;
mod terminal;
