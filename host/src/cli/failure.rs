//! The error of every command: what happened, why, what to do next, and the exit status. Prints it
//! on standard error for people, and with `--json` also on standard output as a problem (RFC 9457).
//! Never decides what failed.

use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output;
use super::terminal::{self, Look};

/// The error of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    next: Option<String>,
    log: Vec<String>,
    usage: bool,
    /// The host's problem document, for programs.
    problem: Option<Box<Value>>,
    /// The status of the host's response, if there was one.
    status: Option<u16>,
}

impl Failure {
    /// Creates the error of a command that failed: exit status 1.
    pub(crate) fn new(what: impl Display) -> Failure {
        Failure {
            what: what.to_string(),
            why: None,
            next: None,
            log: Vec::new(),
            usage: false,
            problem: None,
            status: None,
        }
    }

    /// Creates the error of an invalid command line: exit status 2.
    pub(crate) fn usage(what: impl Display) -> Failure {
        Failure { usage: true, ..Failure::new(what) }
    }

    /// Sets the cause.
    pub(crate) fn why(mut self, why: impl Display) -> Failure {
        self.why = Some(why.to_string());
        self
    }

    /// Sets what the user can do next.
    pub(crate) fn next(mut self, next: impl Display) -> Failure {
        self.next = Some(next.to_string());
        self
    }

    /// Adds log lines of another source, such as the log of a push job.
    pub(crate) fn log(mut self, lines: impl IntoIterator<Item = String>) -> Failure {
        self.log = lines.into_iter().collect();
        self
    }

    /// The status of the host's response, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Returns the error in one line: what happened and why.
    pub(crate) fn one_line(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {}", self.what.trim_end_matches('.'), why.lines().next().unwrap_or_default()),
            None => self.what.clone(),
        }
    }

    /// Returns the cause in one line, for callers that name themselves what failed.
    pub(crate) fn reason(&self) -> &str {
        self.why.as_deref().and_then(|why| why.lines().next()).unwrap_or(&self.what)
    }

    /// Prints the error, as JSON too if `as_json`, and returns the exit status.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        output::note_part(&self.text());
        if as_json {
            output::json_line(&self.problem());
        }
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }

    /// Formats the error for people, in several lines.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} {}\n", terminal::styled(Look::RedBold, "error:"), self.what);
        for line in &self.log {
            let _ = writeln!(text, "  | {line}");
        }
        for (label, value) in [("why", &self.why), ("next", &self.next)] {
            let Some(value) = value else { continue };
            let mut lines = value.lines();
            let label = terminal::styled(Look::Bold, &format!("{label:>5}:"));
            let _ = writeln!(text, "{label} {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(text, "       {line}");
            }
        }
        text
    }

    /// Returns the error for programs: the host's problem document, or one in the same format.
    pub(crate) fn problem(&self) -> Value {
        if let Some(problem) = &self.problem {
            return Value::clone(problem);
        }
        let mut problem = json!({"type": "about:blank", "title": self.what});
        for (key, value) in [("detail", &self.why), ("hint", &self.next)] {
            if let Some(value) = value {
                problem[key] = json!(value);
            }
        }
        if !self.log.is_empty() {
            problem["log"] = json!(self.log);
        }
        problem
    }

    /// Creates the error from a `problem+json` response. Another response is shown unchanged, but
    /// truncated.
    pub(crate) fn from_answer(status: u16, body: &Value, raw: &str) -> Failure {
        let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
        let Some(title) = text("title").or(text("detail")) else {
            let shown: String = raw.chars().take(300).collect();
            let failure =
                Failure { status: Some(status), ..Failure::new(format!("the host responded with status {status}")) };
            return if shown.trim().is_empty() { failure } else { failure.why(shown.trim()) };
        };
        let mut failure = Failure::new(format!("{title} ({status})"));
        failure.why = text("detail").filter(|detail| *detail != title).map(str::to_owned);
        let code = text("type").and_then(|urn| urn.strip_prefix("urn:isopod:problem:")).unwrap_or_default();
        failure.next = next_here(code, text("app").unwrap_or("NAME")).or_else(|| text("hint").map(str::to_owned));
        failure.problem = Some(Box::new(body.clone()));
        failure.status = Some(status);
        // 501 means that this version lacks the feature, which the host's log doesn't explain.
        if let Some(id) = text("request_id").filter(|_| status >= 500 && status != 501) {
            let next = failure.next.take().map(|next| format!("{next}\n")).unwrap_or_default();
            failure.next = Some(format!("{next}search the host's log for request {id}"));
        }
        if let Some(log) = body.get("push").and_then(|push| push.get("log")).and_then(Value::as_array) {
            failure.log = log.iter().map(output::log_text).collect();
        }
        failure
    }
}

