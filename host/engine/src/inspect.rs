//! Reads a component's kind, imports, exports and requirements. Never compiles or runs any of its
//! code.
//!
//! Rejections name the fault in terms that the component's author knows.

use crate::{
    interfaces::{self, Interfaces},
    kind::Flavour,
    limits, offered, places, slots,
};
use isopod_policy::{
    Form, Grants,
    limits::{TEXT_DETAIL_BYTES_SHOWN, TEXT_NAME_BYTES_SHOWN},
    text::{self, line_excerpt},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload, ValidPayload, Validator, WasmFeatures, types::Types};

/// The custom section that marks a component as a snapshot, so that its instances skip `init`.
pub(crate) const SNAPSHOT_SECTION: &str = "isopod-snapshot";

/// The mark that the SDK places in the data of a component that streams responses.
const STREAMS_MARK: &[u8] = b"isopod-sdk: a response of this component is streamed";

/// The flat interface with a list of headers, and with encoded headers.
pub(crate) const FLAT_LISTED: &str = "isopod:app/http@0.1.";
pub(crate) const FLAT_PACKED: &str = "isopod:app/http-packed@0.1.";

/// The interfaces of event handlers.
pub(crate) const EVENT_HANDLER: &str = "isopod:app/event-handler@0.1.";
const EVENTS: &str = "isopod:app/events@0.1.";

/// The interfaces of plugins.
pub(crate) const MIDDLEWARE: &str = "isopod:plugin/middleware@0.1.";
const HOOK: &str = "isopod:plugin/hook@0.1.";
const GATE: &str = "isopod:plugin/gate@0.1.";
pub(crate) const PLUGIN_CONFIG: &str = "isopod:plugin/config@0.1.";
pub(crate) const BODY_HANDLER: &str = "isopod:plugin/body-handler@0.1.";
const PLUGIN_ASSETS: &str = "isopod:plugin/assets@0.1.";

/// A component's properties before it is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInfo {
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub size_bytes: u64,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub entries: Entries,
    /// Language and version of the SDK it was built with, as in `rust/0.1.0`.
    pub sdk_version: Option<String>,
    /// Whether it uses WASI 0.3 or the component model's async features.
    pub needs_concurrency: bool,
    /// Whether it contains the snapshot of an initialised instance, so that its own instances skip
    /// `init`.
    pub is_snapshot: bool,
    /// Whether each instance can serve only one request, regardless of the manifest. True for
    /// components by ComponentizeJS: their engine handles the event of the first request only.
    pub single_use: bool,
    /// Whether its HTTP handler receives whole bodies in its memory: over the flat interface, or
    /// over `wasi:http` from an SDK that also exports the flat interface.
    pub holds_bodies_whole: bool,
    /// Whether it contains debug information with the lines of its source.
    #[serde(default, alias = "has_lines")]
    pub has_source_lines: bool,
    /// The interfaces that it imports from providers.
    #[serde(default)]
    pub imported_interfaces: Interfaces,
    /// The interfaces that it can offer as a provider. Dropped for an app, which offers none.
    #[serde(default)]
    pub exported_interfaces: Interfaces,
    /// Instance slots that one instance takes: more than one if it has many memories, tables or
    /// modules.
    pub slots: u32,
}

impl ComponentInfo {
    /// Returns whether it can find the assets of apps.
    pub fn finds_assets(&self) -> bool {
        self.imports.iter().any(|name| name.starts_with(PLUGIN_ASSETS))
    }

    /// Checks that each interface that the component imports from a provider is granted.
    /// `has_providers` is whether there are providers here.
    pub fn check_interfaces(&self, grants: &Grants, has_providers: bool) -> Result<(), Rejected> {
        let is_granted = |name: &str| grants.interfaces.keys().any(|granted| granted.as_str() == name);
        let missing: Vec<&String> =
            self.imported_interfaces.keys().filter(|name| !has_providers || !is_granted(name)).collect();
        match missing.first() {
            Some(first) => Err(Rejected::UnknownImport {
                names: missing.iter().map(|name| offered::named(name)).collect(),
                hint: hint_for(first),
            }),
            None => Ok(()),
        }
    }
}

