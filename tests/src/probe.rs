//! Parses the request that a probe returns. `examples/probe-plan` documents the probes' queries.

use serde_json::Value;

/// The probes, one per interface. Each is deployed under its own name.
pub const PROBES: [&str; 3] = ["probe-flat", "probe-wasi02", "probe-wasi03"];

/// A request as it reached a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub scheme: Option<String>,
    pub authority: Option<String>,
    pub path: Option<String>,
    /// In the order of their names.
    pub headers: Vec<(String, String)>,
    pub body_bytes: u64,
}

impl Shown {
    /// # Panics
    /// If the response is not a probe's.
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let start = text.find('{').unwrap_or_else(|| panic!("a probe shows JSON: {text}"));
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        let shown = values.next().expect("there is a value").unwrap_or_else(|error| panic!("{error}: {text}"));
        let part = |name: &str| shown[name].as_str().map(str::to_owned);
        let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
        let headers = shown["headers"].as_array().expect("headers are a list");
        let mut headers: Vec<_> = headers.iter().map(|header| pair(header).expect("a name and a value")).collect();
        headers.sort();
        Self {
            scheme: part("scheme"),
            authority: part("authority"),
            path: part("path"),
            headers,
            body_bytes: shown["body_bytes"].as_u64().expect("a number of bytes"),
        }
    }

    /// Returns the only value of a header, if it is present.
    ///
    /// # Panics
    /// If there are several values.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} came more than once: {self:?}");
        value
    }
}
