//! Parses a probe's query into the answer to give, and renders the request that reached the probe
//! as JSON. Performs no I/O and knows no version of `wasi:http`.
//!
//! | path | response |
//! | --- | --- |
//! | `/respond` | as the query says, see below |
//! | `/early` | the same, but the request's body is never read |
//! | `/once` | `chunk` bytes in the largest writes that the host permits, and the end at once |
//! | `/echo` | the request's body, part by part as it arrives; the guest begins to read it `ms` after the response's head |
//! | `/pass` | the request's body itself, handed on without a copy (0.3) |
//! | `/error` | an `error-code` of the guest in place of a response |
//! | `/nothing` | none: the guest returns (0.2) or traps (0.3) without a response |
//! | `/hold` | the length of the request's body, which the guest holds in memory |
//! | `/hang` | none: the guest waits forever |
//! | `/fetch` | what an outgoing request led to, as JSON; see [`Fetch`] |
//! | any other | the request that reached the guest, as JSON |
//!
//! | query | meaning | default |
//! | --- | --- | --- |
//! | `status` | status code | 200 |
//! | `cl` | value of `content-length` | not sent |
//! | `h` | `name:value`, a response header; may repeat | none |
//! | `n` | number of chunks | 1 |
//! | `chunk` | bytes per chunk; each byte is `x` | 0 |
//! | `ms` | pause before each chunk but the first | 0 |
//! | `read` | read the request's body before the response | no |
//! | `trailer` | `name:value`, a trailer; may repeat | none |
//! | `end` | `finish`, `abandon`, `leak`, `trap` or `hang`, see [`End`] | `finish` |
//!
//! Values are percent-decoded. A status that the interface refuses is answered as 555.

use std::time::Duration;

use serde_json::{Value, json};

/// What a probe does after its last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Ends the body as the interface asks.
    Finish,
    /// Drops the body without `finish` (0.2), or ends it with an error (0.3).
    Abandon,
    /// Returns while it still holds the body open.
    Leak,
    /// Panics.
    Trap,
    /// Waits forever while it holds the body open.
    Hang,
}

/// A response to give.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub status: u16,
    /// With `content-length`, where the query has one.
    pub headers: Vec<(String, String)>,
    pub chunks: u64,
    pub chunk: Vec<u8>,
    pub pause: Duration,
    pub reads_first: bool,
    pub trailers: Vec<(String, String)>,
    pub end: End,
}

/// An outgoing request. `method`, `scheme`, `authority` and `p` (the path with its query) define
/// the target; `h` is a header; `body` is the size of the body in bytes; `connect_ms`,
/// `first_byte_ms` and `between_ms` are the time-outs of `request-options`.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetch {
    pub method: String,
    pub is_https: bool,
    pub authority: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub end: End,
    pub shows_sent: bool,
    pub connect: Option<Duration>,
    pub first_byte: Option<Duration>,
    pub between_bytes: Option<Duration>,
}

/// A request's path and the parameters of its query.
#[derive(Debug)]
pub struct Target {
    path: String,
    parameters: Vec<(String, String)>,
}

