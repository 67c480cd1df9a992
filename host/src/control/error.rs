//! Owns why something asked of an app is refused, and why a push fails. Never decides how that is shown.

use std::time::Duration;

use isopod_engine::{Fault, Rejected};
use isopod_policy::{
    AppName, AppState, AppType, BundleError, ConfigError, ErrorCause, FormationError, PushId, ReleaseNumber,
};
use isopod_policy::{limits::TEXT_LINE_BYTES_MAX, text::excerpt};
use isopod_store::{Reason, StoreError};

/// Why something asked of an app is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error("there is no app `{0}`")]
    UnknownApp(AppName),
    #[error("there is an app `{0}` already")]
    AppExists(AppName),
    #[error("the app `{0}` is being destroyed")]
    BeingDestroyed(AppName),
    #[error("the type of `{app}` can't be changed while it is {state}")]
    NotStopped { app: AppName, state: AppState },
    #[error("`{0}` has no release yet, so there is nothing to start")]
    NothingToStart(AppName),
    #[error("`{app}` has no push `{id}`")]
    UnknownPush { app: AppName, id: String },
    #[error("the idempotency key was used for push `{id}` with other bytes")]
    KeyReused { app: AppName, id: PushId },
    #[error("`{app}` has no release `{release}`")]
    UnknownRelease { app: AppName, release: String },
    #[error("{refused}")]
    Refused { app: AppName, refused: isopod_policy::Refused },
    #[error("`{app}` has no instance `{id}`")]
    UnknownInstance { app: AppName, id: String },
    #[error("`{app}` can't go back to {release}: {why}")]
    NoWayBack { app: AppName, release: ReleaseNumber, why: String },
    #[error("`{0}` has no release yet, so there is nothing to change")]
    NothingToChange(AppName),
    #[error("a push of `{0}` is under way")]
    Busy(AppName),
    #[error("{error}")]
    Config { app: AppName, error: Box<ConfigError> },
    #[error("{error}")]
    Formation { app: AppName, error: Box<FormationError> },
    #[error("`{app}` has no process type `{process}`")]
    UnknownProcess { app: AppName, process: String },
    #[error("these are no grants: {why}")]
    Grants { app: AppName, why: String },
    #[error("the change was not rolled out, and nothing changed: {failure}")]
    NotRolledOut { app: AppName, failure: Box<Failure> },
    #[error("`{app}` is of type {app_type}, and build errors are shown for dev apps only")]
    NotDev { app: AppName, app_type: AppType },
    #[error("these are no cores: {why}")]
    Cores { app: AppName, why: String },
    #[error("{what} are waiting already")]
    TooMany { what: String, retry_after: Duration },
    #[error("{0}")]
    Unusable(Box<Failure>),
    #[error("the host is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{doing}: {source}")]
    Disk { doing: &'static str, source: std::io::Error },
}

/// Why a push failed. Its text goes to whoever pushed, so each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Bundle(#[from] BundleError),
    #[error("{0}")]
    Rejected(#[from] Rejected),
    #[error(
        "the component was built with the SDK {found}, and this host supports {oldest} and newer: update isopod-sdk \
         in Cargo.toml and build again"
    )]
    SdkTooOld { found: String, oldest: &'static str },
    #[error("{0}. Correct [processes] in isopod.toml, or leave it out to get the usual ones")]
    Formation(#[from] FormationError),
    #[error(
        "the component serves neither HTTP nor events, so nothing of it runs by itself. It is a command: run it with \
         `isopod run`, or name a process of entry = \"command\" under [processes] in isopod.toml"
    )]
    OnlyACommand,
    #[error(
        "its process types would keep {kept} instances running{}, and an app may keep {most} on this host: make `min` \
         smaller, or ask the operator to raise app_instances_max",
        of_several_slots(*slots)
    )]
    KeepsTooMany { kept: u64, most: u32, slots: u32 },
    #[error("a new instance did not start: {0}")]
    Start(Fault),
    #[error("the health check of process `{process}` failed: {detail}")]
    Health { process: String, detail: String },
    #[error("{release} was stopped for good: {reason}. Deploy another bundle, or roll back: `isopod releases`")]
    StoppedForGood { release: ReleaseNumber, reason: String },
    #[error(
        "secrets of the app can't be opened: {why}. Set them in one command, together with whatever else is being changed: \
         `isopod config set {keys} --secret` asks for each"
    )]
    SecretsLost { keys: String, why: String },
    #[error("the push took longer than its time limit of {} s and was given up", .0.as_secs())]
    TimeLimit(Duration),
    #[error("the host was stopped before it was done; do it again")]
    HostStopped,
    #[error("the app was deleted while it was pushed to")]
    AppDeleted,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("internal error: {0}; the host's own log says more")]
    Internal(String),
}