/// How a component can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    pub http: Option<HttpAbi>,
    pub events: bool,
    pub command: bool,
    pub health: bool,
    /// Whether it exports middleware, as a plugin.
    #[serde(default)]
    pub middleware: bool,
    /// Whether it exports a gate, as a plugin.
    #[serde(default)]
    pub gate: bool,
    /// Whether it can offer interfaces to apps, as a plugin.
    #[serde(default)]
    pub provider: bool,
    /// Whether it exports a hook, as a plugin. Its handler of other events is then not called.
    #[serde(default)]
    pub hook: bool,
}

impl Entries {
    fn can_run(&self) -> bool {
        let Self { http, events, command, health: _, middleware, gate, provider, hook } = *self;
        http.is_some() || events || command || middleware || gate || provider || hook
    }
}

/// The preferred HTTP interface of those that a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpAbi {
    /// `isopod:app/http` or `isopod:app/http-packed`, one flat call per request.
    Flat,
    /// `wasi:http/incoming-handler@0.2`.
    Wasi02,
    /// `wasi:http/handler@0.3`.
    Wasi03,
}

/// Why a component is rejected.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejected {
    #[error("this is not WebAssembly: {}", not_wasm(*found))]
    NotWasm { found: Option<Form> },
    #[error(
        "this is a core module, not a component. Build for the target wasm32-wasip2, or wrap it with \
         `wasm-tools component new`"
    )]
    CoreModule,
    #[error("the component is too large: {what} is {actual}, the limit is {limit}")]
    TooLarge { what: &'static str, actual: usize, limit: usize },
    #[error("the component is damaged or invalid: {detail}")]
    Malformed { detail: String },
    #[error("the component imports {}, which this host does not offer. {hint}", listed(names))]
    UnknownImport { names: Vec<String>, hint: String },
    #[error(
        "the component exports nothing that can be run (it exports {exports}). Export one of \
         wasi:http/incoming-handler@0.2, wasi:http/handler@0.3, isopod:app/http@0.1.0, \
         isopod:app/event-handler@0.1.0, wasi:cli/run, or for a plugin isopod:plugin/middleware@0.1.0, \
         isopod:plugin/hook@0.1.0, isopod:plugin/gate@0.1.0 or an interface of its own; with the Rust SDK: \
         `isopod_sdk::http!(handler)`"
    )]
    NothingToRun { exports: String },
    #[error(
        "compiling took longer than {seconds} s, the fixed limit for one component. Try again: a running \
         host finishes compiling and keeps the result. If it fails again, make the component smaller"
    )]
    TooLong { seconds: u64 },
    #[error("the component could not be compiled: {detail}")]
    Compile { detail: String },
    #[error(
        "cannot store the compiled component: {detail}. Check that the data folder is writable and its disk is not full"
    )]
    Cache { detail: String },
}

impl Rejected {
    /// Returns a stable name, for a push job's reason and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotWasm { .. } | Self::CoreModule | Self::Malformed { .. } => "invalid-component",
            Self::TooLarge { .. } => "component-too-large",
            Self::UnknownImport { .. } => "unknown-import",
            Self::NothingToRun { .. } => "nothing-to-run",
            Self::TooLong { .. } => "time-limit",
            Self::Compile { .. } => "compile-error",
            Self::Cache { .. } => "internal",
        }
    }
}

