//! The figures of `bench observe`: their medians, table, targets and JSON. Pure.

use serde_json::{Value, json};

use super::load::Load;
use crate::statistics;
use crate::verdict::{Bound, Verdict};
use crate::wrk;

/// The share of requests per second, and of CPU time, that observability may cost, in percent.
const COST_PERCENT_MAX: f64 = 3.0;

/// Two measurements of one round without observability must agree up to this difference, in
/// percent of the median. Otherwise the machine isn't idle enough to decide about the targets.
const NOISE_PERCENT_MAX: f64 = 1.5;

/// The share of requests whose line reaches the drain when no limit applies, in percent.
const DRAINED_PERCENT_MIN: f64 = 99.0;

/// One measurement.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) wrk: wrk::Report,
    /// CPU time of the host per request; NaN if this machine doesn't report it.
    pub(super) cpu_us: f64,
    /// The lines that the drains have sent.
    pub(super) drained: u64,
    /// The lines, spans and other telemetry that the host and its drains have dropped.
    pub(super) dropped: u64,
}

/// The measurements of one round: two without observability, and one with it between them.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) off: [Run; 2],
    pub(super) on: Run,
}

impl Round {
    /// Returns a figure with observability as a ratio to the mean of those without.
    fn cost(&self, figure: fn(&Run) -> f64) -> f64 {
        figure(&self.on) / f64::midpoint(figure(&self.off[0]), figure(&self.off[1]))
    }

    /// Returns the ratio of the two measurements without observability.
    fn noise(&self, figure: fn(&Run) -> f64) -> f64 {
        figure(&self.off[1]) / figure(&self.off[0])
    }
}

/// All rounds of one load.
pub(super) struct Figures {
    pub(super) load: Load,
    pub(super) rounds: Vec<Round>,
}

fn rate(run: &Run) -> f64 {
    run.wrk.requests_per_second
}

