//! The decisions of a middleware about a request and a response. Refuses invalid decisions: changes
//! of fields that only the host may set, and heads that are too large. Never calls a plugin.

use crate::{fault::Fault, head, limits, response_body::ResponseBody};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, uri::PathAndQuery};
use isopod_policy::{limits::TEXT_NAME_BYTES_SHOWN, text::line_excerpt};

/// The decision about a request.
pub enum Decision {
    /// The request continues unchanged.
    Pass,
    Change(RequestChanges),
    /// The request ends with this response.
    Respond(Response<ResponseBody>),
    /// The request ends with an asset of the app.
    Asset(AssetResponse),
    /// The middleware decides after the host has read the whole body, of at most this many bytes.
    ReadBody(u64),
}

/// A response with an asset as its body. The path is that of an existing asset.
#[derive(Debug)]
pub struct AssetResponse {
    pub path: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// The decision about a response.
pub enum ResponseDecision {
    /// The response continues unchanged.
    Pass,
    Change(ResponseChanges),
    /// The response is replaced.
    Replace(Response<ResponseBody>),
    /// The middleware decides after the host has read the whole body, of at most this many bytes.
    ReadBody(u64),
}

/// Changes of a request.
#[derive(Debug)]
pub struct RequestChanges {
    pub path_and_query: Option<PathAndQuery>,
    pub headers: HeaderChanges,
    /// The context for the call about the response. Without it, the middleware isn't called again.
    pub response_context: Option<Vec<u8>>,
}

/// Changes of a response's head.
#[derive(Debug)]
pub struct ResponseChanges {
    pub status: Option<StatusCode>,
    pub headers: HeaderChanges,
}

/// Changes of header fields, in order.
#[derive(Debug, Default)]
pub struct HeaderChanges {
    changes: Vec<HeaderChange>,
    /// The size of all names and values.
    bytes: usize,
}

#[derive(Debug)]
enum HeaderChange {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    Remove(HeaderName),
}

/// The operation of a header change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    Append,
    Remove,
}

impl HeaderChanges {
    /// Adds a change as the plugin wrote it. The value of a removal is ignored.
    pub(crate) fn push(&mut self, operation: Operation, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(name.len()).saturating_add(value.len());
        let (changes_max, bytes_max) = (limits::DECISION_CHANGES_MAX, limits::RESPONSE_HEADERS_BYTES_MAX);
        if self.changes.len() >= changes_max || self.bytes > bytes_max {
            return Err(bad(format!("it has more than {changes_max} header changes, or {bytes_max} bytes of them")));
        }
        let invalid = |_| bad(format!("`{}` is not a header name", shown(name)));
        let name = HeaderName::from_bytes(name).map_err(invalid)?;
        if is_protected(&name) {
            return Err(bad(format!("it changes the header `{name}`, which only the host may set")));
        }
        let value = || {
            let invalid = |_| bad(format!("the value of header `{name}` has invalid bytes"));
            HeaderValue::from_bytes(value).map_err(invalid)
        };
        self.changes.push(match operation {
            Operation::Set => HeaderChange::Set(name.clone(), value()?),
            Operation::Append => HeaderChange::Append(name.clone(), value()?),
            Operation::Remove => HeaderChange::Remove(name),
        });
        Ok(())
    }

    /// Refuses changes that would make a head too large.
    pub(crate) fn fitting(self, headers: &HeaderMap) -> Result<Self, Fault> {
        if self.changes.is_empty() {
            return Ok(self);
        }
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        let bytes = self.bytes + headers.iter().map(size).sum::<usize>();
        let fields = self.changes.len() + headers.len();
        let (fields_max, bytes_max) = (limits::HEAD_FIELDS_MAX, limits::RESPONSE_HEADERS_BYTES_MAX);
        if fields > fields_max || bytes > bytes_max {
            return Err(bad(format!("it makes the head larger than {fields_max} fields, or {bytes_max} bytes")));
        }
        Ok(self)
    }

