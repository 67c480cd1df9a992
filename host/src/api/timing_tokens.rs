//! Checks the tokens with which clients of apps ask for the phases of their requests. The number of
//! checks has no limit of its own: a token has 256 random bits, and its check costs less than the
//! request. Never waits for I/O, and never logs a token.

use std::sync::OnceLock;

use isopod_policy::AppName;
use jiff::Timestamp;

use super::{auth::Tokens, limits};
use crate::{control::ControlPlane, ingress::TimingAccess};

/// Grants access to phases by API token. Denies every request until [`set`](Self::set) is called.
#[derive(Default)]
pub(crate) struct TimingTokens(OnceLock<(Tokens, ControlPlane)>);

impl TimingTokens {
    /// Sets the tokens, once the host has loaded them.
    pub(crate) fn set(&self, tokens: Tokens, control: ControlPlane) {
        // They are set once, at the start.
        let _ = self.0.set((tokens, control));
    }
}

impl TimingAccess for TimingTokens {
    fn may_see(&self, token: &str, app: &AppName) -> bool {
        let Some((tokens, control)) = self.0.get() else { return false };
        if token.len() > limits::TIMING_TOKEN_BYTES_MAX {
            return false;
        }
        let id = || control.apps.app(app).ok().map(|record| record.id.clone());
        tokens.may_read(token, app, id, Timestamp::now())
    }
}
