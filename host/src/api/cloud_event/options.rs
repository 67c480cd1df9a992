//! The attributes of an event that are addressed to the host: when it may be delivered, and until
//! when. Owns their forms and their range. Never reads a clock: the present time is an argument.

use axum::http::HeaderMap;
use isopod_engine::Event;
use isopod_policy::units::parse_duration;
use jiff::{Timestamp, civil::DateTime};

use super::{invalid, only_value};
use crate::{
    api::request::BadRequest,
    control::events::attributes::{self, is_rfc3339},
};

/// When the host may deliver an event, beside its attributes for the handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeliveryOptions {
    /// The event isn't delivered before this time.
    pub(crate) not_before: Option<Timestamp>,
    /// The event isn't delivered at this time or later.
    pub(crate) expires_at: Option<Timestamp>,
}

/// The attribute that delays an event, and the header with the default of a request.
const DELAY: (&str, &str) = (attributes::DELAY, "isopod-delay");
/// The attribute that limits how long an event is delivered, and the header.
const EXPIRES: (&str, &str) = (attributes::EXPIRES, "isopod-expires");

impl DeliveryOptions {
    /// Reads the headers of a request. They are the defaults of all its events.
    pub(super) fn from_headers(headers: &HeaderMap, now: Timestamp) -> Result<Self, BadRequest> {
        let read = |(_, name): (&str, &'static str)| {
            if !headers.contains_key(name) {
                return Ok(None);
            }
            let bad = |why: String| BadRequest::Header { name, detail: format!("it {why}") };
            let value = only_value(headers, name).map_err(|why| bad(why.to_owned()))?;
            time(value, now).map(Some).map_err(bad)
        };
        Ok(Self { not_before: read(DELAY)?, expires_at: read(EXPIRES)? })
    }

    /// Takes the options from an event's extension attributes; they have precedence over these
    /// defaults. The handler doesn't receive them.
    pub(super) fn taken_from(mut self, event: &mut Event, now: Timestamp) -> Result<Self, BadRequest> {
        for ((name, _), option) in [(DELAY, &mut self.not_before), (EXPIRES, &mut self.expires_at)] {
            let Some(at) = event.extensions.iter().position(|(extension, _)| extension == name) else { continue };
            let (_, value) = event.extensions.remove(at);
            *option =
                Some(time(&value, now).map_err(|why| invalid(Some(name), format!("the attribute `{name}` {why}")))?);
        }
        attributes::check_times(self.not_before, self.expires_at).map_err(|why| invalid(Some(EXPIRES.0), why))?;
        Ok(self)
    }
}

/// Reads a duration from now, such as `90s`, or an RFC 3339 time. The error is the end of a
/// sentence.
fn time(value: &str, now: Timestamp) -> Result<Timestamp, String> {
    let time = if is_rfc3339(value) {
        value.parse::<Timestamp>().ok().filter(|time| attributes::is_near(*time, now))
    } else if is_after_all_timestamps(value) {
        None
    } else {
        let duration = parse_duration(value)
            .map_err(|why| format!("is neither a duration, such as 90s, nor an RFC 3339 time: {why}"))?;
        attributes::time_after(duration, now)
    };
    time.ok_or_else(|| {
        let shown: String = value.chars().take(VALUE_SHOWN_CHARS).collect();
        format!("is `{shown}`, which {}", attributes::too_far())
    })
}

/// Returns whether text that isn't a valid timestamp begins with a time in the last year of the
/// range of timestamps. The last day of that year is after the latest timestamp.
fn is_after_all_timestamps(value: &str) -> bool {
    let time = value.get(.."0000-00-00T00:00:00".len()).and_then(|head| head.parse::<DateTime>().ok());
    time.is_some_and(|time| time.year() == DateTime::MAX.year())
}

