//! Waits until an app is in the state that was asked for, with a line for each state on the way.

use std::time::{Duration, Instant};

use isopod_policy::AppName;
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::limits;
use super::output::{self, field};
use super::progress::Step;

/// How often the host is asked where it offers nothing to follow.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);

/// The state that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Running,
    Stopped,
}

/// What a state means to whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reached,
    /// By itself it will not be reached any more.
    Lost,
    OnTheWay,
}

impl Goal {
    fn progress(self, state: &str) -> Progress {
        match (self, state) {
            (Goal::Running, "running") | (Goal::Stopped, "stopped") => Progress::Reached,
            (Goal::Running, "error" | "stopped") => Progress::Lost,
            // An app in error that is stopped is stopped, so nothing is lost for this goal.
            (Goal::Running | Goal::Stopped, _) => Progress::OnTheWay,
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Goal::Running => "run",
            Goal::Stopped => "stand still",
        }
    }
}

/// Waits for an app; `so_far` says what has been done to it, such as "was told to start". Gives the app as it then is.
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
                // Nobody started it, and whatever was done to it will not.
                let next = if state == "stopped" { format!("isopod apps start {name}") } else { next() };
                let failure = Failure::new(format!("{name} {so_far} but {is}")).next(next);
                let why = error(&app);
                return Err(if why.is_empty() { failure } else { failure.why(why) });
            }
            Progress::OnTheWay if Instant::now() > until => {
                return Err(Failure::new(format!("{name} {so_far} but does not {} yet", goal.verb()))
                    .why(format!("after {} s it is still {state}", limits::APP_STATE_TIMEOUT.as_secs()))
                    .next(next()));
            }
            Progress::OnTheWay => {}
        }
        if step.as_ref().is_none_or(|(_, shown)| *shown != state) {
            // The old display goes before the new one comes: two of them would tear each other.
            step = None;
            let _ = step.insert((Step::spinner(&format!("{name} is {state}")), state));
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Why an app is in error, as the host says it; nothing if it is not.
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
    fn each_state_is_the_goal_lost_or_on_the_way() {
        use Progress::{Lost, OnTheWay, Reached};
        let states = ["stopped", "starting", "deploying", "running", "error"];
        let running = states.map(|state| Goal::Running.progress(state));
        assert_eq!(running, [Lost, OnTheWay, OnTheWay, Reached, Lost]);
        let stopped = states.map(|state| Goal::Stopped.progress(state));
        assert_eq!(stopped, [Reached, OnTheWay, OnTheWay, OnTheWay, OnTheWay]);
    }

    #[test]
    fn an_app_is_asked_until_it_runs() {
        let app = |state: &str| (200, json!({"name": "shop", "state": state}));
        let host = FakeHost::answering([app("starting"), app("starting"), app("running")]);
        let waited = until(&host.app("shop").client, &"shop".parse().unwrap(), Goal::Running, "was told to start");
        assert_eq!(field(&waited.unwrap(), "state"), "running");
        assert_eq!(host.asked().len(), 3);
    }

    #[test]
    fn an_app_that_fails_on_the_way_says_why() {
        let error = json!({"cause": "health-check", "message": "the health check failed", "detail": "GET /: 500"});
        let host = FakeHost::answering([(200, json!({"name": "shop", "state": "error", "error": error}))]);
        let waited = until(&host.app("shop").client, &"shop".parse().unwrap(), Goal::Running, "was told to start");
        assert_eq!(waited.unwrap_err().one_line(), "shop was told to start but is in error: GET /: 500");
    }
}
