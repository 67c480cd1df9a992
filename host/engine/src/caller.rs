//! Implements `isopod:plugin/caller` for guests: names the app on whose behalf a provider runs.
//! Never identifies a user of the app.

use crate::state::HostState;
use wasmtime::component::{HasSelf, Linker};

mod generated {
    wasmtime::component::bindgen!({
        path: "../../sdk/wit/plugin",
        world: "isopod:plugin/called-plugin",
        imports: { default: trappable },
    });
}

use generated::isopod::plugin::caller as wit;

/// Offers `isopod:plugin/caller` to guests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wit::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}

impl wit::Host for HostState {
    fn app(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.caller.as_deref().map(str::to_owned))
    }
}
