//! Keeps the lines of symbolised backtraces, so that a trap which occurs again needs no search.
//! Each app has a part of its own, so that one app's traps don't evict those of others.

use crate::{backtrace::GuestBacktrace, limits};
use std::{collections::VecDeque, path::Path, sync::Arc};

/// A component's file, and the functions and offsets of the frames of one backtrace. A file's
/// content never changes, except for a component that a developer runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    component: Arc<Path>,
    frames: Vec<(u32, Option<usize>)>,
}

impl Trace {
    pub(crate) fn of(component: &Arc<Path>, backtrace: &GuestBacktrace) -> Self {
        let frames = backtrace.frames().iter().map(|frame| (frame.index, frame.offset)).collect();
        Self { component: Arc::clone(component), frames }
    }
}

/// Traces with their lines. The most recently used one is last.
type Traces = VecDeque<(Trace, Arc<[String]>)>;

/// The traces of apps. The most recently used app is last.
#[derive(Default)]
pub(crate) struct KnownLines(VecDeque<(Arc<str>, Traces)>);

impl KnownLines {
    /// Returns the lines of a trace of an app.
    pub(crate) fn get(&mut self, app: &Arc<str>, trace: &Trace) -> Option<Arc<[String]>> {
        let index = self.0.iter().position(|(name, _)| name == app)?;
        let (name, mut traces) = self.0.remove(index)?;
        let known = traces.iter().position(|(known, _)| known == trace).and_then(|index| traces.remove(index));
        let lines = known.as_ref().map(|(_, lines)| Arc::clone(lines));
        traces.extend(known);
        self.0.push_back((name, traces));
        lines
    }

    /// Keeps the lines of a trace of an app.
    pub(crate) fn insert(&mut self, app: &Arc<str>, trace: Trace, lines: Arc<[String]>) {
        if self.get(app, &trace).is_some() {
            return;
        }
        // The app was used last, if it is known.
        let of_app = if self.0.back().is_some_and(|(name, _)| name == app) { self.0.pop_back() } else { None };
        let (name, mut traces) = of_app.unwrap_or_else(|| (Arc::clone(app), VecDeque::new()));
        traces.push_back((trace, lines));
        if traces.len() > limits::SYMBOLS_KEPT_PER_APP {
            traces.pop_front();
        }
        self.0.push_back((name, traces));
        if self.0.len() > limits::SYMBOLS_KEPT_APPS_MAX {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtrace::Frame;

    fn trace(offset: usize) -> Trace {
        let frame = Frame { function: "f".to_owned(), index: 0, offset: Some(offset) };
        Trace::of(&Path::new("/component").into(), &GuestBacktrace::new(vec![frame]))
    }

    fn lines(text: &str) -> Arc<[String]> {
        vec![text.to_owned()].into()
    }

    #[test]
    fn the_traces_of_one_app_evict_only_its_own() {
        let mut known = KnownLines::default();
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        known.insert(&one, trace(0), lines("of one"));
        (0..10 * limits::SYMBOLS_KEPT_PER_APP).for_each(|offset| known.insert(&other, trace(offset), lines("other")));
        assert_eq!(known.get(&one, &trace(0)), Some(lines("of one")));
        let kept = (0..10 * limits::SYMBOLS_KEPT_PER_APP).filter(|offset| known.get(&other, &trace(*offset)).is_some());
        assert_eq!(kept.count(), limits::SYMBOLS_KEPT_PER_APP);
    }

    #[test]
    fn the_least_recently_used_apps_and_traces_are_dropped() {
        let mut known = KnownLines::default();
        let app = |number: usize| Arc::from(format!("app-{number}"));
        (0..limits::SYMBOLS_KEPT_APPS_MAX).for_each(|number| known.insert(&app(number), trace(0), lines("a")));
        assert!(known.get(&app(0), &trace(0)).is_some());
        known.insert(&app(1_000), trace(0), lines("a"));
        assert!(known.get(&app(0), &trace(0)).is_some() && known.get(&app(1), &trace(0)).is_none());
        (1..limits::SYMBOLS_KEPT_PER_APP).for_each(|offset| known.insert(&app(0), trace(offset), lines("a")));
        assert!(known.get(&app(0), &trace(0)).is_some());
        known.insert(&app(0), trace(1_000), lines("a"));
        assert!(known.get(&app(0), &trace(0)).is_some() && known.get(&app(0), &trace(1)).is_none());
    }
}
