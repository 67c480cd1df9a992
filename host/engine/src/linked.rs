//! Links a component's code with the host's functions, and finds the exports that the host calls.
//! Never starts an instance.

use crate::{
    bindings,
    body_export::BodyExport,
    event_export::EventExport,
    flat_call,
    inspect::{ComponentInfo, EVENT_HANDLER, HttpAbi, PLUGIN_CONFIG, Rejected},
    offered,
    provider_link::Offered,
    state::HostState,
};
use isopod_policy::{limits::TEXT_DETAIL_BYTES_SHOWN, text::line_excerpt};
use wasmtime::component::{InstancePre, Linker};
use wasmtime_wasi_http::{p2::bindings as wasi02, p3::bindings as wasi03};

/// The interface that initialises a guest.
pub(crate) const INIT: &str = "isopod:app/init@0.1.";

/// Code linked with the host's functions: the part that all apps with the same component could
/// share.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<HostState>,
    pub(crate) exports: Exports,
}

/// Indices of the exports that the host calls, looked up once.
pub(crate) struct Exports {
    pub(crate) flat: Option<flat_call::Index>,
    pub(crate) wasi02: Option<wasi02::ProxyIndices>,
    pub(crate) wasi03: Option<wasi03::ServiceIndices>,
    pub(crate) events: Option<EventExport>,
    pub(crate) middleware: Option<bindings::middleware::MiddlewarePluginIndices>,
    /// The handler of the bodies that a middleware asks for.
    pub(crate) body_handler: Option<BodyExport>,
    pub(crate) gate: Option<bindings::gate::GatePluginIndices>,
    pub(crate) plugin_config: Option<bindings::plugin_config::ConfigPluginIndices>,
    /// The functions of a provider.
    pub(crate) offered: Offered,
    pub(crate) health: Option<bindings::health::HealthAppIndices>,
    /// Also `None` for a snapshot, which was taken after `init` returned.
    pub(crate) init: Option<bindings::init::InitAppIndices>,
}

impl Linked {
    /// Resolves all exports and imports that a start or a call needs.
    pub(crate) fn new(
        info: &ComponentInfo,
        code: &wasmtime::component::Component,
        linker: &Linker<HostState>,
    ) -> Result<Self, Rejected> {
        let pre = linker.instantiate_pre(code).map_err(|error| unlinked(code, &error))?;
        let has = |prefix: &str| info.exports.iter().any(|name| name.starts_with(prefix));
        let broken = |error: wasmtime::Error| Rejected::Malformed {
            detail: line_excerpt(
                &format!("an export's type differs from its interface: {error:#}"),
                TEXT_DETAIL_BYTES_SHOWN,
            ),
        };
        let exports = Exports {
            flat: (info.entries.http == Some(HttpAbi::Flat))
                .then(|| flat_call::Index::find(&pre, &info.exports))
                .flatten()
                .transpose()
                .map_err(|missing| Rejected::Malformed { detail: missing.to_string() })?,
            wasi02: has("wasi:http/incoming-handler@0.2.")
                .then(|| wasi02::ProxyIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            wasi03: has("wasi:http/handler@0.3.")
                .then(|| wasi03::ServiceIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            events: match info.entries.events || info.entries.hook {
                true if info.entries.hook => {
                    Some(bindings::hook::HookPluginIndices::new(&pre)).map(|indices| indices.map(EventExport::Hook))
                }
                true if has(EVENT_HANDLER) => Some(bindings::event_handler::EventHandlerAppIndices::new(&pre))
                    .map(|indices| indices.map(EventExport::Current)),
                true => {
                    Some(bindings::events::EventAppIndices::new(&pre)).map(|indices| indices.map(EventExport::Former))
                }
                false => None,
            }
            .transpose()
            .map_err(broken)?,
            middleware: info
                .entries
                .middleware
                .then(|| bindings::middleware::MiddlewarePluginIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            body_handler: BodyExport::find(info, &pre).transpose()?,
            gate: info
                .entries
                .gate
                .then(|| bindings::gate::GatePluginIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            plugin_config: has(PLUGIN_CONFIG)
                .then(|| bindings::plugin_config::ConfigPluginIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            offered: Offered::find(info, &pre),
            health: info
                .entries
                .health
                .then(|| bindings::health::HealthAppIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
            init: (has(INIT) && !info.is_snapshot)
                .then(|| bindings::init::InitAppIndices::new(&pre))
                .transpose()
                .map_err(broken)?,
        };
        Ok(Self { pre, exports })
    }
}

/// Lists the missing imports: the import that wasmtime reports, and all imports of which the host
/// offers no version.
pub(crate) fn unlinked(code: &wasmtime::component::Component, error: &wasmtime::Error) -> Rejected {
    let detail = format!("{error:#}");
    let first = detail.split('`').nth(1).unwrap_or("an import").to_owned();
    let detail = line_excerpt(&detail, TEXT_DETAIL_BYTES_SHOWN);
    let hint = format!(
        "The host offers this family of interfaces, but not this version or function ({detail}). Build with a version \
         that docs/sandbox.md lists under \"What can be imported\""
    );
    let imports = code.component_type();
    let imports = imports.imports(code.engine()).map(|(name, _)| name.to_owned()).filter(|name| *name != first);
    let others = imports.filter(|name| !offered::is_offered(name)).map(|name| offered::named(&name));
    Rejected::UnknownImport { names: std::iter::once(offered::named(&first)).chain(others).collect(), hint }
}
