//! Owns the rules for the attributes of an event: their names, their values, and how far ahead its
//! delay and its expiry may be. The same rules apply to events from the API and from guests. Never
//! reads a request or a clock.

use std::time::Duration;

use iri_string::types::{IriReferenceStr, IriStr};
use isopod_policy::{AppName, limits::TEXT_NAME_BYTES_SHOWN, text::line_excerpt};
use jiff::{SignedDuration, Timestamp};

use crate::control::limits;

/// The attributes that the CloudEvents specification defines, all of them strings. Others are
/// extensions.
pub(crate) const DEFINED: [&str; 8] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// The extension attributes that the host reads: the delay and the expiry.
pub(crate) const DELAY: &str = "isopoddelay";
pub(crate) const EXPIRES: &str = "isopodexpires";

/// Checks the name of an attribute. The error is a sentence.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let most = limits::EVENT_ATTRIBUTE_NAME_CHARS_MAX;
    let shown = || line_excerpt(name, 2 * most);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(format!(
            "the attribute name `{}` has characters other than the letters a to z and digits",
            shown()
        ));
    }
    if name.len() > most {
        return Err(format!("the attribute name `{}` has {} characters; the limit is {most}", shown(), name.len()));
    }
    Ok(())
}

/// Checks an attribute, by the rules of CloudEvents 1.0 and by the limits of the host. The error is
/// a sentence.
pub(crate) fn check(name: &str, value: &str) -> Result<(), String> {
    check_name(name)?;
    let (bytes, most) = (value.len(), limits::EVENT_ATTRIBUTE_BYTES_MAX);
    if matches!(name, "id" | "source" | "type" | "subject") && bytes > most {
        return Err(format!("the attribute `{name}` has {bytes} bytes; the limit is {most}"));
    }
    if value.chars().any(is_forbidden) {
        return Err(format!("the attribute `{name}` has control characters or Unicode noncharacters"));
    }
    if value.is_empty() && DEFINED.contains(&name) {
        return Err(format!("the attribute `{name}` is empty"));
    }
    // URL parsers remove both segments from a path, even if they are percent-encoded.
    if name == "id" && matches!(value, "." | "..") {
        return Err(format!("the attribute `id` is `{value}`, which can't be a segment of a URL; choose another id"));
    }
    let (is_valid, wanted) = match name {
        "specversion" => (value == "1.0", "`1.0`, the only version that is supported"),
        // Letters beyond ASCII are accepted, as browsers show addresses.
        "source" => (IriReferenceStr::new(value).is_ok(), "a URI reference, such as /shop/orders"),
        "time" => (is_rfc3339(value), "an RFC 3339 time, such as 2026-01-31T08:30:00Z"),
        "datacontenttype" => (is_media_type(value), "a media type, such as application/json"),
        "dataschema" => (IriStr::new(value).is_ok(), "a URI with a scheme, such as https://example.org/schema"),
        _ => (true, ""),
    };
    if is_valid {
        return Ok(());
    }
    Err(format!("the attribute `{name}` is not {wanted}: `{}`", line_excerpt(value, TEXT_NAME_BYTES_SHOWN)))
}

/// The prefix of the default sources of apps: [`app_source`].
const APP_SOURCES: &str = "/apps/";

/// The prefix of the sources of scheduled runs and of events that wait to be forwarded.
const HOST_SOURCES: &str = "isopod/";

/// Returns the default source of the events that an app sends.
pub(crate) fn app_source(app: &AppName) -> String {
    format!("{APP_SOURCES}{app}")
}

/// Refuses a source that the host gives to its own events, unless it is the default source of the
/// sending app. Otherwise a sender could store an event with the source and id of a later event of
/// the host, which the host would then discard as a duplicate. The error is a sentence.
pub(crate) fn check_sender(source: &str, sender: Option<&AppName>) -> Result<(), String> {
    let Some(prefix) = [APP_SOURCES, HOST_SOURCES].into_iter().find(|prefix| source.starts_with(prefix)) else {
        return Ok(());
    };
    if sender.is_some_and(|app| app_source(app) == source) {
        return Ok(());
    }
    Err(format!(
        "the attribute `source` begins with `{prefix}`, which is reserved for the host's own events; choose another \
         source: `{}`",
        line_excerpt(source, TEXT_NAME_BYTES_SHOWN)
    ))
}

