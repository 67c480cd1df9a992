//! Replaces WASI host functions that can outlast a time slice with functions that are bounded or
//! yield. Never changes the meaning of a function.

use crate::{kind::Flavour, limits, state::HostState};
use isopod_executor::slice;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    WasiView,
    p2::{
        DynOutputStream,
        bindings::{
            io::streams::{Host as _, HostOutputStream as _, StreamError},
            random::{insecure, random},
        },
    },
    random::WasiRandomCtx,
};

/// Generates random bytes in pieces, and yields between them.
type Generate = fn(&mut WasiRandomCtx, u64) -> wasmtime::Result<Vec<u8>>;

/// Replaces the functions in a linker that has them already.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>, flavour: Flavour) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    add_random(linker, "0.2.12", refuse_long)?;
    if flavour == Flavour::Concurrent {
        add_random(linker, "0.3.0", shorten)?;
    }
    linker.instance("wasi:io/streams@0.2.12")?.func_wrap("[method]output-stream.write", write)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn add_random(
    linker: &mut Linker<HostState>,
    version: &str,
    bound: fn(u64) -> wasmtime::Result<u64>,
) -> wasmtime::Result<()> {
    let functions: [(&str, &str, Generate); 2] = [
        ("random", "get-random-bytes", random::Host::get_random_bytes),
        ("insecure", "get-insecure-random-bytes", insecure::Host::get_insecure_random_bytes),
    ];
    for (interface, name, generate) in functions {
        let mut instance = linker.instance(&format!("wasi:random/{interface}@{version}"))?;
        instance.func_wrap_async(name, move |store: StoreContextMut<'_, HostState>, (length,): (u64,)| {
            Box::new(async move { Ok((random_bytes(store, bound(length)?, generate).await?,)) })
        })?;
    }
    Ok(())
}

/// Refuses a request that is too long: WASI 0.2 can't return fewer bytes than requested.
fn refuse_long(length: u64) -> wasmtime::Result<u64> {
    let most = limits::RANDOM_BYTES_MAX;
    wasmtime::ensure!(length <= most, "one call returns at most {most} random bytes, not {length}: use several calls");
    Ok(length)
}

/// Shortens a request that is too long: WASI 0.3 allows fewer bytes than requested.
fn shorten(length: u64) -> wasmtime::Result<u64> {
    Ok(length.min(limits::RANDOM_BYTES_MAX))
}

async fn random_bytes(
    mut store: StoreContextMut<'_, HostState>,
    length: u64,
    generate: Generate,
) -> wasmtime::Result<Vec<u8>> {
    let length = usize::try_from(length)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let piece = (length - bytes.len()).min(limits::RANDOM_PIECE_BYTES);
        bytes.extend(generate(store.data_mut().ctx().ctx.random(), piece as u64)?);
        if slice::expired() {
            slice::yield_now().await;
        }
    }
    Ok(bytes)
}

/// Traps if a guest writes more than `check-write` permitted; some streams would buffer any amount.
fn write(
    mut store: StoreContextMut<'_, HostState>,
    (stream, bytes): (Resource<DynOutputStream>, Vec<u8>),
) -> wasmtime::Result<(Result<(), StreamError>,)> {
    let table = &mut store.data_mut().table;
    let again = || Resource::new_borrow(stream.rep());
    let written = match table.check_write(again()) {
        Ok(permit) if bytes.len() as u64 > permit => {
            wasmtime::bail!("write not permitted: {} bytes where check-write allows {permit}", bytes.len())
        }
        Ok(_) => table.write(again(), bytes),
        Err(error) => Err(error),
    };
    Ok((match written {
        Ok(()) => Ok(()),
        Err(error) => Err(table.convert_stream_error(error)?),
    },))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_too_many_random_bytes_is_refused_or_shortened() {
        let most = limits::RANDOM_BYTES_MAX;
        assert_eq!((refuse_long(most).ok(), refuse_long(most + 1).ok()), (Some(most), None));
        assert!(refuse_long(u64::MAX).unwrap_err().to_string().contains(&most.to_string()));
        assert_eq!((shorten(7).ok(), shorten(u64::MAX).ok()), (Some(7), Some(most)));
    }
}
