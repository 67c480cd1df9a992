//! The error of every command: what happened, why, and what to do next, with the exit status it leads to.
//! It is printed on standard error, for people; with `--json` also on standard output, as a problem (RFC 9457).

use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output;
use super::terminal::{self, Look};

/// A command that could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    next: Option<String>,
    log: Vec<String>,
    usage: bool,
    /// The problem as the host told it, for programs.
    problem: Option<Box<Value>>,
    /// The status of the host's answer, where there was one.
    status: Option<u16>,
}

impl Failure {
    /// Something went wrong while doing what was asked: exit status 1.
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

    /// The command line itself makes no sense: exit status 2.
    pub(crate) fn usage(what: impl Display) -> Failure {
        Failure { usage: true, ..Failure::new(what) }
    }

    /// Says why.
    pub(crate) fn why(mut self, why: impl Display) -> Failure {
        self.why = Some(why.to_string());
        self
    }

    /// Says what the reader can do now.
    pub(crate) fn next(mut self, next: impl Display) -> Failure {
        self.next = Some(next.to_string());
        self
    }

    /// Adds lines which somebody else wrote about it, such as the log of a push.
    pub(crate) fn log(mut self, lines: impl IntoIterator<Item = String>) -> Failure {
        self.log = lines.into_iter().collect();
        self
    }

    /// The status of the host's answer, where there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// The failure in one line, for places which have only one.
    pub(crate) fn one_line(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {}", self.what.trim_end_matches('.'), why.lines().next().unwrap_or_default()),
            None => self.what.clone(),
        }
    }

    /// Why, in one line, for places which say themselves what has failed.
    pub(crate) fn reason(&self) -> &str {
        self.why.as_deref().and_then(|why| why.lines().next()).unwrap_or(&self.what)
    }

    /// Prints the failure, for a program too if one asked, and says how the program ends.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        output::note_part(&self.text());
        if as_json {
            output::json_line(&self.problem());
        }
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }

    /// The failure as people read it, in several lines.
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

    /// The failure as programs read it: the host's own problem, or one of the same shape.
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

    /// Reads a `problem+json` answer; anything else is shown as it came, cut short.
    pub(crate) fn from_answer(status: u16, body: &Value, raw: &str) -> Failure {
        let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
        let Some(title) = text("title").or(text("detail")) else {
            let shown: String = raw.chars().take(300).collect();
            let failure = Failure { status: Some(status), ..Failure::new(format!("the host answered {status}")) };
            return if shown.trim().is_empty() { failure } else { failure.why(shown.trim()) };
        };
        let mut failure = Failure::new(format!("{title} ({status})"));
        failure.why = text("detail").filter(|detail| *detail != title).map(str::to_owned);
        let code = text("type").and_then(|urn| urn.strip_prefix("urn:isopod:problem:")).unwrap_or_default();
        failure.next = next_here(code, text("app").unwrap_or("NAME")).or_else(|| text("hint").map(str::to_owned));
        failure.problem = Some(Box::new(body.clone()));
        failure.status = Some(status);
        // What this version does not offer is no trouble of the host.
        if let Some(id) = text("request_id").filter(|_| status >= 500 && status != 501) {
            let next = failure.next.take().map(|next| format!("{next}\n")).unwrap_or_default();
            failure.next = Some(format!("{next}look for request {id} in the host's log"));
        }
        if let Some(log) = body.get("push").and_then(|push| push.get("log")).and_then(Value::as_array) {
            failure.log = log.iter().map(output::log_text).collect();
        }
        failure
    }
}

/// What to do about a problem, for whoever sits at this command line: the host's own hints are for users of its API.
fn next_here(code: &str, app: &str) -> Option<String> {
    let next = match code {
        "unknown-app" => {
            "`isopod apps` lists the apps; `isopod deploy` or `isopod apps create NAME` makes one".to_owned()
        }
        "no-token" => format!("put the host's token into ISOPOD_TOKEN, {TOKEN_PLACE}"),
        "unknown-token" => format!("check ISOPOD_TOKEN and --token: this host's token is another one, {TOKEN_PLACE}"),
        "role-too-small" | "out-of-scope" => "use a token whose role and apps allow this".to_owned(),
        "not-stopped" => format!("stop it first: isopod apps stop --wait --app {app}"),
        "no-release" => format!("deploy it first: isopod deploy --app {app}"),
        "push-under-way" => format!("wait until it has ended: isopod activity -f --app {app}"),
        "unknown-instance" => format!("isopod ps --app {app}"),
        "unknown-push" => format!("isopod pushes --app {app}"),
        "unknown-release" | "bad-release" | "no-way-back" => format!("isopod releases --app {app}"),
        "unknown-process" => format!("isopod scale --app {app}"),
        "key-reused" => "choose another --idempotency-key for another bundle".to_owned(),
        "too-many-followers" => "end other commands with --follow, or ask without it".to_owned(),
        "unknown-route" | "wrong-method" => {
            "the host is of another version than this program: use the `isopod` of its version".to_owned()
        }
        _ => return None,
    };
    Some(next)
}

/// Where the token of a host is found.
const TOKEN_PLACE: &str = "which stands in admin.token in the data folder of the host, by default:\nexport \
    ISOPOD_TOKEN=$(cat ~/.local/share/isopod/admin.token)";

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let failure = Failure::new(&error);
        if causes.is_empty() { failure } else { failure.why(causes.join(": ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_as_what_why_and_what_next() {
        let body =
            serde_json::json!({"title": "No such app", "detail": "There is no app named x.", "hint": "isopod apps"});
        let failure = Failure::from_answer(404, &body, "");
        let text = terminal::plain(&failure.text());
        assert_eq!(text, "error: No such app (404)\n  why: There is no app named x.\n next: isopod apps\n");
    }

    #[test]
    fn an_answer_that_is_no_problem_is_shown_as_it_came() {
        let failure = Failure::from_answer(502, &Value::Null, "bad gateway\n");
        assert_eq!(failure.one_line(), "the host answered 502: bad gateway");
    }

    fn problem(status: u16, code: &str) -> Value {
        json!({"type": format!("urn:isopod:problem:{code}"), "title": "T", "detail": "d", "status": status,
            "hint": "GET /v1/something", "app": "shop", "request_id": "r1"})
    }

    fn next(status: u16, code: &str) -> String {
        Failure::from_answer(status, &problem(status, code), "").next.unwrap_or_default()
    }

    #[test]
    fn what_to_do_is_said_in_commands_and_not_in_routes() {
        for code in ["no-token", "unknown-token"] {
            assert!(next(401, code).contains("ISOPOD_TOKEN") && next(401, code).contains("admin.token"), "{code}");
        }
        assert!(next(404, "unknown-app").contains("`isopod apps`"));
        assert_eq!(next(409, "not-stopped"), "stop it first: isopod apps stop --wait --app shop");
        assert_eq!(next(409, "something-new"), "GET /v1/something", "what is not known here is the host's to say");
    }

    #[test]
    fn the_hosts_log_is_named_only_where_it_says_more() {
        assert!(next(500, "store").contains("r1"));
        assert_eq!(next(501, "not-offered"), "GET /v1/something");
        assert!(!next(404, "unknown-app").contains("r1"));
    }

    #[test]
    fn programs_get_the_hosts_problem_or_one_of_the_same_shape() {
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
