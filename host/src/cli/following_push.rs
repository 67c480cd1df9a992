//! Follows a push job until it ends, and shows its states and its log. Never starts a push job.

use isopod_policy::AppName;
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::output::{self, field};
use super::progress::Step;
use super::waiting::POLL_EVERY;

/// Follows a push job until it ends, with a line for each state and for each line of its log.
pub(super) fn follow(client: &Client, app: &AppName, push: Value) -> Result<Value, Failure> {
    let path = format!("/v1/apps/{app}/pushes/{}", field(&push, "id"));
    let mut display = PushDisplay::new(&push);
    let mut last = push;
    display.update(&last);
    if is_final(&last) {
        return Ok(last);
    }
    if let Ok(events) = client.follow(&format!("{path}?follow=true")) {
        for event in events {
            // A broken stream says nothing about the push job, so polling continues below.
            let Ok(event) = event else { break };
            let Ok(push) = serde_json::from_str(&event) else { continue };
            last = push;
            display.update(&last);
        }
    }
    while !is_final(&last) {
        std::thread::sleep(POLL_EVERY);
        last = client.get(&path)?.success()?;
        display.update(&last);
    }
    Ok(last)
}

fn is_final(push: &Value) -> bool {
    matches!(field(push, "state").as_str(), "completed" | "failed" | "cancelled")
}

/// The parts of a push job that were already shown.
struct PushDisplay {
    step: Step,
    state: String,
    lines: usize,
    steps: usize,
}

impl PushDisplay {
    fn new(push: &Value) -> PushDisplay {
        // The initial state was already printed.
        let (state, steps) = (field(push, "state"), push["steps"].as_array().map_or(0, Vec::len));
        PushDisplay { step: Step::spinner("following the push"), state, lines: 0, steps }
    }

    fn update(&mut self, push: &Value) {
        for line in self.new_lines(push) {
            self.step.line(&line);
        }
    }

    /// Returns the new lines of a push job, in the order in which they happened.
    fn new_lines(&mut self, push: &Value) -> Vec<String> {
        let list = |name: &str| push.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let (log, steps) = (list("log"), list("steps"));
        let mut lines = Vec::new();
        for step in steps.iter().skip(self.steps) {
            let before = step["log_lines"].as_u64().and_then(|lines| usize::try_from(lines).ok()).unwrap_or(0);
            self.log_until(&log[..before.min(log.len())], &mut lines);
            self.state(field(step, "state"), &mut lines);
        }
        self.steps = self.steps.max(steps.len());
        self.log_until(log, &mut lines);
        // A push job that ended before the first request has no recorded steps.
        self.state(field(push, "state"), &mut lines);
        lines
    }

    fn log_until(&mut self, log: &[Value], new_lines: &mut Vec<String>) {
        let lines = log.iter().skip(self.lines);
        new_lines.extend(lines.map(|line| output::dim(&format!("  | {}", output::log_text(line)))));
        self.lines = self.lines.max(log.len());
    }

    fn state(&mut self, state: String, lines: &mut Vec<String>) {
        if state != self.state {
            lines.push(format!("push is {state}"));
            self.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn log_lines_and_states_of_a_push_are_shown_in_order() {
        let mut display = PushDisplay::new(&json!({"state": "queued"}));
        let said = |text: &str| output::dim(&format!("  | {text}"));
        let is = |state: &str| format!("push is {state}");
        let step = |state: &str, log_lines: u32| json!({"state": state, "log_lines": log_lines});
        let first = json!({"state": "running", "log": ["received"], "steps": [step("running", 1)]});
        assert_eq!(display.new_lines(&first), [said("received"), is("running")]);
        let steps = [step("running", 1), step("building", 2), step("deploying", 3)];
        let log = ["received", "a component", "compiled", "started"];
        let then = json!({"state": "deploying", "log": log, "steps": steps});
        let expected = [said("a component"), is("building"), said("compiled"), is("deploying"), said("started")];
        assert_eq!(display.new_lines(&then), expected);
        let without_steps = json!({"state": "completed", "log": log});
        assert_eq!(display.new_lines(&without_steps), [is("completed")]);
    }

    #[test]
    fn a_push_is_final_in_three_states() {
        let last = ["queued", "running", "building", "deploying", "completed", "failed", "cancelled"];
        let finals = last.map(|state| is_final(&json!({"state": state})));
        assert_eq!(finals, [false, false, false, false, true, true, true]);
    }
}
