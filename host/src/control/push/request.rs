//! The request to accept a received bundle as a push job, and its reply. Never runs the job.

use isopod_policy::BundleKind;
use isopod_store::Idempotency;
use tokio::sync::watch;

use crate::control::{
    push::{progress::PushNow, upload::Received},
    requester::Requester,
};

/// A received bundle that is to become a push job.
pub(in crate::control) struct PushRequest {
    pub(in crate::control) received: Received,
    pub(in crate::control) kind: BundleKind,
    pub(in crate::control) requester: Requester,
    pub(in crate::control) idempotency: Option<Idempotency>,
    pub(in crate::control) created_app: bool,
}

/// An accepted push job.
pub(crate) struct Accepted {
    pub(crate) now: PushNow,
    /// Updates of the push. The sender is dropped once its state is final.
    pub(crate) updates: watch::Receiver<PushNow>,
    pub(crate) created_app: bool,
}
