//! The trace of a request, as W3C Trace Context passes it between systems (`traceparent` and
//! `tracestate`). Parses strictly, since the fields come from clients. Never makes a random number.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::{fmt, num::NonZeroU64, num::NonZeroU128, str::FromStr};

/// Identifies a trace. Written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId(NonZeroU128);

/// Identifies a span of a trace. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// The text is not a valid id of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid trace id: write 32 hexadecimal digits in lower case, not all zero")]
pub struct InvalidTraceId;

/// A trace context: the trace, the sending span, and flags. It is the value of `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that sent the request.
    pub span: SpanId,
    /// Whether the sender records its part of the trace.
    pub is_sampled: bool,
    /// Whether the id of the trace is random (level 2 of the specification).
    pub is_random: bool,
}

/// The part of a trace that the host records for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTrace {
    /// The trace.
    pub trace: TraceId,
    /// The span id that the guest received. `None` if it is chosen at the export.
    pub span: Option<SpanId>,
    /// The span that sent the request, if its sender has one.
    pub parent: Option<SpanId>,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// The number of bytes of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

impl TraceId {
    /// Creates an id from a random number. Zero, which is invalid, becomes one.
    pub fn from_random(random: u128) -> Self {
        Self(NonZeroU128::new(random).unwrap_or(NonZeroU128::MIN))
    }

    /// Returns the id as a number.
    pub fn get(self) -> u128 {
        self.0.get()
    }

    /// Returns the hexadecimal digits of the id.
    pub fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        write_hex(self.get(), &mut digits);
        digits
    }
}

/// Writes a number with as many hexadecimal digits as `digits` has room for.
fn write_hex(mut number: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

impl SpanId {
    /// Creates an id from a random number. Zero, which is invalid, becomes one.
    pub fn from_random(random: u64) -> Self {
        Self(NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN))
    }

    /// Returns the id as a number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceId;

    fn from_str(text: &str) -> Result<Self, InvalidTraceId> {
        let id = (text.len() == 32).then(|| number(text.as_bytes())).flatten();
        id.and_then(NonZeroU128::new).map(Self).ok_or(InvalidTraceId)
    }
}

impl TryFrom<String> for TraceId {
    type Error = InvalidTraceId;

    fn try_from(text: String) -> Result<Self, InvalidTraceId> {
        text.parse()
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> Self {
        id.to_string()
    }
}

impl TraceParent {
    /// Parses the value of `traceparent`. `None` if it is invalid: the request then begins a new
    /// trace.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(PARENT_BYTES)?;
        let mut fields = known.split(|&byte| byte == b'-');
        let (version, trace) = (fields.next()?, fields.next()?);
        let (span, flags) = (fields.next()?, fields.next()?);
        let lengths = [version, trace, span, flags].map(<[u8]>::len);
        if fields.next().is_some() || lengths != [2, 32, 16, 2] {
            return None;
        }
        // A later version may have further fields. Version ff is invalid.
        let is_complete = match number(version)? {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with(b"-"),
        };
        if !is_complete {
            return None;
        }
        let flags = u8::try_from(number(flags)?).ok()?;
        Some(Self {
            trace: TraceId(NonZeroU128::new(number(trace)?)?),
            span: SpanId(NonZeroU64::new(u64::try_from(number(span)?).ok()?)?),
            is_sampled: flags & SAMPLED != 0,
            is_random: flags & RANDOM != 0,
        })
    }

    /// Returns the flags as the specification numbers them.
    pub fn flags(&self) -> u8 {
        (u8::from(self.is_sampled) * SAMPLED) | (u8::from(self.is_random) * RANDOM)
    }

