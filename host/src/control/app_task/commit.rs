//! Commits a release, in the task of its app: one transaction makes it the current release, and
//! then it serves. Never builds a release, and is never cancelled.

use std::sync::Arc;

use futures::future::join_all;
use isopod_policy::{AppCommand, AppKind, ChangeId, Denied, Intended, ReleaseNumber};
use isopod_store::{NewActivity, StoreError};
use jiff::Timestamp;
use serde_json::json;

use super::{AppTask, Incoming};
use crate::control::{
    app::AppRecord,
    app_command::{Booted, Committed, Origin},
    error::Failure,
    failpoint::reached,
    push::progress::LivePush,
    storing::Storing,
};

impl AppTask {
    /// Stores that a release is the current release, and puts it in service.
    pub(super) async fn commit(&mut self, change: ChangeId, booted: Booted) -> Result<Committed, Failure> {
        let decision = self.decide(AppCommand::Commit(change, booted.number)).map_err(|denied| match denied {
            Denied::Destroyed => Failure::AppDeleted,
            denied => Failure::Internal(format!("the release was not committed: {denied}")),
        })?;
        let Booted { number, origin, manifest, config, size_bytes, running, push, storing, .. } = booted;
        let (services, app) = (Arc::clone(&self.services), Arc::clone(&self.app));
        // Activities before the commit are stored before it.
        services.activity.flush().await;
        let activity = deployed(&app, number, push.as_deref(), size_bytes, &origin);
        let at = activity.at;
        self.store_commit(push.as_deref(), number, activity, storing).await?;
        reached("release-committed").await;
        let intended = app.fields().intended;
        self.publish(|fields| {
            fields.build_error = None;
            fields.config = config;
        });
        app.traffic.set_build_error(None);
        let (cause, incoming) = match intended {
            Intended::Running => {
                running.mark_fresh();
                // A setting or a rollback applies to all apps immediately.
                let is_upgrade = app.kind == AppKind::Plugin && push.is_some();
                let running = Arc::new(running);
                (format!("{number} serves"), Some(Incoming::New { running, beside: None, is_upgrade }))
            }
            Intended::Stopped => (format!("{number} is ready and will serve once the app is started"), None),
        };
        self.perform(decision, &cause, incoming);
        self.report_stranded_events();
        services.schedules.schedule(&app, &manifest);
        if let Some(push) = push {
            push.log(match intended {
                Intended::Running => cause,
                Intended::Stopped => {
                    format!("{number} is ready; the app is stopped and serves after `isopod apps start`")
                }
            });
            // Last, so that clients that wait for `completed` find the new code serving.
            push.completed(number, at).map_err(|e| Failure::Internal(e.to_string()))?;
        }
        Ok(Committed { number })
    }

    async fn store_commit(
        &self,
        push: Option<&LivePush>,
        number: ReleaseNumber,
        activity: NewActivity,
        storing: Vec<Storing>,
    ) -> Result<(), Failure> {
        let (store, at) = (&self.services.store, activity.at);
        join_all(storing).await.into_iter().collect::<Result<(), StoreError>>()?;
        reached("release-commits").await;
        match push {
            Some(push) => {
                push.stored().await?;
                store.complete_push(push.id(), number, activity.clone(), at).await?;
            }
            None => {
                store.make_current(&self.app.name, number, activity.clone(), at).await?;
            }
        }
        self.services.activity.publish(activity);
        Ok(())
    }
}

/// Returns the activity of a commit.
fn deployed(
    app: &AppRecord,
    number: ReleaseNumber,
    push: Option<&LivePush>,
    size_bytes: u64,
    Origin { cause, by, .. }: &Origin,
) -> NewActivity {
    let fields = app.fields();
    let before = fields.release;
    let replaced = before.map_or_else(|| "the first release".to_owned(), |before| format!("replacing {before}"));
    let text = match fields.intended {
        Intended::Running => format!("{number} is in service, {replaced}: {cause}"),
        Intended::Stopped => format!("{number} will serve once the app is started, {replaced}: {cause}"),
    };
    let push = push.map(LivePush::id);
    let data = json!({
        "release": number, "before": before, "push": push, "size_bytes": size_bytes, "cause": cause, "by": by
    });
    NewActivity { app: Some(app.name.clone()), kind: "app-deployed".to_owned(), text, data, at: Timestamp::now() }
}
