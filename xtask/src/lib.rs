//! Functions shared by `cargo xtask` and the benchmarks: announcing and running steps, building the
//! host and the examples, and installing missing tools. Never part of the product.

pub mod guests;
pub mod host;
pub mod setup;
pub mod step;
