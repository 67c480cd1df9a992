//! Limits the bytes that a host call copies. A guest is interrupted between instructions, never
//! inside a host call, so each call must end within about a time slice. Measuring time would be
//! flaky, so this test counts the bytes that a call can copy. `HOST_CALL_BYTES_MAX` limits the
//! arguments of every function; each function with a result of variable size needs a row here.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use isopod_engine::limits;
use isopod_policy::limits as policy;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};
use wit_parser::{Function, Resolve, Type, TypeDefKind};

const KIB: usize = 1024;

/// Data that a guest passed to the host in an earlier call and reads back.
const GIVEN: usize = limits::HOST_CALL_BYTES_MAX;
/// A name or a path in a file system.
const PATH: usize = 4 * KIB;
/// The largest set of header fields that the host's HTTP client and server accept.
const HEAD: usize = 512 * KIB;
/// The most bytes that wasmtime's streams and sockets return in one read.
const STREAM: usize = 64 * KIB;
/// A part of a request's body; a small body has only one part.
const BODY: usize = 1024 * KIB;
/// A value of the key-value store.
const VALUE: usize = 1024 * KIB;
/// A page of the longest keys.
const KEYS: usize = limits::KEYS_PER_CALL_MAX * KIB;
const CONFIG: usize = policy::CONFIG_BYTES_MAX;
const RANDOM: usize = limits::RANDOM_BYTES_MAX as usize;

/// The functions with results of variable size, and the most bytes that a call returns.
const RESULTS: &[(&str, usize)] = &[
    ("isopod:app/emit#ask", limits::HOST_CALL_BYTES_MAX),
    ("isopod:app/emit#emit", GIVEN),
    ("wasi:cli/environment#get-arguments", policy::ARGUMENTS_MAX * policy::TEXT_BYTES_MAX),
    ("wasi:cli/environment#get-environment", CONFIG),
    ("wasi:cli/environment#get-initial-cwd", PATH),
    ("wasi:cli/environment#initial-cwd", PATH),
    ("wasi:config/store#get", policy::CONFIG_VALUE_BYTES_MAX),
    ("wasi:config/store#get-all", CONFIG),
    ("wasi:filesystem/preopens#get-directories", policy::FOLDER_GRANTS_MAX * PATH),
    ("wasi:filesystem/types#[method]descriptor.get-type", PATH),
    ("wasi:filesystem/types#[method]descriptor.read", STREAM),
    ("wasi:filesystem/types#[method]descriptor.readlink-at", PATH),
    ("wasi:filesystem/types#[method]descriptor.stat", PATH),
    ("wasi:filesystem/types#[method]descriptor.stat-at", PATH),
    ("wasi:filesystem/types#[method]directory-entry-stream.read-directory-entry", PATH),
    ("wasi:http/types#[method]fields.copy-all", HEAD),
    ("wasi:http/types#[method]fields.entries", HEAD),
    ("wasi:http/types#[method]fields.get", HEAD),
    ("wasi:http/types#[method]fields.get-and-delete", HEAD),
    ("wasi:http/types#[method]incoming-request.authority", HEAD),
    ("wasi:http/types#[method]incoming-request.method", HEAD),
    ("wasi:http/types#[method]incoming-request.path-with-query", HEAD),
    ("wasi:http/types#[method]incoming-request.scheme", HEAD),
    ("wasi:http/types#[method]outgoing-request.authority", GIVEN),
    ("wasi:http/types#[method]outgoing-request.method", GIVEN),
    ("wasi:http/types#[method]outgoing-request.path-with-query", GIVEN),
    ("wasi:http/types#[method]outgoing-request.scheme", GIVEN),
    ("wasi:http/types#[method]request.get-authority", GIVEN),
    ("wasi:http/types#[method]request.get-method", GIVEN),
    ("wasi:http/types#[method]request.get-path-with-query", GIVEN),
    ("wasi:http/types#[method]request.get-scheme", GIVEN),
    ("wasi:http/types#http-error-code", PATH),
    ("wasi:io/error#[method]error.to-debug-string", PATH),
    ("wasi:io/poll#poll", limits::COMPONENT_HANDLES_MAX * size_of::<u32>()),
    ("wasi:io/streams#[method]input-stream.blocking-read", BODY),
    ("wasi:io/streams#[method]input-stream.read", BODY),
    ("wasi:keyvalue/atomics#[method]cas.current", VALUE),
    ("wasi:keyvalue/batch#get-many", limits::HOST_CALL_BYTES_MAX),
    ("wasi:keyvalue/store#[method]bucket.get", VALUE),
    ("wasi:keyvalue/store#[method]bucket.list-keys", KEYS),
    ("wasi:random/insecure#get-insecure-random-bytes", RANDOM),
    ("wasi:random/random#get-random-bytes", RANDOM),
    ("wasi:sockets/ip-name-lookup#resolve-addresses", STREAM),
    ("wasi:sockets/types#[method]udp-socket.receive", STREAM),
    ("wasi:sockets/udp#[method]incoming-datagram-stream.receive", 2 * STREAM),
];

