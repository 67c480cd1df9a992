//! The targets of `bench serve` relative to other servers. Pure: compares figures, never measures.

use super::contender::Contender;

/// A target: `ours` serves at least `at_least` times the requests of `theirs`.
pub(super) struct Target {
    pub(super) ours: Contender,
    pub(super) theirs: Contender,
    pub(super) at_least: f64,
}

/// Each is compared with servers of the same isolation: a fresh instance per request with fresh
/// instances, a reused instance with reused instances.
pub(super) const TARGETS: [Target; 15] = [
    target(Contender::IsopodSdk, 0.8, Contender::Axum),
    target(Contender::IsopodWasi02, 0.5, Contender::Axum),
    target(Contender::IsopodWasi02Fresh, 0.25, Contender::Axum),
    target(Contender::IsopodWasi03, 1.1, Contender::WasmtimeWasi03),
    target(Contender::IsopodWasi03, 1.1, Contender::WasmtimeWasi03Tuned),
    target(Contender::IsopodSdk, 1.0, Contender::WasmtimeWasi02),
    target(Contender::IsopodSdk, 1.0, Contender::WasmtimeWasi02TunedReused),
    target(Contender::IsopodWasi02, 1.2, Contender::WasmtimeWasi02),
    target(Contender::IsopodWasi02, 1.2, Contender::WasmtimeWasi02TunedReused),
    target(Contender::IsopodWasi02Fresh, 1.0, Contender::WasmtimeWasi02),
    target(Contender::IsopodWasi02Fresh, 1.0, Contender::WasmtimeWasi02Tuned),
    target(Contender::IsopodSdk, 1.0, Contender::Workerd),
    target(Contender::IsopodWasi02, 1.0, Contender::Workerd),
    target(Contender::IsopodWasi02Fresh, 1.0, Contender::Workerd),
    target(Contender::IsopodWasi03, 1.0, Contender::Workerd),
];

const fn target(ours: Contender, at_least: f64, theirs: Contender) -> Target {
    Target { ours, theirs, at_least }
}