/// Returns a component's properties, or why it can't run here.
pub fn inspect(bytes: &[u8]) -> Result<ComponentInfo, Rejected> {
    if !bytes.starts_with(b"\0asm") {
        return Err(Rejected::NotWasm { found: Form::sniff(bytes) });
    }
    if bytes.len() > limits::COMPONENT_BYTES_MAX {
        return Err(too_large("the file in bytes", bytes.len(), limits::COMPONENT_BYTES_MAX));
    }
    let outline = Outline::read(bytes)?;
    let (types, is_async) = types_of(bytes)?;
    let mut reader = interfaces::Reader::new(&types);
    let (imported_interfaces, foreign) =
        reader.of(&outline.imports, |types, name| Some(&types.component_item_for_import(name)?.ty))?;
    if let Some(foreign) = foreign {
        return Err(unknown_imports(&outline.imports, hint_for(&foreign)));
    }
    let (exported_interfaces, _) =
        reader.of(&outline.exports, |types, name| Some(&types.component_item_for_export(name)?.ty))?;
    let mut entries = Entries { provider: !exported_interfaces.is_empty(), ..entries_of(&outline.exports) };
    if entries.http == Some(HttpAbi::Flat)
        && let Some(standard) = standard_http(&outline.exports)
        && streams(bytes)?
    {
        entries.http = Some(standard);
    }
    if !entries.can_run() {
        if let Some(import) = outline.imports.iter().find(|name| !offered::is_known_package(name)) {
            return Err(unknown_imports(&outline.imports, hint_for(import)));
        }
        let names = outline.exports.iter().map(String::as_str);
        let exports = match outline.exports.is_empty() {
            true => "nothing".to_owned(),
            false => text::list(names, TEXT_NAME_BYTES_SHOWN),
        };
        return Err(Rejected::NothingToRun { exports });
    }
    let uses_wasi_03 = outline.imports.iter().chain(&outline.exports).any(|name| is_wasi_03(name));
    let needs_concurrency = uses_wasi_03 || is_async;
    Ok(ComponentInfo {
        digest: hex(&Sha256::digest(bytes)),
        size_bytes: bytes.len() as u64,
        needs_concurrency,
        is_snapshot: outline.is_snapshot,
        single_use: outline.single_use,
        holds_bodies_whole: holds_bodies_whole(&outline),
        has_source_lines: outline.has_source_lines,
        slots: slots_of(bytes, Flavour::needed(needs_concurrency))?,
        imported_interfaces,
        exported_interfaces,
        imports: outline.imports,
        exports: outline.exports,
        entries,
        sdk_version: outline.sdk_version,
    })
}

/// The names and sections of the outermost component, and the sizes of everything in it.
#[derive(Default)]
struct Outline {
    imports: Vec<String>,
    exports: Vec<String>,
    sdk_version: Option<String>,
    is_snapshot: bool,
    single_use: bool,
    has_source_lines: bool,
    functions: usize,
}

