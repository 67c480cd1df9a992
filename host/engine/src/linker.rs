//! The functions that guests can import, as linkers of wasmtime. Never links a component.

use crate::{
    asked_body, assets, bounded, caller, counters, emit, keyvalue, kind::Flavour, logging, purity::PurityCheck,
    state::HostState, wasi_http,
};
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi_config::WasiConfig;

/// The interface versions of wasmtime-wasi; every 0.2 import of a guest is linked to them.
const ENVIRONMENT: &str = "wasi:cli/environment@0.2.12";
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";

/// Creates the linker with all functions that guests of one flavour can import.
pub(crate) fn usual(engine: &wasmtime::Engine, flavour: Flavour) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasi_http::add_to_linker(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| WasiConfig::from(&*state.config))?;
    keyvalue::add_to_linker(&mut linker, |state| {
        keyvalue::View::new(
            &state.keyvalue,
            &mut state.table,
            &mut state.account,
            state.transaction.as_mut(),
            &state.waits,
        )
    })?;
    emit::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    counters::add_to_linker(&mut linker)?;
    caller::add_to_linker(&mut linker)?;
    assets::add_to_linker(&mut linker)?;
    asked_body::add_to_linker(&mut linker)?;
    if flavour == Flavour::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    bounded::add_to_linker(&mut linker, flavour)?;
    Ok(linker)
}

/// Returns the same imports, with an empty environment and no folders. Each read of them is
/// recorded.
pub(crate) fn for_snapshot(usual: &Linker<HostState>) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = usual.clone();
    linker.allow_shadowing(true);
    let mut environment = linker.instance(ENVIRONMENT)?;
    environment.func_wrap("get-environment", |store, ()| {
        note(&store, PurityCheck::note_environment);
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |store, ()| {
        note(&store, PurityCheck::note_environment);
        Ok((Vec::<String>::new(),))
    })?;
    linker.instance(PREOPENS)?.func_wrap("get-directories", |store, ()| {
        note(&store, PurityCheck::note_folders);
        Ok((Vec::<(Resource<Descriptor>, String)>::new(),))
    })?;
    Ok(linker)
}

fn note(store: &StoreContextMut<'_, HostState>, what: impl FnOnce(&PurityCheck)) {
    if let Some(purity) = store.data().purity() {
        what(purity);
    }
}
