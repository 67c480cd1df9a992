//! `cargo xtask bench density`: many apps on one host. Measures their cost while they are frozen,
//! the restart of the host with every app, the latency of an app's first response, and the cost of
//! a thousand live apps. Never keeps its data folder.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::api::Api;
use super::client::{Client, Request};
use super::host::{Host, name_of};
use super::machine::Footprint;
use super::times::Times;
use super::{components, folder, machine, options::Common};
use xtask::step;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Number of apps
    #[arg(long, default_value_t = 10_000)]
    apps: u32,
    /// Number of apps that are live at the same time
    #[arg(long, default_value_t = 1_000)]
    live: u32,
    /// Number of apps that get a request after the start, and after a freeze
    #[arg(long, default_value_t = 200)]
    thaws: u32,
    /// Type of the apps. The code of `dev` apps has room for only a few hundred instances
    #[arg(long = "type", value_name = "TYPE", default_value = "staging")]
    kind: String,
}

const COMPONENT: &str = "hello";

/// The number of concurrent deploys.
const DEPLOYERS: u32 = 8;

/// The number of concurrent requests to live apps.
const CALLERS: u32 = 8;

/// The instances per live app that the host permits, so that its limit doesn't decide the result.
const ROOM_FOR_EACH: u32 = 2;

const FREEZE_SOON: &str = "freeze_after = \"1s\"\n";
const FROZEN_WITHIN: Duration = Duration::from_secs(120);

/// The wait after the last instance is gone: the code is unmapped later.
const REST: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The attempts of a push that the host refuses for lack of room.
const ATTEMPTS: u32 = 20;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.common.host()?;
    let [component] = components::built([COMPONENT])?;
    let folder = folder::fresh("density")?;
    let outcome = measure(arguments, &program, &folder, &std::fs::read(&component)?);
    // The folder has several gigabytes.
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    let figures = outcome?;
    figures.show();
    arguments.common.write_json(&figures.json())
}

fn measure(arguments: &Arguments, program: &Path, folder: &Path, component: &[u8]) -> Result<Figures> {
    let host = Host::start(program, folder, FREEZE_SOON)?;
    let empty = footprint(&host)?;
    step::announce(&format!("deploying {} apps", arguments.apps));
    let began = Instant::now();
    deploy_all(&host.api(), arguments, component)?;
    let deployed_in = began.elapsed();
    wait_until_frozen(&host)?;
    let frozen = footprint(&host)?;
    host.stop()?;

    step::announce("restarting the host");
    let began = Instant::now();
    let host = Host::start(program, folder, FREEZE_SOON)?;
    let ready_after = began.elapsed();
    wait_until_all_are_ready(&host.api())?;
    let all_ready_after = began.elapsed();
    let started_instances = host.api().instances()?;
    step::announce(&format!("requests to {} apps, and again after a freeze", arguments.thaws));
    let asked = scattered(arguments.apps, arguments.thaws);
    let cold = ask_each(&host, &asked)?;
    wait_until_frozen(&host)?;
    let started = footprint(&host)?;
    let thawed = ask_each(&host, &asked)?;
    host.stop()?;

    let host = Host::start(program, folder, &format!("instances_max = {}\n", arguments.live * ROOM_FOR_EACH))?;
    wait_until_all_are_ready(&host.api())?;
    step::announce(&format!("requests to {} apps, without freezing", arguments.live));
    let live = scattered(arguments.apps, arguments.live);
    let shares: Vec<&[u32]> = live.chunks(live.len().div_ceil(CALLERS as usize).max(1)).collect();
    let refused = std::thread::scope(|scope| {
        let callers: Vec<_> = shares.iter().map(|apps| scope.spawn(|| ask_each(&host, apps))).collect();
        callers.into_iter().try_fold(0, |refused, caller| {
            let asked = caller.join().map_err(|_| anyhow!("a caller panicked"))??;
            anyhow::Ok(refused + asked.refused)
        })
    })?;
    let live_instances = host.api().instances()?;
    let live = footprint(&host)?;
    host.stop()?;
    let footprints = [
        ("no app", empty),
        ("all frozen, after their deploy", frozen),
        ("all frozen, after a start", started),
        ("live apps, the others frozen", live),
    ];
    Ok(Figures {
        apps: arguments.apps,
        deployed_in,
        ready_after,
        all_ready_after,
        cold,
        thawed,
        started_instances,
        live_instances,
        refused,
        footprints,
    })
}

fn app(number: u32) -> String {
    format!("app-{number}")
}

fn deploy_all(api: &Api, arguments: &Arguments, component: &[u8]) -> Result<()> {
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let deploy = || -> Result<()> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= arguments.apps {
                    return Ok(());
                }
                if number.is_multiple_of(1000) {
                    step::announce(&format!("app {number}"));
                }
                api.create(&app(number), &arguments.kind)?;
                push(api, &app(number), component)?;
            }
        };
        let deployers: Vec<_> = (0..DEPLOYERS).map(|_| scope.spawn(deploy)).collect();
        deployers.into_iter().try_for_each(|deployer| deployer.join().map_err(|_| anyhow!("a deployer panicked"))?)
    })
}

/// Pushes a component. Retries while the host is full, as the command line does.
fn push(api: &Api, app: &str, component: &[u8]) -> Result<()> {
    for _ in 1..ATTEMPTS {
        match api.push(app, component) {
            Err(error) if error.to_string().contains("429") => std::thread::sleep(TRY_AGAIN_AFTER),
            outcome => return outcome,
        }
    }
    api.push(app, component)
}