    /// Returns the value of `traceparent`, in version 00. Every request has one, so it is written
    /// without the formatting machinery.
    pub fn to_bytes(&self) -> [u8; PARENT_BYTES] {
        let mut text = [b'-'; PARENT_BYTES];
        let flags = self.flags();
        write_hex(0, &mut text[..2]);
        write_hex(self.trace.get(), &mut text[3..35]);
        write_hex(self.span.get().into(), &mut text[36..52]);
        write_hex(flags.into(), &mut text[53..]);
        text
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// Parses at most 32 hexadecimal digits in lower case.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

/// Joins the values of several `tracestate` fields. Returns `None` for a list that is empty, is
/// invalid or exceeds a limit. The host then forwards the request without it, as the specification
/// allows.
pub fn trace_state<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut bytes = 0;
    for value in values {
        bytes += value.len();
        if bytes > limits::TRACE_STATE_BYTES_MAX {
            return None;
        }
        for member in std::str::from_utf8(value).ok()?.split(',').map(|member| member.trim_matches([' ', '\t'])) {
            // Empty members are allowed, and dropped.
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            let is_repeated = members.iter().any(|(other, _)| *other == key);
            if !is_state_key(key) || !is_state_value(value) || is_repeated {
                return None;
            }
            members.push((key, value));
        }
    }
    let is_allowed = (1..=limits::TRACE_STATE_MEMBERS_MAX).contains(&members.len());
    let texts = members.iter().map(|(key, value)| format!("{key}={value}"));
    is_allowed.then(|| texts.collect::<Vec<_>>().join(","))
}

/// Returns whether the text is a key of `tracestate`: `vendor`, or `tenant@vendor`.
fn is_state_key(key: &str) -> bool {
    let rest = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte))
    };
    let begins_with = |text: &str, is_allowed: fn(&u8) -> bool| text.as_bytes().first().is_some_and(is_allowed);
    match key.split_once('@') {
        None => key.len() <= 256 && begins_with(key, u8::is_ascii_lowercase) && rest(key),
        Some((tenant, vendor)) => {
            let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            tenant.len() <= 241
                && vendor.len() <= 14
                && begins_with(tenant, is_first)
                && rest(tenant)
                && begins_with(vendor, u8::is_ascii_lowercase)
                && rest(vendor)
        }
    }
}

/// Returns whether the text is a value of `tracestate`: visible ASCII and inner spaces, without `,`
/// and `=`.
fn is_state_value(value: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(is_allowed) && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn parsed(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    #[test]
    fn a_valid_trace_parent_is_passed_on_unchanged() {
        for flags in ["00", "01", "02", "03"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let parent = parsed(&text).expect("it is valid");
            assert_eq!(parent.to_string(), text);
            assert_eq!((parent.trace.to_string().as_str(), parent.span.to_string().as_str()), (TRACE, SPAN));
            assert_eq!(parent.is_sampled, flags == "01" || flags == "03");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for text in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-09-more.of-it")] {
            assert_eq!(parsed(&text).expect("it is valid").to_string(), format!("00-{TRACE}-{SPAN}-01"), "{text}");
        }
        assert_eq!(parsed(&format!("cc-{TRACE}-{SPAN}-01.more")), None);
    }

    #[test]
    fn an_invalid_trace_parent_is_refused() {
        let zero = "0".repeat(32);
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}0-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zero}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zero[..16]),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{SPAN}-{TRACE}-01"),
            format!("00-{}-{SPAN}-01", "é".repeat(16)),
        ] {
            assert_eq!(parsed(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_random_id_is_never_zero() {
        assert_eq!(TraceId::from_random(0).to_string(), format!("{:032x}", 1));
        assert_eq!(SpanId::from_random(0).to_string(), format!("{:016x}", 1));
    }

    fn state(values: &[&str]) -> Option<String> {
        trace_state(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn the_members_of_several_trace_states_keep_their_order() {
        let joined = state(&["rojo=00f067aa, congo=t61 !~", "", " , fw529a3039@dt=FfAz/:;", "a_-*/1=x"]);
        assert_eq!(joined.as_deref(), Some("rojo=00f067aa,congo=t61 !~,fw529a3039@dt=FfAz/:;,a_-*/1=x"));
        assert_eq!(state(&["", " , "]), None);
    }

    #[test]
    fn an_invalid_trace_state_is_dropped() {
        for value in ["a", "=1", "A=1", "1a=1", "a=", "a=1=2", "a=1,a=2", "a b=1", "a@=1", "@a=1", "a@1b=1", "a=\u{e9}"]
        {
            assert_eq!(state(&[value]), None, "{value}");
        }
        assert_eq!(state(&["a=1", "a=2"]), None, "a key is repeated");
    }

    #[test]
    fn a_trace_state_is_bounded_in_members_and_bytes() {
        let members = |count: usize| (0..count).map(|at| format!("k{at}=1")).collect::<Vec<_>>().join(",");
        assert!(state(&[&members(limits::TRACE_STATE_MEMBERS_MAX)]).is_some());
        assert_eq!(state(&[&members(limits::TRACE_STATE_MEMBERS_MAX + 1)]), None);
        let long = format!("a={}", "x".repeat(256));
        assert!(state(&[&long]).is_some());
        assert_eq!(state(&[&long, &" ".repeat(limits::TRACE_STATE_BYTES_MAX)]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[0-9a-f-]{50,60}") {
            let _ = (TraceParent::parse(&bytes), trace_state([bytes.as_slice()]));
            if let Some(parent) = parsed(&text) {
                prop_assert_eq!(parsed(&parent.to_string()), Some(parent));
            }
        }
    }
}