    /// Applies the changes to the head that the decision is about.
    pub fn apply(self, headers: &mut HeaderMap) {
        for change in self.changes {
            match change {
                HeaderChange::Set(name, value) => drop(headers.insert(name, value)),
                HeaderChange::Append(name, value) => drop(headers.append(name, value)),
                HeaderChange::Remove(name) => drop(headers.remove(name)),
            }
        }
    }
}

/// Returns the path that a plugin set.
pub(crate) fn path_and_query(text: String) -> Result<PathAndQuery, Fault> {
    let invalid = || bad(format!("`{}` is not a path that starts with `/`", shown(text.as_bytes())));
    if !text.starts_with('/') || text.contains('#') {
        return Err(invalid());
    }
    PathAndQuery::try_from(text.as_str()).map_err(|_| invalid())
}

/// Returns the context of a plugin for the response.
pub(crate) fn response_context(context: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let (bytes, bytes_max) = (context.len(), limits::RESPONSE_CONTEXT_BYTES_MAX);
    if bytes > bytes_max {
        return Err(bad(format!("its response context has {bytes} bytes; the maximum is {bytes_max}")));
    }
    Ok(context)
}

/// Returns the length of the longest body that a middleware accepts, after it has asked for a body.
/// `can_receive` is whether it has a handler for bodies.
pub(crate) fn longest_body(asked: u64, can_receive: bool) -> Result<u64, Fault> {
    if !can_receive {
        return Err(bad("it asks for a body, but doesn't export isopod:plugin/body-handler".to_owned()));
    }
    let most = limits::MIDDLEWARE_BODY_BYTES_MAX;
    if asked > most {
        return Err(bad(format!("it asks for a body of up to {asked} bytes; the maximum is {most}")));
    }
    Ok(asked)
}

/// Returns the status that a plugin set.
pub(crate) fn status(status: u16) -> Result<StatusCode, Fault> {
    head::final_status(status).map_err(|_| bad(format!("status {status} is not between 200 and 599")))
}

/// Returns whether only the host may set a field: fields of the connection, of the body's framing,
/// about the client, and of the host's own responses. Some gateways treat `_` as `-`, so both
/// spellings count.
fn is_protected(name: &HeaderName) -> bool {
    const OTHERS: [&str; 8] = [
        "content-length",
        "forwarded",
        "te",
        "trailer",
        "x-isopod-api",
        "x-isopod-error-source",
        "x-real-ip",
        "x-request-id",
    ];
    let dashed = name.as_str().replace('_', "-");
    head::is_forbidden(name)
        || *name == header::HOST
        || OTHERS.contains(&dashed.as_str())
        || dashed.starts_with("x-forwarded-")
        || dashed != name.as_str() && HeaderName::try_from(&dashed).is_ok_and(|dashed| head::is_forbidden(&dashed))
}

fn shown(bytes: &[u8]) -> String {
    line_excerpt(&String::from_utf8_lossy(bytes), TEXT_NAME_BYTES_SHOWN)
}

