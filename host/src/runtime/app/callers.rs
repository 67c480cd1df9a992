//! The apps that have called a plugin's new release since the swap, for the rollout watch. Never
//! judges the release: the watch does (`control/release/watch.rs`).

use std::sync::{Arc, PoisonError, RwLock};

use isopod_policy::{
    AppName,
    swap_watch::{CallerCounts, Counts},
};

use super::App;
use crate::runtime::{limits, plugin_use::PluginCalls};

/// The apps that have called a new release, in the order of their first calls.
#[derive(Default)]
pub(super) struct Callers(RwLock<Vec<Caller>>);

struct Caller {
    app: AppName,
    calls: Arc<PluginCalls>,
    /// The app's calls before its first call of the new release.
    before: Counts,
}

impl Callers {
    fn note(&self, app: &AppName, calls: &Arc<PluginCalls>) {
        // An app that was created again under the same name is the same caller.
        let is_full_or_known = |callers: &[Caller]| {
            callers.len() >= limits::WATCHED_CALLERS_MAX
                || callers.iter().any(|caller| Arc::ptr_eq(&caller.calls, calls) || caller.app == *app)
        };
        if is_full_or_known(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut callers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !is_full_or_known(&callers) {
            callers.push(Caller { app: app.clone(), calls: Arc::clone(calls), before: calls.counts() });
        }
    }

    fn counts(&self) -> Vec<(AppName, CallerCounts)> {
        let callers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let counts = |Caller { app, calls, before }: &Caller| {
            let all = calls.counts();
            let new = Counts {
                requests: all.requests.saturating_sub(before.requests),
                failures: all.failures.saturating_sub(before.failures),
            };
            (app.clone(), CallerCounts { before: *before, new })
        };
        callers.iter().map(counts).collect()
    }
}

impl App {
    /// Begins to count the callers of a plugin's new release.
    pub(super) fn count_callers(&self) {
        self.callers.store(self.is_plugin().then(Arc::default));
    }

    /// Stops counting callers: the rollout watch has ended.
    pub(crate) fn forget_callers(&self) {
        self.callers.store(None);
    }

    /// Returns the calls of the release that serves, by the apps that have called it during the
    /// rollout watch.
    pub(crate) fn callers(&self) -> Vec<(AppName, CallerCounts)> {
        self.callers.load().as_ref().map_or_else(Vec::new, |callers| callers.counts())
    }

    /// Counts an app that calls the release that serves.
    pub(in crate::runtime) fn note_caller(&self, app: &AppName, calls: &Arc<PluginCalls>) {
        if let Some(callers) = &*self.callers.load() {
            callers.note(app, calls);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::plugin_use::PluginOutcome;

    fn name(text: &str) -> AppName {
        text.parse().expect("a valid name")
    }

    #[test]
    fn the_calls_of_an_app_before_the_swap_are_separate() {
        let (callers, calls) = (Callers::default(), Arc::new(PluginCalls::new(name("jwt"))));
        calls.count(PluginOutcome::Pass);
        (0..2).for_each(|_| callers.note(&name("shop"), &calls));
        calls.count(PluginOutcome::Failure);
        calls.count_failure();
        let counts = |requests, failures| Counts { requests, failures };
        let expected = CallerCounts { before: counts(1, 0), new: counts(1, 1) };
        assert_eq!(callers.counts(), [(name("shop"), expected)]);
        callers.note(&name("shop"), &Arc::new(PluginCalls::new(name("jwt"))));
        assert_eq!(callers.counts().len(), 1, "an app that was created again");
    }

    #[test]
    fn the_number_of_separate_callers_is_limited() {
        let callers = Callers::default();
        for number in 0..=limits::WATCHED_CALLERS_MAX {
            callers.note(&name(&format!("app-{number}")), &Arc::new(PluginCalls::new(name("jwt"))));
        }
        assert_eq!(callers.counts().len(), limits::WATCHED_CALLERS_MAX);
    }
}
