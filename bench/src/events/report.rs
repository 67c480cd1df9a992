//! Reduces the figures of `bench events` and prints them as tables or JSON. Never measures.

use std::fmt;

use serde_json::{Value, json};

use super::backlog::{Backlog, Broadcast};
use super::queue::EVENT_BYTES;
use super::{BATCH, CLIENTS};
use crate::times::Times;
use crate::verdict::{Bound, Verdict};
use crate::{machine, statistics};

/// A measured server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Isopod,
    Nats,
    Redis,
}

impl Contender {
    pub(super) const ALL: [Contender; 3] = [Contender::Isopod, Contender::Nats, Contender::Redis];
}

impl fmt::Display for Contender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Contender::Isopod => "isopod",
            Contender::Nats => "NATS JetStream, sync_interval always",
            Contender::Redis => "Redis streams, appendfsync always",
        })
    }
}

/// Events per second of one server in one round; NaN if it could not be measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) one: f64,
    pub(super) many: f64,
    pub(super) batches: f64,
    pub(super) handled: f64,
}

/// A column of the table: its name, and its figure of a run.
type Column = (&'static str, fn(&Run) -> f64);

const COLUMNS: [Column; 4] = [
    ("1 client", |run| run.one),
    ("64 clients", |run| run.many),
    ("batches of 100", |run| run.batches),
    ("handled", |run| run.handled),
];

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, figure) in COLUMNS {
            write!(out, "{name} {:.0}/s  ", figure(self))?;
        }
        Ok(())
    }
}

/// Latencies of requests to the app, in one round.
pub(super) struct Latency {
    pub(super) alone: Times,
    pub(super) during: Times,
}

pub(super) struct Figures {
    runs: Vec<(Contender, Vec<Run>)>,
    pub(super) latencies: Vec<Latency>,
    pub(super) backlog: Option<Backlog>,
    conditions: String,
}

impl Figures {
    pub(super) fn new(contenders: &[Contender], rounds: u32, seconds: u32) -> Figures {
        let load = machine::load().map_or_else(String::new, |load| format!(", load {load:.1} before the run"));
        Figures {
            runs: contenders.iter().map(|contender| (*contender, Vec::new())).collect(),
            latencies: Vec::new(),
            backlog: None,
            conditions: format!(
                "medians of {rounds} rounds of {seconds} s, events of {EVENT_BYTES} bytes, {CLIENTS} clients, batches \
                 of {BATCH} by one client, {}{load}",
                machine::description()
            ),
        }
    }

    pub(super) fn add(&mut self, contender: Contender, run: Run) {
        for (_, runs) in self.runs.iter_mut().filter(|(of, _)| *of == contender) {
            runs.push(run);
        }
    }

    fn of(&self, contender: Contender, figure: fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().filter(|(of, _)| *of == contender).flat_map(|(_, runs)| runs.iter().map(figure)).collect()
    }

    fn p99(&self, figure: fn(&Latency) -> &Times) -> f64 {
        let times: Vec<f64> = self.latencies.iter().map(|latency| figure(latency).p99()).collect();
        statistics::median(&times).unwrap_or(f64::NAN)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for peer in [Contender::Nats, Contender::Redis] {
            for (name, figure) in COLUMNS {
                let ratio = statistics::ratio(&self.of(Contender::Isopod, figure), &self.of(peer, figure));
                let short = if peer == Contender::Nats { "NATS" } else { "Redis" };
                let what = format!("{name}: ratio to {short}");
                verdicts.push(Verdict::new(what, Bound::AtLeast(1.0), ratio.unwrap_or(f64::NAN)));
            }
        }
        let of_backlog = |figure: fn(&Backlog) -> f64| self.backlog.as_ref().map_or(f64::NAN, figure);
        let alone = self.p99(|latency| &latency.alone);
        for (what, during) in [
            ("a flood", self.p99(|latency| &latency.during)),
            ("the delivery of a backlog", of_backlog(|backlog| backlog.requests.p99())),
        ] {
            let what = format!("growth of the p99 of requests during {what}, ms");
            verdicts.push(Verdict::new(what, Bound::AtMost(0.5), during - alone));
        }
        let open = of_backlog(|backlog| backlog.open_ms / 1e3);
        verdicts.push(Verdict::new("opening the backlog, s", Bound::AtMost(1.0), open));
        let memory = of_backlog(|backlog| backlog.peak_mib / backlog.begin_mib);
        let what = "peak memory during the delivery of a backlog, ratio to the start";
        verdicts.push(Verdict::new(what, Bound::AtMost(1.5), memory));
        verdicts
    }

