//! The demo's requests to each example, and how the responses are shown. An app without an entry
//! here gets a request for `/`. A response other than success or a redirect ends the demo.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::running::RunningHost;
use crate::step;

/// A URL to open or a command to type, with its response.
pub(crate) struct Answer {
    question: String,
    text: String,
}

/// The part of a response that is shown; a page may be longer than a screen.
const SHOWN_LINES_MAX: usize = 3;
const SHOWN_CHARS_MAX: usize = 300;

/// The timeout of a request. The first call of an app may wait for its compilation.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Returns whether the example is a program that runs once, instead of an app that is deployed.
pub(crate) fn is_program(example: &str) -> bool {
    example == "command"
}

/// Runs a program in the same sandbox as apps.
pub(crate) fn of_program(host_program: &Path, component: &Path) -> Result<Answer> {
    let mut command = Command::new(host_program);
    command.arg("run").arg(component).args(["--", "hello", "world"]);
    let output = command.output().with_context(|| format!("cannot start {}", host_program.display()))?;
    if !output.status.success() {
        bail!("{} exited with {}: {}", component.display(), output.status, String::from_utf8_lossy(&output.stderr));
    }
    let file = component.strip_prefix(step::root()).unwrap_or(component).display();
    Ok(Answer {
        question: format!("isopod run {file} -- hello world"),
        text: String::from_utf8_lossy(&output.stdout).into(),
    })
}

pub(crate) fn of(host: &RunningHost, app: &str) -> Result<Answer> {
    let url = format!("http://{app}.localhost:{}/", host.listen.port());
    let (question, text) = match app {
        "bot" => {
            let typed = r#"isopod events send message --subject ada --data '{"text": "hello"}' --app bot"#;
            (typed.to_owned(), event(host, app)?)
        }
        "guestbook" => {
            let form = "application/x-www-form-urlencoded";
            page(host, app, "POST", "/entries", (form, "name=Ada&text=Hello+from+the+demo"))?;
            (format!("{url} (and {url}entries, signed once)"), page(host, app, "GET", "/entries", ("", ""))?)
        }
        "search" => (format!("{url}?q=forty+two"), page(host, app, "GET", "/?q=forty+two", ("", ""))?),
        _ => (url, page(host, app, "GET", "/", ("", ""))?),
    };
    Ok(Answer { question, text })
}

/// Connects to the address and sends the name as `Host`, since some systems don't resolve names
/// below `localhost`.
fn page(host: &RunningHost, app: &str, method: &str, path: &str, (media_type, body): (&str, &str)) -> Result<String> {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", host.listen))
        .header("host", format!("{app}.localhost:{}", host.listen.port()));
    if !media_type.is_empty() {
        request = request.header("content-type", media_type);
    }
    answer(app, request.body(body.to_owned())?)
}

fn event(host: &RunningHost, app: &str) -> Result<String> {
    let request = ureq::http::Request::builder()
        .method("POST")
        .uri(format!("http://{}/v1/apps/{app}/events", host.admin))
        .header("authorization", format!("Bearer {}", host.token()?))
        .header("content-type", "application/cloudevents+json");
    let event = concat!(
        r#"{"specversion":"1.0","id":"demo-1","source":"demo","type":"message","#,
        r#""subject":"ada","data":{"text":"hello"}}"#,
    );
    answer(app, request.body(event.to_owned())?)
}

fn answer(app: &str, request: ureq::http::Request<String>) -> Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(ANSWER_WITHIN))
        .build()
        .into();
    let mut response = agent.run(request).with_context(|| format!("no response from {app}"))?;
    let text = response.body_mut().read_to_string().with_context(|| format!("incomplete response from {app}"))?;
    if !response.status().is_success() && !response.status().is_redirection() {
        bail!("{app} responded with {}: {}", response.status(), text.trim());
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
