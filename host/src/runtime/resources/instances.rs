//! Starts instances, and evicts idle ones of other pools when the host has no room. Never decides
//! how many instances a pool keeps.

use super::pools::{Pools, ResourceUser};
use crate::runtime::limits;
use isopod_engine::{Fault, Instance, Program, Room};
use isopod_policy::Entry;
use std::sync::Arc;

/// Starts an instance. If the host has no room, evicts an idle instance of any app that has more
/// than its warm minimum.
pub(super) async fn start(host: &Pools, program: &Program) -> Result<Box<Instance>, Fault> {
    for _ in 0..limits::EVICTION_ATTEMPTS {
        match program.start().await {
            Err(Fault::NoRoom { room, .. }) if evict_any(host, room, program) => {}
            started => return started,
        }
    }
    program.start().await
}

/// Starts an instance for a release that replaces another release of the app with the pools `own`.
/// If there is no other room, evicts the app's own idle instances except the last, even below the
/// warm minimum: an app that uses the whole host can still be updated.
pub(super) async fn start_in_place(host: &Pools, own: &Pools, program: &Program) -> Result<Box<Instance>, Fault> {
    loop {
        match start(host, program).await {
            Err(Fault::NoRoom { room, .. }) if evict_own(own, room, program) => {}
            started => return started,
        }
    }
}

/// Makes room after a running job found none, so that a retry succeeds.
pub(super) fn evict_after(host: &Pools, fault: &Fault, program: &Program) {
    if let Fault::NoRoom { room, .. } = fault {
        // If no instance can be evicted, further attempts would fail too.
        let _ended = (0..limits::EVICTION_ATTEMPTS).take_while(|_| evict_any(host, *room, program)).count();
    }
}

/// Evicts an idle instance of any app, to make room for one of `program`. Returns false if none can
/// be evicted. The search starts at a random pool, so that no app is always evicted first.
fn evict_any(host: &Pools, room: Room, program: &Program) -> bool {
    host.each_from(rand::random::<u32>() as usize).any(|pool| frees_room(&*pool, room, program) && pool.evict_spare())
}

fn evict_own(own: &Pools, room: Room, program: &Program) -> bool {
    let own: Vec<Arc<dyn ResourceUser>> =
        own.all().into_iter().filter(|pool| frees_room(&**pool, room, program)).collect();
    if own.iter().map(|pool| pool.live()).sum::<u32>() < 2 {
        return false;
    }
    // Pools with several instances come first. A pool for HTTP loses its last instance only
    // after the pools for events, because clients wait for its responses.
    let (requests, events): (Vec<_>, Vec<_>) = own.iter().partition(|pool| pool.entry() == Entry::Http);
    own.iter().any(|pool| pool.live() > 1 && pool.evict_idle())
        || events.into_iter().chain(requests).any(|pool| pool.evict_idle())
}

/// Returns whether evicting an instance of `pool` makes room for one of `program`.
fn frees_room(pool: &dyn ResourceUser, room: Room, program: &Program) -> bool {
    match room {
        Room::Slot => pool.program().shares_slots_with(program),
        Room::Instance | Room::Memory => true,
    }
}