impl Target {
    pub fn parse(path_with_query: &str) -> Self {
        let (path, query) = path_with_query.split_once('?').unwrap_or((path_with_query, ""));
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let parameters = parameters.map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (name.to_owned(), decode(value))
        });
        Self { path: path.to_owned(), parameters: parameters.collect() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn plan(&self) -> Plan {
        let mut headers = self.pairs("h");
        headers.extend(self.value("cl").map(|length| ("content-length".to_owned(), length.to_owned())));
        Plan {
            status: self.number("status").and_then(|status| u16::try_from(status).ok()).unwrap_or(200),
            headers,
            chunks: self.number("n").unwrap_or(1),
            chunk: vec![b'x'; self.size("chunk")],
            pause: Duration::from_millis(self.number("ms").unwrap_or(0)),
            reads_first: self.value("read").is_some(),
            trailers: self.pairs("trailer"),
            end: self.end(),
        }
    }

    fn end(&self) -> End {
        match self.value("end") {
            Some("abandon") => End::Abandon,
            Some("leak") => End::Leak,
            Some("trap") => End::Trap,
            Some("hang") => End::Hang,
            _ => End::Finish,
        }
    }

    pub fn fetch(&self) -> Fetch {
        let text = |name: &str, default: &str| self.value(name).unwrap_or(default).to_owned();
        let time = |name: &str| self.number(name).map(Duration::from_millis);
        Fetch {
            method: text("method", "GET"),
            is_https: self.value("scheme") == Some("https"),
            authority: text("authority", ""),
            path: text("p", "/"),
            headers: self.pairs("h"),
            body: vec![b'x'; self.size("body")],
            trailers: self.pairs("trailer"),
            end: self.end(),
            shows_sent: self.value("sent").is_some(),
            connect: time("connect_ms"),
            first_byte: time("first_byte_ms"),
            between_bytes: time("between_ms"),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    fn size(&self, name: &str) -> usize {
        self.number(name).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
    }

    fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let values = self.parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        values.filter_map(|value| value.split_once(':')).map(|(name, value)| (name.into(), value.into())).collect()
    }
}

/// Header fields or trailers.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A body that was read.
#[derive(Debug)]
pub struct Received {
    pub bytes: u64,
    /// `whole`, or the error that the body ended with.
    pub end: String,
    pub trailers: Fields,
}

/// A request as it reached the guest.
#[derive(Debug)]
pub struct Shown {
    pub method: String,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    pub path: Option<String>,
    pub headers: Fields,
    pub body: Received,
}

impl Shown {
    pub fn to_json(&self) -> String {
        let shown = json!({
            "method": self.method,
            "scheme": self.scheme,
            "authority": self.authority,
            "path": self.path,
            "headers": pairs(&self.headers),
            "body_bytes": self.body.bytes,
            "end": self.body.end,
            "trailers": pairs(&self.body.trailers),
        });
        format!("{shown}\n")
    }
}

/// The response to an outgoing request.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    pub headers: Fields,
    pub body: Received,
    /// The result of the request's transmission: `whole`, or its error.
    pub sent: Option<String>,
}

impl Fetched {
    /// `{"status", "headers", "body_bytes", "end", "trailers", "sent"}`, or `{"error"}`.
    pub fn to_json(outcome: Result<Self, String>) -> String {
        let outcome = match outcome {
            Ok(fetched) => json!({
                "status": fetched.status,
                "headers": pairs(&fetched.headers),
                "body_bytes": fetched.body.bytes,
                "end": fetched.body.end,
                "trailers": pairs(&fetched.body.trailers),
                "sent": fetched.sent,
            }),
            Err(error) => json!({"error": error}),
        };
        format!("{outcome}\n")
    }
}

fn pairs(fields: &Fields) -> Vec<Value> {
    fields.iter().map(|(name, value)| json!([name, String::from_utf8_lossy(value)])).collect()
}

/// Decodes `%41`; a percent sign that begins no such pair is kept.
fn decode(text: &str) -> String {
    let (mut decoded, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let pair = tail.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_each_part_of_the_response() {
        let target =
            Target::parse("/respond?status=404&cl=7&h=x-a:b%20c&h=x-d:e&n=3&chunk=2&ms=5&trailer=x-t:1&end=leak&read");
        assert_eq!(target.path(), "/respond");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            target.plan(),
            Plan {
                status: 404,
                headers: vec![pair("x-a", "b c"), pair("x-d", "e"), pair("content-length", "7")],
                chunks: 3,
                chunk: b"xx".to_vec(),
                pause: Duration::from_millis(5),
                reads_first: true,
                trailers: vec![pair("x-t", "1")],
                end: End::Leak,
            }
        );
    }

    #[test]
    fn a_percent_sign_without_two_digits_is_kept() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%41"), "%zzA");
    }
}
