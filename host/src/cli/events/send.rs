//! Implements `isopod events send`: sends one CloudEvent to an app, and shows the reply or the
//! state of the stored event. Never retries.

use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use ureq::http::Method;

use super::super::failure::Failure;
use super::super::limits;
use super::super::new;
use super::super::output;
use super::super::target::RemoteApp;
use super::stored;

#[derive(Args, Debug)]
pub(super) struct SendArgs {
    /// The type of the event, such as chat.message
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data: JSON or text; @FILE reads a file, - reads standard input
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    data: Option<String>,
    /// The person or thing that the event is about, such as a user's id
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// The origin of the event
    #[arg(long, value_name = "SOURCE", default_value = "isopod-cli")]
    source: String,
    /// The event's id [default: a random id]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The queue. With pull, the command waits for the reply; with push, the host stores the event
    /// [default: pull]
    #[arg(long, value_enum)]
    queue: Option<Queue>,
    /// Don't wait for the reply: the same as --queue push
    #[arg(long)]
    no_wait: bool,
    /// Store the event, and deliver it at this time or later: a duration such as 10m, or an RFC
    /// 3339 time
    #[arg(long, value_name = "TIME")]
    delay: Option<String>,
    /// Store the event, and cancel it if it has not been delivered by this time: a duration such as
    /// 2d, or a future RFC 3339 time
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

impl SendArgs {
    /// Returns whether the host stores the event. Otherwise the command waits for the reply.
    fn is_stored(&self) -> Result<bool, Failure> {
        let storing =
            [("--no-wait", self.no_wait), ("--delay", self.delay.is_some()), ("--expires", self.expires.is_some())];
        let storing = storing.into_iter().find_map(|(option, given)| given.then_some(option));
        match (self.queue, storing) {
            (Some(Queue::Pull), Some(option)) => {
                Err(Failure::usage(format!("{option} can't be used with --queue pull"))
                    .why(format!("{option} stores the event, and events in the pull queue are not stored"))
                    .next(format!("omit --queue pull or {option}")))
            }
            (Some(Queue::Push), _) | (None, Some(_)) => Ok(true),
            (Some(Queue::Pull) | None, None) => Ok(false),
        }
    }
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Pull,
    Push,
}

pub(super) fn run(app: &RemoteApp, args: &SendArgs) -> Result<(), Failure> {
    check_expiry(args.expires.as_deref(), Timestamp::now())?;
    let query = if args.is_stored()? { "?queue=push" } else { "" };
    let data = args.data.as_deref().map(read_data).transpose()?;
    let id = args.id.clone().unwrap_or_else(|| format!("{:016x}", rand::rng().random::<u64>()));
    let event = cloud_event(args, &id, data, SystemTime::now());
    let path = format!("/v1/apps/{}/events{query}", app.name);
    let text = serde_json::to_string(&event).map_err(|error| Failure::new("cannot encode the event").why(error))?;
    check_size(text.len())?;
    let answer = app.client.send_text(Method::POST, &path, "application/cloudevents+json", &text)?;
    let status = answer.status();
    let raw = answer.raw().to_owned();
    let body = answer.success()?;
    if app.is_json() {
        output::emit(&format!("{}\n", reply_json(&raw)));
    } else if status == 202 {
        output::emit(&place(&id, &body));
        output::note(&format!("show its state with `{}`", show_command(&id, app.name.as_str())));
    } else {
        output::emit(&reply_text(&raw));
    }
    Ok(())
}

/// Returns the command that shows a stored event, with the id quoted for a shell.
fn show_command(id: &str, app: &str) -> String {
    let quoted = new::quoted(Path::new(id));
    if id.starts_with('-') {
        // Otherwise the id would be read as an option.
        format!("isopod events show --app {app} -- {quoted}")
    } else {
        format!("isopod events show {quoted} --app {app}")
    }
}

/// Refuses an expiry in the past: the host would accept the event, and never deliver it.
fn check_expiry(expires: Option<&str>, now: Timestamp) -> Result<(), Failure> {
    match expires.and_then(|time| time.parse::<Timestamp>().ok()) {
        Some(time) if time <= now => Err(Failure::usage("the event has expired")
            .why(format!("the time of --expires, {time}, has passed"))
            .next("use a future time, or a duration such as 1h")),
        Some(_) | None => Ok(()),
    }
}

/// Returns the line about a stored event.
fn place(id: &str, event: &Value) -> String {
    format!("{}\n", output::done(&format!("stored event {id}: {}", stored::state(event))))
}

fn read_data(written: &str) -> Result<String, Failure> {
    let read = |mut reader: Box<dyn std::io::Read>| {
        let mut text = String::new();
        // Reads one byte more than the limit, so that a longer event is refused, not truncated.
        reader.as_mut().take(limits::SENT_EVENT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
    };
    let text = match written {
        "-" => read(Box::new(std::io::stdin())),
        _ => match written.strip_prefix('@') {
            Some(file) => std::fs::File::open(file).and_then(|file| read(Box::new(file))),
            None => return Ok(written.to_owned()),
        },
    };
    text.map_err(|error| Failure::new(format!("cannot read the event's data from `{written}`")).why(error))
}

/// Refuses an event that is larger than the host's limit, before it is sent.
fn check_size(bytes: usize) -> Result<(), Failure> {
    if bytes <= limits::SENT_EVENT_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::new("the event is too large")
        .why(format!("an event has at most {}", output::size(limits::SENT_EVENT_BYTES_MAX as u64)))
        .next("store larger data where the app can fetch it, and send its address"))
}

/// An event in the form in which it is sent. The data keeps its text, since parsing a number may
/// lose digits.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    isopoddelay: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    isopodexpires: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Json(Box<RawValue>),
    Text(String),
}

