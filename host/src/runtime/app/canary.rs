//! The canary phase of a plugin's upgrade: a few apps use the new release, and all others the
//! former one. Never decides when the phase ends: the rollout watch does
//! (`control/release/watch.rs`).

use std::sync::{Arc, PoisonError, RwLock};

use isopod_policy::{AppName, swap_watch::Counts};

use super::App;
use crate::runtime::{plugin_use::PluginCalls, release::ActiveRelease};

/// The state of a canary phase.
pub(super) struct Canary {
    /// The release that the other apps use.
    former: Arc<ActiveRelease>,
    users: RwLock<Users>,
}

/// The apps that use the new release.
#[derive(Default)]
struct Users {
    /// The first app that called the plugin in this phase.
    first: Option<FirstUser>,
    /// The apps that were deployed in this phase, whose releases were checked with the new release,
    /// and those that the former release doesn't fit.
    included: Vec<AppName>,
}

/// The first app that uses the new release.
struct FirstUser {
    app: AppName,
    /// Its calls of the plugin before.
    before: Counts,
}

impl Canary {
    fn new(former: Arc<ActiveRelease>) -> Self {
        Self { former, users: RwLock::default() }
    }

    /// Returns the former release, unless this app uses the new one. The first app that asks uses
    /// the new one.
    fn former_for(&self, app: &AppName, calls: &PluginCalls) -> Option<Arc<ActiveRelease>> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let uses_new = match &users.first {
            Some(first) => first.app == *app || users.included.contains(app),
            None => {
                drop(users);
                let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
                let this = || FirstUser { app: app.clone(), before: calls.counts() };
                users.first.get_or_insert_with(this).app == *app || users.included.contains(app)
            }
        };
        (!uses_new).then(|| Arc::clone(&self.former))
    }

    fn include(&self, app: &AppName) {
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        if !users.included.contains(app) {
            users.included.push(app.clone());
        }
    }
}

impl App {
    /// Puts a new release of a plugin in service for one app: the first app that calls it. Until
    /// [`Self::end_canary`], all other apps use the release that serves now. Returns that release.
    /// Without one, or if it is frozen or cold, all apps use the new release immediately.
    pub(crate) fn install_canary(&self, release: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        // Apps that use an earlier release than the one that serves continue to use it.
        let earlier = self.canary.load().as_ref().map(|canary| Arc::clone(&canary.former));
        let canary = earlier.or_else(|| self.active()).map(|former| Arc::new(Canary::new(former)));
        // Stored before the swap, so that no other app calls the new release.
        self.canary.store(canary);
        self.put_in_service(release)
    }

    /// Ends the canary phase: all apps use the release that serves. Returns the app that used it
    /// first, if the phase was in progress and an app called the plugin.
    pub(crate) fn end_canary(&self) -> Option<AppName> {
        let canary = self.canary.swap(None)?;
        let users = canary.users.read().unwrap_or_else(PoisonError::into_inner);
        users.first.as_ref().map(|first| first.app.clone())
    }

    /// Returns the first app's calls of this plugin before the canary phase. `None` if the phase
    /// isn't in progress, or no app has called the plugin in it.
    pub(crate) fn canary_before(&self) -> Option<Counts> {
        let canary = self.canary.load();
        let users = canary.as_ref()?.users.read().unwrap_or_else(PoisonError::into_inner);
        users.first.as_ref().map(|first| first.before)
    }

    /// Returns the former release of this plugin if a canary phase is in progress.
    pub(crate) fn canary_former(&self) -> Option<Arc<ActiveRelease>> {
        self.canary.load().as_ref().map(|canary| Arc::clone(&canary.former))
    }

    /// Lets an app use the release that serves. Called before the app's own new release serves.
    pub(crate) fn include_in_canary(&self, app: &AppName) {
        if let Some(canary) = &*self.canary.load() {
            canary.include(app);
        }
    }

    /// Returns the former release of this plugin if the app uses it in a canary phase. `calls` are
    /// those of the app.
    pub(in crate::runtime) fn former_for(&self, app: &AppName, calls: &PluginCalls) -> Option<Arc<ActiveRelease>> {
        self.canary.load().as_ref()?.former_for(app, calls)
    }
}
