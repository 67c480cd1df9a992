//! Implements `isopod:plugin/bodies` for guests: a middleware asks for the body of the message
//! whose head it decides about. Never reads a body.

use crate::state::HostState;
use wasmtime::component::{HasSelf, Linker};

mod generated {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/asking-plugin",
    });
}

use generated::isopod::plugin::bodies as wit;

/// Offers `isopod:plugin/bodies` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit::Host for HostState {
    fn ask(&mut self, bytes_max: u64) {
        self.asked_bytes = Some(bytes_max);
    }
}
