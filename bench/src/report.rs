//! Reduces the figures of `bench serve` and prints them as tables or JSON. Never measures.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::contender::Contender;
use super::targets::{TARGETS, Target};
use super::wrk::{CONNECTIONS, Report};
use super::{machine, statistics};

/// All runs of one contender, in the order of the rounds.
pub(super) struct Series {
    pub(super) contender: Contender,
    pub(super) runs: Vec<Run>,
}

/// One measurement of a contender.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) wrk: Report,
    /// The server's own CPU time, the most reliable figure if other programs disturb the run.
    pub(super) processor: Option<Duration>,
}

impl Run {
    fn processor_us_per_request(&self) -> f64 {
        self.processor.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6 / self.wrk.requests as f64)
    }
}

pub(super) struct Figures {
    pub(super) series: Vec<Series>,
    conditions: String,
}

impl Series {
    fn of(&self, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(figure).collect()
    }

    fn requests_per_second(&self) -> Vec<f64> {
        self.of(|run| run.wrk.requests_per_second)
    }

    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        statistics::median(&self.of(figure)).unwrap_or(f64::NAN)
    }

    fn errors(&self) -> u64 {
        self.runs.iter().map(|run| run.wrk.errors).sum()
    }
}

impl Figures {
    pub(super) fn new(contenders: &[Contender], rounds: u32, seconds: u32) -> Figures {
        let load = machine::load().map_or_else(String::new, |load| format!(", load {load:.1} before the run"));
        Figures {
            series: contenders.iter().map(|&contender| Series { contender, runs: Vec::new() }).collect(),
            conditions: format!(
                "medians of {rounds} rounds of {seconds} s, {CONNECTIONS} connections on loopback, {}{load}",
                machine::description()
            ),
        }
    }

    fn find(&self, contender: Contender) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender)
    }

    /// Returns the ratio of `ours` to `theirs` over the rounds that measured both.
    fn ratio(&self, ours: Contender, theirs: Contender) -> Option<f64> {
        let (ours, theirs) = (self.find(ours)?, self.find(theirs)?);
        statistics::ratio(&ours.requests_per_second(), &theirs.requests_per_second())
    }

    pub(super) fn json(&self) -> Value {
        let series = self.series.iter().map(|series| {
            json!({
                "server": series.contender.to_string(),
                "requests_per_second": series.median(|run| run.wrk.requests_per_second),
                "p50_ms": series.median(|run| run.wrk.p50_ms),
                "p99_ms": series.median(|run| run.wrk.p99_ms),
                "processor_us_per_request": series.median(Run::processor_us_per_request),
                "errors": series.errors(),
                "ratio_to_native": self.ratio(series.contender, Contender::Axum),
                "rounds_requests_per_second": series.requests_per_second(),
            })
        });
        let targets = TARGETS.iter().map(|target| {
            let ratio = self.ratio(target.ours, target.theirs);
            json!({
                "server": target.ours.to_string(),
                "beside": target.theirs.to_string(),
                "at_least": target.at_least,
                "ratio": ratio,
                "reached": ratio.map(|ratio| ratio >= target.at_least),
            })
        });
        json!({
            "conditions": self.conditions,
            "servers": series.collect::<Vec<_>>(),
            "targets": targets.collect::<Vec<_>>(),
        })
    }
}

/// Tables that read the same in a terminal and in docs/benchmarks.md.
impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n", self.conditions)?;
        writeln!(
            out,
            "| {:<43} | requests/s | ratio to native |  p50 ms |  p99 ms | CPU µs/request | errors |",
            "server"
        )?;
        writeln!(out, "| {:-<43} | ---------: | --------------: | ------: | ------: | -------------: | -----: |", "")?;
        for series in &self.series {
            writeln!(
                out,
                "| {:<43} | {:>10.0} | {:>15} | {:>7.2} | {:>7.2} | {:>14.1} | {:>6} |",
                series.contender.to_string(),
                series.median(|run| run.wrk.requests_per_second),
                shown(self.ratio(series.contender, Contender::Axum)),
                series.median(|run| run.wrk.p50_ms),
                series.median(|run| run.wrk.p99_ms),
                series.median(Run::processor_us_per_request),
                series.errors(),
            )?;
        }
        writeln!(out, "\n| {:<43} | {:<39} | at least | measured | reached |", "target: requests/s of", "beside")?;
        writeln!(out, "| {:-<43} | {:-<39} | -------: | -------: | ------- |", "", "")?;
        TARGETS.iter().try_for_each(|target| self.show_target(out, target))
    }
}

impl Figures {
    fn show_target(&self, out: &mut fmt::Formatter<'_>, target: &Target) -> fmt::Result {
        let ratio = self.ratio(target.ours, target.theirs);
        let reached = match ratio {
            None => "-",
            Some(ratio) if ratio >= target.at_least => "yes",
            Some(_) => "no",
        };
        let (ours, theirs) = (target.ours.to_string(), target.theirs.to_string());
        let (at_least, measured) = (target.at_least, shown(ratio));
        writeln!(out, "| {ours:<43} | {theirs:<39} | {at_least:>8.2} | {measured:>8} | {reached:<7} |")
    }
}

fn shown(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(requests_per_second: f64) -> Run {
        let wrk = Report { requests: 1000, requests_per_second, p50_ms: 1.0, p99_ms: 2.0, errors: 0 };
        Run { wrk, processor: Some(Duration::from_millis(8)) }
    }

    fn figures() -> Figures {
        let mut figures = Figures::new(&[Contender::Axum, Contender::IsopodSdk], 3, 5);
        figures.series[0].runs = [100.0, 200.0, 100.0].map(run).into();
        figures.series[1].runs = [81.0, 120.0, 85.0].map(run).into();
        figures
    }

    #[test]
    fn cpu_time_is_divided_by_the_requests() {
        assert!((run(1.0).processor_us_per_request() - 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_target_is_judged_by_the_median_ratio_of_the_rounds() {
        assert_eq!(figures().ratio(Contender::IsopodSdk, Contender::Axum), Some(0.81));
        let first = &figures().json()["targets"][0];
        assert_eq!((&first["ratio"], &first["reached"]), (&json!(0.81), &json!(true)));
    }

    #[test]
    fn a_target_beside_a_skipped_server_is_not_judged() {
        let json = figures().json();
        let beside_workerd =
            json["targets"].as_array().into_iter().flatten().find(|target| target["beside"] == "workerd");
        assert_eq!(beside_workerd.expect("a target beside workerd")["reached"], Value::Null);
        assert!(figures().to_string().contains("|        - | -       |"));
    }
}
