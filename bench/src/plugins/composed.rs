//! Composes the app `hello-wasi03` with middlewares into one component, and serves it with
//! `wasmtime serve`. Never measures.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::contender::{self, WASMTIME_TUNED};
use crate::peers::Peers;
use crate::{components, variants};
use xtask::step;

/// The header that the component of the middleware sets.
const HEADER: &str = "x-middleware-0";

/// Wasmtime, and a folder with one component for each number of middlewares.
pub(super) struct Composed {
    wasmtime_cli: PathBuf,
    folder: PathBuf,
}

impl Composed {
    /// Composes the app with each of these numbers of middlewares.
    pub(super) fn new(wasmtime_cli: PathBuf, peers: &Peers, folder: &Path, numbers: &[u32]) -> Result<Composed> {
        let [app, middleware] = components::built(["hello-wasi03", "middleware-wasi03"])?;
        let program = peers.compose()?;
        let composed = Composed { wasmtime_cli, folder: folder.to_owned() };
        let middlewares = composed.middlewares(&middleware, numbers.iter().copied().max().unwrap_or_default())?;
        step::announce("composing the app with middlewares");
        for number in numbers {
            let mut compose = Command::new(&program);
            compose.arg(composed.component(*number)).arg(&app).args(middlewares.iter().take(*number as usize));
            step::run(&mut compose, "the message above says which component can't be composed")?;
        }
        Ok(composed)
    }

    /// Returns the command that serves the app with a number of middlewares.
    pub(super) fn serve(&self, middlewares: u32, address: SocketAddr) -> Command {
        contender::wasmtime_serve(&self.wasmtime_cli, &self.component(middlewares), address, &WASMTIME_TUNED)
    }

    fn component(&self, middlewares: u32) -> PathBuf {
        self.folder.join(format!("composed-{middlewares}.wasm"))
    }

    /// Writes this number of middlewares, which set different headers.
    fn middlewares(&self, component: &Path, number: u32) -> Result<Vec<PathBuf>> {
        let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
        let write = |index: u32| -> Result<PathBuf> {
            let file = self.folder.join(format!("middleware-{index}.wasm"));
            let changed = with_header(&bytes, &format!("x-middleware-{index}"))
                .with_context(|| format!("cannot change {}", component.display()))?;
            fs::write(&file, changed).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        (0..number).map(write).collect()
    }
}

/// Returns the middleware with another header of the same length.
fn with_header(middleware: &[u8], header: &str) -> Result<Vec<u8>> {
    let offsets = variants::offsets_of(HEADER.as_bytes(), middleware);
    let [offset] = offsets[..] else {
        bail!("it contains {HEADER:?} {} times instead of once", offsets.len());
    };
    if header.len() != HEADER.len() {
        bail!("{header:?} is not as long as {HEADER:?}");
    }
    let mut changed = middleware.to_vec();
    changed[offset..][..header.len()].copy_from_slice(header.as_bytes());
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_middleware_differs_only_in_its_header() {
        let changed = with_header(b"..x-middleware-0..", "x-middleware-2").expect("one header");
        assert_eq!(changed, b"..x-middleware-2..");
    }

    #[test]
    fn a_header_that_cannot_be_replaced_is_an_error() {
        assert!(with_header(b"no header", "x-middleware-2").is_err());
        assert!(with_header(b"x-middleware-0x-middleware-0", "x-middleware-2").is_err());
        assert!(with_header(b"x-middleware-0", "x-middleware-10").is_err());
    }
}