pub(crate) fn bad(detail: String) -> Fault {
    Fault::InvalidDecision { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(changes: &[(Operation, &str, &str)]) -> Result<HeaderChanges, Fault> {
        let mut all = HeaderChanges::default();
        for (operation, name, value) in changes {
            all.push(*operation, name.as_bytes(), value.as_bytes())?;
        }
        Ok(all)
    }

    #[test]
    fn changes_apply_in_order() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "3")] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let given = [
            (Operation::Set, "X-A", "4"),
            (Operation::Append, "x-a", "5"),
            (Operation::Remove, "x-b", ""),
            (Operation::Append, "x-c", "6"),
            (Operation::Remove, "x-none", ""),
        ];
        changes(&given).unwrap().apply(&mut headers);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["4", "5"]);
        assert!(!headers.contains_key("x-b") && headers["x-c"] == "6");
    }

    #[test]
    fn fields_that_only_the_host_sets_cannot_be_changed() {
        for name in [
            "host",
            "Host",
            "transfer-encoding",
            "Transfer_Encoding",
            "content-length",
            "content_length",
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "te",
            "trailer",
            "upgrade",
            "http2-settings",
            "x-request-id",
            "x_request_id",
            "forwarded",
            "x-forwarded-for",
            "X-Forwarded-Anything",
            "x_forwarded_proto",
            "x-real-ip",
            "x-isopod-error-source",
            "x-isopod-api",
        ] {
            for operation in [Operation::Set, Operation::Append, Operation::Remove] {
                let refused = changes(&[(operation, name, "x")]).unwrap_err();
                assert!(matches!(refused, Fault::InvalidDecision { .. }), "{name}: {refused}");
                assert!(refused.to_string().contains("which only the host may set"), "{refused}");
            }
        }
        for name in ["authorization", "cookie", "set-cookie", "x-forwarded", "location", "hosts", "x_a"] {
            assert!(changes(&[(Operation::Set, name, "x")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn invalid_names_and_values_are_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a\r\nb", "x"), (":path", "x"), ("a", "x\r\ny"), ("a", "\0")] {
            assert!(changes(&[(Operation::Set, name, value)]).is_err(), "{name:?} {value:?}");
        }
        let long = "n".repeat(100_000);
        let refused = changes(&[(Operation::Remove, &format!("{long} "), "")]).unwrap_err().to_string();
        assert!(refused.len() < 1_000, "the name is truncated");
    }

    #[test]
    fn changes_are_bounded_in_number_and_size() {
        let many = vec![(Operation::Append, "a", "b"); limits::DECISION_CHANGES_MAX];
        let mut headers = HeaderMap::new();
        changes(&many).unwrap().apply(&mut headers);
        assert_eq!(headers.len(), limits::DECISION_CHANGES_MAX);
        assert!(changes(&[&many[..], &many[..1]].concat()).is_err());
        let half = "v".repeat(limits::RESPONSE_HEADERS_BYTES_MAX / 2);
        assert!(changes(&[(Operation::Append, "a", &half), (Operation::Append, "a", &half)]).is_err());
    }

    #[test]
    fn a_head_that_would_become_too_large_is_refused() {
        let half = "v".repeat(limits::RESPONSE_HEADERS_BYTES_MAX / 2);
        let mut headers = HeaderMap::new();
        let given = |name| changes(&[(Operation::Set, name, &half)]).unwrap();
        given("x-a").fitting(&headers).unwrap().apply(&mut headers);
        assert!(given("x-b").fitting(&headers).is_err());
        let mut headers = HeaderMap::new();
        let many = vec![(Operation::Append, "a", "b"); limits::DECISION_CHANGES_MAX];
        while let Ok(fitting) = changes(&many).unwrap().fitting(&headers) {
            fitting.apply(&mut headers);
        }
        assert_eq!(headers.len(), limits::HEAD_FIELDS_MAX);
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        for path in ["/", "/a?b=c", "//a", "/%zz"] {
            assert_eq!(path_and_query(path.to_owned()).unwrap().as_str(), path);
        }
        for path in ["", "a", "*", "?a", "http://a/", "/a#b", "/a b", "/\r\nx: y"] {
            assert!(path_and_query(path.to_owned()).is_err(), "{path:?}");
        }
        assert!(path_and_query(format!("/{}", "a".repeat(1 << 20))).is_err());
    }

    #[test]
    fn a_context_and_a_status_have_bounds() {
        assert!(response_context(vec![0; limits::RESPONSE_CONTEXT_BYTES_MAX]).is_ok());
        assert!(response_context(vec![0; limits::RESPONSE_CONTEXT_BYTES_MAX + 1]).is_err());
        assert!(status(200).is_ok() && status(599).is_ok());
        assert!(status(101).is_err() && status(199).is_err() && status(600).is_err() && status(0).is_err());
    }

    #[test]
    fn only_a_handler_of_bodies_receives_a_body_and_no_longer_one_than_the_limit() {
        assert_eq!(longest_body(0, true).ok(), Some(0));
        assert_eq!(longest_body(limits::MIDDLEWARE_BODY_BYTES_MAX, true).ok(), Some(limits::MIDDLEWARE_BODY_BYTES_MAX));
        for refused in [longest_body(limits::MIDDLEWARE_BODY_BYTES_MAX + 1, true), longest_body(1, false)] {
            assert_eq!(refused.map_err(|fault| fault.code()), Err("bad-decision"));
        }
    }
}
