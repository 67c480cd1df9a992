//! The current call of a guest, for the events that the guest asks with: its slot, its core, and
//! the number of calls that wait for its reply. Never runs a guest.

use super::{
    error::AskError,
    resources::{AppResources, NeverFree, Occupied, SlotId, Waits},
};
use crate::runtime::limits;
use isopod_executor::Class;
use std::sync::Arc;

tokio::task_local! {
    /// The call whose guest is being polled.
    static CALL: Call;
}

/// A call of a guest.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) resources: Arc<AppResources>,
    pub(super) class: Class,
    pub(super) slot: SlotId,
    /// The number of calls in the chain that wait for its reply.
    pub(super) depth: u32,
}

impl Call {
    /// Makes this the current call while `work` is polled.
    pub(super) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CALL.scope(self, work)
    }
}

/// Returns the class of the current call, and the number of calls that wait for its reply. A
/// command has no call.
pub(super) fn current() -> (Class, u32) {
    CALL.try_with(|call| (call.class, call.depth)).unwrap_or((Class::Pull, 0))
}

/// The wait of the current call for the reply of another call. Dropping it ends the wait.
pub(super) struct Wait {
    caller: Option<Call>,
}

impl Wait {
    /// Begins a wait, and releases the caller's core until the wait ends.
    pub(super) fn begin() -> Result<Self, AskError> {
        // A command has no slot and no core.
        let caller = CALL.try_with(Call::clone).ok();
        if caller.as_ref().is_some_and(|caller| caller.depth >= limits::ASK_DEPTH_MAX) {
            return Err(AskError::TooDeep);
        }
        if let Some(Call { resources, class, .. }) = &caller {
            resources.release_core(*class);
            resources.admit_all();
        }
        Ok(Self { caller })
    }

    /// Returns the depth of the call that gives the reply.
    pub(super) fn depth(&self) -> u32 {
        self.caller.as_ref().map_or(0, |caller| caller.depth) + 1
    }

    /// Returns the slot of the caller.
    pub(super) fn caller(&self) -> Option<SlotId> {
        self.caller.as_ref().map(|caller| caller.slot)
    }

    /// Records that the caller waits for a slot of a pool. Fails if no slot can become free.
    pub(super) fn for_slot(&self, waits: &Waits, pool: Arc<dyn Occupied>) -> Result<(), NeverFree> {
        waits.wait_for_slot(self.caller(), pool)
    }

    /// Records that the caller waits for the call in this slot.
    pub(super) fn for_call(&self, waits: &Waits, handler: SlotId) {
        if let Some(caller) = &self.caller {
            waits.wait_for_call(caller.slot, handler);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(Call { resources, class, slot, .. }) = &self.caller {
            resources.host().waits().end(*slot);
            // The caller continues immediately, even if its core is in use: it holds an instance,
            // and worker threads bound the CPU time of the app.
            resources.acquire_extra_core(*class);
        }
    }
}