impl Outline {
    fn read(bytes: &[u8]) -> Result<Self, Rejected> {
        let mut outline = Self::default();
        let mut depth = 0_usize;
        let mut first = true;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(malformed)? {
                Payload::Version { encoding, .. } if first => {
                    if encoding == Encoding::Module {
                        return Err(Rejected::CoreModule);
                    }
                    first = false;
                }
                Payload::Version { .. } => {
                    depth += 1;
                    if depth > limits::NESTING_MAX {
                        return Err(too_large("its nesting of components", depth, limits::NESTING_MAX));
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import.map_err(malformed)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.push(export.map_err(malformed)?.name.name.to_owned());
                    }
                }
                Payload::CodeSectionStart { count, .. } => outline.count_functions(count as usize)?,
                Payload::CodeSectionEntry(body) => {
                    let size = body.range().len();
                    if size > limits::FUNCTION_BYTES_MAX {
                        return Err(too_large("one of its functions in bytes", size, limits::FUNCTION_BYTES_MAX));
                    }
                }
                Payload::CustomSection(section) if section.name() == "producers" && depth == 0 => {
                    outline.single_use |= names_single_use_tool(section.data());
                }
                Payload::CustomSection(section) if section.name() == SNAPSHOT_SECTION && depth == 0 => {
                    outline.is_snapshot = true;
                }
                Payload::CustomSection(section) if places::is_line_section(section.name()) => {
                    outline.has_source_lines = true
                }
                Payload::CustomSection(section) if section.name() == "isopod-sdk" => {
                    outline.sdk_version = sdk_version(section.data());
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn count_functions(&mut self, count: usize) -> Result<(), Rejected> {
        self.functions = self.functions.saturating_add(count);
        if self.functions > limits::FUNCTIONS_MAX {
            return Err(too_large("its number of functions", self.functions, limits::FUNCTIONS_MAX));
        }
        Ok(())
    }
}

/// Returns the standard HTTP interface that a component exports.
fn standard_http(exports: &[String]) -> Option<HttpAbi> {
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    has("wasi:http/handler@0.3.")
        .then_some(HttpAbi::Wasi03)
        .or_else(|| has("wasi:http/incoming-handler@0.2.").then_some(HttpAbi::Wasi02))
}

/// Returns whether the app streams responses. The SDK places a mark in the data of such a
/// component; the linker drops it from all others.
fn streams(bytes: &[u8]) -> Result<bool, Rejected> {
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::DataSection(section) = payload.map_err(malformed)? {
            for data in section {
                let data = data.map_err(malformed)?.data;
                if data.windows(STREAMS_MARK.len()).any(|window| window == STREAMS_MARK) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Returns the version that the SDK wrote. Longer or unprintable text is not from this SDK and is
/// ignored.
fn sdk_version(section: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(section).ok()?.trim();
    let fits = text.len() <= limits::SDK_VERSION_BYTES_MAX && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Returns whether a component's list of tools names one whose instances can't be reused.
fn names_single_use_tool(producers: &[u8]) -> bool {
    const TOOL: &[u8] = b"ComponentizeJS";
    producers.windows(TOOL.len()).any(|name| name == TOOL)
}

/// Returns a component's types, and whether it uses async features: whether it is valid only with
/// them. Function bodies are left to the compiler, which validates them too.
fn types_of(bytes: &[u8]) -> Result<(Types, bool), Rejected> {
    let all = WasmFeatures::all();
    if let Ok(types) = validate(bytes, all.difference(async_features())) {
        return Ok((types, false));
    }
    validate(bytes, all).map(|types| (types, true))
}

fn async_features() -> WasmFeatures {
    WasmFeatures::CM_ASYNC | WasmFeatures::CM_ASYNC_STACKFUL | WasmFeatures::CM_MORE_ASYNC_BUILTINS
}

fn validate(bytes: &[u8], features: WasmFeatures) -> Result<Types, Rejected> {
    let mut validator = Validator::new_with_features(features);
    let mut types = None;
    for payload in Parser::new(0).parse_all(bytes) {
        // The outermost component ends last.
        if let ValidPayload::End(ended) = validator.payload(&payload.map_err(malformed)?).map_err(malformed)? {
            types = Some(ended);
        }
    }
    types.ok_or_else(|| Rejected::Malformed { detail: "it has no end".to_owned() })
}

fn slots_of(bytes: &[u8], flavour: Flavour) -> Result<u32, Rejected> {
    let needs = slots::needs(bytes).map_err(malformed)?;
    let most = limits::CORE_INSTANCES_PER_COMPONENT_MAX as usize;
    for (what, count) in [("its number of memories", needs.memories), ("its number of tables", needs.tables)] {
        if count as usize > most {
            return Err(too_large(what, count as usize, most));
        }
    }
    Ok(needs.slots(flavour))
}

/// Returns whether bodies are held whole. A component with its own streaming handler beside the
/// flat interface need not hold any body whole.
fn holds_bodies_whole(outline: &Outline) -> bool {
    let streams = outline.exports.iter().any(|name| name.starts_with("wasi:http/"));
    entries_of(&outline.exports).http == Some(HttpAbi::Flat) && (!streams || outline.sdk_version.is_some())
}

fn entries_of(exports: &[String]) -> Entries {
    let has = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    Entries {
        http: (has(FLAT_LISTED) || has(FLAT_PACKED)).then_some(HttpAbi::Flat).or_else(|| standard_http(exports)),
        events: (has(EVENT_HANDLER) || has(EVENTS)) && !has(HOOK),
        command: has("wasi:cli/run@0."),
        health: has("isopod:app/health@0.1."),
        middleware: has(MIDDLEWARE),
        gate: has(GATE),
        provider: false,
        hook: has(HOOK),
    }
}

/// Names every import that the host lacks.
pub(crate) fn unknown_imports(imports: &[String], hint: String) -> Rejected {
    let names = imports.iter().filter(|name| !offered::is_offered(name)).map(|name| offered::named(name));
    Rejected::UnknownImport { names: names.collect(), hint }
}

fn listed(names: &[String]) -> String {
    // Each name is already truncated, and the text around it is the host's own.
    text::list(names.iter().map(String::as_str), TEXT_DETAIL_BYTES_SHOWN)
}

fn not_wasm(found: Option<Form>) -> String {
    match found {
        Some(form) => format!("it is {form}. {}", form.advice()),
        None => format!("it does not start with the bytes `\\0asm`. {}", Form::Text.advice()),
    }
}

fn is_wasi_03(name: &str) -> bool {
    name.starts_with("wasi:") && name.contains("@0.3.")
}

fn hint_for(import: &str) -> String {
    let hint = if import.starts_with("fermyon:") || import.starts_with("spin:") {
        "It was built for Spin's own interfaces; use wasi:keyvalue, wasi:config and wasi:http in their place"
    } else if import.starts_with("wasmcloud:") {
        "It was built for wasmCloud's own interfaces; use the wasi: ones in their place"
    } else if import.starts_with("wasi:messaging") || import.starts_with("wasi:blobstore") {
        "Use wasi:keyvalue for data and isopod:app/event-handler for events"
    } else if import.starts_with("wasi:nn") {
        "Machine learning interfaces are not part of the sandbox"
    } else if import.contains("env") && !import.contains(':') {
        "It looks like a module built for a JavaScript host; build for the target wasm32-wasip2"
    } else {
        "Offered are wasi:cli, clocks, config, filesystem, http, io, keyvalue, logging, random and sockets. \
         Compose the missing interface into the component with `wac plug`, remove what uses it, or install a provider \
         that offers it and name it in isopod.toml: interfaces = { \"PACKAGE/INTERFACE\" = \"PROVIDER\" } under \
         [grants]"
    };
    hint.to_owned()
}

fn too_large(what: &'static str, actual: usize, limit: usize) -> Rejected {
    Rejected::TooLarge { what, actual, limit }
}

impl From<interfaces::TooLarge> for Rejected {
    fn from(interfaces: interfaces::TooLarge) -> Self {
        too_large(
            "the size of the signatures of its interfaces in bytes",
            interfaces.bytes,
            limits::INTERFACES_BYTES_MAX,
        )
    }
}

fn malformed(error: wasmparser::BinaryReaderError) -> Rejected {
    let message = line_excerpt(error.message(), TEXT_DETAIL_BYTES_SHOWN);
    Rejected::Malformed { detail: format!("{message} (at byte {:#x})", error.offset()) }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_webassembly() {
        assert!(matches!(inspect(b"hello"), Err(Rejected::NotWasm { found: Some(Form::Text) })));
        assert!(matches!(inspect(b""), Err(Rejected::NotWasm { found: None })));
    }

    #[test]
    fn a_core_module_is_not_a_component() {
        assert!(matches!(inspect(b"\0asm\x01\0\0\0"), Err(Rejected::CoreModule)));
    }

    #[test]
    fn an_empty_component_has_nothing_to_run() {
        let refused = inspect(b"\0asm\x0d\0\x01\0").unwrap_err();
        assert_eq!(refused.code(), "nothing-to-run");
        assert!(refused.to_string().contains("exports nothing"), "{refused}");
    }

    #[test]
    fn a_truncated_component_is_damaged() {
        assert!(matches!(inspect(b"\0asm\x0d\0\x01\0\x01\xff"), Err(Rejected::Malformed { .. })));
    }

    #[test]
    fn names_of_a_component_are_safe_for_a_terminal() {
        let named = |id: u8, body: &[u8]| {
            let name = b"a:b/c\x1b[2J";
            let length = u8::try_from(name.len()).expect("a short name");
            let size = length + u8::try_from(body.len()).expect("short") + 3;
            [b"\0asm\x0d\0\x01\0", &[id, size, 1, 0, length][..], name, body].concat()
        };
        // An import of the core module type 0, and an export of function 0. Neither name is valid.
        for component in [named(10, &[0, 0x11, 0]), named(11, &[1, 0, 0])] {
            let refused = inspect(&component).unwrap_err();
            assert_eq!(refused.code(), "invalid-component", "{refused}");
            assert!(!refused.to_string().contains('\x1b'), "{refused}");
        }
    }

    #[test]
    fn single_use_javascript_is_recognised_by_its_tool() {
        assert!(names_single_use_tool(b"\x01\x0cprocessed-by\x01\x0eComponentizeJS\x060.23.0"));
        assert!(!names_single_use_tool(b"\x01\x0cprocessed-by\x01\x05rustc\x061.98.0"));
    }

    #[test]
    fn imports_of_other_platforms_get_a_hint() {
        assert!(hint_for("fermyon:spin/key-value@2.0.0").contains("Spin"));
        assert!(hint_for("wasi:nn/graph@0.2.0").contains("Machine learning"));
    }

    #[test]
    fn only_a_handler_without_streaming_is_known_to_hold_bodies_whole() {
        let outline = |exports: &[&str], sdk: Option<&str>| Outline {
            exports: exports.iter().map(|name| (*name).to_owned()).collect(),
            sdk_version: sdk.map(str::to_owned),
            ..Outline::default()
        };
        let (flat, streaming) = ("isopod:app/http@0.1.0", "wasi:http/incoming-handler@0.2.4");
        assert!(holds_bodies_whole(&outline(&[flat], None)));
        assert!(holds_bodies_whole(&outline(&[flat, streaming], Some("rust/0.1.0"))));
        assert!(!holds_bodies_whole(&outline(&[flat, streaming], None)));
        assert!(!holds_bodies_whole(&outline(&[streaming], Some("rust/0.1.0"))));
    }

    #[test]
    fn the_flat_interface_is_preferred() {
        let both = ["wasi:http/incoming-handler@0.2.4".to_owned(), "isopod:app/http@0.1.0".to_owned()];
        assert_eq!(entries_of(&both).http, Some(HttpAbi::Flat));
        let packed = ["wasi:http/incoming-handler@0.2.4".to_owned(), "isopod:app/http-packed@0.1.0".to_owned()];
        assert_eq!(entries_of(&packed).http, Some(HttpAbi::Flat));
        assert_eq!(standard_http(&both), Some(HttpAbi::Wasi02));
    }

    #[test]
    fn a_component_that_streams_has_the_sdks_mark_in_its_data() {
        for (data, is_marked) in [(STREAMS_MARK, true), (&STREAMS_MARK[1..], false), (b"", false)] {
            // A core module with one passive segment of data.
            let length = u8::try_from(data.len()).expect("short data");
            let mut module = b"\0asm\x01\0\0\0\x0b".to_vec();
            module.extend([length + 3, 1, 1, length]);
            module.extend(data);
            assert_eq!(streams(&module).expect("well-formed module"), is_marked, "{data:?}");
        }
    }
}
