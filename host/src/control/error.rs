//! Owns the errors of the control plane: why a request about an app is refused, and why a push or a
//! change fails. Never decides how an error is shown.

use std::time::Duration;

use isopod_engine::{Fault, Rejected};
use isopod_policy::{
    AppName, AppState, AppType, BundleError, ConfigError, ErrorCause, Excess, FormationError, Grant, PluginReference,
    PushId, ReleaseNumber, ReleaseState,
};
use isopod_policy::{
    ceiling,
    limits::{TEXT_ITEMS_SHOWN, TEXT_LINE_BYTES_MAX},
    text::{excerpt, printable},
};
use isopod_store::{Reason, StoreError};
use semver::Version;

use crate::control::plugin_users::Users;

/// The reason why a request about an app is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    #[error("app `{0}` doesn't exist")]
    UnknownApp(AppName),
    #[error("app `{0}` already exists")]
    AppExists(AppName),
    #[error("the app `{0}` is being destroyed")]
    BeingDestroyed(AppName),
    #[error("the type of `{app}` can't be changed while it is {state}")]
    NotStopped { app: AppName, state: AppState },
    #[error("`{0}` can't be started: it has no release yet")]
    NothingToStart(AppName),
    #[error("`{app}` has no push `{id}`")]
    UnknownPush { app: AppName, id: String },
    #[error("the idempotency key was already used for push `{id}` with different bytes")]
    KeyReused { app: AppName, id: PushId },
    #[error("`{app}` has no release `{release}`")]
    UnknownRelease { app: AppName, release: String },
    #[error("{refused}")]
    Refused { app: AppName, refused: isopod_policy::Refused },
    #[error("`{app}` has no instance `{id}`")]
    UnknownInstance { app: AppName, id: String },
    #[error("the request exceeds the ceiling: {}", ceiling::named(excesses))]
    NotAllowed { app: AppName, excesses: Vec<Excess> },
    #[error("{release} of `{app}` is not waiting for an approval: it is in state {state}")]
    NotWaiting { app: AppName, release: ReleaseNumber, state: ReleaseState },
    #[error("invalid ceiling: {why}")]
    Ceiling { app: AppName, why: String },
    #[error("`{app}` can't be rolled back to {release}: {why}")]
    RollbackRefused { app: AppName, release: ReleaseNumber, why: String },
    #[error("`{0}` can't be changed: it has no release yet")]
    NothingToChange(AppName),
    #[error("a push of `{0}` is in progress")]
    Busy(AppName),
    #[error("{error}")]
    Config { app: AppName, error: Box<ConfigError> },
    #[error("{error}")]
    Formation { app: AppName, error: Box<FormationError> },
    #[error("`{app}` has no process type `{process}`")]
    UnknownProcess { app: AppName, process: String },
    #[error("invalid grants: {why}")]
    Grants { app: AppName, why: String },
    #[error("the change was not applied: {failure}")]
    NotRolledOut { app: AppName, failure: Box<Failure> },
    #[error("`{app}` is of type {app_type}; only dev apps show build errors")]
    NotDev { app: AppName, app_type: AppType },
    #[error("invalid cores: {why}")]
    Cores { app: AppName, why: String },
    #[error("`{0}` is not an installed plugin")]
    UnknownPlugin(AppName),
    #[error("the plugin `{plugin}` is used by {users}")]
    PluginInUse { plugin: AppName, users: Users },
    #[error("the host's settings require a plugin with the name `{0}`, so no app can have it")]
    ReservedName(AppName),
    #[error("`{plugin}` is a plugin, which only the role `admin` may change; the token `{by}` has another role")]
    PluginNeedsAdmin { plugin: AppName, by: String },
    #[error("`{plugin}` is a plugin: {what}")]
    IsPlugin { plugin: AppName, what: &'static str },
    #[error("{what} are already waiting")]
    TooMany { what: String, retry_after: Duration },
    #[error("{most} uploads{of} are already in progress")]
    TooManyUploads { of: UploadsOf, most: u64, retry_after: Duration },
    #[error("{0}")]
    Unusable(Box<Failure>),
    #[error("the request to `{0}` failed with an internal error; see the host's log for details")]
    Interrupted(AppName),
    #[error("the host is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{doing}: {source}")]
    Disk { doing: &'static str, source: std::io::Error },
}

/// The holder of uploads that has reached its limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UploadsOf {
    #[error("")]
    Host,
    #[error(" to `{0}`")]
    App(AppName),
    #[error(" of plugins")]
    Plugins,
    #[error(" with the token `{0}`")]
    Token(String),
}

