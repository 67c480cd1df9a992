//! The requester of a change, and the ceilings that limit it: those of the app and of the token.
//! Never sees the secret of a token.

use isopod_policy::{AppKind, AppName, AppType, Ceiling, Excess, Grant, Grants, ceiling::Asked};

use crate::control::{app::AppRecord, error::DeployError};

/// The requester of a change.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    /// The name of the token. The activity records it as the actor.
    pub(crate) by: String,
    pub(crate) authority: Authority,
    /// Whether a push may widen the grants of its app.
    pub(crate) accepts_grants: bool,
    /// Whether its releases skip the gates, which only an administrator may.
    pub(crate) skips_gates: bool,
}

/// What the role of a token permits, beyond the role that the route needs.
#[derive(Debug, Clone)]
pub(crate) enum Authority {
    /// May change plugins. No ceiling limits it.
    Administrator,
    /// May change apps within the ceiling of the app and this one.
    Limited(Ceiling),
}

impl Requester {
    /// Refuses a change of a plugin unless the requester is an administrator. The authorisation of
    /// the request checks this too, but the plugin may have been installed while the body arrived.
    pub(in crate::control) fn check_kind(&self, app: &AppRecord) -> Result<(), DeployError> {
        match (&self.authority, app.kind) {
            (Authority::Limited(_), AppKind::Plugin) => {
                Err(DeployError::PluginNeedsAdmin { plugin: app.name.clone(), by: self.by.clone() })
            }
            (Authority::Administrator, _) | (_, AppKind::App) => Ok(()),
        }
    }

    /// Returns what is asked for beyond the ceiling of the app or that of the token. What the
    /// current release already has is not an excess.
    pub(in crate::control) fn excesses(
        &self,
        of_app: &Ceiling,
        asked: &Asked<'_>,
        current: Option<&Asked<'_>>,
    ) -> Vec<Excess> {
        let Authority::Limited(own) = &self.authority else { return Vec::new() };
        let mut excesses = of_app.check_change(asked, current);
        for excess in own.check_change(asked, current) {
            if !excesses.contains(&excess) {
                excesses.push(excess);
            }
        }
        excesses
    }

    /// Refuses a type beyond the ceiling of the app or that of the token.
    pub(in crate::control) fn check_type(
        &self,
        app: &AppName,
        of_app: &Ceiling,
        app_type: AppType,
    ) -> Result<(), DeployError> {
        let Authority::Limited(own) = &self.authority else { return Ok(()) };
        match of_app.check_type(app_type).or_else(|| own.check_type(app_type)) {
            Some(excess) => Err(DeployError::NotAllowed { app: app.clone(), excesses: vec![excess] }),
            None => Ok(()),
        }
    }

    /// Returns the grants by which a push widens those of the current release, unless the requester
    /// accepts them. An administrator may always widen them.
    pub(in crate::control) fn unaccepted(&self, asked: &Grants, current: &Grants) -> Vec<Grant> {
        match self.authority {
            Authority::Limited(_) if !self.accepts_grants => asked.beyond(current),
            Authority::Limited(_) | Authority::Administrator => Vec::new(),
        }
    }
}
