//! `cargo xtask bench redeploy`: measures deploys of a component with mostly unchanged functions,
//! as in an app's next version, and the memory that the host uses to reuse their code. Never
//! changes the component's behaviour.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::host::Host;
use super::machine::Footprint;
use super::verdict::{self, Bound, Verdict};
use super::{components, folder, machine, options::Common};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of further versions of each component
    #[arg(long, default_value_t = 3)]
    versions: u8,
}

const EXAMPLES: [&str; 4] = ["hello", "search", "hello-js", "hello-py"];

/// The limit of a further version's time relative to the first, at the median over all examples.
const RATIO_MAX: f64 = 0.5;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let host = Host::start(&program, &folder::fresh("redeploy")?, "")?;
    let before = Footprint::of(host.server().process())?.resident_mib;
    let mut rows = Vec::new();
    for example in EXAMPLES {
        let Some(file) = components::built_if_possible(example) else { continue };
        let component = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        step::announce(&format!("{example}: a first version and {} more", arguments.versions));
        host.api().create(example, "staging")?;
        let mut milliseconds = Vec::new();
        for version in 0..=arguments.versions {
            let began = Instant::now();
            host.api().push(example, &version_of(&component, version))?;
            milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let first = milliseconds.remove(0);
        let next = milliseconds.into_iter().collect::<super::times::Times>().p50();
        rows.push(Row { example, bytes: component.len(), first, next });
    }
    let resident_mib = (before, Footprint::of(host.server().process())?.resident_mib);
    host.stop()?;
    let figures = Figures { rows, resident_mib };
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// Returns the same component with another custom section: an id of zero, three bytes, a name of
/// one byte, one byte.
fn version_of(component: &[u8], version: u8) -> Vec<u8> {
    [component, &[0, 3, 1, b'v', version]].concat()
}

struct Row {
    example: &'static str,
    bytes: usize,
    first: f64,
    /// The median of the further versions' times.
    next: f64,
}

struct Figures {
    rows: Vec<Row>,
    /// At the start and at the end.
    resident_mib: (f64, f64),
}

impl Figures {
    fn verdicts(&self) -> Vec<Verdict> {
        let of = |row: &Row| {
            let what = format!("{}: a further version, times the first", row.example);
            Verdict::new(what, Bound::AtMost(RATIO_MAX), row.next / row.first)
        };
        self.rows.iter().map(of).collect()
    }

    fn show(&self) {
        println!("\nmilliseconds of a push until it serves, {}\n", machine::description());
        println!("| component |    bytes |    first |     next |");
        println!("| --------- | -------: | -------: | -------: |");
        for Row { example, bytes, first, next } in &self.rows {
            println!("| {example:<9} | {bytes:>8} | {first:>8.0} | {next:>8.0} |");
        }
        let (before, after) = self.resident_mib;
        println!("\nresident: {before:.0} MiB at the start, {after:.0} MiB after all deploys");
        verdict::show(&self.verdicts());
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let Row { example, bytes, first, next } = row;
            json!({ "example": example, "bytes": bytes, "first_ms": first, "next_ms": next })
        };
        json!({
            "conditions": machine::description(),
            "deploys": self.rows.iter().map(row).collect::<Vec<_>>(),
            "resident_mib": self.resident_mib,
            "targets": verdict::json(&self.verdicts()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_component_with_an_empty_custom_section() {
        assert_eq!(version_of(b"\0asm", 7), b"\0asm\0\x03\x01v\x07");
    }
}
