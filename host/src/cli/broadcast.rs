//! Implements `isopod broadcast`: sends the events of a file, one per line, in several requests.
//! Continues after an interrupted request. Never changes an event.

use std::borrow::Cow;
use std::io::{IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use ureq::http::HeaderMap;

use super::failure::Failure;
use super::interrupt;
use super::limits;
use super::output;
use super::progress::Step;
use super::target::{RemoteApp, Target};
use crate::api::cloud_event::EventReader;
use crate::api::ndjson::{Line, LineTooLong, Lines};

const EXAMPLES: &str = "\
A line:
  {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/shop\",\"type\":\"order\",\"data\":{\"amount\":3}}

Examples:
  isopod broadcast users.ndjson              sends each line, which is a CloudEvent as JSON
  isopod broadcast users.ndjson --dry-run    checks the file, and sends nothing
  make-events | isopod broadcast -           sends the lines of standard input
  isopod broadcast users.ndjson --from 4001  continues at line 4001

Sending lines again is safe: the host recognises an event by its source and id for a day after it was accepted, but
remembers at most 1,000,000 events that have ended. Continue a larger broadcast with the --from that a failure prints.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BroadcastArgs {
    /// The file with one CloudEvent as JSON per line; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Check the events, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// The first line to send
    #[arg(long, value_name = "LINE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: &BroadcastArgs) -> Result<(), Failure> {
    let mut source = Source::open(args)?;
    if args.dry_run {
        return check(&mut source, args.target.is_json());
    }
    let app = args.target.change()?;
    let interrupt = interrupt::with_message(interrupted(&source.name, args.from, &app));
    let step = Step::lines(&format!("sending events to {}", app.name), source.size);
    let mut sending = Sending { app: &app, step, started: Instant::now(), accepted: 0, duplicates: 0 };
    loop {
        let chunk = source.chunk().map_err(|failure| sending.unreadable(failure, source.next_line(), &source.name))?;
        let Some(first) = chunk.first() else { break };
        interrupt.set(interrupted(&source.name, first.number, &app));
        sending.send(chunk, source.bytes_read, &source.name)?;
        interrupt.set(interrupted(&source.name, source.next_line(), &app));
    }
    source.check_from()?;
    let Sending { step, started, accepted, duplicates, .. } = sending;
    step.finish();
    app.show(&json!({ "accepted": accepted, "duplicates": duplicates }), || {
        let rate = rate(accepted, started.elapsed());
        Ok(format!("{}\n", output::done(&format!("{} ({rate})", summary(accepted, duplicates)))))
    })
}

/// Returns the message of an interrupted broadcast. The host may have stored some events from this
/// line onwards, and recognises them as duplicates.
fn interrupted(file: &str, line: u64, app: &RemoteApp) -> String {
    format!("the broadcast was interrupted at line {line}; to continue: {}", command(file, line, app))
}

/// Returns the command that sends the events from this line onwards, quoted for a shell.
fn command(file: &str, line: u64, app: &RemoteApp) -> String {
    // Only a NUL can't be quoted, and no path contains one.
    let file = shlex::try_quote(file).unwrap_or(Cow::Borrowed(file));
    format!("isopod broadcast {file} --from {line} --app {}", app.name)
}

/// The lines of the file.
struct Source {
    reader: Box<dyn Read>,
    name: String,
    size: Option<u64>,
    bytes_read: u64,
    lines: Option<Lines>,
    /// Bytes that were read and not yet split into lines.
    rest: Bytes,
    /// The number of the last line with content that was read, or 0.
    last: u64,
    /// The first line to send; earlier lines are skipped.
    from: u64,
    /// The number of complete lines that were skipped.
    skipped: u64,
    /// The failure to return instead of the next lines.
    failed: Option<Failure>,
}

impl Source {
    fn open(args: &BroadcastArgs) -> Result<Self, Failure> {
        let name = args.file.display().to_string();
        let (reader, size): (Box<dyn Read>, _) = if name == "-" {
            if std::io::stdin().is_terminal() {
                output::note("reading events from the terminal, one per line; end with Ctrl-D");
            }
            (Box::new(std::io::stdin()), None)
        } else {
            let opened = std::fs::File::open(&args.file).and_then(|file| Ok((file.metadata()?, file)));
            let (metadata, file) = opened.map_err(|error| Failure::new(format!("cannot open `{name}`")).why(error))?;
            if metadata.is_dir() {
                return Err(Failure::new(format!("`{name}` is a folder")).next("name a file with one event per line"));
            }
            // A pipe has no size.
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        Ok(Self::of(reader, name, size, args.from))
    }

    fn of(reader: Box<dyn Read>, name: String, size: Option<u64>, from: u64) -> Self {
        let lines = Some(Lines::after(from.saturating_sub(1), limits::SENT_EVENT_BYTES_MAX));
        Self { reader, name, size, bytes_read: 0, lines, rest: Bytes::new(), last: 0, from, skipped: 0, failed: None }
    }

    /// Returns the number of the line at which to continue after a failure to read the file.
    fn next_line(&self) -> u64 {
        self.from.max(self.last + 1)
    }

    /// Fails if the first line to send is after the last line with content, which was read.
    fn check_from(&self) -> Result<(), Failure> {
        if self.from == 1 || self.from <= self.last {
            return Ok(());
        }
        let why = match self.last {
            0 => format!("`{}` contains no event", self.name),
            last => format!("the last event of `{}` is on line {last}", self.name),
        };
        Err(Failure::new(format!("no event on line {} or after it", self.from)).why(why).next("check --from"))
    }

    /// Removes the lines before the first line to send, of any length, from the front of `bytes`.
    fn skip_lines(&mut self, bytes: &mut Bytes) {
        while self.skipped + 1 < self.from && !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let skipped = bytes.split_to(end.map_or(bytes.len(), |end| end + 1));
            if skipped.iter().any(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
                self.last = self.skipped + 1;
            }
            self.skipped += u64::from(end.is_some());
        }
    }

    /// Returns the next line with content.
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            let Some(lines) = &mut self.lines else { return Ok(None) };
            if let Some(line) = lines.next(&mut self.rest).map_err(too_long)? {
                self.last = line.number;
                return Ok(Some(line));
            }
            let mut buffer = vec![0; limits::BROADCAST_READ_BYTES];
            let read = self.reader.read(&mut buffer);
            let read = read.map_err(|error| Failure::new(format!("cannot read `{}`", self.name)).why(error))?;
            if read == 0 {
                let last = self.lines.take().map(Lines::finish).transpose().map_err(too_long)?.flatten();
                self.last = last.as_ref().map_or(self.last, |line| line.number);
                return Ok(last);
            }
            buffer.truncate(read);
            let mut bytes = Bytes::from(buffer);
            self.skip_lines(&mut bytes);
            (self.rest, self.bytes_read) = (bytes, self.bytes_read + read as u64);
        }
    }

    /// Returns the lines of the next request; empty at the end.
    fn chunk(&mut self) -> Result<Vec<Line>, Failure> {
        if let Some(failure) = self.failed.take() {
            return Err(failure);
        }
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < limits::BROADCAST_REQUEST_EVENTS && bytes < limits::BROADCAST_REQUEST_BYTES {
            match self.next() {
                Ok(Some(line)) => {
                    bytes += line.bytes.len();
                    chunk.push(line);
                }
                Ok(None) => break,
                Err(failure) if chunk.is_empty() => return Err(failure),
                // The valid lines before it are sent first, as the host does.
                Err(failure) => {
                    self.failed = Some(failure);
                    break;
                }
            }
        }
        Ok(chunk)
    }
}