impl Data {
    fn of(text: String) -> Self {
        match serde_json::from_str(&text) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(text),
        }
    }

    fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Text(_) => "text/plain",
        }
    }
}

fn cloud_event<'a>(args: &'a SendArgs, id: &'a str, data: Option<String>, now: SystemTime) -> CloudEvent<'a> {
    let data = data.map(Data::of);
    CloudEvent {
        specversion: "1.0",
        id,
        source: &args.source,
        event_type: &args.event_type,
        time: Timestamp::try_from(now).map(|time| time.to_string()).unwrap_or_default(),
        subject: args.subject.as_deref(),
        isopoddelay: args.delay.as_deref(),
        isopodexpires: args.expires.as_deref(),
        datacontenttype: data.as_ref().map(Data::content_type),
        data,
    }
}

/// Returns a reply as JSON: unchanged if it is JSON, otherwise as a JSON string.
fn reply_json(raw: &str) -> String {
    match serde_json::from_str::<&RawValue>(raw) {
        Ok(json) => json.get().to_owned(),
        Err(_) if raw.is_empty() => "null".to_owned(),
        Err(_) => Value::from(raw).to_string(),
    }
}

/// The parts of a reply that is itself a CloudEvent.
#[derive(Deserialize)]
struct ReplyEvent<'a> {
    #[serde(borrow, rename = "specversion")]
    _specversion: &'a RawValue,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Returns a reply for people: the data of a CloudEvent, a JSON string as its text, and other JSON
