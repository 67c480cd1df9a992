//! A push as the API shows it. Never reads the store.

use isopod_policy::{AppName, PushId, PushState, ReleaseNumber};
use isopod_store::PushStep;
use jiff::Timestamp;
use serde::Serialize;

use crate::control::PushNow;

/// A push as the API shows it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Push)]
pub(crate) struct PushView {
    pub(crate) id: PushId,
    pub(crate) app: AppName,
    pub(crate) state: PushState,
    pub(crate) release: Option<ReleaseNumber>,
    pub(crate) reason: Option<String>,
    /// The stable code of the reason.
    pub(crate) reason_code: Option<String>,
    pub(crate) log: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<StepView>,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) created_app: bool,
}

/// A state of a push, and the number of lines of its log before the state.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[schema(as = Step)]
pub(crate) struct StepView {
    state: PushState,
    log_lines: u32,
}

impl From<PushStep> for StepView {
    fn from(PushStep { state, log_lines }: PushStep) -> Self {
        Self { state, log_lines }
    }
}

impl From<PushNow> for PushView {
    fn from(PushNow { push, log }: PushNow) -> Self {
        Self {
            id: push.id,
            app: push.app,
            state: push.state,
            release: push.release,
            reason: push.reason.as_ref().map(|reason| format!("{}: {}", reason.code, reason.detail)),
            reason_code: push.reason.map(|reason| reason.code),
            log,
            steps: push.steps.into_iter().map(StepView::from).collect(),
            created_by: push.created_by,
            created_at: push.created_at,
            updated_at: push.updated_at,
            created_app: false,
        }
    }
}