/// The reason why a push or a change failed. The client reads the text, so it includes a remedy
/// where there is one.
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
    #[error("{0}. Correct [processes] in isopod.toml, or remove it to use the default process types")]
    Formation(#[from] FormationError),
    #[error(
        "the component is a command: it serves neither HTTP nor events. Run it with `isopod run`, or add a process \
         with entry = \"command\" under [processes] in isopod.toml"
    )]
    OnlyACommand,
    #[error(
        "its process types would keep {kept} instances warm{}, and this host allows {most} per app: lower `min`, or \
         ask the operator to raise app_instances_max",
        of_several_slots(*slots)
    )]
    TooManyWarmInstances { kept: u64, most: u32, slots: u32 },
    #[error(
        "the release asks for more than its ceiling allows: {}. {}",
        ceiling::named(excesses), next_of(*waiting)
    )]
    NotAllowed { excesses: Vec<Excess>, waiting: Option<ReleaseNumber> },
    #[error(
        "the bundle asks for grants that {than} doesn't have: {}. Accept them with `isopod deploy --accept-grants`, or \
         with `?accept_grants=true`",
        listed(grants)
    )]
    Widened { grants: Vec<Grant>, than: ReleaseNumber },
    #[error(
        "the bundle is a plugin, and `{app}` is an app: install the plugin with `isopod plugins install` or POST \
         /v1/plugins"
    )]
    PluginToApp { app: AppName },
    #[error("`{plugin}` is a plugin, and the isopod.toml of the bundle has no kind = \"plugin\"")]
    AppToPlugin { plugin: AppName },
    #[error(
        "the isopod.toml of a plugin's bundle must have kind = \"plugin\" and a [plugin] table; `isopod build` creates \
         such a bundle"
    )]
    NoPluginManifest,
    #[error(
        "isopod.toml has kind = \"plugin\", but the component exports no plugin interface, such as \
         isopod:plugin/middleware@0.1.0; in Rust, isopod_sdk::middleware! exports it"
    )]
    NoPluginExport,
    #[error(
        "the component serves neither HTTP nor events: it exports only interfaces of plugins, or interfaces of its \
         own. If it is a plugin, add kind = \"plugin\" and a [plugin] table with a version to isopod.toml, and install \
         it with `isopod plugins install`. Otherwise, export a handler; with the Rust SDK: `isopod_sdk::http!(handler)`"
    )]
    PluginWithoutKind,
    #[error(
        "isopod.toml subscribes to events, but the component doesn't export isopod:plugin/hook@0.1.0; in Rust, \
         isopod_sdk::hook! exports it"
    )]
    SubscriptionWithoutHook,
    #[error(
        "the plugin `{plugin}` can't be used: {why}. Install it with `isopod plugins install`; `isopod plugins` \
         lists the installed plugins"
    )]
    PluginMissing { plugin: AppName, why: String },
    #[error("the middleware `{plugin}` can't check its config, because it isn't serving: {why}")]
    PluginNotServing { plugin: AppName, why: String },
    #[error(
        "version {version} of the plugin `{}` is installed, but only {} is accepted: change the range, or install \
         another version",
        used.name,
        used.version.as_ref().map(ToString::to_string).unwrap_or_default()
    )]
    PluginVersion { used: Box<PluginReference>, version: Version },
    #[error(
        "version {version} of the plugin `{plugin}` is outside the range of: {users}. Change the range there first, or \
         install a version within it"
    )]
    PluginVersionOfUsers { plugin: AppName, version: Version, users: String },
    #[error(
        "the plugin `{plugin}` is used as another kind of plugin by: {users}. Install this one under another name, or \
         remove the plugin there first"
    )]
    PluginKindOfUsers { plugin: AppName, users: String },
    #[error("the interface `{interface}` of the plugin `{plugin}` is incompatible with the app: {why}")]
    PluginInterface { plugin: AppName, interface: String, why: String },
    #[error(
        "this version of the plugin `{plugin}` changes the interface `{interface}`, which is used by {users}: {why}. \
         Offer a changed interface under another version of its package, beside the current one"
    )]
    PluginInterfaceOfUsers { plugin: AppName, interface: String, why: String, users: String },
    #[error("the plugin `{plugin}` rejects its config: {why}")]
    PluginConfig { plugin: AppName, why: String },
    #[error("this version of the plugin `{plugin}` rejects the current config of {user}: {why}")]
    PluginConfigOfUser { plugin: AppName, user: String, why: String },
    #[error("the plugins of the app, or the apps that use the plugin, changed during each check: try again")]
    PluginsChanging,
    #[error("`{gate}` refused the release: {why}")]
    GateRefused { gate: AppName, why: String },
    #[error(
        "the gate `{gate}` failed, so it can't allow the release: {why}. See `isopod plugins info {gate}` and `isopod \
         logs --app {gate}`"
    )]
    GateFailed { gate: AppName, why: String },
    #[error("a new instance did not start: {0}")]
    Start(Fault),
    #[error("the health check of process `{process}` failed: {detail}")]
    Health { process: String, detail: String },
    #[error("{release} was stopped permanently: {reason}. Deploy another bundle, or roll back: `isopod releases`")]
    TakenOutOfService { release: ReleaseNumber, reason: String },
    #[error(
        "secrets of the app can't be decrypted: {why}. Set them again in one command, together with other pending \
         changes: `isopod config set {keys} --secret` prompts for each"
    )]
    SecretsLost { keys: String, why: String },
    #[error("the static files of the release can't be read: {0}. Deploy a bundle that contains them")]
    Assets(String),
    #[error("the push exceeded its time limit of {} s, `pushes.time_limit` in the host's settings", .0.as_secs())]
    TimeLimit(Duration),
    #[error("the host stopped during the push; push the bundle again")]
    HostStopped,
    #[error("the app was destroyed during the push")]
    AppDeleted,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("internal error: {0}; see the host's log for details")]
    Internal(String),
}

