//! Bytes that are charged to the memory budget until they are dropped. Never copies the bytes.

use crate::{
    budget::{Budget, Exhausted, Reservation},
    fault::{Fault, Room},
};
use bytes::Bytes;
use std::sync::Arc;

/// The budget that pays for bytes of one program.
#[derive(Clone)]
pub struct MemoryCharge {
    pub(crate) budget: Arc<Budget>,
    pub(crate) may_use_reserve: bool,
}

impl MemoryCharge {
    /// Returns a reservation without bytes.
    pub(crate) fn empty(&self) -> Reservation {
        Reservation::empty(&self.budget)
    }

    /// Charges more bytes.
    pub(crate) fn grow(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), Fault> {
        reservation.grow(bytes, self.may_use_reserve).map_err(no_room)
    }
}

/// Returns bytes that stay charged until their last part is dropped.
pub(crate) fn charged(bytes: Vec<u8>, reservation: Reservation) -> Bytes {
    Bytes::from_owner(Charged { bytes, _reservation: reservation })
}

struct Charged {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

pub(crate) fn no_room(exhausted: Exhausted) -> Fault {
    let (Exhausted::Temporarily { most } | Exhausted::Permanently { most }) = exhausted;
    let detail = format!("guests, their requests and their responses use all {} MiB of this host", most >> 20);
    Fault::NoRoom { room: Room::Memory, detail }
}