fn too_long(error: LineTooLong) -> Failure {
    Failure::new(format!("invalid event on line {}", error.number))
        .why(format!("{error}, the limit for one event"))
        .next("shorten the line")
}

/// A broadcast in progress.
struct Sending<'a> {
    app: &'a RemoteApp,
    step: Step,
    started: Instant,
    accepted: u64,
    duplicates: u64,
}

impl Sending<'_> {
    /// Sends lines until the host has stored all of them. Retries for some time if the connection
    /// breaks or the host is busy.
    fn send(&mut self, chunk: Vec<Line>, bytes_read: u64, file: &str) -> Result<(), Failure> {
        let path = format!("/v1/apps/{}/broadcasts", self.app.name);
        let (mut left, mut progress_at) = (chunk.as_slice(), Instant::now());
        loop {
            let body = left.iter().flat_map(|line| [&line.bytes[..], b"\n"]).collect::<Vec<_>>().concat();
            let sent =
                self.app.client.upload(&path, "application/x-ndjson", None, body.len() as u64, &mut body.as_slice());
            let (failure, answer) = match sent {
                Ok(answer) if answer.status() == 202 => {
                    self.count(&answer.success()?);
                    self.step.reach(bytes_read, &self.summary());
                    return Ok(());
                }
                Ok(answer) => (answer.failure(), answer.failure().problem()),
                Err(failure) => (failure, Value::Null),
            };
            let stored = self.count(&answer);
            left = left.get(stored..).unwrap_or_default();
            let Some(next) = left.first() else { return Ok(()) };
            if stored > 0 {
                progress_at = Instant::now();
            }
            if !is_temporary(failure.status()) || progress_at.elapsed() > limits::BROADCAST_RETRY_TIME {
                return Err(self.stopped(failure, &answer, &chunk[chunk.len() - left.len() - stored..], next, file));
            }
            self.step.line(&format!("{}; trying again at line {}", failure.one_line(), next.number));
            std::thread::sleep(limits::BROADCAST_RETRY_PAUSE);
        }
    }

    /// Counts the events that the host has stored of a request, and returns their number.
    fn count(&mut self, answer: &Value) -> usize {
        let number = |key: &str| answer[key].as_u64().unwrap_or_default();
        self.accepted += number("accepted");
        self.duplicates += number("duplicates");
        usize::try_from(number("accepted")).unwrap_or(usize::MAX)
    }

    fn summary(&self) -> String {
        format!("{}, {}", output::events(self.accepted), rate(self.accepted, self.started.elapsed()))
    }

    /// Returns the failure of the whole broadcast. `sent` are the lines of the failed request.
    fn stopped(&self, failure: Failure, answer: &Value, sent: &[Line], next: &Line, file: &str) -> Failure {
        let line = answer["line"].as_u64().and_then(|line| sent.get(usize::try_from(line).ok()?.checked_sub(1)?));
        let (failure, advice) = match line {
            Some(line) => {
                let failure = Failure::new(format!("invalid event on line {}", line.number));
                (
                    failure.why(without_position(answer["detail"].as_str().unwrap_or_default())),
                    "correct the line, then continue: ",
                )
            }
            None => (failure, ""),
        };
        self.to_continue(failure, advice, next.number, file)
    }

    /// Returns the failure of a broadcast whose next lines can't be read, for example because one
    /// is too long.
    fn unreadable(&self, failure: Failure, line: u64, file: &str) -> Failure {
        self.to_continue(failure, "correct the file, then continue: ", line, file)
    }

    /// Adds to a failure how many events are stored, and the command that sends the others.
    fn to_continue(&self, failure: Failure, advice: &str, line: u64, file: &str) -> Failure {
        let so_far = format!("{} stored; nothing from line {line} onwards", output::events(self.accepted));
        failure.log([so_far]).next(format!("{advice}{}", command(file, line, self.app)))
    }
}

