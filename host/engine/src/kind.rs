//! The kinds of engines: the features that a component needs, and how it is compiled. Never creates
//! an engine.

/// How a component is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speed {
    /// Short compile time, slower code: for apps in development.
    Quick,
    /// Longer compile time, fast code: for all other apps.
    Optimised,
}

/// Whether a component needs the component model's async features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flavour {
    Plain,
    Concurrent,
}

impl Flavour {
    pub(crate) fn needed(needs_concurrency: bool) -> Self {
        if needs_concurrency { Self::Concurrent } else { Self::Plain }
    }
}

/// Every kind of engine.
pub(crate) const KINDS: [Kind; 4] = [
    Kind { flavour: Flavour::Plain, speed: Speed::Optimised },
    Kind { flavour: Flavour::Concurrent, speed: Speed::Optimised },
    Kind { flavour: Flavour::Plain, speed: Speed::Quick },
    Kind { flavour: Flavour::Concurrent, speed: Speed::Quick },
];

/// The kind of an engine. Code compiled for one kind doesn't run on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) flavour: Flavour,
    pub(crate) speed: Speed,
}