/// Checks an extension attribute of an event whose other attributes are separate fields.
pub(crate) fn check_extension(name: &str, value: &str) -> Result<(), String> {
    if DEFINED.contains(&name) || name == "data" {
        return Err(format!("`{name}` is not an extension attribute"));
    }
    if [DELAY, EXPIRES].contains(&name) {
        return Err(format!(
            "the extension attribute `{name}` is reserved; set the delay or the expiry of the event instead"
        ));
    }
    check(name, value)
}

/// Returns the time after this duration, or `None` if it is further ahead than a delay or an expiry
/// may be.
pub(crate) fn time_after(duration: Duration, now: Timestamp) -> Option<Timestamp> {
    let time = now.checked_add(SignedDuration::try_from(duration).ok()?).ok()?;
    is_near(time, now).then_some(time)
}

/// Returns whether a delay or an expiry may end at this time.
pub(crate) fn is_near(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) <= limits::EVENT_TIME_AHEAD_MAX
}

/// Returns the error of a time for which [`is_near`] is false: the end of a sentence.
pub(crate) fn too_far() -> String {
    format!("is more than {} days ahead", limits::EVENT_TIME_AHEAD_MAX.as_hours() / 24)
}

/// Checks that an event doesn't expire before its delay ends. The error is a sentence.
pub(crate) fn check_times(not_before: Option<Timestamp>, expires_at: Option<Timestamp>) -> Result<(), String> {
    match (not_before, expires_at) {
        (Some(not_before), Some(expires_at)) if expires_at <= not_before => {
            Err(format!("the event expires at {expires_at}, but may not be delivered before {not_before}"))
        }
        _ => Ok(()),
    }
}

/// Returns whether attributes must not contain this character: control characters and Unicode
/// noncharacters.
fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Returns whether a text is an RFC 3339 time. The time parser also accepts other forms of ISO
/// 8601.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    const DATE_AND_TIME: &[u8] = b"0000-00-00T00:00:00";
    const OFFSET: &[u8] = b"+00:00";
    let fits = |text: &[u8], pattern: &[u8]| {
        text.len() == pattern.len()
            && text.iter().zip(pattern).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                _ => byte.eq_ignore_ascii_case(wanted),
            })
    };
    let Some((start, rest)) = text.as_bytes().split_at_checked(DATE_AND_TIME.len()) else { return false };
    let digits = match rest {
        [b'.', fraction @ ..] => fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        _ => 0,
    };
    let has_fraction = rest.first() == Some(&b'.');
    if has_fraction && digits == 0 {
        return false;
    }
    let offset = &rest[if has_fraction { digits + 1 } else { 0 }..];
    fits(start, DATE_AND_TIME)
        && (offset.eq_ignore_ascii_case(b"Z") || fits(offset, OFFSET))
        && text.parse::<Timestamp>().is_ok()
}