/// Returns what to do about a problem, as commands. The host's own hints are for users of its API.
fn next_here(code: &str, app: &str) -> Option<String> {
    let next = match code {
        "unknown-app" => {
            "list the apps with `isopod apps`; create one with `isopod deploy` or `isopod apps create NAME`".to_owned()
        }
        "no-token" => format!("set ISOPOD_TOKEN to a token of the host, such as {ADMIN_TOKEN}"),
        "unknown-token" => format!("set ISOPOD_TOKEN or --token to a token of this host, such as {ADMIN_TOKEN}"),
        "role-too-small" | "out-of-scope" => "use a token with a role and apps that allow this".to_owned(),
        "not-stopped" => format!("stop it first: isopod apps stop --wait --app {app}"),
        "no-release" => format!("deploy it first: isopod deploy --app {app}"),
        "push-under-way" => format!("wait until it ends: isopod activity -f --app {app}"),
        "unknown-instance" => format!("isopod ps --app {app}"),
        "unknown-push" => format!("isopod pushes --app {app}"),
        "unknown-release" | "bad-release" | "no-way-back" => format!("isopod releases --app {app}"),
        "unknown-process" => format!("isopod scale --app {app}"),
        "key-reused" => "use another --idempotency-key for another bundle".to_owned(),
        "too-many-followers" => "end other commands that use --follow, or omit it".to_owned(),
        "unknown-route" | "wrong-method" => {
            "the host and this program have different versions: use the `isopod` of the host's version".to_owned()
        }
        _ => return None,
    };
    Some(next)
}

/// Where to find the administrator's token of a host, as the end of a sentence.
const ADMIN_TOKEN: &str = "the administrator's, which is in admin.token in the host's data folder, by default:\nexport \
    ISOPOD_TOKEN=$(cat ~/.local/share/isopod/admin.token)";

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        // Many errors contain the text of their cause.
        let mut shown = error.to_string();
        let mut causes = Vec::new();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            if !shown.contains(&cause) {
                shown.push_str(&cause);
                causes.push(cause);
            }
        }
        let failure = Failure::new(&error);
        if causes.is_empty() { failure } else { failure.why(causes.join(": ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_error_already_contains_is_shown_once() {
        let cause = || std::io::Error::other("disk on fire");
        let text = |error: anyhow::Error| terminal::plain(&Failure::from(error).text());
        let contained = anyhow::Error::new(cause()).context("can't read x: disk on fire");
        assert_eq!(text(contained), "error: can't read x: disk on fire\n");
        assert_eq!(
            text(anyhow::Error::new(cause()).context("can't read x")),
            "error: can't read x\n  why: disk on fire\n"
        );
    }

    #[test]
    fn a_problem_is_shown_as_what_why_and_what_next() {
        let body =
            serde_json::json!({"title": "No such app", "detail": "There is no app named x.", "hint": "isopod apps"});
        let failure = Failure::from_answer(404, &body, "");
        let text = terminal::plain(&failure.text());
        assert_eq!(text, "error: No such app (404)\n  why: There is no app named x.\n next: isopod apps\n");
    }

    #[test]
    fn a_response_that_is_not_a_problem_is_shown_unchanged() {
        let failure = Failure::from_answer(502, &Value::Null, "bad gateway\n");
        assert_eq!(failure.one_line(), "the host responded with status 502: bad gateway");
    }

    fn problem(status: u16, code: &str) -> Value {
        json!({"type": format!("urn:isopod:problem:{code}"), "title": "T", "detail": "d", "status": status,
            "hint": "GET /v1/something", "app": "shop", "request_id": "r1"})
    }

    fn next(status: u16, code: &str) -> String {
        Failure::from_answer(status, &problem(status, code), "").next.unwrap_or_default()
    }

    #[test]
    fn the_next_step_is_given_as_commands_not_routes() {
        for code in ["no-token", "unknown-token"] {
            assert!(next(401, code).contains("ISOPOD_TOKEN") && next(401, code).contains("admin.token"), "{code}");
        }
        assert!(next(404, "unknown-app").contains("`isopod apps`"));
        assert_eq!(next(409, "not-stopped"), "stop it first: isopod apps stop --wait --app shop");
        assert_eq!(next(409, "something-new"), "GET /v1/something", "an unknown code keeps the host's hint");
    }

    #[test]
    fn the_hosts_log_is_named_only_for_faults_of_the_host() {
        assert!(next(500, "store").contains("r1"));
        assert_eq!(next(501, "not-offered"), "GET /v1/something");
        assert!(!next(404, "unknown-app").contains("r1"));
    }

    #[test]
    fn programs_get_the_hosts_problem_or_one_in_the_same_format() {
        let problem = problem(404, "unknown-app");
        assert_eq!(Failure::from_answer(404, &problem, "").problem(), problem);
        let own = Failure::usage("which app?").why("none was named").next("add --app").problem();
        let expected = json!({"type": "about:blank", "title": "which app?", "detail": "none was named",
            "hint": "add --app"});
        assert_eq!(own, expected);
    }

    #[test]
    fn the_causes_of_an_error_become_its_why() {
        let error = anyhow::anyhow!("disk is full").context("cannot write it");
        assert_eq!(Failure::from(error), Failure::new("cannot write it").why("disk is full"));
    }
}
