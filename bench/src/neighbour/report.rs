//! Reduces, judges and prints the figures of `bench neighbour`. Never measures.

use std::fmt;

use serde_json::{Value, json};

use super::shares::Share;
use crate::flood::Outcome;
use crate::times::Times;
use crate::verdict::{self, Bound, Verdict};
use crate::{machine, statistics};

/// The load beside the quiet app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Alone,
    Spinning,
    Pushing,
    BusyApps,
    Bursts,
}

impl Phase {
    pub(super) const ALL: [Phase; 5] = [Phase::Alone, Phase::Spinning, Phase::Pushing, Phase::BusyApps, Phase::Bursts];

    /// Returns whether the flood saturates the CPU. Bursts pause in between.
    fn wants_all_processors(self) -> bool {
        match self {
            Phase::Spinning | Phase::Pushing | Phase::BusyApps => true,
            Phase::Alone | Phase::Bursts => false,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Phase::Alone => "alone",
            Phase::Spinning => "beside 24 clients, 200 ms of CPU each",
            Phase::Pushing => "beside 64 senders of push events",
            Phase::BusyApps => "beside 100 busy apps",
            Phase::Bursts => "beside bursts of 10,000 clients",
        })
    }
}

/// One measurement of the quiet caller.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) times: Times,
    pub(super) flood: Outcome,
    /// The part of all processors' time, 0 to 1.
    pub(super) processors_busy: f64,
}

pub(super) struct RivalFigures {
    pub(super) name: String,
    pub(super) alone: Turn,
    pub(super) spinning: Turn,
}

pub(super) struct Figures {
    conditions: String,
    /// The measured phases.
    pub(super) phases: Vec<Phase>,
    pub(super) rounds: Vec<Vec<(Phase, Turn)>>,
    /// `None` if they are not measured.
    pub(super) shares: Option<Vec<Share>>,
    pub(super) rivals: Vec<RivalFigures>,
}

/// The largest permitted latency above that of the quiet app alone.
const P50_MS_MAX: f64 = 0.1;
const P99_MS_MAX: f64 = 1.5;
const PROCESSORS_BUSY_MIN: f64 = 0.95;
const SHARE_ERROR_MAX: f64 = 0.05;

impl Figures {
    pub(super) fn new(rounds: u32, seconds: u32, phases: Vec<Phase>) -> Figures {
        let load = machine::load().map_or_else(String::new, |load| format!(", load {load:.1} before the run"));
        let conditions = format!("medians of {rounds} rounds of {seconds} s, {}{load}", machine::description());
        Figures { conditions, phases, rounds: Vec::new(), shares: None, rivals: Vec::new() }
    }

    pub(super) fn add_condition(&mut self, condition: &str) {
        self.conditions.push_str(", ");
        self.conditions.push_str(condition);
    }

    fn turns(&self, phase: Phase) -> impl Iterator<Item = &Turn> {
        self.rounds.iter().filter_map(move |round| find(round, phase))
    }

