//! Converts events between the guest's form and the store's form. Never reads or writes a queue.

use std::{collections::HashSet, time::Duration};

use isopod_engine::{EmitError, EmittedEvent};
use isopod_policy::{AppName, Order, Process, ProcessName, RequestId};
use isopod_store::{Claim, Effects, Event, EventPayload, KeyRead, KeyWrite, NewEvent, ValueVersion};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{attributes, outcome::Failure};
use crate::runtime::ActiveRelease;

/// The process type that handles an event, with its settings at the time of acceptance.
pub(super) struct Handler {
    process: ProcessName,
    is_ordered: bool,
    attempts_max: u32,
}

impl Handler {
    /// Returns the process type of a release that handles events for which no process type is
    /// named.
    pub(super) fn of(release: &ActiveRelease) -> Option<Self> {
        let (process, definition) = release.main_event_process()?;
        Some(Self::new(process, definition))
    }

    pub(super) fn new(process: &ProcessName, definition: &Process) -> Self {
        Self {
            process: process.clone(),
            is_ordered: definition.order == Some(Order::Subject),
            attempts_max: definition.retry_policy().attempts,
        }
    }

    /// Returns an event for this process type.
    pub(super) fn event(&self, event: Event, not_before: Option<Timestamp>, expires_at: Option<Timestamp>) -> NewEvent {
        NewEvent {
            process: self.process.clone(),
            event,
            is_ordered: self.is_ordered,
            not_before,
            expires_at,
            attempts_max: self.attempts_max,
        }
    }
}

/// Returns the request id that the log lines of all attempts of an event have. The id is derived
/// from the event's source and id, so it isn't stored.
pub(crate) fn request_id(source: &str, id: &str) -> RequestId {
    let length = (source.len() as u64).to_le_bytes();
    let digest = Sha256::new().chain_update(length).chain_update(source).chain_update(id).finalize();
    let (first, _) = digest.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    RequestId::from_random(u128::from_le_bytes(*first))
}

/// Returns the event as its handler receives it.
pub(super) fn to_guest(claim: &Claim) -> isopod_engine::Event {
    let accepted_ms = claim.accepted_at.as_millisecond();
    isopod_engine::Event { attempt: claim.attempt, accepted_ms, ..asked(claim.event.clone()) }
}

/// Returns the event in the guest's form, without an attempt.
pub(super) fn asked(event: Event) -> isopod_engine::Event {
    let Event { id, source, event_type, subject, payload } = event;
    let EventPayload { time, data_content_type, data_schema, extensions, data } = payload;
    isopod_engine::Event {
        id,
        source,
        event_type,
        subject,
        time,
        data_content_type,
        data_schema,
        data,
        extensions,
        attempt: 0,
        accepted_ms: 0,
    }
}

/// Returns a sender's event in the store's form.
pub(super) fn from_sender(event: isopod_engine::Event) -> Event {
    let isopod_engine::Event {
        id,
        source,
        event_type,
        subject,
        time,
        data_content_type,
        data_schema,
        data,
        extensions,
        attempt: _,
        accepted_ms: _,
    } = event;
    let payload = EventPayload { time, data_content_type, data_schema, extensions, data };
    Event { id, source, event_type, subject, payload }
}

/// The attribute that contains the target app of an event that waits to be forwarded: the app's
/// name and id. No sender can set it, since its name is invalid in CloudEvents.
const FORWARD_TO: &str = "isopod-forward-to";

/// Returns the prefix of the source of an event that waits to be forwarded.
fn forward_source(target: &str) -> String {
    format!("isopod/forward/{target}/")
}

/// Returns the prefix of the subject of an event that waits to be forwarded.
fn forward_subject(target: &str) -> String {
    format!("{target}/")
}

/// The app to which an event is to be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    /// The app's id, which distinguishes it from a later app of the same name. `None` for an event
    /// that an earlier version of the host has stored.
    pub(super) id: Option<&'a str>,
}

