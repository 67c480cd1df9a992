//! The error of every command: what happened, why, and what to do next, with the exit status it leads to.
//! It prints to standard error only.

use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

/// A command that could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    next: Option<String>,
    log: Vec<String>,
    usage: bool,
}

impl Failure {
    /// Something went wrong while doing what was asked: exit status 1.
    pub(crate) fn new(what: impl Display) -> Failure {
        Failure { what: what.to_string(), why: None, next: None, log: Vec::new(), usage: false }
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

    /// The failure in one line, for places which have only one.
    pub(crate) fn one_line(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {}", self.what.trim_end_matches('.'), why.lines().next().unwrap_or_default()),
            None => self.what.clone(),
        }
    }

    /// Prints the failure and says how the program ends.
    pub(crate) fn report(&self) -> ExitCode {
        anstream::eprint!("{}", self.text());
        if self.usage { ExitCode::from(2) } else { ExitCode::FAILURE }
    }

    /// The failure as people read it, in several lines.
    pub(crate) fn text(&self) -> String {
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let bold = Style::new().bold();
        let mut text = format!("{red}error:{red:#} {}\n", self.what);
        for line in &self.log {
            let _ = writeln!(text, "  | {line}");
        }
        for (label, value) in [("why", &self.why), ("next", &self.next)] {
            let Some(value) = value else { continue };
            let mut lines = value.lines();
            let _ = writeln!(text, "{bold}{label:>5}:{bold:#} {}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(text, "       {line}");
            }
        }
        text
    }

    /// Reads a `problem+json` answer; anything else is shown as it came, cut short.
    pub(crate) fn from_answer(status: u16, body: &Value, raw: &str) -> Failure {
        let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|value| !value.is_empty());
        let Some(title) = text("title").or(text("detail")) else {
            let shown: String = raw.chars().take(300).collect();
            let failure = Failure::new(format!("the host answered {status}"));
            return if shown.trim().is_empty() { failure } else { failure.why(shown.trim()) };
        };
        let mut failure = Failure::new(format!("{title} ({status})"));
        failure.why = text("detail").filter(|detail| *detail != title).map(str::to_owned);
        failure.next = text("hint").map(str::to_owned).or_else(|| match status {
            401 => {
                Some("give the host's token in ISOPOD_TOKEN; it stands in admin.token in the host's data folder".into())
            }
            403 => Some("use a token whose role and scope allow this".into()),
            _ => None,
        });
        if let Some(id) = text("request_id").filter(|_| status >= 500) {
            let next = failure.next.take().map(|next| format!("{next}\n")).unwrap_or_default();
            failure.next = Some(format!("{next}look for request {id} in the host's log"));
        }
        if let Some(log) = body.get("push").and_then(|push| push.get("log")).and_then(Value::as_array) {
            failure.log = log.iter().map(super::output::log_text).collect();
        }
        failure
    }
}

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
        let text = anstream::adapter::strip_str(&failure.text()).to_string();
        assert_eq!(text, "error: No such app (404)\n  why: There is no app named x.\n next: isopod apps\n");
    }

    #[test]
    fn an_answer_that_is_no_problem_is_shown_as_it_came() {
        let failure = Failure::from_answer(502, &Value::Null, "bad gateway\n");
        assert_eq!(failure.one_line(), "the host answered 502: bad gateway");
    }

    #[test]
    fn a_refused_token_names_the_variable() {
        let body = serde_json::json!({"title": "Unauthorized"});
        assert!(Failure::from_answer(401, &body, "").text().contains("ISOPOD_TOKEN"));
    }

    #[test]
    fn the_causes_of_an_error_become_its_why() {
        let error = anyhow::anyhow!("disk is full").context("cannot write it");
        assert_eq!(Failure::from(error), Failure::new("cannot write it").why("disk is full"));
    }
}
