//! `cargo xtask bench neighbour`: measures a quiet app alone, and beside other apps that saturate
//! the CPU; the same component behind other servers beside one of the floods; and the CPU shares of
//! heavy apps. Never judges the result.

mod report;
mod rivals;
mod shares;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::burn::Pace;
use super::burst::{self, Burst};
use super::client::Request;
use super::flood::{self, Caller, Outcome, SampleWindow};
use super::host::{Host, name_of};
use super::machine::{self, Processors};
use super::peers::Peers;
use super::{components, folder, options::Common};
use report::{Figures, Phase, Turn};
use rivals::Rival;
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Folder of the other servers' programs, which are installed if missing [default:
    /// target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Measure the host only, not wasmtime and workerd
    #[arg(long)]
    alone: bool,
    /// Measure only the quiet app alone and beside the floods whose names contain one of these
    /// words, such as `bursts`; no heavy apps and no other servers
    #[arg(long, value_name = "WORD", num_args = 1..)]
    only: Vec<String>,
    /// Number of rounds of each flood
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8)]
    seconds: u32,
}

/// The component of every app of this benchmark, and its response.
const COMPONENT: &str = "busy";
const ANSWER: &str = "done";

/// Has the same weight as `dev`, with optimised code like the other apps.
const TYPE: &str = "staging";

const QUIET: &str = "quiet";
const NOISY: &str = "noisy";

/// Enough instances that the app alone can use more than the whole machine.
const NOISY_MANIFEST: &str = "type = \"staging\"\n\
                              [processes.web]\nentry = \"http\"\nmin = 8\nmax = 8\n\
                              [processes.worker]\nentry = \"events\"\nmin = 8\nmax = 8\n";

const SPINNING_CLIENTS: usize = 24;
const SPIN_MS: f64 = 200.0;

const PUSHING_CLIENTS: usize = 64;
const PUSH_MS: f64 = 20.0;

const BUSY_APPS: usize = 100;
const BUSY_MS: f64 = 20.0;

const BURST_CLIENTS: usize = 10_000;

/// The pause between two measurements, so that no work of the last flood is left.
const REST: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = components::built([COMPONENT])?;
    let all = arguments.only.is_empty();
    let rivals =
        if arguments.alone || !all { Vec::new() } else { Rival::find(&Peers::find(arguments.peers.as_deref())?) };
    // Raised before the host starts, which inherits the limit.
    let burst_clients = burst::clients(BURST_CLIENTS, machine::raise_open_files());
    let folder = folder::fresh("neighbour")?;
    let bytes = std::fs::read(&component)?;
    let mut host = Host::start(&program, &folder, "")?;
    host.deploy(NOISY, NOISY_MANIFEST, &component)?;
    let neighbours = Neighbours::deploy(&mut host, &bytes, burst_clients)?;
    let mut figures = Figures::new(arguments.rounds, arguments.seconds, wanted(&arguments.only));
    if burst_clients < BURST_CLIENTS && figures.phases.contains(&Phase::Bursts) {
        let fewer = format!("bursts of only {burst_clients} clients, since the limit of open files is low");
        step::announce(&fewer);
        figures.add_condition(&fewer);
    }
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        figures.rounds.push(neighbours.round(&figures.phases, arguments.seconds)?);
    }
    if all {
        step::announce("three heavy apps, one of them production");
        figures.shares = Some(shares::measure(&host, &bytes, neighbours.pace, arguments.seconds)?);
    }
    host.stop()?;
    for rival in rivals {
        step::announce(&format!("{rival}, alone and beside spinning clients"));
        figures.rivals.push(rival.measure(&component, &folder, arguments.seconds)?);
    }
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// Returns the selected phases. Alone is always included, since the others are compared with it.
fn wanted(words: &[String]) -> Vec<Phase> {
    let named = |phase: &Phase| words.iter().any(|word| phase.to_string().contains(word));
    let is_wanted = |phase: &Phase| words.is_empty() || *phase == Phase::Alone || named(phase);
    Phase::ALL.into_iter().filter(is_wanted).collect()
}

