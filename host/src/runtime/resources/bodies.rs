//! The budgets for bodies: of queued jobs on the whole host, and of bodies that are being received
//! or that middlewares hold, per client of an app, per app and on the whole host. Never holds a
//! body itself.

use std::{net::IpAddr, sync::Arc};

use isopod_policy::connections::client_of;

use crate::{
    http::{
        byte_budget::{ByteBudget, Exceeded, SharedReservation},
        shares::{Share, Shares},
    },
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
pub(super) struct AppBodies {
    bytes: ByteBudget,
    by_client: Arc<Shares>,
}

impl Default for AppBodies {
    fn default() -> Self {
        Self {
            bytes: ByteBudget::new(limits::TRAFFIC_BODIES_BYTES),
            by_client: Shares::new(limits::TRAFFIC_BODIES_BYTES, limits::TRAFFIC_BODIES_BYTES_PER_CLIENT),
        }
    }
}

/// Which budget has no room for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyBudgetExceeded {
    #[error("request bodies being received from this client for the app would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES_PER_CLIENT >> 20)]
    Client,
    #[error("request bodies being received for the app would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES >> 20)]
    App,
    #[error("request bodies being received by this host would use more than {} MiB; try again later",
        limits::TRAFFIC_BODIES_BYTES_ALL >> 20)]
    Host,
}

/// A body that is being received. Its received bytes count until this is dropped.
pub(crate) struct IncomingBody<'a> {
    reservation: SharedReservation<'a>,
    by_client: &'a Arc<Shares>,
    /// The client's share. `None` until bytes are charged: most bodies arrive in one piece and are
    /// passed on, so they are never charged.
    share: Option<Share>,
}

impl AppBodies {
    /// Starts to receive a body of `bytes` bytes. Received bytes are charged to the budgets; the
    /// announced size isn't, because it costs the client nothing. Fails immediately if the budgets
    /// have no room for it now.
    pub(super) fn receive<'a>(
        &'a self,
        bytes: u64,
        host: &'a HostBodies,
    ) -> Result<IncomingBody<'a>, BodyBudgetExceeded> {
        let reservation = SharedReservation::up_to(bytes, &self.bytes, &host.incoming)?;
        Ok(IncomingBody { reservation, by_client: &self.by_client, share: None })
    }
}

impl IncomingBody<'_> {
    /// Raises the body's charge to `bytes`. All bodies of one client name the same address.
    pub(crate) fn grow_to(&mut self, bytes: u64, client: Option<IpAddr>) -> Result<(), BodyBudgetExceeded> {
        let share = match (&mut self.share, client) {
            (Some(share), _) => Some(share),
            (none, Some(client)) => {
                let share = self.by_client.up_to(&client_of(client).to_string(), bytes).map_err(of_client)?;
                Some(none.insert(share))
            }
            (None, None) => None,
        };
        share.map_or(Ok(()), |share| share.grow_to(bytes)).map_err(of_client)?;
        self.reservation.grow_to(bytes).map_err(BodyBudgetExceeded::from)
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

/// Converts a refusal of the shares of an app's clients, which together have the app's budget.
fn of_client(exceeded: Exceeded) -> BodyBudgetExceeded {
    match exceeded {
        Exceeded::Own => BodyBudgetExceeded::Client,
        Exceeded::Shared => BodyBudgetExceeded::App,
    }
}
