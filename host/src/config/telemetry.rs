//! Resolves the settings of the export of telemetry. Never connects to a collector.

use super::{ConfigError, file::TelemetrySection};
use crate::observe::{limits, telemetry};
use http::{HeaderName, HeaderValue, Uri};
use isopod_policy::Sampling;
use std::{collections::BTreeMap, time::Duration};

/// Returns the settings of the export; `None` without an endpoint.
pub(super) fn resolve(section: TelemetrySection) -> Result<Option<telemetry::Config>, ConfigError> {
    let sample = section.sample.unwrap_or(limits::TELEMETRY_SAMPLE);
    let sampling =
        Sampling::new(sample).ok_or_else(|| out_of_range("telemetry.sample", sample.to_string(), "0 to 1"))?;
    let interval = section.interval.map_or(limits::TELEMETRY_INTERVAL, |span| span.0);
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval) {
        let value = format!("{} ms", interval.as_millis());
        return Err(out_of_range("telemetry.interval", value, "1 second to 1 hour"));
    }
    let headers = headers(section.headers)?;
    let Some(endpoint) = section.endpoint else { return Ok(None) };
    Ok(Some(telemetry::Config { endpoint: endpoint_url(&endpoint)?, headers, sampling, interval }))
}

fn out_of_range(name: &'static str, value: String, range: &'static str) -> ConfigError {
    ConfigError::OutOfRange { name, value, range }
}

/// Checks the URL of the collector, and returns it without a slash at its end.
fn endpoint_url(text: &str) -> Result<String, ConfigError> {
    let bad = |reason| ConfigError::BadTelemetry { name: "telemetry.endpoint", reason };
    let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(bad("write the URL of the collector, such as http://127.0.0.1:4318, without /v1/traces"));
    }
    if uri.query().is_some() || uri.path().ends_with("/v1/traces") {
        return Err(bad("the host adds the path of each signal, such as /v1/traces: leave it and any query out"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("a URL can't have credentials: send them in telemetry.headers"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn headers(fields: BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let bad = |reason| ConfigError::BadTelemetry { name: "telemetry.headers", reason };
    if fields.len() > limits::TELEMETRY_HEADERS_MAX {
        return Err(bad("there are more than 32"));
    }
    let field = |(name, value): (String, String)| -> Result<(HeaderName, HeaderValue), ConfigError> {
        let name = HeaderName::try_from(name).map_err(|_| bad("a name is invalid"))?;
        // The text is a secret, so the error doesn't show it.
        let mut value =
            HeaderValue::try_from(value).map_err(|_| bad("a value has characters that no header may have"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    fields.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Option<telemetry::Config>, String> {
        resolve(toml::from_str(text).expect("it is a table")).map_err(|error| error.to_string())
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert!(resolved("").expect("it is valid").is_none());
        assert!(resolved("sample = 1.0").expect("it is valid").is_none());
    }

    #[test]
    fn an_endpoint_has_no_slash_at_its_end_and_defaults() {
        let config = resolved("endpoint = \"https://otel.example:4318/base/\"").expect("valid").expect("it exports");
        assert_eq!(config.endpoint, "https://otel.example:4318/base");
        assert_eq!((config.interval, Some(config.sampling)), (limits::TELEMETRY_INTERVAL, Sampling::new(0.01)));
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (text, name) in [
            ("endpoint = \"collector:4318\"", "telemetry.endpoint"),
            ("endpoint = \"grpc://collector\"", "telemetry.endpoint"),
            ("endpoint = \"http://collector/v1/traces\"", "leave it"),
            ("endpoint = \"http://collector?x=1\"", "leave it"),
            ("endpoint = \"http://user:secret@collector\"", "telemetry.headers"),
            ("sample = 1.5", "telemetry.sample"),
            ("sample = nan", "telemetry.sample"),
            ("interval = \"1ms\"", "telemetry.interval"),
            ("headers = { \"a b\" = \"x\" }", "telemetry.headers"),
            ("headers = { a = \"x\\ny\" }", "telemetry.headers"),
        ] {
            let error = resolved(text).expect_err(text);
            assert!(error.contains(name) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_values_of_headers_are_not_shown() {
        let text = "endpoint = \"http://collector\"\nheaders = { authorization = \"Bearer secret\" }";
        let config = resolved(text).expect("valid").expect("it exports");
        assert!(!format!("{config:?}").contains("secret") && config.headers.len() == 1);
    }
}