/// Returns whether a text is a media type with its parameters. A range such as `text/*` is not.
fn is_media_type(text: &str) -> bool {
    text.parse::<mime::Mime>().is_ok_and(|media_type| {
        !media_type.subtype().as_str().is_empty() && media_type.type_() != "*" && media_type.subtype() != "*"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-29T12:00:00Z".parse().expect("is a time")
    }

    #[test]
    fn attributes_are_checked_for_length_and_form() {
        let most = limits::EVENT_ATTRIBUTE_BYTES_MAX;
        for name in ["id", "source", "type", "subject"] {
            check(name, &"é".repeat(most / 2)).expect(name);
            let long = check(name, &format!("{}a", "é".repeat(most / 2))).expect_err(name);
            assert_eq!(long, format!("the attribute `{name}` has 1025 bytes; the limit is 1024"));
            for (value, words) in [("", "is empty"), ("\r\nfake", "control characters"), ("a\u{1b}[2J", "control")] {
                let error = check(name, value).expect_err(value);
                assert!(error.contains(words) && error.contains(name), "{error}");
            }
        }
        check("tenant", &"a".repeat(2 * most)).expect("an extension may be longer");
        check("tenant", "").expect("an extension may be empty");
        let error = check("source", &format!("not a uri %{}", "a".repeat(900))).expect_err("is not a URI");
        assert!(error.starts_with("the attribute `source` is not a URI reference") && error.len() < 300, "{error}");
    }

    #[test]
    fn only_an_app_itself_may_use_its_default_source() {
        let app: AppName = "shop".parse().expect("a valid name");
        for source in ["/apps/shop", "/apps/billing", "/apps/", "isopod/shop/nightly", "isopod/forward/billing//x"] {
            let error = check_sender(source, None).expect_err(source);
            assert!(error.starts_with("the attribute `source` begins with `") && error.contains("reserved"), "{error}");
            assert_eq!(check_sender(source, Some(&app)).is_ok(), source == "/apps/shop", "{source}");
        }
        for source in ["/shop", "/apps", "/application/x", "isopod-cli", "isopod", "https://example.org/apps/shop"] {
            check_sender(source, None).expect(source);
        }
    }

    #[test]
    fn an_extension_cannot_have_the_name_of_another_attribute() {
        for name in ["data", "id", "specversion", "isopoddelay", "isopodexpires", "", "Tenant", "a-b", &"a".repeat(21)]
        {
            check_extension(name, "5s").expect_err(name);
        }
        check_extension("tenant7", "5s").expect("is valid");
    }

    #[test]
    fn a_delay_and_an_expiry_are_at_most_366_days_ahead() {
        let day = Duration::from_secs(24 * 3_600);
        let latest = time_after(366 * day, now()).expect("is valid");
        assert_eq!(latest, now() + limits::EVENT_TIME_AHEAD_MAX);
        let ms = |ms| Duration::from_millis(ms);
        for duration in [366 * day + ms(1), 40 * 366 * day, ms(1 << 62), ms(1 << 63), ms(u64::MAX), Duration::MAX] {
            assert_eq!(time_after(duration, now()), None, "{duration:?}");
        }
        assert_eq!(time_after(day, Timestamp::MAX), None);
        assert!(is_near(Timestamp::MIN, now()) && !is_near(Timestamp::MAX, now()));
        check_times(Some(latest), Some(now())).expect_err("it expires before its delay ends");
        check_times(Some(now()), Some(now())).expect_err("it expires when its delay ends");
        check_times(Some(now()), Some(latest)).expect("is valid");
        check_times(None, Some(Timestamp::MIN)).expect("a past expiry is valid");
    }

    #[test]
    fn an_id_must_be_usable_as_a_segment_of_a_url() {
        for id in [".", ".."] {
            let error = check("id", id).expect_err(id);
            assert!(error.contains(&format!("is `{id}`")) && error.ends_with("choose another id"), "{error}");
            check("subject", id).expect("only an id is a segment");
        }
        for id in ["...", ".a", "a/..", "/", "%2e", "%2f", "?", "#", " ", "-", "ü"] {
            assert_eq!(check("id", id), Ok(()), "{id}");
        }
    }

    #[test]
    fn a_time_must_have_the_form_of_rfc_3339() {
        for good in [
            "2026-01-02T03:04:05Z",
            "2026-01-02t03:04:05.123456z",
            "2026-12-31T23:59:60+01:30",
            "1969-01-02T03:04:05-00:00",
        ] {
            assert!(is_rfc3339(good), "{good}");
        }
        for bad in [
            "",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04Z",
            "20260102T030405Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05,5Z",
            "2026-01-02T03:04:05+01",
            "2026-01-02T03:04:05+01:30:10",
            "2026-01-02T03:04:05+00:00[UTC]",
            "2026-02-30T03:04:05Z",
            "2026-01-02T25:04:05Z",
            "2026-01-02T03:04:0\u{666}",
        ] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
    }

    #[test]
    fn a_media_type_needs_a_type_and_a_subtype() {
        for good in ["application/json", "text/plain; charset=utf-8", "application/vnd.x+json;v=\"1 2\""] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["json", "a b/c", "text/", "/x", "*/*", "text/*", "text/plain; =x", "text/plain; charset"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
