//! The canary phase of a plugin's upgrade: a few apps use the new release, and all others the
//! former one. Never decides when the phase ends: the rollout watch does
//! (`control/release/watch.rs`).

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
    /// A further app, after the calls of the first one failed.
    second: Second,
    /// The apps that were deployed in this phase, whose releases were checked with the new release,
    /// and those that are incompatible with the former release.
    included: Vec<AppName>,
}

/// The first app that uses the new release.
struct FirstUser {
    app: AppName,
    /// Its calls of the plugin before the phase.
    before: Counts,
}

/// Whether a second app uses the new release.
#[derive(Default)]
enum Second {
    #[default]
    None,
    /// The next app that calls the plugin.
    Next,
    App(AppName),
}

impl Users {
    /// Returns whether an app uses the new release; `None` if this call decides it.
    fn use_new(&self, app: &AppName) -> Option<bool> {
        let first = self.first.as_ref()?;
        match &self.second {
            _ if first.app == *app || self.included.contains(app) => Some(true),
            Second::None => Some(false),
            Second::Next => None,
            Second::App(second) => Some(second == app),
        }
    }

    /// Lets an app use the new release.
    fn admit(&mut self, app: &AppName, calls: &PluginCalls) {
        match self.first {
            None => self.first = Some(FirstUser { app: app.clone(), before: calls.counts() }),
            Some(_) => self.second = Second::App(app.clone()),
        }
    }
}

impl Canary {
    /// Returns the state at the start of the phase. Apps that an earlier phase included were
    /// checked with this release too.
    fn new(former: Arc<ActiveRelease>, earlier: Option<&Self>) -> Self {
        let included = |earlier: &Self| earlier.users().included.clone();
        let users = Users { included: earlier.map(included).unwrap_or_default(), ..Users::default() };
        Self { former, users: RwLock::new(users) }
    }

    fn users(&self) -> RwLockReadGuard<'_, Users> {
        self.users.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn users_mut(&self) -> RwLockWriteGuard<'_, Users> {
        self.users.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the former release, unless this app uses the new one. The first app that asks uses
    /// the new one.
    fn former_for(&self, app: &AppName, calls: &PluginCalls) -> Option<Arc<ActiveRelease>> {
        let decided = self.users().use_new(app);
        let uses_new = decided.unwrap_or_else(|| {
            let mut users = self.users_mut();
            users.use_new(app).unwrap_or_else(|| {
                users.admit(app, calls);
                true
            })
        });
        (!uses_new).then(|| Arc::clone(&self.former))
    }

    fn include(&self, app: &AppName) {
        let mut users = self.users_mut();
        if !users.included.contains(app) {
            users.included.push(app.clone());
        }
    }

    fn admit_second(&self) {
        let mut users = self.users_mut();
        if matches!(users.second, Second::None) {
            users.second = Second::Next;
        }
    }
}

impl App {
    /// Puts a new release of a plugin in service for one app: the first app that calls it. Until
    /// [`Self::end_canary`], all other apps use the release that serves now. Returns that release.
    /// Without one, or if it is frozen or cold, all apps use the new release immediately.
    pub(crate) fn install_canary(&self, release: Arc<ActiveRelease>) -> Option<Arc<ActiveRelease>> {
        // Apps that use an earlier release than the one that serves continue to use it.
        let earlier = self.canary.load_full();
        let former = earlier.as_ref().map(|canary| Arc::clone(&canary.former)).or_else(|| self.active());
        let canary = former.map(|former| Arc::new(Canary::new(former, earlier.as_deref())));
        // Stored before the swap, so that no other app calls the new release.
        self.canary.store(canary);
        self.put_in_service(release)
    }

    /// Ends the canary phase: all apps use the release that serves. Returns the app that used it
    /// first, if the phase was in progress and an app called the plugin.
    pub(crate) fn end_canary(&self) -> Option<AppName> {
        let canary = self.canary.swap(None)?;
        let users = canary.users();
        users.first.as_ref().map(|first| first.app.clone())
    }

    /// Returns the first app's calls of this plugin before the canary phase. `None` if the phase
    /// isn't in progress, or no app has called the plugin in it.
    pub(crate) fn canary_before(&self) -> Option<Counts> {
        let canary = self.canary.load();
        let users = canary.as_ref()?.users();
        users.first.as_ref().map(|first| first.before)
    }

    /// Lets a second app use the release that serves: the next app that calls the plugin. Its calls
    /// show whether the failures of the first app's calls are due to the release.
    pub(crate) fn admit_second_canary(&self) {
        if let Some(canary) = &*self.canary.load() {
            canary.admit_second();
        }
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
