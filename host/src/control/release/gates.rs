//! The gates of a release: plugins that may refuse its activation, once it is built and before its
//! first instance starts, or when the type of its app changes. Owns what a gate receives, and what
//! its decision or failure means. Never applies to an automatic rollback or to the start of the
//! host: neither creates a release.

use isopod_engine::{GateDecision, GatedRelease};
use isopod_policy::{AppType, GateUse, OnFailure, ReleaseCause, ReleaseNumber};
use isopod_store::Release;

use crate::control::{app::AppRecord, error::Failure, release::releases::Releases};
use crate::{
    observe::logs::LogLine,
    runtime::{Directory, ask_gate},
};

/// Why a release doesn't pass a gate.
enum Stop {
    Refused(String),
    Failed(String),
}

impl Releases {
    /// Calls the gates of an app for a new release. `log` writes to the log of the push.
    pub(super) async fn pass_gates(
        &self,
        directory: &Directory,
        app: &AppRecord,
        (number, cause): (ReleaseNumber, ReleaseCause),
        log: impl Fn(String),
    ) -> Result<(), Failure> {
        let gates: Vec<&GateUse> = self.plugins.gates_of(app, app.fields().app_type).collect();
        if gates.is_empty() {
            return Ok(());
        }
        let current = self.current_release(app).await?;
        let release = self.gated_release(app, number, cause, current.as_ref()).await?;
        self.ask_all(directory, app, gates, release, log).await
    }

    /// Calls the gates of the app's new type for its current release. They receive it as a push of
    /// the first release, because they have not decided about an earlier release of this type.
    pub(in crate::control) async fn pass_gates_of_type(
        &self,
        directory: &Directory,
        app: &AppRecord,
        (number, app_type): (ReleaseNumber, AppType),
        by: &str,
    ) -> Result<(), Failure> {
        let gates: Vec<&GateUse> = self.plugins.gates_of(app, app_type).collect();
        if gates.is_empty() {
            return Ok(());
        }
        let release = self.gated_release(app, number, ReleaseCause::Push, None).await?;
        let description = format!("type changed from {} to {app_type}", app.fields().app_type);
        let release = GatedRelease { app_type, description, created_by: by.to_owned(), ..release };
        let log =
            |text: String| app.log.write(LogLine::host(&app.name, format!("change of the type to {app_type}: {text}")));
        self.ask_all(directory, app, gates, release, log).await
    }

    /// Calls gates for a release, in the order of the host's settings, until one refuses it.
    async fn ask_all(
        &self,
        directory: &Directory,
        app: &AppRecord,
        gates: Vec<&GateUse>,
        release: GatedRelease,
        log: impl Fn(String),
    ) -> Result<(), Failure> {
        let number = release.number;
        for used in gates {
            let gate = &used.plugin.name;
            match self.ask(directory, app, used, release.clone()).await? {
                Ok(()) => log(format!("the gate {gate} allows the release")),
                Err(Stop::Refused(why)) => return Err(Failure::GateRefused { gate: gate.clone(), why }),
                Err(Stop::Failed(why)) => match used.on_failure {
                    OnFailure::Refuse => return Err(Failure::GateFailed { gate: gate.clone(), why }),
                    OnFailure::Pass => {
                        tracing::warn!(app = %app.name, number, %gate, "a gate failed and was skipped: {why}");
                        log(format!(
                            "note: the gate {gate} failed and was skipped, by its on_failure = \"pass\": {why}"
                        ));
                    }
                },
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        directory: &Directory,
        app: &AppRecord,
        used: &GateUse,
        release: GatedRelease,
    ) -> Result<Result<(), Stop>, Failure> {
        match self.plugins.check_gate(used).await {
            Ok(()) => {}
            Err(Failure::PluginMissing { why, .. }) => return Ok(Err(Stop::Failed(why))),
            Err(failure @ Failure::PluginVersion { .. }) => return Ok(Err(Stop::Failed(failure.to_string()))),
            Err(failure) => return Err(failure),
        }
        Ok(match ask_gate(directory, &app.traffic, used, release).await {
            Ok(GateDecision::Allow) => Ok(()),
            Ok(GateDecision::Refuse(why)) => Err(Stop::Refused(why)),
            Err(reason) => Err(Stop::Failed(reason.to_string())),
        })
    }

    /// Returns a stored release as gates receive it, compared with the current one.
    async fn gated_release(
        &self,
        app: &AppRecord,
        number: ReleaseNumber,
        cause: ReleaseCause,
        current: Option<&Release>,
    ) -> Result<GatedRelease, Failure> {
        let missing = || Failure::Internal(format!("{number} is not stored"));
        let release = self.store.release(&app.name, number).await?.ok_or_else(missing)?;
        let before = current.map(|current| &current.manifest.grants);
        let grants = &release.manifest.grants;
        let json = |grants| serde_json::to_string(grants).map_err(|error| Failure::Internal(error.to_string()));
        let widened = grants.beyond(before.unwrap_or(&Default::default()));
        Ok(GatedRelease {
            app: app.name.to_string(),
            app_type: app.fields().app_type,
            number: number.get(),
            current: current.map(|current| current.number.get()),
            cause,
            manifest_name: release.manifest.name.to_string(),
            digest: release.bundle.as_str().to_owned(),
            size_bytes: release.size_bytes,
            middleware: release.manifest.middleware.iter().map(|used| used.plugin.to_string()).collect(),
            grants: json(grants)?,
            current_grants: before.map(json).transpose()?,
            widened_grants: widened.iter().map(ToString::to_string).collect(),
            description: release.cause,
            created_by: release.created_by,
        })
    }
}
