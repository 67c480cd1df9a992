//! Waits until an app reaches a state, with a line for each state in between. Never starts or stops
//! the app.

use std::time::{Duration, Instant};

use isopod_policy::AppName;
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::limits;
use super::output::{self, field};
use super::progress::Step;

/// How often the host is polled if it offers no stream.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);

/// The awaited state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Running,
    Stopped,
}

/// The relation of an app's state to the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reached,
    /// The app will not reach the goal without another request.
    Lost,
    OnTheWay,
}

impl Goal {
    fn progress(self, state: &str) -> Progress {
        match (self, state) {
            (Goal::Running, "running") | (Goal::Stopped, "stopped") => Progress::Reached,
            (Goal::Running, "error" | "stopped") => Progress::Lost,
            // An app in error can still be stopped, so the goal remains reachable.
            (Goal::Running | Goal::Stopped, _) => Progress::OnTheWay,
        }
    }

    fn state(self) -> &'static str {
        match self {
            Goal::Running => "running",
            Goal::Stopped => "stopped",
        }
    }
}

/// Waits until the app reaches the goal and returns the app. `so_far` is the request that was made,
/// such as "was asked to start", for errors.
pub(crate) fn until(client: &Client, name: &AppName, goal: Goal, so_far: &str) -> Result<Value, Failure> {
    let until = Instant::now() + limits::APP_STATE_TIMEOUT;
    let path = format!("/v1/apps/{name}");
    let next = || format!("isopod activity --app {name}");
    let mut step: Option<(Step, String)> = None;
    loop {
        let app = client.get(&path)?.success()?;
        let state = field(&app, "state");
        match goal.progress(&state) {
            Progress::Reached => return Ok(app),
            Progress::Lost => {
                let is = if state == "error" { "is in error".to_owned() } else { format!("is {state}") };
                // A stopped app stays stopped until it is started.
                let next = if state == "stopped" { format!("isopod apps start {name}") } else { next() };
                let failure = Failure::new(format!("{name} {so_far} but {is}")).next(next);
                let why = error(&app);
                return Err(if why.is_empty() { failure } else { failure.why(why) });
            }
            Progress::OnTheWay if Instant::now() > until => {
                return Err(Failure::new(format!("{name} {so_far} but is not {} yet", goal.state()))
                    .why(format!("it is still {state} after {} s", limits::APP_STATE_TIMEOUT.as_secs()))
                    .next(next()));
            }
            Progress::OnTheWay => {}
        }
        if step.as_ref().is_none_or(|(_, shown)| *shown != state) {
            // Drop the old display first: two concurrent displays would garble each other.
            step = None;
            let _ = step.insert((Step::spinner(&format!("{name} is {state}")), state));
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Returns the app's error as the host reports it; empty without an error.
pub(crate) fn error(app: &Value) -> String {
    match app.get("error") {
        Some(cause @ Value::Object(_)) => output::first_field(cause, &["detail", "message", "cause"]),
        _ => field(app, "error"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;
    use serde_json::json;

    #[test]
    fn each_state_is_reached_lost_or_on_the_way() {
        use Progress::{Lost, OnTheWay, Reached};
        let states = ["stopped", "starting", "deploying", "running", "error"];
        let running = states.map(|state| Goal::Running.progress(state));
        assert_eq!(running, [Lost, OnTheWay, OnTheWay, Reached, Lost]);
        let stopped = states.map(|state| Goal::Stopped.progress(state));
        assert_eq!(stopped, [Reached, OnTheWay, OnTheWay, OnTheWay, OnTheWay]);
    }

    #[test]
    fn an_app_is_polled_until_it_runs() {
        let app = |state: &str| (200, json!({"name": "shop", "state": state}));
        let host = FakeHost::responding([app("starting"), app("starting"), app("running")]);
        let waited = until(&host.app("shop").client, &"shop".parse().unwrap(), Goal::Running, "was asked to start");
        assert_eq!(field(&waited.unwrap(), "state"), "running");
        assert_eq!(host.requests().len(), 3);
    }

    #[test]
    fn an_app_that_fails_while_starting_reports_its_error() {
        let error = json!({"cause": "health-check", "message": "the health check failed", "detail": "GET /: 500"});
        let host = FakeHost::responding([(200, json!({"name": "shop", "state": "error", "error": error}))]);
        let waited = until(&host.app("shop").client, &"shop".parse().unwrap(), Goal::Running, "was asked to start");
        assert_eq!(waited.unwrap_err().one_line(), "shop was asked to start but is in error: GET /: 500");
    }
}
