//! The state that the API's handlers share. Never handles a request.

use std::sync::{Arc, atomic::AtomicBool};

use isopod_policy::{AppKind, AppName};
use isopod_store::Store;
use tokio_util::sync::CancellationToken;

use super::{
    auth, browser::AdminNames, changes::Changes, failure_log::FailureLog, public_status::StatusPage,
    refused_calls::RefusedCalls, shared_top::SharedTop, urls::Urls,
};
use crate::{
    control::ControlPlane,
    http::shares::Shares,
    ingress::TrustedProxies,
    observe::liveness::Liveness,
    observe::{logs::Logs, machine, metrics::Metrics},
};

/// The state that all handlers share.
pub(crate) struct Api {
    pub(crate) control: ControlPlane,
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) metrics: Metrics,
    pub(crate) tokens: auth::Tokens,
    /// The domain and port of the apps' URLs.
    pub(crate) urls: Urls,
    /// Whether all apps are restored.
    pub(crate) ready: Arc<AtomicBool>,
    /// The permits of event streams.
    pub(crate) subscribers: Arc<Shares>,
    /// The metrics of all active apps, which event streams share.
    pub(crate) top: SharedTop,
    pub(crate) changes: Changes,
    /// The bytes of bodies that are being read into memory.
    pub(crate) bodies: Arc<Shares>,
    pub(crate) failures: FailureLog,
    /// The refused calls that the audit trail doesn't contain yet.
    pub(crate) refused_calls: Arc<RefusedCalls>,
    pub(crate) status_page: StatusPage,
    pub(crate) trusted_proxies: TrustedProxies,
    /// The host names under which browsers may use this address.
    pub(crate) admin_names: AdminNames,
    /// Ends the event streams at a stop.
    pub(crate) stop: CancellationToken,
    /// Checks the host's own threads.
    pub(crate) liveness: Arc<Liveness>,
    /// Measures the machine.
    pub(crate) machine: Arc<machine::CpuSampler>,
    pub(crate) started_at: jiff::Timestamp,
}

impl Api {
    /// Returns the id of the app that currently has this name; `None` while it is being destroyed.
    pub(crate) fn app_id(&self, app: &AppName) -> Option<String> {
        self.control.apps.app(app).ok().map(|record| record.id.clone())
    }

    /// Returns whether a plugin currently has this name.
    pub(crate) fn is_plugin(&self, app: &AppName) -> bool {
        self.control.apps.app(app).is_ok_and(|record| record.kind == AppKind::Plugin)
    }
}
