//! The functions of a plugin's export `isopod:plugin/body-handler`. Never calls them.

use crate::{
    inspect::{BODY_HANDLER, ComponentInfo, Rejected},
    state::HostState,
};
use wasmtime::component::{ComponentExportIndex, InstancePre};

/// The indices of the functions in a component.
pub(crate) struct BodyExport {
    pub(crate) on_request_body: ComponentExportIndex,
    pub(crate) on_response_body: ComponentExportIndex,
}

impl BodyExport {
    /// Finds the functions; `None` if the component doesn't export the interface.
    pub(crate) fn find(info: &ComponentInfo, pre: &InstancePre<HostState>) -> Option<Result<Self, Rejected>> {
        let name = info.exports.iter().find(|name| name.starts_with(BODY_HANDLER))?;
        let component = pre.component();
        let interface = component.get_export_index(None, name)?;
        let function = |function: &'static str| {
            let missing = || Rejected::Malformed { detail: format!("its export {name} has no function `{function}`") };
            component.get_export_index(Some(&interface), function).ok_or_else(missing)
        };
        let found = function("on-request-body")
            .and_then(|on_request_body| Ok(Self { on_request_body, on_response_body: function("on-response-body")? }));
        Some(found)
    }
}