    pub(super) fn json(&self) -> Value {
        let servers = self.runs.iter().map(|(contender, _)| {
            let median = |figure| statistics::median(&self.of(*contender, figure));
            let columns = COLUMNS.map(|(name, figure)| (name.to_owned(), json!(median(figure))));
            let columns = Value::Object(columns.into_iter().collect());
            json!({ "server": contender.to_string(), "events_per_second": columns })
        });
        let backlog = self.backlog.as_ref().map(|backlog| {
            json!({
                "events": backlog.events,
                "broadcast": {
                    "lines_per_second": backlog.broadcast.lines_per_second,
                    "command_peak_mib": backlog.broadcast.command_mib,
                    "host_peak_mib": backlog.broadcast.host_mib,
                },
                "open_ms": backlog.open_ms,
                "drain_s": backlog.drain_s,
                "memory_mib": { "begin": backlog.begin_mib, "peak": backlog.peak_mib },
                "requests_p99_ms": backlog.requests.p99(),
            })
        });
        json!({
            "conditions": self.conditions,
            "servers": servers.collect::<Vec<_>>(),
            "requests": { "p99_alone_ms": self.p99(|of| &of.alone), "p99_during_ms": self.p99(|of| &of.during) },
            "backlog": backlog,
            "targets": crate::verdict::json(&self.verdicts()),
        })
    }
}

/// Tables that read the same in a terminal and in docs/benchmarks.md.
impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n", self.conditions)?;
        write!(out, "| {:<37} |", "events per second")?;
        COLUMNS.iter().try_for_each(|(name, _)| write!(out, " {name:>14} |"))?;
        write!(out, "\n| {:-<37} |", "")?;
        COLUMNS.iter().try_for_each(|_| write!(out, " -------------: |"))?;
        for (contender, _) in &self.runs {
            write!(out, "\n| {contender:<37} |")?;
            for (_, figure) in COLUMNS {
                let median = statistics::median(&self.of(*contender, figure)).filter(|median| !median.is_nan());
                let shown = median.map_or_else(|| "-".to_owned(), |median| format!("{median:.0}"));
                write!(out, " {shown:>14} |")?;
            }
        }
        let (alone, during) = (self.p99(|latency| &latency.alone), self.p99(|latency| &latency.during));
        writeln!(out, "\n\np99 of requests to the app: {alone:.2} ms alone, {during:.2} ms during a flood of events")?;
        if let Some(Backlog { events, broadcast, open_ms, drain_s, begin_mib, peak_mib, requests }) = &self.backlog {
            let Broadcast { lines_per_second, command_mib, host_mib } = broadcast;
            writeln!(
                out,
                "`isopod broadcast` of {events} lines: {lines_per_second:.0} per second, peak resident memory \
                 {command_mib:.0} MiB (command) and {host_mib:.0} MiB (host)"
            )?;
            writeln!(
                out,
                "a backlog of {events} events: opened in {open_ms:.0} ms, delivered in {drain_s:.1} s, memory \
                 {begin_mib:.0} MiB at the start, at most {peak_mib:.0} MiB, p99 of requests {:.2} ms",
                requests.p99()
            )?;
        }
        crate::verdict::write(out, &self.verdicts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_was_not_measured_has_no_figure_and_no_verdict() {
        let mut figures = Figures::new(&[Contender::Isopod, Contender::Nats], 1, 1);
        figures.add(Contender::Isopod, Run { one: 200.0, many: 2_000.0, batches: f64::NAN, handled: 1_000.0 });
        figures.add(Contender::Nats, Run { one: 100.0, many: 4_000.0, batches: 9_000.0, handled: 500.0 });
        let targets = figures.json()["targets"].clone();
        let reached: Vec<&Value> = (0..5).map(|at| &targets[at]["reached"]).collect();
        assert_eq!(reached, [&json!(true), &json!(false), &Value::Null, &json!(true), &Value::Null]);
        assert!(figures.to_string().contains(" 200 |"));
    }

    #[test]
    fn the_memory_of_a_delivery_is_compared_with_that_at_its_start() {
        let memory = |begin_mib, peak_mib| {
            let mut figures = Figures::new(&[Contender::Isopod], 1, 1);
            let broadcast = Broadcast { lines_per_second: 1.0, command_mib: 1.0, host_mib: 1.0 };
            let (open_ms, drain_s, requests) = (1.0, 1.0, Times::default());
            let backlog = Backlog { events: 1, broadcast, open_ms, drain_s, begin_mib, peak_mib, requests };
            figures.backlog = Some(backlog);
            figures.json()["targets"].as_array().and_then(|targets| targets.last().cloned()).unwrap_or_default()
        };
        assert_eq!(memory(40.0, 60.0)["reached"], json!(true));
        assert_eq!(memory(40.0, 61.0)["reached"], json!(false));
    }
}