fn wait_until_frozen(host: &Host) -> Result<()> {
    step::announce("waiting until all are frozen");
    let began = Instant::now();
    while host.api().instances()? > 0 {
        if began.elapsed() > FROZEN_WITHIN {
            bail!("not all apps were frozen within {FROZEN_WITHIN:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    std::thread::sleep(REST);
    Ok(())
}

/// Waits until every app has been restored. The host reports that it is ready while it still
/// restores the last apps.
fn wait_until_all_are_ready(api: &Api) -> Result<()> {
    let began = Instant::now();
    while api.text("/readyz").is_err() {
        if began.elapsed() > FROZEN_WITHIN {
            bail!("the host was not ready within {FROZEN_WITHIN:?}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn footprint(host: &Host) -> Result<Footprint> {
    Footprint::of(host.server().process())
}

/// The results of requests to many apps.
#[derive(Default)]
struct Asked {
    times: Times,
    refused: u32,
}

/// Sends one request to each app, over one connection.
fn ask_each(host: &Host, apps: &[u32]) -> Result<Asked> {
    let requests: Vec<Request> = apps.iter().map(|number| Request::get(&name_of(&app(*number)), "/")).collect();
    let mut asked = Asked::default();
    let Some(first) = requests.first() else { return Ok(asked) };
    let mut client = Client::open(host.listen(), first.clone())?;
    for request in &requests {
        let began = Instant::now();
        let answer = client.send(request)?;
        match answer.status {
            200 => asked.times.0.push(began.elapsed().as_secs_f64() * 1e3),
            _ => asked.refused += 1,
        }
    }
    Ok(asked)
}

/// Returns `count` different numbers below `of`, in a pseudorandom order that is the same in every
/// run.
fn scattered(of: u32, count: u32) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..of).collect();
    numbers.sort_by_cached_key(|number| {
        let mut hasher = DefaultHasher::new();
        number.hash(&mut hasher);
        hasher.finish()
    });
    numbers.truncate(count as usize);
    numbers
}

struct Figures {
    apps: u32,
    deployed_in: Duration,
    ready_after: Duration,
    all_ready_after: Duration,
    cold: Asked,
    thawed: Asked,
    /// Counted right after the host's start, before any request.
    started_instances: u64,
    live_instances: u64,
    /// The number of apps that were to be live but were refused.
    refused: u32,
    footprints: [(&'static str, Footprint); 4],
}

impl Figures {
    fn show(&self) {
        println!("\n{} deployed apps, {}\n", self.apps, machine::description());
        println!("| {:<30} | resident MiB | threads | open files | memory maps |", "the host with");
        println!("| {:-<30} | -----------: | ------: | ---------: | ----------: |", "");
        for (what, held) in &self.footprints {
            println!(
                "| {what:<30} | {:>12.1} | {:>7} | {:>10} | {:>11} |",
                held.resident_mib, held.threads, held.open_files, held.memory_maps
            );
        }
        println!("\n| {:<30} | answers |   p50 ms |   p99 ms | slowest ms | refused |", "first answer of an app");
        println!("| {:-<30} | ------: | -------: | -------: | ---------: | ------: |", "");
        for (what, asked) in [("after the host's start", &self.cold), ("after a freeze", &self.thawed)] {
            let (count, p50, p99) = (asked.times.0.len(), asked.times.p50(), asked.times.p99());
            let (slowest, refused) = (asked.times.slowest(), asked.refused);
            println!("| {what:<30} | {count:>7} | {p50:>8.2} | {p99:>8.2} | {slowest:>10.2} | {refused:>7} |");
        }
        let seconds = |time: Duration| time.as_secs_f64();
        println!("\ndeployed in {:.1} s, {DEPLOYERS} at a time", seconds(self.deployed_in));
        println!("`isopod ready` {:.2} s after the start", seconds(self.ready_after));
        println!("/readyz is 200 {:.2} s after the start", seconds(self.all_ready_after));
        println!("{} instances ran after the start, before any request", self.started_instances);
        println!("{} instances were live simultaneously; {} apps were refused", self.live_instances, self.refused);
    }

    fn json(&self) -> Value {
        let footprints = self.footprints.iter().map(|(what, held)| {
            json!({
                "host_with": what,
                "resident_mib": held.resident_mib,
                "threads": held.threads,
                "open_files": held.open_files,
                "memory_maps": held.memory_maps,
            })
        });
        json!({
            "conditions": machine::description(),
            "apps": self.apps,
            "deployed_in_s": self.deployed_in.as_secs_f64(),
            "ready_after_s": self.ready_after.as_secs_f64(),
            "readyz_after_s": self.all_ready_after.as_secs_f64(),
            "first_answer_after_start": { "times": self.cold.times.json(), "refused": self.cold.refused },
            "first_answer_after_freeze": { "times": self.thawed.times.json(), "refused": self.thawed.refused },
            "instances_after_start": self.started_instances,
            "instances_live": self.live_instances,
            "live_refused": self.refused,
            "footprints": footprints.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scattered_numbers_are_distinct_and_unordered() {
        let numbers = scattered(1000, 100);
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert_ne!(numbers, sorted);
        sorted.dedup();
        assert_eq!(sorted.len(), 100);
        assert!(sorted.iter().all(|number| *number < 1000));
        assert_eq!(scattered(3, 100).len(), 3);
    }
}