/// Returns the detail of a problem without its line, which counts from the start of the request.
fn without_position(detail: &str) -> &str {
    detail.split_once(": ").map_or(detail, |(_, rest)| rest)
}

/// Returns whether a repeated request may succeed. No status means that no response arrived.
fn is_temporary(status: Option<u16>) -> bool {
    matches!(status, None | Some(408 | 429 | 502..=504))
}

/// Returns the line about a complete broadcast.
fn summary(accepted: u64, duplicates: u64) -> String {
    let new = output::events(accepted.saturating_sub(duplicates));
    match duplicates {
        0 => format!("stored {new}"),
        1 => format!("stored {new}; 1 was already stored"),
        _ => format!("stored {new}; {duplicates} were already stored"),
    }
}

fn rate(events: u64, time: Duration) -> String {
    format!("{:.0} per second", events as f64 / time.as_secs_f64().max(0.001))
}

/// Checks all events, as the host would.
fn check(source: &mut Source, as_json: bool) -> Result<(), Failure> {
    let (mut valid, mut invalid) = (0_u64, Vec::new());
    let mut invalid_count = 0_u64;
    loop {
        let line = match source.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            // The lines after this one can't be read.
            Err(failure) => return Err(failure.log(invalid)),
        };
        let reader = EventReader::new(&HeaderMap::new(), jiff::Timestamp::now());
        match reader.and_then(|reader| reader.read_line(&line)) {
            Ok(_) => valid += 1,
            Err(error) => {
                invalid_count += 1;
                if invalid_count <= limits::BROADCAST_ERRORS_SHOWN {
                    invalid.push(error.to_string());
                }
            }
        }
    }
    if invalid_count > 0 {
        let noun = if invalid_count == 1 { "event" } else { "events" };
        let what = format!("`{}` has {invalid_count} invalid {noun} and {valid} valid", source.name);
        return Err(Failure::new(what)
            .log(invalid)
            .next("correct these lines; the host stores no event after the first invalid one"));
    }
    source.check_from()?;
    let noun = if valid == 1 { "event" } else { "events" };
    if as_json {
        output::json(&json!({ "valid": valid, "invalid": 0 }));
    } else {
        output::emit(&format!("{}\n", output::done(&format!("{valid} valid {noun}; nothing was sent"))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::*;

    fn source(text: &'static str, from: u64) -> Source {
        Source::of(Box::new(text.as_bytes()), "x.ndjson".to_owned(), None, from)
    }

    fn numbers(lines: &[Line]) -> Vec<u64> {
        lines.iter().map(|line| line.number).collect()
    }

    fn sending(app: &RemoteApp) -> Sending<'_> {
        Sending { app, step: Step::spinner("x"), started: Instant::now(), accepted: 0, duplicates: 0 }
    }

    #[test]
    fn lines_keep_their_numbers_in_the_file() {
        let text = "\u{feff}a\r\n\nb\nc";
        assert_eq!(numbers(&source(text, 1).chunk().unwrap()), [1, 3, 4]);
        assert_eq!(numbers(&source(text, 2).chunk().unwrap()), [3, 4]);
        let mut source = source(text, 4);
        assert_eq!(numbers(&source.chunk().unwrap()), [4], "the skipped lines are counted");
        assert_eq!(source.chunk().unwrap(), []);
    }

    #[test]
    fn a_busy_host_gets_the_lines_that_it_has_not_stored() {
        let busy = json!({"title": "The event queue is full", "accepted": 1, "duplicates": 0});
        let host = FakeHost::responding([(429, busy), (202, json!({"accepted": 1, "duplicates": 1}))]);
        let (app, chunk) = (host.app("shop"), source("1\n\n2\n", 1).chunk().unwrap());
        let mut sending = sending(&app);
        sending.send(chunk, 0, "x.ndjson").unwrap();
        assert_eq!((sending.accepted, sending.duplicates), (2, 1));
        let requests = host.requests();
        let lengths = requests.iter().flat_map(|request| &request.headers).filter(|(name, _)| name == "content-length");
        assert_eq!(lengths.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["4", "2"]);
    }

    #[test]
    fn an_invalid_line_is_named_by_its_number_in_the_file() {
        let detail = "invalid CloudEvent on line 2: the attribute `id` is missing";
        let refused = json!({"title": "Invalid CloudEvent", "detail": detail, "line": 2, "accepted": 1});
        let host = FakeHost::responding([(400, refused)]);
        let (app, chunk) = (host.app("shop"), source("{}\n\n\n{}\n{}\n", 1).chunk().unwrap());
        let text = sending(&app).send(chunk, 0, "x.ndjson").unwrap_err().text();
        for shown in ["invalid event on line 4", "the attribute `id` is missing", "1 event stored", "--from 4"] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
        assert!(!text.contains("line 2"), "{text}");
    }

    #[test]
    fn the_command_that_continues_a_broadcast_can_be_pasted_into_a_shell() {
        let host = FakeHost::responding([]);
        let shown = command("/tmp/a file's.ndjson", 2, &host.app("shop"));
        assert_eq!(shown, r#"isopod broadcast "/tmp/a file's.ndjson" --from 2 --app shop"#);
        assert_eq!(command("a.ndjson", 3, &host.app("shop")), "isopod broadcast a.ndjson --from 3 --app shop");
    }

    #[test]
    fn a_dry_run_names_invalid_lines() {
        let text = check(&mut source("{}\n{\"specversion\":\"1.0\"}\n", 1), false).unwrap_err().text();
        assert!(text.contains("has 2 invalid events and 0 valid"), "{text}");
        assert!(text.contains("on line 1: ") && text.contains("on line 2: "), "{text}");
        let valid = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/\",\"type\":\"t\"}\n";
        assert!(check(&mut source(valid, 1), false).is_ok());
        let too_long = format!("{{}}\n{}\n{valid}", "x".repeat(limits::SENT_EVENT_BYTES_MAX + 1)).leak();
        let text = check(&mut source(too_long, 1), false).unwrap_err().text();
        assert!(text.contains("invalid event on line 2") && text.contains("on line 1: "), "{text}");
        assert!(check(&mut source(too_long, 3), false).is_ok(), "skipped lines may have any length");
    }

    #[test]
    fn from_must_not_be_after_the_last_event() {
        let refused = |text, from| {
            let mut source = source(text, from);
            while !source.chunk().unwrap().is_empty() {}
            source.check_from().map_err(|failure| failure.one_line())
        };
        for (text, from) in [("a\nb\n", 1), ("a\nb\n", 2), ("a\nb", 2), ("", 1)] {
            assert_eq!(refused(text, from), Ok(()), "{text:?} from {from}");
        }
        let error = refused("a\nb\n\n", 3).unwrap_err();
        assert_eq!(error, "no event on line 3 or after it: the last event of `x.ndjson` is on line 2");
        assert_eq!(refused("", 2).unwrap_err(), "no event on line 2 or after it: `x.ndjson` contains no event");
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_with_the_stored_events_and_the_line_to_continue_from() {
        let text = format!("a\n\n{}\nb\n", "x".repeat(limits::SENT_EVENT_BYTES_MAX + 1));
        let mut source = source(text.leak(), 1);
        assert_eq!(numbers(&source.chunk().unwrap()), [1]);
        let failure = source.chunk().unwrap_err();
        let host = FakeHost::responding([]);
        let app = host.app("shop");
        let sending = Sending { accepted: 1, ..sending(&app) };
        let text = sending.unreadable(failure, source.next_line(), "x.ndjson").text();
        for shown in ["invalid event on line 3", "1 event stored; nothing from line 2 onwards", "--from 2 --app shop"] {
            assert!(text.contains(shown), "{shown} is not in {text}");
        }
    }

    #[test]
    fn a_repeated_broadcast_reports_new_and_duplicate_events() {
        assert_eq!(summary(60_000, 0), "stored 60000 events");
        assert_eq!(summary(60_000, 60_000), "stored 0 events; 60000 were already stored");
        assert_eq!(summary(2, 1), "stored 1 event; 1 was already stored");
    }
}