/// How much of a refused value an error repeats.
const VALUE_SHOWN_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-29T12:00:00Z".parse().expect("is a time")
    }

    fn event(extensions: &[(&str, &str)]) -> Event {
        let extensions = extensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Event { extensions, ..Event::default() }
    }

    #[test]
    fn a_time_is_a_duration_from_now_or_an_instant() {
        for (value, expected) in [
            ("90s", "2026-11-29T12:01:30Z"),
            ("0s", "2026-11-29T12:00:00Z"),
            ("8784h", "2027-11-30T12:00:00Z"),
            ("2d", "2026-12-01T12:00:00Z"),
            ("366d", "2027-11-30T12:00:00Z"),
            ("2026-12-01T09:00:00+01:00", "2026-12-01T08:00:00Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(value, now()), Ok(expected.parse().expect("is a time")), "{value}");
        }
    }

    #[test]
    fn an_invalid_time_is_refused_with_the_accepted_forms() {
        for (value, words) in [
            ("90", "\"90\" has no unit; write \"90s\""),
            ("", "neither a duration, such as 90s, nor an RFC 3339 time"),
            ("1w", "unknown unit"),
            ("-5s", "whole number"),
            ("tomorrow", "whole number"),
            ("2026-12-01", "unknown unit"),
            ("8785h", "more than 366 days ahead"),
            ("367d", "more than 366 days ahead"),
            ("18446744073709551615ms", "more than 366 days ahead"),
            ("2027-11-30T12:00:01Z", "more than 366 days ahead"),
            ("9999-12-30T00:00:00Z", "more than 366 days ahead"),
            ("9999-12-31T23:59:59Z", "more than 366 days ahead"),
            ("9999-13-31T23:59:59Z", "neither a duration"),
        ] {
            let error = time(value, now()).expect_err(value);
            assert!(error.contains(words), "{value}: {error}");
        }
    }

    #[test]
    fn the_handler_does_not_receive_the_options() {
        let mut event = event(&[("a", "1"), ("isopoddelay", "5s"), ("isopodexpires", "10s"), ("b", "2")]);
        let options = DeliveryOptions::default().taken_from(&mut event, now()).expect("are valid");
        let after = |seconds| Some(now() + SignedDuration::from_secs(seconds));
        assert_eq!(options, DeliveryOptions { not_before: after(5), expires_at: after(10) });
        assert_eq!(event.extensions, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn an_attribute_has_precedence_over_the_header() {
        let headers = |delay: &str| {
            let (name, value) = ("isopod-delay".parse().expect("is a name"), delay.parse().expect("is a value"));
            HeaderMap::from_iter([(name, value)])
        };
        let defaults = DeliveryOptions::from_headers(&headers("1h"), now()).expect("is valid");
        assert_eq!(defaults.not_before, Some(now() + SignedDuration::from_hours(1)));
        assert_eq!(defaults.taken_from(&mut event(&[]), now()).ok(), Some(defaults));
        let own = defaults.taken_from(&mut event(&[("isopoddelay", "0s")]), now()).expect("is valid");
        assert_eq!(own.not_before, Some(now()));
        let error = DeliveryOptions::from_headers(&headers("soon"), now()).expect_err("is not a time").to_string();
        assert!(error.starts_with("invalid header isopod-delay: it is neither a duration"), "{error}");
        let mut twice = headers("1h");
        twice.append("isopod-delay", "2h".parse().expect("is a value"));
        assert!(DeliveryOptions::from_headers(&twice, now()).is_err());
    }

    #[test]
    fn an_event_that_expires_before_its_delay_is_refused() {
        for (delay, expires) in [("10s", "10s"), ("1h", "5m"), ("2026-11-29T12:00:00Z", "2026-11-29T11:00:00Z")] {
            let mut event = event(&[("isopoddelay", delay), ("isopodexpires", expires)]);
            let error = DeliveryOptions::default().taken_from(&mut event, now()).expect_err(delay);
            assert!(error.to_string().contains("may not be delivered before"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(
            text in any::<String>(), near in "[0-9]{0,20}(ms|s|m|h|d)?", second in 0..100_000_000_000i64,
        ) {
            let now = Timestamp::from_second(second).expect("is in range");
            for text in [text, near] {
                if let Ok(time) = time(&text, now) {
                    prop_assert!(attributes::is_near(time, now));
                }
            }
        }
    }
}