impl Failure {
    /// Returns the stable code of the failure.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Bundle(_) => "invalid-bundle",
            Self::Rejected(rejected) => rejected.code(),
            Self::SdkTooOld { .. } => "sdk-too-old",
            Self::Formation(_) | Self::OnlyACommand => "invalid-formation",
            Self::TooManyWarmInstances { .. } => "too-many-instances",
            Self::NotAllowed { .. } => NOT_ALLOWED,
            Self::Widened { .. } => "grants-widened",
            Self::PluginToApp { .. } | Self::AppToPlugin { .. } | Self::PluginKindOfUsers { .. } => "wrong-kind",
            Self::NoPluginManifest | Self::NoPluginExport | Self::PluginWithoutKind | Self::SubscriptionWithoutHook => {
                "invalid-plugin"
            }
            Self::PluginMissing { .. } | Self::PluginNotServing { .. } => "plugin-missing",
            Self::PluginVersion { .. } | Self::PluginVersionOfUsers { .. } => "plugin-version",
            Self::PluginConfig { .. } | Self::PluginConfigOfUser { .. } => "plugin-config",
            Self::PluginInterface { .. } | Self::PluginInterfaceOfUsers { .. } => "plugin-interface",
            Self::PluginsChanging => "plugins-changing",
            Self::GateRefused { .. } => "gate-refused",
            Self::GateFailed { .. } => "gate-failed",
            Self::Start(Fault::NoRoom { .. }) => "no-room",
            Self::Start(_) => "start-failed",
            Self::Health { .. } => "health-check",
            Self::TakenOutOfService { .. } => "stopped-for-good",
            Self::SecretsLost { .. } => "secrets-lost",
            Self::Assets(_) => "unreadable-files",
            Self::TimeLimit(_) => "time-limit",
            Self::HostStopped => "host-stopped",
            Self::AppDeleted => "app-deleted",
            Self::Store(StoreError::DiskFull { .. }) => "disk-full",
            Self::Store(StoreError::ReadOnly { .. }) => "disk-read-only",
            Self::Store(_) | Self::Internal(_) => "internal",
        }
    }

    /// Returns the failure in its stored form. The text is bounded and safe for a terminal,
    /// since bundles and guests contribute to it.
    pub(super) fn reason(&self) -> Reason {
        let detail = excerpt(&printable(&self.to_string()), TEXT_LINE_BYTES_MAX).into_owned();
        Reason { code: self.code().to_owned(), detail }
    }

    /// Returns whether the build failed, as opposed to the deployment.
    pub(super) fn is_build_failure(&self) -> bool {
        match self {
            Self::Bundle(_)
            | Self::Rejected(_)
            | Self::SdkTooOld { .. }
            | Self::Formation(_)
            | Self::OnlyACommand
            | Self::PluginToApp { .. }
            | Self::AppToPlugin { .. }
            | Self::NoPluginManifest
            | Self::NoPluginExport
            | Self::PluginWithoutKind
            | Self::SubscriptionWithoutHook => true,
            Self::TooManyWarmInstances { .. }
            | Self::NotAllowed { .. }
            | Self::Widened { .. }
            | Self::PluginMissing { .. }
            | Self::PluginNotServing { .. }
            | Self::PluginVersion { .. }
            | Self::PluginVersionOfUsers { .. }
            | Self::PluginKindOfUsers { .. }
            | Self::PluginConfig { .. }
            | Self::PluginConfigOfUser { .. }
            | Self::PluginInterface { .. }
            | Self::PluginInterfaceOfUsers { .. }
            | Self::PluginsChanging
            | Self::GateRefused { .. }
            | Self::GateFailed { .. }
            | Self::Start(_)
            | Self::Health { .. }
            | Self::TakenOutOfService { .. }
            | Self::SecretsLost { .. }
            | Self::Assets(_)
            | Self::TimeLimit(_)
            | Self::HostStopped
            | Self::AppDeleted
            | Self::Store(_)
            | Self::Internal(_) => false,
        }
    }

    /// Returns whether the host had no free instance slot or memory. Such a failure has no cause in
    /// the release.
    pub(super) fn is_no_room(&self) -> bool {
        matches!(self, Self::Start(Fault::NoRoom { .. }))
    }

    /// Returns whether the host could temporarily not read or write its own files. Such a failure
    /// has no cause in the release.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) => error.is_passing(),
            Self::Rejected(rejected) => matches!(rejected, Rejected::Cache { .. }),
            _ => false,
        }
    }

    /// Returns whether a gate refused the release, or failed.
    pub(crate) fn is_of_gate(&self) -> bool {
        matches!(self, Self::GateRefused { .. } | Self::GateFailed { .. })
    }

    /// Returns whether the host's disk is full.
    pub(crate) fn is_of_full_disk(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_of_full_disk())
    }

    /// Returns the cause of the app's state `error` if its current release fails with this.
    pub(crate) fn cause(&self) -> ErrorCause {
        match self {
            Self::SdkTooOld { .. } => ErrorCause::SdkTooOld,
            Self::Health { .. } | Self::Start(_) | Self::TakenOutOfService { .. } => ErrorCause::HealthCheck,
            Self::Bundle(_)
            | Self::Rejected(_)
            | Self::Formation(_)
            | Self::OnlyACommand
            | Self::TooManyWarmInstances { .. }
            | Self::NotAllowed { .. }
            | Self::Widened { .. }
            | Self::PluginToApp { .. }
            | Self::AppToPlugin { .. }
            | Self::NoPluginManifest
            | Self::NoPluginExport
            | Self::PluginWithoutKind
            | Self::SubscriptionWithoutHook
            | Self::PluginMissing { .. }
            | Self::PluginNotServing { .. }
            | Self::PluginVersion { .. }
            | Self::PluginVersionOfUsers { .. }
            | Self::PluginKindOfUsers { .. }
            | Self::PluginConfig { .. }
            | Self::PluginConfigOfUser { .. }
            | Self::PluginInterface { .. }
            | Self::PluginInterfaceOfUsers { .. }
            | Self::PluginsChanging
            | Self::GateRefused { .. }
            | Self::GateFailed { .. }
            | Self::SecretsLost { .. }
            | Self::Assets(_)
            | Self::TimeLimit(_)
            | Self::HostStopped
            | Self::AppDeleted
            | Self::Store(_)
            | Self::Internal(_) => ErrorCause::LoadFailed,
        }
    }
}

/// The code of a request beyond a ceiling.
pub(in crate::control) const NOT_ALLOWED: &str = "grant-not-allowed";

/// Returns what the requester of a change beyond a ceiling can do.
fn next_of(waiting: Option<ReleaseNumber>) -> String {
    match waiting {
        Some(release) => format!("An administrator can start it: `isopod releases approve {release}`"),
        None => "Ask the administrator to make this change, or to raise the ceiling: `isopod policy set`".to_owned(),
    }
}

fn listed(grants: &[Grant]) -> String {
    let shown = grants.iter().take(TEXT_ITEMS_SHOWN).map(ToString::to_string);
    let more = grants.len().saturating_sub(TEXT_ITEMS_SHOWN);
    shown.chain((more > 0).then(|| format!("{more} more"))).collect::<Vec<_>>().join(", ")
}

fn of_several_slots(slots: u32) -> String {
    if slots == 1 { String::new() } else { format!(", each of which takes {slots} slots") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_without_a_cause_in_the_code_are_transient() {
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
