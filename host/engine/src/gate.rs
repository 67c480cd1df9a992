//! Calls a plugin's export `isopod:plugin/gate`. Never decides what a refusal means.

use crate::{bindings::gate as wit, fault::Fault, instance::Instance, limits};
use isopod_policy::{AppType, ReleaseCause, text::excerpt};

/// A release as a gate receives it.
#[derive(Debug, Clone)]
pub struct GatedRelease {
    pub app: String,
    pub app_type: AppType,
    pub number: u32,
    /// The app's current release.
    pub current: Option<u32>,
    pub cause: ReleaseCause,
    /// The cause in words.
    pub description: String,
    /// The name of the token that requested it.
    pub created_by: String,
    /// The name in the manifest.
    pub manifest_name: String,
    /// The SHA-256 digest of the component.
    pub digest: String,
    pub size_bytes: u64,
    /// The middleware of the release, with version ranges.
    pub middleware: Vec<String>,
    /// The grants of the release and of the current release, as JSON.
    pub grants: String,
    pub current_grants: Option<String>,
    /// The grants that the current release doesn't include.
    pub widened_grants: Vec<String>,
}

/// A gate's decision about a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateDecision {
    Allow,
    /// The reason is the plugin's text, truncated.
    Refuse(String),
}

impl Instance {
    /// Calls a gate for a release. Returns the instance if it can be reused.
    pub async fn before_activate(
        mut self: Box<Self>,
        config: &str,
        release: &GatedRelease,
    ) -> (Result<GateDecision, Fault>, Option<Box<Self>>) {
        let program = self.program.clone();
        let Some(indices) = &program.exports().gate else {
            return (Err(Fault::NoSuchEntry { entry: "isopod:plugin/gate" }), Some(self));
        };
        self.begin("");
        let [middleware, widened] = [&release.middleware, &release.widened_grants].map(|texts| listed(texts));
        let record = record(release, &middleware, &widened);
        let decided = match indices.load(&mut self.store, &self.component) {
            Ok(gate) => gate.isopod_plugin_gate().call_before_activate(&mut self.store, config, record).await,
            Err(error) => Err(error),
        };
        self.settle(decided, |decided, _| {
            Ok(match decided {
                wit::Decision::Allow => GateDecision::Allow,
                wit::Decision::Refuse(reason) => {
                    GateDecision::Refuse(excerpt(&reason, limits::GATE_REASON_BYTES_MAX).into_owned())
                }
            })
        })
    }
}

fn listed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn record<'a>(release: &'a GatedRelease, middleware: &'a [&'a str], widened: &'a [&'a str]) -> wit::Release<'a> {
    wit::Release {
        app: &release.app,
        app_type: release.app_type.as_str(),
        number: release.number,
        current: release.current,
        cause: match release.cause {
            ReleaseCause::Push => wit::Cause::Push,
            ReleaseCause::Rollback => wit::Cause::Rollback,
            ReleaseCause::Config => wit::Cause::Config,
            ReleaseCause::Formation => wit::Cause::Formation,
            ReleaseCause::Grants => wit::Cause::Grants,
            ReleaseCause::Approval => wit::Cause::Approval,
        },
        description: &release.description,
        created_by: &release.created_by,
        manifest_name: &release.manifest_name,
        digest: &release.digest,
        size_bytes: release.size_bytes,
        middleware,
        grants: &release.grants,
        current_grants: release.current_grants.as_deref(),
        widened_grants: widened,
    }
}
