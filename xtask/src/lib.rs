//! Functions shared by `cargo xtask` and the benchmarks: announcing and running steps, building the
//! host and the examples, installing missing tools, and a local webhook. Never part of the product.

pub mod browser;
pub mod guests;
pub mod host;
pub mod prometheus;
pub mod setup;
pub mod step;
pub mod webhook;
