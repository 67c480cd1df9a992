//! Measures deploys of two apps that differ in one gate. Never deploys both at the same time.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::folder;
use crate::host::{Host, PLUGIN};
use crate::times::Times;
use xtask::step;

/// The app to which the gate applies, and the app without a gate.
const APPS: [&str; 2] = ["free", "gated"];

const SETTINGS: &str = "[[gates]]\nuse = \"probe-gate\"\nconfig = {}\napps = [\"gated\"]\n";

/// The times of the deploys of both apps, until the new release serves.
pub(super) struct Deploys([Times; APPS.len()]);

pub(super) fn measure(isopod: &Path, hello: &Path, gate: &Path, deploys: u32) -> Result<Deploys> {
    step::announce(&format!("{deploys} deploys without and with a gate"));
    let component = fs::read(hello).with_context(|| format!("cannot read {}", hello.display()))?;
    let host = Host::start(isopod, &folder::fresh("gates")?, SETTINGS)?;
    host.install("probe-gate", PLUGIN, gate)?;
    let mut milliseconds = [Vec::new(), Vec::new()];
    // The first deploy of each app compiles the component.
    for round in 0..=deploys {
        for (app, milliseconds) in APPS.iter().zip(&mut milliseconds) {
            let began = Instant::now();
            host.api().push(app, &component)?;
            if round > 0 {
                milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    host.stop()?;
    Ok(Deploys(milliseconds.map(Times)))
}

impl Deploys {
    pub(super) fn show(&self) {
        println!("\nmilliseconds of a deploy until the release serves\n");
        println!("| gates | deploys |      p50 |      p99 |  slowest |");
        println!("| ----: | ------: | -------: | -------: | -------: |");
        for (gates, times) in self.0.iter().enumerate() {
            println!("| {gates:>5} |  {} |", times.cells());
        }
    }

    pub(super) fn json(&self) -> Value {
        let rows = self.0.iter().enumerate().map(|(gates, times)| json!({ "gates": gates, "times": times.json() }));
        rows.collect()
    }
}