/// The apps of one host, and the requests to each.
struct Neighbours {
    quiet: Caller,
    spinning: Vec<Caller>,
    pushing: Vec<Caller>,
    busy: Vec<Caller>,
    burst: Burst,
    pace: Pace,
}

impl Neighbours {
    fn deploy(host: &mut Host, component: &[u8], burst_clients: usize) -> Result<Neighbours> {
        step::announce(&format!("deploying {} more apps", 1 + BUSY_APPS));
        let api = host.api();
        let busy_apps: Vec<String> = (0..BUSY_APPS).map(|number| format!("busy-{number}")).collect();
        for app in [QUIET].into_iter().chain(busy_apps.iter().map(String::as_str)) {
            api.create(app, TYPE)?;
            api.push(app, component)?;
        }
        host.wait_for(NOISY, ANSWER)?;
        let listen = host.listen();
        let pace = Pace::measure(listen, &name_of(NOISY))?;
        let burning = |app: &str, milliseconds| Caller::of(listen, pace.request(&name_of(app), milliseconds));
        let events = api.stored_events(NOISY);
        let event = api.event(NOISY, "?queue=push", "burn", &pace.turns(PUSH_MS).to_string());
        Ok(Neighbours {
            quiet: Caller::of(listen, Request::get(&name_of(QUIET), "/")),
            spinning: vec![burning(NOISY, SPIN_MS); SPINNING_CLIENTS],
            pushing: vec![Caller { address: api.address(), request: event, stored: Some(events) }; PUSHING_CLIENTS],
            busy: busy_apps.iter().map(|app| burning(app, BUSY_MS)).collect(),
            burst: Burst { caller: Caller::of(listen, Request::get(&name_of(NOISY), "/")), clients: burst_clients },
            pace,
        })
    }

    /// Measures each phase once. Omits a phase if its flood got no response, since then there was
    /// no flood.
    fn round(&self, phases: &[Phase], seconds: u32) -> Result<Vec<(Phase, Turn)>> {
        let mut turns = Vec::new();
        for &phase in phases {
            std::thread::sleep(REST);
            let turn = self.turn(phase, SampleWindow::seconds(seconds))?;
            if turn.flood.answered == 0 && phase != Phase::Alone {
                step::announce(&format!("{phase}: skipped, this host refuses every request"));
                continue;
            }
            println!("         p50 {:>8.2} ms, p99 {:>8.2} ms  {phase}", turn.times.p50(), turn.times.p99());
            turns.push((phase, turn));
        }
        Ok(turns)
    }

    fn turn(&self, phase: Phase, window: SampleWindow) -> Result<Turn> {
        match phase {
            Phase::Alone => turn(&self.quiet, &[], window),
            Phase::Spinning => turn(&self.quiet, &self.spinning, window),
            Phase::Pushing => turn(&self.quiet, &self.pushing, window),
            Phase::BusyApps => turn(&self.quiet, &self.busy, window),
            Phase::Bursts => {
                let (found, flood) = burst::beside(&self.burst, || found(&self.quiet, window))?;
                Ok(Turn { flood, ..found? })
            }
        }
    }
}

/// Measures the quiet caller while the other callers send requests.
fn turn(quiet: &Caller, callers: &[Caller], window: SampleWindow) -> Result<Turn> {
    let (found, flood) = flood::beside(callers, || found(quiet, window));
    Ok(Turn { flood, ..found? })
}

/// Measures the quiet caller, without starting a flood.
fn found(quiet: &Caller, window: SampleWindow) -> Result<Turn> {
    let before = Processors::now();
    let times = flood::quiet(quiet, window)?;
    let busy = Processors::now().zip(before).map(|(now, before)| now.busy_since(before));
    Ok(Turn { times, flood: Outcome::default(), processors_busy: busy.unwrap_or(f64::NAN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_phases_and_alone_are_measured() {
        assert_eq!(wanted(&[]), Phase::ALL);
        assert_eq!(wanted(&["bursts".to_owned()]), [Phase::Alone, Phase::Bursts]);
        assert_eq!(wanted(&["clients".to_owned()]), [Phase::Alone, Phase::Spinning, Phase::Bursts]);
    }
}
