//! `cargo xtask bench neighbour`: how soon a quiet app answers alone, and beside other apps that want all of the CPU;
//! the same component behind others, which have to bear one of the floods; and whether heavy apps get their shares.

mod report;
mod rivals;
mod shares;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Common;
use super::burn::Pace;
use super::client::Request;
use super::flood::{self, Caller, Patience};
use super::host::{Host, name_of};
use super::machine::Processors;
use super::peers::Peers;
use crate::step;
use report::{Figures, Phase, Turn};
use rivals::Rival;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Where the others' programs are, or are installed [default: target/peers]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Measure the host only, not wasmtime and workerd
    #[arg(long)]
    alone: bool,
    /// How often each flood has its turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each turn is
    #[arg(long, default_value_t = 8)]
    seconds: u32,
}

/// The example that every app of this benchmark is, and what it answers.
const COMPONENT: &str = "busy";
const ANSWER: &str = "done";

/// Weighs as much as `dev`, with the optimised code that the others run too.
const TYPE: &str = "staging";

const QUIET: &str = "quiet";
const NOISY: &str = "noisy";

/// So many instances at work that the app alone wants more than the whole machine.
const NOISY_MANIFEST: &str = "type = \"staging\"\n\
                              [processes.web]\nentry = \"http\"\nmin = 8\nmax = 8\n\
                              [processes.worker]\nentry = \"events\"\nmin = 8\nmax = 8\n";

const SPINNING_CLIENTS: usize = 24;
const SPIN_MS: f64 = 200.0;

const PUSHING_CLIENTS: usize = 64;
const PUSH_MS: f64 = 20.0;

const BUSY_APPS: usize = 100;
const BUSY_MS: f64 = 20.0;

/// Between two turns, so that nothing of the flood before is left.
const REST: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = super::components([COMPONENT])?;
    let rivals = if arguments.alone { Vec::new() } else { Rival::find(&Peers::find(arguments.peers.as_deref())?) };
    let folder = super::fresh_folder("neighbour")?;
    let bytes = std::fs::read(&component)?;
    let mut host = Host::start(&program, &folder, "")?;
    host.deploy(NOISY, NOISY_MANIFEST, &component)?;
    let neighbours = Neighbours::deploy(&mut host, &bytes)?;
    let mut figures = Figures::new(arguments.rounds, arguments.seconds);
    for round in 1..=arguments.rounds {
        step::announce(&format!("round {round} of {}", arguments.rounds));
        figures.rounds.push(neighbours.round(arguments.seconds)?);
    }
    step::announce("three heavy apps, one of them production");
    figures.shares = shares::measure(&host, &bytes, neighbours.pace, arguments.seconds)?;
    host.stop()?;
    for rival in rivals {
        step::announce(&format!("{rival}, alone and beside spinning clients"));
        figures.rivals.push(rival.measure(&component, &folder, arguments.seconds)?);
    }
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// The apps of one host, and what each is asked for.
struct Neighbours {
    quiet: Caller,
    spinning: Vec<Caller>,
    pushing: Vec<Caller>,
    busy: Vec<Caller>,
    pace: Pace,
}

impl Neighbours {
    fn deploy(host: &mut Host, component: &[u8]) -> Result<Neighbours> {
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
        let burning =
            |app: &str, milliseconds| Caller { address: listen, request: pace.request(&name_of(app), milliseconds) };
        let event = api.event(NOISY, "?queue=push", "burn", &pace.turns(PUSH_MS).to_string());
        Ok(Neighbours {
            quiet: Caller { address: listen, request: Request::get(&name_of(QUIET), "/") },
            spinning: vec![burning(NOISY, SPIN_MS); SPINNING_CLIENTS],
            pushing: vec![Caller { address: api.address(), request: event }; PUSHING_CLIENTS],
            busy: busy_apps.iter().map(|app| burning(app, BUSY_MS)).collect(),
            pace,
        })
    }

    /// One turn of each phase. A flood of which nothing was answered is none: there is no turn then.
    fn round(&self, seconds: u32) -> Result<Vec<(Phase, Turn)>> {
        let mut turns = Vec::new();
        for phase in Phase::ALL {
            let callers: &[Caller] = match phase {
                Phase::Alone => &[],
                Phase::Spinning => &self.spinning,
                Phase::Pushing => &self.pushing,
                Phase::BusyApps => &self.busy,
            };
            std::thread::sleep(REST);
            let turn = turn(&self.quiet, callers, Patience::seconds(seconds))?;
            if turn.flood.answered == 0 && !callers.is_empty() {
                step::announce(&format!("{phase}: passed over, this host refuses all of it"));
                continue;
            }
            println!("         p50 {:>8.2} ms, p99 {:>8.2} ms  {phase}", turn.times.p50(), turn.times.p99());
            turns.push((phase, turn));
        }
        Ok(turns)
    }
}

/// What the quiet caller finds while the others ask.
fn turn(quiet: &Caller, callers: &[Caller], patience: Patience) -> Result<Turn> {
    let ((times, busy), flood) = flood::beside(callers, || {
        let before = Processors::now();
        let times = flood::quiet(quiet, patience);
        let busy = Processors::now().zip(before).map(|(now, before)| now.busy_since(before));
        (times, busy)
    });
    Ok(Turn { times: times?, flood, processors_busy: busy.unwrap_or(f64::NAN) })
}
