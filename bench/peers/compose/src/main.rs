//! Composes an app with middlewares into one component, as `wac plug` does. Only the benchmarks use
//! it; it never runs a component.

use std::fs;

use anyhow::{Context, Result, bail};
use wac_graph::{CompositionGraph, EncodeOptions, types::Package};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [output, app, middlewares @ ..] = &arguments[..] else {
        bail!("usage: compose OUTPUT APP [MIDDLEWARE]...\nEach middleware imports the handler of the previous one");
    };
    let mut component = read(app)?;
    for middleware in middlewares {
        component = plug(component, read(middleware)?).with_context(|| format!("cannot compose {middleware}"))?;
    }
    fs::write(output, component).with_context(|| format!("cannot write {output}"))
}

fn read(file: &str) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {file}"))
}

/// Returns the middleware, whose imported handler is that of the app. Their other imports are
/// merged.
fn plug(app: Vec<u8>, middleware: Vec<u8>) -> Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let app = Package::from_bytes("bench:app", None, app, graph.types_mut())?;
    let app = graph.register_package(app)?;
    let middleware = Package::from_bytes("bench:middleware", None, middleware, graph.types_mut())?;
    let middleware = graph.register_package(middleware)?;
    wac_graph::plug(&mut graph, vec![app], middleware)?;
    Ok(graph.encode(EncodeOptions::default())?)
}