fn cpu(run: &Run) -> f64 {
    run.cpu_us
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

impl Figures {
    fn off(&self, figure: fn(&Run) -> f64) -> Vec<f64> {
        self.rounds.iter().flat_map(|round| &round.off).map(figure).collect()
    }

    fn on(&self, figure: fn(&Run) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|round| figure(&round.on)).collect()
    }

    /// Returns the lower quartile, the median and the upper quartile of a ratio over the rounds, in
    /// percent of change.
    fn quartiles(&self, ratio: impl Fn(&Round) -> f64) -> [f64; 3] {
        let changes: Vec<f64> = self.rounds.iter().map(|round| percent(ratio(round))).collect();
        [25, 50, 75].map(|share| match share {
            50 => statistics::median(&changes).unwrap_or(f64::NAN),
            _ => statistics::percentile(&changes, share).unwrap_or(f64::NAN),
        })
    }

    /// Returns the change of a figure with observability; NaN if the machine was too busy to tell.
    fn measured(&self, figure: fn(&Run) -> f64) -> f64 {
        let [_, noise, _] = self.quartiles(|round| round.noise(figure));
        if noise.abs() <= NOISE_PERCENT_MAX { self.quartiles(|round| round.cost(figure))[1] } else { f64::NAN }
    }

    /// Returns the share of the requests whose line was drained, in percent.
    fn drained_percent(&self) -> f64 {
        let shares = self.rounds.iter().map(|Round { on, .. }| on.drained as f64 / on.wrk.requests as f64 * 100.0);
        statistics::median(&shares.collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }

    fn dropped(&self) -> u64 {
        self.rounds.iter().map(|round| round.on.dropped).sum()
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        let load = self.load.label();
        let target = |what: &str, bound, measured| Verdict::new(format!("{load}: {what}"), bound, measured);
        let at_most = Bound::AtMost(COST_PERCENT_MAX);
        let mut verdicts = vec![
            target("fewer requests/s with all on, percent", at_most, -self.measured(rate)),
            target("more CPU time per request, percent", at_most, self.measured(cpu)),
        ];
        if self.load == Load::ManyApps {
            let bound = Bound::AtLeast(DRAINED_PERCENT_MIN);
            verdicts.push(target("requests with a drained line, percent", bound, self.drained_percent()));
        }
        verdicts
    }

    pub(super) fn json(&self) -> Value {
        let side = |runs: &dyn Fn(fn(&Run) -> f64) -> Vec<f64>| {
            json!({
                "requests_per_second": runs(rate),
                "p50_ms": runs(|run| run.wrk.p50_ms),
                "p99_ms": runs(|run| run.wrk.p99_ms),
                "cpu_us_per_request": runs(cpu),
            })
        };
        json!({
            "load": self.load.label(),
            "off": side(&|figure| self.off(figure)),
            "on": side(&|figure| self.on(figure)),
            "drained_percent": self.drained_percent(),
            "dropped": self.dropped(),
        })
    }
}

/// Prints the medians, and the changes of each round.
pub(super) fn show(all: &[Figures]) {
    println!("\n| load | observability | requests/s | p50 ms | p99 ms | CPU/request | lines drained | dropped |");
    println!("| ---- | ------------- | ---------: | -----: | -----: | ----------: | ------------: | ------: |");
    for figures in all {
        let load = figures.load.label();
        let row = |name: &str, runs: &dyn Fn(fn(&Run) -> f64) -> Vec<f64>, lines: String| {
            let median = |figure| statistics::median(&runs(figure)).unwrap_or(f64::NAN);
            let (p50, p99) = (median(|run| run.wrk.p50_ms), median(|run| run.wrk.p99_ms));
            let (rate, cpu) = (median(rate), median(cpu));
            println!("| {load} | {name} | {rate:>10.0} | {p50:>6.2} | {p99:>6.2} | {cpu:>8.2} µs | {lines} |");
        };
        row("all off", &|figure| figures.off(figure), "- | -".to_owned());
        let lines = format!("{:.1} % | {}", figures.drained_percent(), figures.dropped());
        row("all on", &|figure| figures.on(figure), lines);
    }
    println!("\n| change in percent | lower quartile | median | upper quartile |");
    println!("| ----------------- | -------------: | -----: | -------------: |");
    for figures in all {
        let load = figures.load.label();
        let row = |what: &str, [low, median, high]: [f64; 3]| {
            println!("| {load}: {what} | {low:>6.2} | {median:>6.2} | {high:>6.2} |");
        };
        row("requests/s, all on", figures.quartiles(|round| round.cost(rate)));
        row("requests/s, all off again", figures.quartiles(|round| round.noise(rate)));
        row("CPU time per request, all on", figures.quartiles(|round| round.cost(cpu)));
        row("CPU time per request, all off again", figures.quartiles(|round| round.noise(cpu)));
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(requests_per_second: f64, drained: u64) -> Run {
        let wrk = wrk::Report { requests: 100, requests_per_second, p50_ms: 1.0, p99_ms: 2.0, errors: 0 };
        Run { wrk, cpu_us: 1e6 / requests_per_second, drained, dropped: 0 }
    }

    fn figures(load: Load, rounds: [[f64; 3]; 3]) -> Figures {
        let round = |[first, on, second]: [f64; 3]| Round { off: [run(first, 0), run(second, 0)], on: run(on, 98) };
        Figures { load, rounds: rounds.map(round).into() }
    }

    #[test]
    fn the_cost_is_the_median_change_within_a_round() {
        // The machine becomes slower within the first round, and is half as fast in the second.
        let figures = figures(Load::OneApp, [[101.0, 98.0, 99.0], [50.0, 49.0, 50.0], [100.0, 90.0, 100.0]]);
        let verdicts: Vec<_> = figures.verdicts().iter().map(ToString::to_string).collect();
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts[0].contains("|     2.00 | yes"), "{}", verdicts[0]);
        assert!(verdicts[1].contains("|     2.04 | yes"), "{}", verdicts[1]);
    }

    #[test]
    fn a_busy_machine_decides_about_no_target() {
        let figures = figures(Load::OneApp, [[100.0, 98.0, 97.0], [50.0, 49.0, 48.0], [100.0, 90.0, 96.0]]);
        for verdict in figures.verdicts() {
            assert!(verdict.to_string().contains("|        - | -"), "{verdict}");
        }
    }

    #[test]
    fn a_load_without_limited_lines_has_a_target_for_drained_lines() {
        let figures = figures(Load::ManyApps, [[100.0; 3]; 3]);
        let verdict = figures.verdicts().pop().expect("a target").to_string();
        assert!(verdict.contains("drained line") && verdict.contains("|    98.00 | no"), "{verdict}");
    }
}
