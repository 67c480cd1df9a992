//! The demo's requests to each example, and how the responses are shown. An app without an entry
//! here gets a request for `/`. A response other than success or a redirect ends the demo.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ureq::http::{Request, Response};

use super::ask::{self, Ask};
use super::running::RunningHost;
use crate::step;

/// A URL to open or a command to type, with its response, which may be empty.
pub(super) struct Answer {
    pub(super) question: String,
    pub(super) text: String,
}

/// The part of a response that is shown; a page may be longer than a screen.
const SHOWN_LINES_MAX: usize = 3;
const SHOWN_CHARS_MAX: usize = 400;

/// Returns whether the example is a program that runs once, instead of an app that is deployed.
pub(super) fn is_program(example: &str) -> bool {
    example == "command"
}

/// Runs a program in the same sandbox as apps.
pub(super) fn of_program(host: &RunningHost, component: &Path) -> Result<Answer> {
    let mut command = host.command(&["run"])?;
    let output = command.arg(component).args(["--", "hello", "world"]).output().context("cannot start the program")?;
    if !output.status.success() {
        bail!("{} exited with {}: {}", component.display(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    let file = component.strip_prefix(step::root()).unwrap_or(component).display();
    Ok(Answer {
        question: format!("isopod run {file} -- hello world"),
        text: String::from_utf8_lossy(&output.stdout).into(),
    })
}

pub(super) fn of(host: &RunningHost, app: &str) -> Result<Answer> {
    let url = format!("http://{app}.localhost:{}/", host.listen.port());
    let (question, text) = match app {
        "bot" => {
            let typed = r#"isopod events send message --subject ada --data '{"text": "hello"}' --app bot"#;
            (typed.to_owned(), event(host, app)?)
        }
        "guestbook" => {
            let form = "application/x-www-form-urlencoded";
            page(host, &Ask::new(app, "POST", "/entries").body(form, "name=Ada&text=Hello+from+the+demo"))?;
            (format!("{url} (and {url}entries, signed once)"), page(host, &Ask::get(app, "/entries"))?)
        }
        "search" => (format!("{url}?q=forty+two"), page(host, &Ask::get(app, "/?q=forty+two"))?),
        _ => (url, page(host, &Ask::get(app, "/"))?),
    };
    Ok(Answer { question, text })
}

/// Returns the body of a response, which must be a success or a redirect.
pub(super) fn page(host: &RunningHost, ask: &Ask<'_>) -> Result<String> {
    successful(ask.app, ask.send(host)?)
}

fn event(host: &RunningHost, app: &str) -> Result<String> {
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://{}/v1/apps/{app}/events", host.admin))
        .header("authorization", format!("Bearer {}", host.token()?))
        .header("content-type", "application/cloudevents+json");
    let event = concat!(
        r#"{"specversion":"1.0","id":"demo-1","source":"demo","type":"message","#,
        r#""subject":"ada","data":{"text":"hello"}}"#,
    );
    successful(app, ask::response(app, request.body(event.to_owned())?)?)
}

fn successful(app: &str, response: Response<String>) -> Result<String> {
    let (status, text) = (response.status(), response.into_body());
    if !status.is_success() && !status.is_redirection() {
        bail!("{app} responded with {status}: {}", text.trim());
    }
    Ok(text)
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "    {}", self.question)?;
        let shown: String = self.text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        for line in shown.lines().take(SHOWN_LINES_MAX) {
            write!(out, "\n        {line}")?;
        }
        if shown.lines().count() > SHOWN_LINES_MAX || shown.len() < self.text.trim().len() {
            write!(out, "\n        …")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_response_is_truncated_and_marked() {
        let shown = |text: &str| Answer { question: "http://a/".into(), text: text.into() }.to_string();
        assert_eq!(shown("one\ntwo\n"), "    http://a/\n        one\n        two");
        assert_eq!(shown("1\n2\n3\n4"), "    http://a/\n        1\n        2\n        3\n        …");
        assert!(shown(&"x".repeat(SHOWN_CHARS_MAX + 1)).ends_with("x\n        …"));
    }
}
