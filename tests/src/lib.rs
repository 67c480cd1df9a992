//! The harness of the end-to-end tests: starts the real program and uses it as its users do. It
//! knows no internals of the host, and contains no test.
//!
//! The tests are in `tests/all`; the calls that they share are here, so that a change of the API
//! touches one place.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

pub mod alerts;
pub mod assets;
pub mod browser;
pub mod bundle;
pub mod collector;
pub mod control;
pub mod cutting_proxy;
pub mod database;
pub mod disk;
pub mod dns;
pub mod faults;
pub mod gates;
pub mod guests;
pub mod h2c;
pub mod held_step;
pub mod host;
pub mod http;
pub mod limits;
pub mod load;
pub mod memory;
pub mod middleware;
pub mod neighbour;
mod optional;
pub mod outbox;
pub mod plugins;
pub mod probe;
pub mod problem;
pub mod program;
pub mod prometheus;
pub mod providers;
pub mod pty;
pub mod push;
pub mod queue;
pub mod raw;
pub mod sse;
pub mod tls;
pub mod torture;
pub mod torture_plan;
pub mod upstream;
pub mod wait;
pub mod wire;

pub use browser::Browser;
pub use bundle::Bundle;
pub use collector::Collector;
pub use cutting_proxy::CuttingProxy;
pub use disk::SmallDisk;
pub use faults::Faults;
pub use guests::{guest, guest_noted};
pub use held_step::HeldStep;
pub use host::Host;
pub use http::{Answer, Ask, Broken};
pub use isopod_faults::{DiskError, Loss};
pub use load::Load;
pub use neighbour::Neighbour;
pub use probe::{PROBES, Shown};
pub use prometheus::Prometheus;
pub use push::Push;
pub use queue::{Held, Queue};
pub use raw::Raw;
pub use sse::{Followed, PageStream};
pub use torture::{Survived, Torture};
pub use torture_plan::Hazards;
pub use upstream::Upstream;
pub use wait::{wait_for, wait_up_to, wait_while_it_progresses};
pub use wire::Wire;