    fn median(&self, phase: Phase, figure: impl Fn(&Turn) -> f64) -> f64 {
        statistics::median(&self.turns(phase).map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }

    /// Returns the difference of a figure from its value alone: the median over the rounds that
    /// have both.
    fn above_alone(&self, phase: Phase, figure: impl Fn(&Turn) -> f64) -> f64 {
        let differences = self.rounds.iter().filter_map(|round| {
            let (alone, beside) = (find(round, Phase::Alone)?, find(round, phase)?);
            Some(figure(beside) - figure(alone))
        });
        statistics::median(&differences.collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for &phase in self.phases.iter().filter(|phase| **phase != Phase::Alone) {
            let mut judge = |what: &str, bound, measured| {
                verdicts.push(Verdict::new(format!("{what}, {phase}"), bound, measured));
            };
            judge("p50 above alone, ms", Bound::AtMost(P50_MS_MAX), self.above_alone(phase, |turn| turn.times.p50()));
            judge("p99 above alone, ms", Bound::AtMost(P99_MS_MAX), self.above_alone(phase, |turn| turn.times.p99()));
            if phase.wants_all_processors() {
                let busy = self.median(phase, |turn| turn.processors_busy);
                judge("processors busy", Bound::AtLeast(PROCESSORS_BUSY_MIN), busy);
            }
        }
        if let Some(shares) = &self.shares {
            let worst = shares.iter().map(Share::error).reduce(f64::max).unwrap_or(f64::NAN);
            verdicts.push(Verdict::new("heavy apps: largest error of a share", Bound::AtMost(SHARE_ERROR_MAX), worst));
        }
        for rival in &self.rivals {
            let ratio = rival.spinning.times.p50() / self.median(Phase::Spinning, |turn| turn.times.p50());
            let what = format!("{}'s p50 beside spinning clients, times Isopod's", rival.name);
            verdicts.push(Verdict::new(what, Bound::AtLeast(1.0), ratio));
        }
        verdicts
    }

    pub(super) fn show(&self) {
        println!("\na quiet app's answers, {}\n", self.conditions);
        println!(
            "| {:<15} | {:<37} |   p50 ms |   p99 ms | slowest ms | processors busy | flood answered | refused |",
            "server", "the quiet app is"
        );
        println!(
            "| {:-<15} | {:-<37} | -------: | -------: | ---------: | --------------: | -------------: | ------: |",
            "", ""
        );
        for &phase in &self.phases {
            let turns: Vec<&Turn> = self.turns(phase).collect();
            row("isopod", phase, &turns);
        }
        for rival in &self.rivals {
            row(&rival.name, Phase::Alone, &[&rival.alone]);
            row(&rival.name, Phase::Spinning, &[&rival.spinning]);
        }
        let shares = self.shares.as_deref().unwrap_or_default();
        if !shares.is_empty() {
            println!("\n| {:<16} | expected share of CPU time | measured |", "heavy app");
            println!("| {:-<16} | -------------------------: | -------: |", "");
        }
        for share in shares {
            println!("| {:<16} | {:>26.3} | {:>8.3} |", share.app, share.expected, share.measured);
        }
        verdict::show(&self.verdicts());
    }

    pub(super) fn json(&self) -> Value {
        let phases = self.phases.iter().map(|&phase| {
            let turns: Vec<Value> = self.turns(phase).map(turn_json).collect();
            json!({
                "beside": phase.to_string(),
                "p50_ms": self.median(phase, |turn| turn.times.p50()),
                "p99_ms": self.median(phase, |turn| turn.times.p99()),
                "p50_above_alone_ms": self.above_alone(phase, |turn| turn.times.p50()),
                "p99_above_alone_ms": self.above_alone(phase, |turn| turn.times.p99()),
                "rounds": turns,
            })
        });
        let rivals = self.rivals.iter().map(|rival| {
            json!({ "server": rival.name, "alone": turn_json(&rival.alone), "spinning": turn_json(&rival.spinning) })
        });
        json!({
            "conditions": self.conditions,
            "isopod": phases.collect::<Vec<_>>(),
            "shares": self.shares.as_deref().map(|shares| shares.iter().map(Share::json).collect::<Vec<_>>()),
            "rivals": rivals.collect::<Vec<_>>(),
            "targets": verdict::json(&self.verdicts()),
        })
    }
}

fn find(round: &[(Phase, Turn)], phase: Phase) -> Option<&Turn> {
    round.iter().find(|(of, _)| *of == phase).map(|(_, turn)| turn)
}

/// Prints a row. Skips a phase without a measurement, which was reported before.
fn row(server: &str, phase: Phase, turns: &[&Turn]) {
    if turns.is_empty() {
        return;
    }
    let median = |figure: fn(&Turn) -> f64| {
        statistics::median(&turns.iter().map(|turn| figure(turn)).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    println!(
        "| {server:<15} | {:<37} | {:>8.2} | {:>8.2} | {:>10.2} | {:>15.2} | {:>14} | {:>7} |",
        phase.to_string(),
        median(|turn| turn.times.p50()),
        median(|turn| turn.times.p99()),
        median(|turn| turn.times.slowest()),
        median(|turn| turn.processors_busy),
        turns.iter().map(|turn| turn.flood.answered).sum::<u64>(),
        turns.iter().map(|turn| turn.flood.refused).sum::<u64>(),
    );
}

fn turn_json(turn: &Turn) -> Value {
    json!({
        "times": turn.times.json(),
        "flood_answered": turn.flood.answered,
        "flood_refused": turn.flood.refused,
        "processors_busy": turn.processors_busy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(phase: Phase, milliseconds: f64) -> (Phase, Turn) {
        let times = [milliseconds].into_iter().collect();
        (phase, Turn { times, flood: Outcome::default(), processors_busy: 1.0 })
    }

    #[test]
    fn a_phase_is_compared_with_alone_within_each_round() {
        let mut figures = Figures::new(3, 1, Phase::ALL.into());
        // The machine was slower in the second round, which affects both sides of the difference.
        figures.rounds =
            [0.25, 5.0, 0.5].map(|alone| vec![turn(Phase::Alone, alone), turn(Phase::Spinning, alone + 0.125)]).into();
        assert_eq!(figures.above_alone(Phase::Spinning, |turn| turn.times.p50()), 0.125);
        assert!(figures.above_alone(Phase::Pushing, |turn| turn.times.p50()).is_nan());
        let targets = figures.json();
        assert_eq!(targets["targets"][0]["reached"], false);
        assert_eq!(targets["targets"][3]["reached"], Value::Null);
    }

    #[test]
    fn bursts_are_judged_only_by_latency() {
        let mut figures = Figures::new(1, 1, vec![Phase::Alone, Phase::Bursts]);
        figures.rounds = vec![vec![turn(Phase::Alone, 0.25), turn(Phase::Bursts, 0.3125)]];
        let targets = &figures.json()["targets"];
        assert_eq!(targets.as_array().map(Vec::len), Some(2));
        assert_eq!((&targets[0]["reached"], &targets[1]["reached"]), (&Value::Bool(true), &Value::Bool(true)));
    }
}