/// Folders of interface definitions, by the package that implements them.
const DEFINITIONS: [(&str, &str); 5] = [
    ("wasmtime-wasi", "src/p2/wit"),
    ("wasmtime-wasi", "src/p3/wit"),
    ("wasmtime-wasi-http", "wit"),
    ("wasmtime-wasi-http", "src/p3/wit"),
    ("wasmtime-wasi-config", "wit"),
];

#[test]
fn every_result_without_a_fixed_size_is_bounded() {
    let bounds: BTreeMap<&str, usize> = RESULTS.iter().copied().collect();
    let found = functions_with_results_of_any_size();
    let missing: Vec<&String> = found.iter().filter(|name| !bounds.contains_key(name.as_str())).collect();
    assert!(missing.is_empty(), "add a row with the size of one call's result: {missing:#?}");
    let gone: Vec<&&str> = bounds.keys().filter(|name| !found.contains(**name)).collect();
    assert!(gone.is_empty(), "no guest can import these functions: {gone:#?}");
}

#[test]
fn no_host_call_copies_more_than_fits_in_a_time_slice() {
    for (name, bytes) in RESULTS {
        assert!(*bytes <= limits::HOST_CALL_BYTES_MAX, "{name} returns up to {bytes} bytes");
    }
}

fn functions_with_results_of_any_size() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in folders() {
        let mut resolve = Resolve::default();
        resolve.push_dir(&folder).unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()));
        for (_, interface) in resolve.interfaces.iter() {
            let Some((package, interface_name)) = interface.package.zip(interface.name.as_ref()) else { continue };
            let package = &resolve.packages[package].name;
            for function in interface.functions.values().filter(|function| has_any_size(&resolve, function)) {
                let name = format!("{}:{}/{interface_name}#{}", package.namespace, package.name, function.name);
                if !IS_EXPORTED.iter().any(|exported| name.starts_with(exported)) {
                    found.insert(name);
                }
            }
        }
    }
    found
}

/// Interfaces that guests export.
const IS_EXPORTED: [&str; 10] = [
    "isopod:app/event-handler#",
    "isopod:app/events#",
    "isopod:app/health#",
    "isopod:app/http#",
    "isopod:app/http-packed#",
    "isopod:plugin/config#",
    "isopod:plugin/middleware#",
    "wasi:cli/run#",
    "wasi:http/incoming-handler#",
    "wasmtime:",
];

fn folders() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    let sources = sources();
    let others = DEFINITIONS.map(|(package, folder)| sources[package].join(folder));
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit");
    ["current", "first-draft"].map(|folder| own.join(folder)).into_iter().chain(others).chain([contract]).collect()
}

/// Returns the source folders of this package's dependencies on this platform. The sources of
/// dependencies for other platforms may not be downloaded.
fn sources() -> BTreeMap<String, PathBuf> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        let output = command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let version = String::from_utf8(cargo(&["-vV"])).expect("cargo prints text");
    let platform = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its platform");
    let listed = cargo(&["metadata", "--format-version", "1", "--offline", "--filter-platform", platform]);
    let listed: serde_json::Value = serde_json::from_slice(&listed).expect("cargo lists packages as JSON");
    let package = |package: &serde_json::Value| {
        let (name, manifest) = (package["name"].as_str()?, package["manifest_path"].as_str()?);
        Some((name.to_owned(), Path::new(manifest).parent()?.to_owned()))
    };
    listed["packages"].as_array().expect("there are packages").iter().filter_map(package).collect()
}

fn has_any_size(resolve: &Resolve, function: &Function) -> bool {
    function.result.is_some_and(|result| is_of_any_size(resolve, result))
}

fn is_of_any_size(resolve: &Resolve, ty: Type) -> bool {
    let any = |types: Vec<Type>| types.into_iter().any(|ty| is_of_any_size(resolve, ty));
    match ty {
        Type::String => true,
        Type::Id(id) => match &resolve.types[id].kind {
            TypeDefKind::List(_) | TypeDefKind::Map(..) => true,
            TypeDefKind::Record(record) => any(record.fields.iter().map(|field| field.ty).collect()),
            TypeDefKind::Tuple(tuple) => any(tuple.types.clone()),
            TypeDefKind::Variant(variant) => any(variant.cases.iter().filter_map(|case| case.ty).collect()),
            TypeDefKind::Option(ty) | TypeDefKind::Type(ty) | TypeDefKind::FixedLengthList(ty, _) => {
                is_of_any_size(resolve, *ty)
            }
            // An error's text is written by the host, and short.
            TypeDefKind::Result(result) => result.ok.is_some_and(|ok| is_of_any_size(resolve, ok)),
            TypeDefKind::Resource
            | TypeDefKind::Handle(_)
            | TypeDefKind::Flags(_)
            | TypeDefKind::Enum(_)
            | TypeDefKind::Future(_)
            | TypeDefKind::Stream(_)
            | TypeDefKind::Unknown => false,
        },
        _ => false,
    }
}
