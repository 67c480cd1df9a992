//! Reports plugins and apps that are incompatible after an automatic rollback. If a plugin was
//! rolled back, these are the apps that need a newer release of it. If an app was rolled back,
//! these are the plugins that have changed since. Lets the apps that are incompatible with a plugin
//! use its next release in the canary phase. Also reports an app whose calls of a plugin's new
//! release fail while those of other apps don't. Never replaces a release: the rollback has just
//! replaced a failing one.

use std::sync::Arc;

use isopod_policy::{AppName, limits::APP_NAME_CHARS_MAX, text};
use serde_json::json;

use super::{AppTask, Services};
use crate::control::{app::AppRecord, plugins::UnfitPlugin};
use crate::{observe::logs::LogLine, runtime::ActiveRelease};

impl AppTask {
    /// Checks a release that has replaced `bad`, and reports the plugins or apps with which it is
    /// incompatible. Runs in the background, since the checks may call a plugin.
    pub(super) fn report_unfit_plugins(&self, running: Arc<ActiveRelease>, bad: Arc<ActiveRelease>) {
        let (services, app) = (Arc::clone(&self.services), Arc::clone(&self.app));
        self.services.shutdown.in_background(async move {
            match services.releases.plugins.unfit(&app, &running, &bad).await {
                Ok(unfit) if unfit.is_empty() => {}
                Ok(unfit) => report(&services, &app, unfit).await,
                Err(failure) => {
                    tracing::warn!(app = %app.name, %failure, "can't check plugins after an automatic rollback");
                }
            }
        });
    }

    /// Reports that a plugin's new release passed its rollout watch although the calls of one app
    /// fail.
    pub(super) fn report_failing_user(&self, running: &ActiveRelease, user: AppName, detail: &str) {
        let Some(release) = running.release() else { return };
        let (services, app) = (Arc::clone(&self.services), Arc::clone(&self.app));
        let text = format!(
            "{release} of `{}` stays in service, although calls by the app `{user}` fail, because those of other apps \
             don't: {detail}",
            app.name
        );
        self.services.shutdown.in_background(async move {
            let data = json!({ "plugin": app.name, "users": user, "release": release });
            // The app may have been destroyed meanwhile.
            if let Ok(user) = services.app_table.app(&user) {
                record(&services, &user, text.clone(), data.clone()).await;
            }
            record(&services, &app, text, data).await;
        });
    }

    /// Lets the apps that are incompatible with the former release of a plugin use the new one in
    /// the canary phase, since their calls of the former one fail. Runs in the background, since
    /// the checks call the former release.
    pub(super) fn include_unfit_users(&self, running: &Arc<ActiveRelease>) {
        let Some(former) = self.app.traffic.canary_former() else { return };
        let (services, app, running) = (Arc::clone(&self.services), Arc::clone(&self.app), Arc::clone(running));
        self.services.shutdown.in_background(async move {
            match services.releases.plugins.unfit(&app, &former, &running).await {
                Ok(unfit) => unfit.into_iter().for_each(|UnfitPlugin { user, .. }| match user {
                    Some(user) => app.traffic.include_in_canary(&user),
                    // The host's settings are those of all apps.
                    None => drop(app.traffic.end_canary()),
                }),
                Err(failure) => tracing::warn!(app = %app.name, %failure, "failed to check the users of a plugin"),
            }
        });
    }
}

async fn report(services: &Services, app: &AppRecord, unfit: Vec<UnfitPlugin>) {
    if !app.kind.is_app() {
        let users = unfit.iter().map(|unfit| unfit.user.as_ref().map_or("the host's settings", AppName::as_str));
        let users = text::list(users, APP_NAME_CHARS_MAX);
        let text = format!(
            "the restored release is incompatible with {users}: their calls of the plugin may fail until a compatible \
             version is installed, or the apps are deployed for this version"
        );
        record(services, app, text, json!({ "plugin": app.name, "users": users })).await;
    }
    for UnfitPlugin { user, plugin, failure } in unfit {
        if user.is_none() {
            services.releases.plugins.check_host_configs().await;
        }
        // The app may have been destroyed meanwhile.
        let Some(user) = user.and_then(|user| services.app_table.app(&user).ok()) else { continue };
        let text = format!("after an automatic rollback of `{}`, a plugin is incompatible: {failure}", app.name);
        let data = json!({ "plugin": plugin, "returned": app.name, "code": failure.code() });
        record(services, &user, text, data).await;
    }
}

async fn record(services: &Services, app: &AppRecord, text: String, data: serde_json::Value) {
    app.log.write(LogLine::host(&app.name, text.clone()));
    tracing::warn!(app = %app.name, "{text}");
    services.activity.record(app, "plugin-unfit", text, data).await;
}