impl Target<'_> {
    /// Returns why the app that now has the name isn't the target. `None` if it is.
    pub(super) fn mismatch(&self, id: &str) -> Option<&'static str> {
        match self.id {
            Some(NO_APP) => Some("there was no such app when the event was sent"),
            Some(target) if target != id => Some("the app was destroyed, and a new app has its name"),
            Some(_) | None => None,
        }
    }
}

/// The id of a target that didn't exist when the event was sent.
const NO_APP: &str = "";

/// Marks an event to be forwarded. In the sender's own queue, its source includes the target app,
/// so events with the same source and id for different apps aren't duplicates of each other. Its
/// subject includes the target app too, so an unavailable target delays only events for that app.
fn forwarding(mut event: Event, target: &str, id: &str) -> Event {
    event.source.insert_str(0, &forward_source(target));
    if let Some(subject) = &mut event.subject {
        subject.insert_str(0, &forward_subject(target));
    }
    event.payload.extensions.push((FORWARD_TO.to_owned(), format!("{target} {id}")));
    event
}

/// Returns the app to which an event is to be forwarded, if it is marked.
pub(super) fn forward_target(event: &Event) -> Option<Target<'_>> {
    let (_, target) = event.payload.extensions.iter().find(|(name, _)| name == FORWARD_TO)?;
    Some(match target.split_once(' ') {
        Some((name, id)) => Target { name, id: Some(id) },
        None => Target { name: target, id: None },
    })
}

/// Returns a forwarded event as the app named `target` receives it.
pub(super) fn forwarded(mut event: Event, target: &str) -> Event {
    event.payload.extensions.retain(|(name, _)| name != FORWARD_TO);
    remove_start(&mut event.source, &forward_source(target));
    if let Some(subject) = &mut event.subject {
        remove_start(subject, &forward_subject(target));
    }
    event
}

fn remove_start(text: &mut String, start: &str) {
    if let Some(original) = text.strip_prefix(start) {
        *text = original.to_owned();
    }
}

/// An event that a guest sends, with its times.
pub(super) struct Sent {
    pub(super) event: Event,
    pub(super) not_before: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
}

/// Checks an event that a guest of `app` sends. Returns the times of its earliest delivery and its
/// expiry.
pub(super) fn check(
    event: &EmittedEvent,
    app: &AppName,
    now: Timestamp,
) -> Result<(Option<Timestamp>, Option<Timestamp>), EmitError> {
    check_attributes(event).map_err(EmitError::Invalid)?;
    if let Some(source) = &event.source {
        attributes::check_sender(source, Some(app)).map_err(EmitError::Invalid)?;
    }
    let later = |name: &str, duration: Option<Duration>| {
        let Some(duration) = duration else { return Ok(None) };
        let time = attributes::time_after(duration, now);
        time.map(Some).ok_or_else(|| EmitError::Invalid(format!("the {name} of the event {}", attributes::too_far())))
    };
    let (not_before, expires_at) = (later("delay", event.delay)?, later("expiry", event.expires_after)?);
    attributes::check_times(not_before, expires_at).map_err(EmitError::Invalid)?;
    Ok((not_before, expires_at))
}

fn check_attributes(event: &EmittedEvent) -> Result<(), String> {
    let defined = [
        ("id", Some(&event.id)),
        ("source", event.source.as_ref()),
        ("type", Some(&event.event_type)),
        ("subject", event.subject.as_ref()),
        ("time", event.time.as_ref()),
        ("datacontenttype", event.data_content_type.as_ref()),
        ("dataschema", event.data_schema.as_ref()),
    ];
    for (name, value) in defined {
        value.map_or(Ok(()), |value| attributes::check(name, value))?;
    }
    let mut names = HashSet::new();
    for (name, value) in &event.extensions {
        attributes::check_extension(name, value)?;
        if !names.insert(name) {
            return Err(format!("the attribute `{name}` appears more than once"));
        }
    }
    Ok(())
}