/// unchanged.
fn reply_text(raw: &str) -> String {
    // Only an object can be a CloudEvent; serde would also read the struct from a list.
    let event = Some(raw).filter(|raw| raw.trim_start().starts_with('{'));
    let data = match event.map(serde_json::from_str::<ReplyEvent<'_>>) {
        Some(Ok(event)) => event.data.map_or("", RawValue::get),
        Some(Err(_)) | None => raw.trim_end(),
    };
    match serde_json::from_str::<Option<String>>(data) {
        Ok(Some(text)) => format!("{text}\n"),
        Err(_) if !data.is_empty() => format!("{data}\n"),
        Ok(None) | Err(_) => format!("{}\n", output::done("handled without a reply")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        args: SendArgs,
    }

    fn args(words: &[&str]) -> SendArgs {
        Wrapper::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args
    }

    fn event(words: &[&str], data: Option<&str>) -> String {
        let args = args(words);
        let event = cloud_event(&args, "1", data.map(str::to_owned), SystemTime::UNIX_EPOCH);
        serde_json::to_string(&event).unwrap()
    }

    #[test]
    fn json_data_keeps_its_text_and_other_data_becomes_text() {
        let data = r#"{"b": 18446744073709551616, "a": [19.90, 1e2], "a": 0}"#;
        let json = event(&["x", "chat.message", "--subject", "ann"], Some(&format!(" {data}\n")));
        assert!(json.ends_with(&format!(r#""subject":"ann","datacontenttype":"application/json","data":{data}}}"#)));
        let text = event(&["x", "chat.message"], Some("hi \"there"));
        assert!(text.ends_with(r#""datacontenttype":"text/plain","data":"hi \"there"}"#), "{text}");
    }

    #[test]
    fn an_event_without_data_has_no_data_field() {
        let event = event(&["x", "tick"], None);
        assert!(!event.contains("data") && event.contains(r#""time":"1970-01-01T00:00:00Z""#), "{event}");
    }

    #[test]
    fn an_event_with_a_delay_or_an_expiry_is_stored() {
        let event = event(&["x", "tick", "--delay", "10m", "--expires", "2026-12-01T08:00:00Z"], None);
        let shown = r#""isopoddelay":"10m","isopodexpires":"2026-12-01T08:00:00Z""#;
        assert!(event.contains(shown), "{event}");
        for (words, is_stored) in [
            (&[] as &[&str], Ok(false)),
            (&["--queue", "pull"], Ok(false)),
            (&["--queue", "push"], Ok(true)),
            (&["--queue", "push", "--no-wait"], Ok(true)),
            (&["--no-wait"], Ok(true)),
            (&["--delay", "1s"], Ok(true)),
            (&["--expires", "1s"], Ok(true)),
            (&["--queue", "pull", "--no-wait"], Err("--no-wait can't be used with --queue pull")),
            (&["--queue", "pull", "--expires", "1s"], Err("--expires can't be used with --queue pull")),
        ] {
            let found = args(&[&["x", "tick"], words].concat()).is_stored();
            let found = found.map_err(|failure| failure.problem()["title"].as_str().unwrap().to_owned());
            assert_eq!(found.as_ref().map_err(String::as_str), is_stored.as_ref().map_err(|title| *title), "{words:?}");
        }
    }

    #[test]
    fn an_event_that_has_expired_is_not_sent() {
        let now = "2026-12-01T08:00:00Z".parse().unwrap();
        for future in [None, Some("1h"), Some("2026-12-01T08:00:01Z"), Some("2026-12-01T09:00:01+01:00"), Some("soon")]
        {
            assert!(check_expiry(future, now).is_ok(), "{future:?}");
        }
        for past in ["2026-12-01T08:00:00Z", "2026-12-01T08:59:59+01:00"] {
            let refused = check_expiry(Some(past), now).unwrap_err().text();
            assert!(refused.contains("--expires") && refused.contains("has passed"), "{refused}");
        }
    }

    #[test]
    fn the_command_that_shows_an_event_can_be_pasted_into_a_shell() {
        for (id, command) in [
            ("42", "isopod events show 42 --app shop"),
            ("a/b", "isopod events show a/b --app shop"),
            ("it's $(x)?", r"isopod events show 'it'\''s $(x)?' --app shop"),
            ("-n", "isopod events show --app shop -- -n"),
            ("--x y", "isopod events show --app shop -- '--x y'"),
        ] {
            assert_eq!(show_command(id, "shop"), command);
        }
    }

    #[test]
    fn an_event_over_the_hosts_limit_is_not_sent() {
        assert!(check_size(limits::SENT_EVENT_BYTES_MAX).is_ok());
        assert!(check_size(limits::SENT_EVENT_BYTES_MAX + 1).unwrap_err().text().contains("1.0 MiB"));
    }

    #[test]
    fn a_reply_is_shown_as_its_data() {
        assert_eq!(reply_text(r#"{"specversion":"1.0","data":"hello"}"#), "hello\n");
        assert_eq!(reply_text(r#"{"specversion":"1.0","data": {"b":1.0, "a":1}}"#), "{\"b\":1.0, \"a\":1}\n");
        assert_eq!(reply_text(r#"{"data": 19.90}"#), "{\"data\": 19.90}\n");
        assert_eq!(reply_text("\"two\\nlines\""), "two\nlines\n");
        assert_eq!(reply_text("plain\n"), "plain\n");
        assert!(reply_text("").contains("without a reply"));
        assert_eq!(reply_json("{\"b\": 1.50}"), "{\"b\": 1.50}");
        assert_eq!((reply_json("a\"b").as_str(), reply_json("").as_str()), (r#""a\"b""#, "null"));
    }
}
