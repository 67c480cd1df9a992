//! `cargo xtask bench`: measures the host's speed beside other servers on the same machine in the
//! same run. Reports a missed target and never fails for that reason, since a figure depends on the
//! machine.

mod api;
mod burn;
mod burst;
mod client;
mod components;
mod contender;
mod density;
mod events;
mod flood;
mod folder;
mod host;
mod instructions;
mod machine;
mod neighbour;
mod observe;
mod options;
mod peers;
mod plugins;
mod redeploy;
mod reload;
mod report;
mod scale;
mod serve;
mod server;
mod statistics;
mod swap;
mod targets;
mod thaw;
mod times;
mod variants;
mod verdict;
mod wrk;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use xtask::step;

/// Measures how fast the host is
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(clap::Subcommand)]
enum Benchmark {
    /// Requests per second and latency of a greeting, beside native axum, wasmtime and workerd
    Serve(serve::Arguments),
    /// Time from a changed file to the first response of the new code, and failed requests
    /// meanwhile
    Reload(reload::Arguments),
    /// Deploy time of further versions of an app, most of which was compiled before
    Redeploy(redeploy::Arguments),
    /// Failed and delayed requests while new releases replace earlier releases
    Swap(swap::Arguments),
    /// Latency of a quiet app beside apps that saturate the CPU, and the CPU share of each heavy
    /// app
    Neighbour(neighbour::Arguments),
    /// Time to the first response of a frozen app
    Thaw(thaw::Arguments),
    /// Cost of ten thousand deployed apps, and the time until the host and each app is back
    Density(density::Arguments),
    /// Growth of an app under a step of load, and its shrinking afterwards
    Scale(scale::Arguments),
    /// Acknowledged and handled events per second, beside NATS JetStream and Redis streams
    Events(events::Arguments),
    /// Requests per second of an app with none, one and three middlewares, beside native axum and
    /// a component composed with them; deploys with a gate, and deliveries of a hook
    Plugins(plugins::Arguments),
    /// Requests per second with all observability, beside none
    Observe(observe::Arguments),
    /// Instructions per request, which are independent of the machine's load
    Instructions(instructions::Arguments),
}

fn main() -> ExitCode {
    step::exit_code(run(&Arguments::parse().benchmark))
}

fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Serve(arguments) => serve::run(arguments),
        Benchmark::Reload(arguments) => reload::run(arguments),
        Benchmark::Redeploy(arguments) => redeploy::run(arguments),
        Benchmark::Swap(arguments) => swap::run(arguments),
        Benchmark::Neighbour(arguments) => neighbour::run(arguments),
        Benchmark::Thaw(arguments) => thaw::run(arguments),
        Benchmark::Density(arguments) => density::run(arguments),
        Benchmark::Scale(arguments) => scale::run(arguments),
        Benchmark::Events(arguments) => events::run(arguments),
        Benchmark::Plugins(arguments) => plugins::run(arguments),
        Benchmark::Observe(arguments) => observe::run(arguments),
        Benchmark::Instructions(arguments) => instructions::run(arguments),
    }
}