/// Returns the event that a guest of `app` sends, or the error of an invalid event.
pub(super) fn from_guest(event: EmittedEvent, app: &AppName, now: Timestamp) -> Result<Sent, EmitError> {
    let (not_before, expires_at) = check(&event, app, now)?;
    let payload = EventPayload {
        time: Some(event.time.unwrap_or_else(|| now.to_string())),
        data_content_type: event.data_content_type,
        data_schema: event.data_schema,
        extensions: event.extensions,
        data: event.data,
    };
    let source = event.source.unwrap_or_else(|| attributes::app_source(app));
    let event = Event { id: event.id, source, event_type: event.event_type, subject: event.subject, payload };
    Ok(Sent { event, not_before, expires_at })
}

/// Returns a handler's effects in the form that the store commits. Events for other apps first
/// enter the sender's own queue, so that they are part of the same transaction. `id_of` returns the
/// id of an app by its name.
pub(super) fn effects(
    effects: isopod_engine::Effects,
    release: &ActiveRelease,
    app: &AppName,
    id_of: impl Fn(&str) -> Option<String>,
    now: Timestamp,
) -> Result<Effects, Failure> {
    let version = |version: isopod_engine::ValueVersion| ValueVersion(version.0);
    let reads = effects.reads.into_iter();
    let reads = reads.map(|read| KeyRead { bucket: read.bucket, key: read.key, version: version(read.version) });
    let writes = effects.writes.into_iter();
    let writes = writes.map(|write| KeyWrite { bucket: write.bucket, key: write.key, value: write.value });
    let mut emitted = Vec::with_capacity(effects.emitted.len());
    for event in effects.emitted {
        let target = event.app.clone().filter(|target| *target != app.as_str());
        let handler = Handler::of(release).ok_or_else(|| {
            Failure::Effects("the app has no process type that takes the event that the handler sent".to_owned())
        })?;
        let Sent { event, not_before, expires_at } =
            from_guest(event, app, now).map_err(|error| Failure::Effects(error.to_string()))?;
        let event = match target {
            // Without such an app, the event becomes a dead letter.
            Some(target) => forwarding(event, &target, id_of(&target).as_deref().unwrap_or(NO_APP)),
            None => event,
        };
        emitted.push(handler.event(event, not_before, expires_at));
    }
    Ok(Effects { reads: reads.collect(), writes: writes.collect(), emitted })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the store would refuse effects within the limits of a transaction.
    #[test]
    fn the_charge_of_an_emitted_event_includes_its_stored_size() {
        use isopod_engine::limits::{EMITTED_EVENTS_MAX, TRANSACTION_BYTES_MAX};
        use isopod_store::limits::{EVENT_BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX};
        const {
            assert!(TRANSACTION_BYTES_MAX <= EVENT_BATCH_BYTES_MAX && EMITTED_EVENTS_MAX <= EVENTS_PER_BATCH_MAX);
        }
        let name = "a".repeat(isopod_policy::limits::APP_NAME_CHARS_MAX);
        let sender: AppName = name.parse().expect("a valid name");
        let now: Timestamp = "2026-11-29T12:34:56.123456789Z".parse().expect("a valid time");
        let texts = [None, Some("s".to_owned()), Some("s".repeat(1_024))];
        for (source, subject) in texts.iter().flat_map(|one| texts.iter().map(move |other| (one, other))) {
            for target in [None, Some(name.clone())] {
                let (source, subject, app) = (source.clone(), subject.clone(), target.clone());
                let (id, event_type) = ("i".repeat(300), "t".to_owned());
                let expires_after = Some(Duration::from_millis(1_001));
                let event =
                    EmittedEvent { id, source, event_type, subject, app, expires_after, ..EmittedEvent::default() };
                let charged = event.stored_bytes_max();
                let Sent { event, .. } = from_guest(event, &sender, now).expect("a valid event");
                let stored = match target {
                    Some(target) => forwarding(event, &target, &"i".repeat(32)),
                    None => event,
                };
                assert!(stored.bytes() <= charged, "{} bytes are stored, {charged} charged", stored.bytes());
            }
        }
    }

    #[test]
    fn an_emitted_event_with_an_invalid_attribute_is_refused_with_the_reason() {
        let sender: AppName = "shop".parse().expect("a valid name");
        let now: Timestamp = "2026-11-29T12:34:56Z".parse().expect("a valid time");
        let valid = || EmittedEvent { id: "1".to_owned(), event_type: "order".to_owned(), ..EmittedEvent::default() };
        let text = |text: &str| Some(text.to_owned());
        let extension = |name: &str| vec![(name.to_owned(), "5s".to_owned())];
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        from_guest(EmittedEvent { delay: hours(1), expires_after: hours(8_784), ..valid() }, &sender, now)
            .expect("is valid");
        from_guest(EmittedEvent { source: text("/apps/shop"), ..valid() }, &sender, now).expect("its own source");
        for (event, words) in [
            (EmittedEvent { id: String::new(), ..valid() }, "`id` is empty"),
            (EmittedEvent { event_type: "a\0".to_owned(), ..valid() }, "`type` has control characters"),
            (EmittedEvent { source: text("not a uri %"), ..valid() }, "`source` is not a URI reference"),
            (
                EmittedEvent { source: text("/apps/billing"), ..valid() },
                "`source` begins with `/apps/`, which is reserved",
            ),
            (EmittedEvent { source: text("isopod/shop/x"), ..valid() }, "`source` begins with `isopod/`, which is"),
            (EmittedEvent { subject: text(""), ..valid() }, "`subject` is empty"),
            (EmittedEvent { time: text("noon"), ..valid() }, "`time` is not an RFC 3339 time"),
            (EmittedEvent { data_content_type: text("json"), ..valid() }, "`datacontenttype` is not a media type"),
            (EmittedEvent { data_schema: text("/x"), ..valid() }, "`dataschema` is not a URI"),
            (EmittedEvent { extensions: extension("id"), ..valid() }, "`id` is not an extension"),
            (EmittedEvent { extensions: extension("isopoddelay"), ..valid() }, "`isopoddelay` is reserved"),
            (EmittedEvent { extensions: [extension("a"), extension("a")].concat(), ..valid() }, "more than once"),
            (EmittedEvent { delay: hours(8_785), ..valid() }, "the delay of the event is more than 366 days ahead"),
            (
                EmittedEvent { expires_after: Some(Duration::from_millis(1 << 63)), ..valid() },
                "the expiry of the event",
            ),
            (EmittedEvent { delay: hours(2), expires_after: hours(1), ..valid() }, "may not be delivered before"),
        ] {
            let Err(EmitError::Invalid(why)) = from_guest(event, &sender, now) else { panic!("{words}: it is valid") };
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_forwarded_event_reaches_the_target_unchanged() {
        let extensions = vec![("tenant".to_owned(), "7".to_owned())];
        for subject in [Some("ann".to_owned()), None] {
            let payload = EventPayload { extensions: extensions.clone(), ..EventPayload::default() };
            let (id, source) = ("1".to_owned(), "/apps/shop".to_owned());
            let event = Event { id, source, subject, payload, ..Event::default() };
            let waiting = forwarding(event.clone(), "billing", "7f");
            assert_eq!(forward_target(&waiting), Some(Target { name: "billing", id: Some("7f") }));
            assert_ne!(waiting.subject.as_deref(), Some("ann"), "it has no order with the app's own events");
            assert_eq!(forwarded(waiting, "billing"), event);
        }
    }

    #[test]
    fn an_event_reaches_only_the_app_that_existed_when_it_was_sent() {
        let why = |id| Target { name: "billing", id }.mismatch("7f").unwrap_or_default();
        assert_eq!((why(None), why(Some("7f"))), ("", ""));
        assert!(why(Some("6e")).contains("was destroyed") && why(Some(NO_APP)).contains("there was no such app"));
    }

    #[test]
    fn an_event_for_several_apps_is_queued_once_for_each_app() {
        let own = Event { id: "1".to_owned(), source: "a/b".to_owned(), ..Event::default() };
        let other = Event { source: "/b".to_owned(), ..own.clone() };
        let waiting = [(&own, "crm"), (&own, "billing"), (&other, "billing"), (&other, "billinga")]
            .map(|(event, target)| forwarding(event.clone(), target, "7f").source);
        let sources: HashSet<_> = waiting.iter().chain([&own.source, &other.source]).collect();
        assert_eq!(sources.len(), 6, "{sources:?}");
    }
}
