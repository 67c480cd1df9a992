//! Owns what the demo asks each example, and how the answer is shown. An example that is not listed here is asked for
//! its first page.

use std::fmt;

use anyhow::{Context, Result};

use super::running::RunningHost;

/// One question and the app's own answer.
pub(crate) struct Answer {
    url: String,
    question: String,
    status: u16,
    text: String,
}

/// An answer is shown up to here; a page may be longer than a screen.
const SHOWN_CHARS_MAX: usize = 300;

pub(crate) fn of(host: &RunningHost, app: &str) -> Result<Answer> {
    let url = format!("http://{app}.localhost:{}/", host.listen.port());
    match app {
        "bot" => event(host, app, url),
        "guestbook" => {
            page(host, app, "POST", "entries", r#"{"name":"Ada","text":"Hello from the demo"}"#)
                .with_context(|| format!("{app} did not answer"))?;
            let (status, text) = page(host, app, "GET", "entries", "")?;
            Ok(Answer { question: format!("GET {url}entries, after a POST"), url, status, text })
        }
        _ => {
            let (status, text) = page(host, app, "GET", "", "").with_context(|| format!("{app} did not answer"))?;
            Ok(Answer { question: format!("GET {url}"), url, status, text })
        }
    }
}

/// The address is connected to and the name sent as Host, since not every system resolves names below `localhost`.
fn page(host: &RunningHost, app: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("http://{}/{path}", host.listen))
        .header("host", format!("{app}.localhost:{}", host.listen.port()))
        .header("content-type", "application/json");
    answer(request.body(body.to_owned())?)
}

fn event(host: &RunningHost, app: &str, url: String) -> Result<Answer> {
    let uri = format!("http://{}/v1/apps/{app}/events", host.admin);
    let request = ureq::http::Request::builder()
        .method("POST")
        .uri(uri.clone())
        .header("authorization", format!("Bearer {}", host.token()?))
        .header("content-type", "application/cloudevents+json");
    let event = r#"{"specversion":"1.0","id":"demo-1","source":"demo","type":"message","subject":"ada","data":{"text":"hello"}}"#;
    let (status, text) = answer(request.body(event.to_owned())?).with_context(|| format!("{app} did not answer"))?;
    Ok(Answer { question: format!("POST {uri} with the event \"hello\""), url, status, text })
}

fn answer(request: ureq::http::Request<String>) -> Result<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(std::time::Duration::from_secs(30)))
        .build()
        .into();
    let mut response = agent.run(request)?;
    let text = response.body_mut().read_to_string()?;
    Ok((response.status().as_u16(), text))
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        write!(out, "{}\n    {}\n    {} {}", self.url, self.question, self.status, shown.replace('\n', "\n    "))
    }
}
