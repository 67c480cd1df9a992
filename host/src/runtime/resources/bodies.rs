//! The budgets for bodies: of queued jobs on the whole host, and of bodies that are being received,
//! per app and on the whole host. Never holds a body itself.

use crate::{
    http::byte_budget::{ByteBudget, Exceeded, SharedReservation},
    runtime::limits,
};

/// The host's budgets, for all apps together.
pub(super) struct HostBodies {
    pub(super) queued: ByteBudget,
    pub(super) incoming: ByteBudget,
}

impl Default for HostBodies {
    fn default() -> Self {
        Self {
            queued: ByteBudget::new(limits::QUEUED_BYTES_ALL),
            incoming: ByteBudget::new(limits::TRAFFIC_BODIES_BYTES_ALL),
        }
    }
}

/// The budget of one app for bodies that are being received.
pub(super) struct AppBodies(ByteBudget);

impl Default for AppBodies {
    fn default() -> Self {
        Self(ByteBudget::new(limits::TRAFFIC_BODIES_BYTES))
    }
}

/// Which budget has no room for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyBudgetExceeded {
    #[error("request bodies being received for the app would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES >> 20)]
    App,
    #[error("request bodies being received by this host would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES_ALL >> 20)]
    Host,
}

/// A body that is being received. Its received bytes count until this is dropped.
pub(crate) struct IncomingBody<'a>(SharedReservation<'a>);

impl AppBodies {
    /// Starts to receive a body of `bytes` bytes. Received bytes are charged to the budgets; the
    /// announced size isn't, because it costs the client nothing. Fails immediately if the budgets
    /// have no room for it now.
    pub(super) fn receive<'a>(
        &'a self,
        bytes: u64,
        host: &'a HostBodies,
    ) -> Result<IncomingBody<'a>, BodyBudgetExceeded> {
        Ok(IncomingBody(SharedReservation::up_to(bytes, &self.0, &host.incoming)?))
    }
}

impl IncomingBody<'_> {
    /// Raises the body's charge to `bytes`.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> Result<(), BodyBudgetExceeded> {
        self.0.grow_to(bytes).map_err(BodyBudgetExceeded::from)
    }
}

impl From<Exceeded> for BodyBudgetExceeded {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Own => Self::App,
            Exceeded::Shared => Self::Host,
        }
    }
}
