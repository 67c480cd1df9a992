//! `cargo xtask bench thaw`: measures the first response of a frozen app over an open connection
//! that has just been used, for an app of each language and for an app with its slow start in a
//! snapshot. Never measures connecting.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::client::{Client, Request};
use super::host::{Host, name_of};
use super::times::Times;
use super::verdict::{self, Bound, Verdict};
use super::{components, folder, machine, options::Common};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of thaws of each app in Rust; a quarter for apps in other languages
    #[arg(long, default_value_t = 200)]
    thaws: u32,
}

/// The code of a frozen app. The host keeps the code of the apps that were frozen last mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    Kept,
    Gone,
}

impl Code {
    const ALL: [Code; 2] = [Code::Kept, Code::Gone];

    fn settings(self) -> &'static str {
        match self {
            Code::Kept => "freeze_after = \"200ms\"\n",
            Code::Gone => "freeze_after = \"200ms\"\nfrozen_code_max = \"0B\"\n",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Code::Kept => "code kept",
            Code::Gone => "code gone",
        }
    }
}

/// An app that never freezes, which the connection uses before each thaw. It has another component
/// than the frozen apps, so that it keeps none of their code in memory.
const AWAKE: &str = "awake";
const AWAKE_COMPONENT: &str = "busy";
const AWAKE_MANIFEST: &str = "type = \"production\"\n[processes.web]\nentry = \"http\"\nmin = 1\n";

const FROZEN_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An example that is frozen and thawed, and its limits.
#[derive(Clone, Copy)]
struct Subject {
    example: &'static str,
    path: &'static str,
    label: &'static str,
    p50_ms_max: Option<f64>,
    p99_ms_max: Option<f64>,
    /// The divisor of the number of thaws.
    one_in: u32,
}

/// The app with which the others are compared.
const PLAIN: &str = "hello";
/// The app with a slow start that is in a snapshot.
const SNAPSHOT: &str = "search";

const SUBJECTS: [Subject; 4] = [
    Subject { p50_ms_max: Some(0.5), p99_ms_max: Some(3.0), one_in: 1, ..Subject::of(PLAIN, "Rust") },
    Subject { p50_ms_max: Some(2.0), ..Subject::of("hello-js", "JavaScript") },
    Subject { p50_ms_max: Some(5.0), ..Subject::of("hello-py", "Python") },
    Subject { path: "/?q=forty", one_in: 1, ..Subject::of(SNAPSHOT, "Rust, snapshot") },
];

impl Subject {
    const fn of(example: &'static str, label: &'static str) -> Subject {
        Subject { example, path: "/", label, p50_ms_max: None, p99_ms_max: None, one_in: 4 }
    }
}

/// The limit of the time of the app with the snapshot relative to the plain app.
const SNAPSHOT_RATIO_MAX: f64 = 1.2;

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [awake] = components::built([AWAKE_COMPONENT])?;
    let mut figures = Figures::default();
    for code in Code::ALL {
        let folder = folder::fresh("thaw")?;
        let host = Host::start(&program, &folder, code.settings())?;
        host.deploy(AWAKE, AWAKE_MANIFEST, &awake)?;
        for subject in SUBJECTS {
            let Some(component) = components::built_if_possible(subject.example) else { continue };
            let count = (arguments.thaws / subject.one_in).max(1);
            deploy(&host, subject.example, &component)?;
            step::announce(&format!("{count} thaws of {}, {}", subject.example, code.words()));
            let times = thaw_often(&host, &subject, count)?;
            figures.series.push((subject, code, times));
        }
        host.stop()?;
    }
    figures.show();
    arguments.common.write_json(&figures.json())
}

/// Deploys an example with its own manifest, which defines the snapshot. All apps have the same
/// type, so that the same compiler compiles them.
fn deploy(host: &Host, example: &str, component: &Path) -> Result<()> {
    let manifest = step::root().join("examples").join(example).join("isopod.toml");
    let manifest = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    host.deploy(example, &manifest.replace("type = \"dev\"", "type = \"staging\""), component)
}

fn thaw_often(host: &Host, subject: &Subject, count: u32) -> Result<Times> {
    let app = subject.example;
    let (awake, frozen) = (Request::get(&name_of(AWAKE), "/"), Request::get(&name_of(app), subject.path));
    let mut client = Client::open(host.listen(), awake)?;
    let mut times = Vec::new();
    for _ in 0..count {
        wait_until_frozen(host, app)?;
        client.get()?;
        let began = Instant::now();
        let answer = client.send(&frozen)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        if answer.status != 200 {
            bail!("{app} returned {} after a thaw", answer.status);
        }
    }
    Ok(Times(times))
}

fn wait_until_frozen(host: &Host, app: &str) -> Result<()> {
    let api = host.api();
    let began = Instant::now();
    while api.release_state(app)? != "frozen" {
        if began.elapsed() > FROZEN_WITHIN {
            bail!("{app} was not frozen within {FROZEN_WITHIN:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[derive(Default)]
struct Figures {
    series: Vec<(Subject, Code, Times)>,
}

impl Figures {
    fn p50(&self, example: &str, code: Code) -> Option<f64> {
        let found = self.series.iter().find(|(subject, of, _)| subject.example == example && *of == code);
        found.map(|(_, _, times)| times.p50())
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for (subject, code, times) in &self.series {
            let mut judge = |what, limit: Option<f64>, measured| {
                verdicts.extend(limit.map(|limit| {
                    let name = format!("{}, {}: {what} ms", subject.label, code.words());
                    Verdict::new(name, Bound::AtMost(limit), measured)
                }));
            };
            judge("p50", subject.p50_ms_max, times.p50());
            judge("p99", subject.p99_ms_max, times.p99());
        }
        for code in Code::ALL {
            let both = self.p50(SNAPSHOT, code).zip(self.p50(PLAIN, code));
            let ratio = both.map_or(f64::NAN, |(snapshot, plain)| snapshot / plain);
            let what = format!("snapshot, {}: p50 beside the plain app's, times", code.words());
            verdicts.push(Verdict::new(what, Bound::AtMost(SNAPSHOT_RATIO_MAX), ratio));
        }
        verdicts
    }

    fn show(&self) {
        println!("\nmilliseconds of a frozen app's first answer, {}\n", machine::description());
        println!("| {:<25} |  thaws |      p50 |      p99 |  slowest |", "app");
        println!("| {:-<25} | -----: | -------: | -------: | -------: |", "");
        for (subject, code, times) in &self.series {
            println!("| {:<25} | {} |", format!("{}, {}", subject.label, code.words()), times.cells());
        }
        verdict::show(&self.verdicts());
    }

    fn json(&self) -> Value {
        let series = self
            .series
            .iter()
            .map(|(Subject { label, example, .. }, code, times)| {
                json!({ "app": label, "example": example, "code": code.words(), "times": times.json() })
            });
        json!({
            "conditions": machine::description(),
            "thaws": series.collect::<Vec<_>>(),
            "targets": verdict::json(&self.verdicts()),
        })
    }
}