impl Failure {
    /// A stable name for the reason.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "invalid-bundle",
            Self::Rejected(rejected) => rejected.code(),
            Self::SdkTooOld { .. } => "sdk-too-old",
            Self::Formation(_) | Self::OnlyACommand => "invalid-formation",
            Self::KeepsTooMany { .. } => "too-many-instances",
            Self::Start(Fault::NoRoom { .. }) => "no-room",
            Self::Start(_) => "start-failed",
            Self::Health { .. } => "health-check",
            Self::StoppedForGood { .. } => "stopped-for-good",
            Self::SecretsLost { .. } => "secrets-lost",
            Self::TimeLimit(_) => "time-limit",
            Self::HostStopped => "host-stopped",
            Self::AppDeleted => "app-deleted",
            Self::Store(StoreError::DiskFull { .. }) => "disk-full",
            Self::Store(_) | Self::Internal(_) => "internal",
        }
    }

    /// The failure as it is stored. Its text is bounded, since bundles and guests contribute to it.
    pub(super) fn reason(&self) -> Reason {
        let detail = excerpt(&self.to_string(), TEXT_LINE_BYTES_MAX).into_owned();
        Reason { code: self.code().to_owned(), detail }
    }

    /// Whether the bundle could not be built, as opposed to run.
    pub(super) fn is_of_build(&self) -> bool {
        match self {
            Self::Bundle(_) | Self::Rejected(_) | Self::SdkTooOld { .. } | Self::Formation(_) | Self::OnlyACommand => {
                true
            }
            Self::KeepsTooMany { .. }
            | Self::Start(_)
            | Self::Health { .. }
            | Self::StoppedForGood { .. }
            | Self::SecretsLost { .. }
            | Self::TimeLimit(_)
            | Self::HostStopped
            | Self::AppDeleted
            | Self::Store(_)
            | Self::Internal(_) => false,
        }
    }

    /// Whether the host had no room for another instance, which says nothing of the release.
    pub(super) fn is_of_no_room(&self) -> bool {
        matches!(self, Self::Start(Fault::NoRoom { .. }))
    }

    /// Whether the host could not read or keep its own files just now, which says nothing of the release either.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_passing(),
            Self::Rejected(rejected) => matches!(rejected, Rejected::Cache { .. }),
            _ => false,
        }
    }

    /// Whether it is the host's disk that failed, for lack of room.
    pub(crate) fn is_of_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_of_full_disk())
    }

    /// What an app is in error for when its present release fails so.
    pub(crate) fn cause(&self) -> ErrorCause {
        match self {
            Self::SdkTooOld { .. } => ErrorCause::SdkTooOld,
            Self::Health { .. } | Self::Start(_) | Self::StoppedForGood { .. } => ErrorCause::HealthCheck,
            Self::Bundle(_)
            | Self::Rejected(_)
            | Self::Formation(_)
            | Self::OnlyACommand
            | Self::KeepsTooMany { .. }
            | Self::SecretsLost { .. }
            | Self::TimeLimit(_)
            | Self::HostStopped
            | Self::AppDeleted
            | Self::Store(_)
            | Self::Internal(_) => ErrorCause::LoadFailed,
        }
    }
}

fn of_several_slots(slots: u32) -> String {
    if slots == 1 { String::new() } else { format!(", each of which takes {slots} slots") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_nothing_of_the_code_is_passing() {
        let file = StoreError::File { path: "blobs/2a".into(), detail: "Too many open files (os error 24)".to_owned() };
        assert!(Failure::Store(file).is_passing());
        assert!(Failure::Rejected(Rejected::Cache { detail: "Too many open files".to_owned() }).is_passing());
        let damaged = StoreError::Damaged { detail: "a blob".to_owned() };
        let missing = StoreError::UnknownBlob { digest: "2a".to_owned() };
        for lasting in
            [Failure::Store(damaged), Failure::Store(missing), Failure::Rejected(Rejected::NotWasm { found: None })]
        {
            assert!(!lasting.is_passing(), "{lasting}");
        }
    }
}
