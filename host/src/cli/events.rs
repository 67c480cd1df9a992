//! `isopod events send`: gives an app one event, as a CloudEvent, and shows its reply.

use std::io::Read as _;
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use rand::RngExt as _;
use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, HostArgs};
use super::failure::Failure;
use super::limits;
use super::output;
use super::project::AppArgs;

#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Subcommand, Debug)]
enum EventsCommand {
    /// Send one event and show the reply
    Send(SendArgs),
}

#[derive(Args, Debug)]
struct SendArgs {
    /// The type of the event, such as chat.message
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data: JSON, or any text; @FILE reads a file, - reads standard input
    #[arg(long, value_name = "DATA", allow_hyphen_values = true)]
    data: Option<String>,
    /// Whom or what the event is about, such as a user's id
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Where the event comes from
    #[arg(long, value_name = "SOURCE", default_value = "isopod-cli")]
    source: String,
    /// The event's id; a new one if not given
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// pull goes before everything that nobody waits for; push goes behind it. Either way the reply is waited for
    #[arg(long, value_enum, default_value_t = Queue::Pull)]
    queue: Queue,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    host: HostArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Pull,
    Push,
}

pub(crate) fn run(args: &EventsArgs) -> Result<(), Failure> {
    let EventsCommand::Send(args) = &args.command;
    let app = args.app.resolve()?;
    let data = args.data.as_deref().map(read_data).transpose()?;
    let id = args.id.clone().unwrap_or_else(|| format!("{:016x}", rand::rng().random::<u64>()));
    let event = cloud_event(args, &id, data, SystemTime::now());
    let query = if args.queue == Queue::Push { "?queue=push" } else { "" };
    let path = format!("/v1/apps/{app}/events{query}");
    let text = event.to_string();
    check_size(text.len())?;
    let client = Client::near_project(&args.host)?;
    let answer = client.send_text(Method::POST, &path, "application/cloudevents+json", &text)?;
    let status = answer.status();
    let raw = answer.raw().to_owned();
    let reply = answer.success()?;
    if args.json {
        // A reply need not be JSON; then it is shown as the text it is.
        output::json(&if reply.is_null() && !raw.is_empty() { Value::String(raw) } else { reply });
    } else if status == 202 {
        output::emit(&format!("{}\n", output::done(&format!("accepted event {id}"))));
    } else {
        output::emit(&reply_text(&reply, &raw));
    }
    Ok(())
}

fn read_data(written: &str) -> Result<String, Failure> {
    let read = |mut reader: Box<dyn std::io::Read>| {
        let mut text = String::new();
        // One more than may be, so that a longer event is seen as such and not cut in silence.
        reader.as_mut().take(limits::EVENT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
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

/// What a host refuses is not sent to it.
fn check_size(bytes: usize) -> Result<(), Failure> {
    if bytes <= limits::EVENT_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::new("the event is too large")
        .why(format!("an event is a message of up to {}", output::size(limits::EVENT_BYTES_MAX as u64)))
        .next("keep larger data where the app can fetch it, and send its address"))
}

fn cloud_event(args: &SendArgs, id: &str, data: Option<String>, now: SystemTime) -> Value {
    let time = jiff::Timestamp::try_from(now).map(|time| time.to_string()).unwrap_or_default();
    let mut event = json!({
        "specversion": "1.0", "id": id, "source": args.source, "type": args.event_type, "time": time,
    });
    if let Some(subject) = &args.subject {
        event["subject"] = json!(subject);
    }
    if let Some(data) = data {
        let parsed: Result<Value, _> = serde_json::from_str(&data);
        event["datacontenttype"] = json!(if parsed.is_ok() { "application/json" } else { "text/plain" });
        event["data"] = parsed.unwrap_or(Value::String(data));
    }
    event
}

/// A reply for people: its data, as text where it is text.
fn reply_text(reply: &Value, raw: &str) -> String {
    let is_event = reply.get("specversion").is_some();
    let data = reply.get("data").filter(|_| is_event).unwrap_or(reply);
    match data {
        Value::Null if raw.trim().is_empty() => format!("{}\n", output::done("handled, without a reply")),
        Value::Null => format!("{}\n", raw.trim_end()),
        Value::String(text) => format!("{text}\n"),
        other => format!("{other:#}\n"),
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

    fn event(words: &[&str], data: Option<&str>) -> Value {
        let args = Wrapper::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args;
        cloud_event(&args, "1", data.map(str::to_owned), SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn json_data_stays_json_and_other_data_becomes_text() {
        let json = event(&["x", "chat.message", "--subject", "ann"], Some(r#"{"text":"hi"}"#));
        assert_eq!((&json["data"]["text"], &json["subject"]), (&json!("hi"), &json!("ann")));
        let text = event(&["x", "chat.message"], Some("hi there"));
        assert_eq!((&text["data"], &text["datacontenttype"]), (&json!("hi there"), &json!("text/plain")));
    }

    #[test]
    fn an_event_without_data_has_no_data_field() {
        let event = event(&["x", "tick"], None);
        assert!(event.get("data").is_none() && event["time"] == "1970-01-01T00:00:00Z");
    }

    #[test]
    fn an_event_that_no_host_takes_is_not_sent() {
        assert!(check_size(limits::EVENT_BYTES_MAX).is_ok());
        assert!(check_size(limits::EVENT_BYTES_MAX + 1).unwrap_err().text().contains("1.0 MiB"));
    }

    #[test]
    fn a_reply_is_shown_as_its_data() {
        assert_eq!(reply_text(&json!({"specversion": "1.0", "data": "hello"}), ""), "hello\n");
        assert_eq!(reply_text(&json!({"data": 1}), ""), "{\n  \"data\": 1\n}\n");
        assert_eq!(reply_text(&Value::Null, "plain\n"), "plain\n");
    }
}
