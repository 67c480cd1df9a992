//! The requester of a change, and the ceilings that limit it: those of the app and of the token.
//! Never sees the secret of a token.

use isopod_policy::{AppName, AppType, Ceiling, Excess, Grant, Grants, ceiling::Asked};

use crate::control::error::DeployError;

/// The requester of a change.
#[derive(Debug, Clone)]
pub(crate) struct Requester {
    /// The name of the token. The activity records it as the actor.
    pub(crate) by: String,
    /// The ceiling of the token; `None` for an administrator, because no ceiling limits that role.
    pub(crate) ceiling: Option<Ceiling>,
    /// Whether a push may widen the grants of its app.
    pub(crate) accepts_grants: bool,
}

impl Requester {
    /// Returns what is asked for beyond the ceiling of the app or that of the token. What the
    /// current release already has is not an excess.
    pub(in crate::control) fn excesses(
        &self,
        of_app: &Ceiling,
        asked: &Asked<'_>,
        current: Option<&Asked<'_>>,
    ) -> Vec<Excess> {
        let Some(own) = &self.ceiling else { return Vec::new() };
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
        let Some(own) = &self.ceiling else { return Ok(()) };
        match of_app.check_type(app_type).or_else(|| own.check_type(app_type)) {
            Some(excess) => Err(DeployError::NotAllowed { app: app.clone(), excesses: vec![excess] }),
            None => Ok(()),
        }
    }

    /// Returns the grants by which a push widens those of the current release, unless the requester
    /// accepts them. An administrator may always widen them.
    pub(in crate::control) fn unaccepted(&self, asked: &Grants, current: &Grants) -> Vec<Grant> {
        if self.accepts_grants || self.ceiling.is_none() { Vec::new() } else { asked.beyond(current) }
    }
}
