//! Resolves the settings of the export of telemetry. Reads only the file of trusted certificates.
//! Never connects to a collector.

use super::{ConfigError, file::TelemetrySection};
use crate::{
    certificates,
    observe::{
        limits,
        telemetry::{self, Signals},
    },
};
use http::{HeaderName, HeaderValue, Uri};
use isopod_policy::Sampling;
use std::{collections::BTreeMap, path::Path, time::Duration};
use ureq::tls::RootCerts;

/// Returns the settings of the export; `None` without an endpoint.
pub(super) fn resolve(section: TelemetrySection, roots: &RootCerts) -> Result<Option<telemetry::Config>, ConfigError> {
    let sample = section.sample.unwrap_or(limits::TELEMETRY_SAMPLE);
    let sampling =
        Sampling::new(sample).ok_or_else(|| out_of_range("telemetry.sample", sample.to_string(), "0 to 1"))?;
    let interval = section.interval.map_or(limits::TELEMETRY_INTERVAL, |span| span.0);
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval) {
        let value = format!("{} ms", interval.as_millis());
        return Err(out_of_range("telemetry.interval", value, "1 second to 1 hour"));
    }
    let sampling = sampling.trusting_parent(section.trust_parent.unwrap_or(true));
    let headers = headers(section.headers)?;
    let signals = section.signals.as_deref().map_or(Signals::ALL, Signals::of);
    if signals == Signals::of(&[]) {
        return Err(bad("telemetry.signals", "name at least one of traces, metrics and logs"));
    }
    let Some(endpoint) = section.endpoint else { return Ok(None) };
    let endpoint = endpoint_url(&endpoint)?;
    let roots = match section.ca_file {
        Some(_) if !endpoint.starts_with("https:") => {
            return Err(bad("telemetry.ca_file", "the endpoint has no TLS: write https:// in telemetry.endpoint"));
        }
        Some(file) => trusted(&file)?,
        None => roots.clone(),
    };
    Ok(Some(telemetry::Config { endpoint, headers, roots, signals, sampling, interval }))
}

fn bad(name: &'static str, reason: &'static str) -> ConfigError {
    ConfigError::BadTelemetry { name, reason }
}

fn out_of_range(name: &'static str, value: String, range: &'static str) -> ConfigError {
    ConfigError::OutOfRange { name, value, range }
}

/// Checks the URL of the collector, and returns it without a slash at its end.
fn endpoint_url(text: &str) -> Result<String, ConfigError> {
    let bad = |reason| bad("telemetry.endpoint", reason);
    let uri: Uri = text.parse().map_err(|_| bad("it is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(bad("write the URL of the collector, such as http://127.0.0.1:4318, without /v1/traces"));
    }
    if uri.query().is_some() || uri.path().ends_with("/v1/traces") {
        return Err(bad(
            "the host adds the path of each signal, such as /v1/traces: omit the path of the signal and the query",
        ));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("credentials in the URL are not supported; use telemetry.headers"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Reads the certificates of a file (PEM), which are trusted in place of the usual authorities.
fn trusted(file: &Path) -> Result<RootCerts, ConfigError> {
    let certificates = certificates::read(file).map_err(|error| ConfigError::Setting {
        setting: "telemetry.ca_file".to_owned(),
        reason: format!("{}: {error}", file.display()),
    })?;
    Ok(RootCerts::from(certificates))
}

fn headers(fields: BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let bad = |reason| bad("telemetry.headers", reason);
    if fields.len() > limits::TELEMETRY_HEADERS_MAX {
        return Err(bad("there are more than 32"));
    }
    let field = |(name, value): (String, String)| -> Result<(HeaderName, HeaderValue), ConfigError> {
        let name = HeaderName::try_from(name).map_err(|_| bad("a name is invalid"))?;
        // The text is a secret, so the error doesn't show it.
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| bad("a value contains characters that are invalid in a header"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    fields.into_iter().map(field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<Option<telemetry::Config>, String> {
        resolve(toml::from_str(text).expect("it is a table"), &RootCerts::WebPki).map_err(|error| error.to_string())
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
            ("endpoint = \"http://collector/v1/traces\"", "omit the path"),
            ("endpoint = \"http://collector?x=1\"", "omit the path"),
            ("endpoint = \"http://user:secret@collector\"", "telemetry.headers"),
            ("sample = 1.5", "telemetry.sample"),
            ("sample = nan", "telemetry.sample"),
            ("interval = \"1ms\"", "telemetry.interval"),
            ("signals = []", "telemetry.signals"),
            ("endpoint = \"http://collector\"\nca_file = \"/ca.pem\"", "telemetry.ca_file"),
            ("endpoint = \"https://collector\"\nca_file = \"/missing.pem\"", "/missing.pem: it can't be read"),
            ("headers = { \"a b\" = \"x\" }", "telemetry.headers"),
            ("headers = { a = \"x\\ny\" }", "telemetry.headers"),
        ] {
            let error = resolved(text).expect_err(text);
            assert!(error.contains(name) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_signals_and_the_trust_in_clients_are_selected() {
        let endpoint = "endpoint = \"http://collector\"\n";
        let config = |more: &str| resolved(&format!("{endpoint}{more}")).expect("valid").expect("it exports");
        let usual = config("");
        assert!(usual.signals == Signals::ALL && usual.sampling.trusts_parent());
        let config = config("signals = [\"traces\"]\ntrust_parent = false");
        assert_eq!(config.signals, Signals { traces: true, metrics: false, logs: false });
        assert!(!config.sampling.trusts_parent());
        let unknown: Result<TelemetrySection, _> = toml::from_str("signals = [\"spans\"]");
        assert!(unknown.expect_err("it is unknown").to_string().contains("traces"));
    }

    #[test]
    fn the_certificates_of_a_file_are_trusted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        let resolve = |pem: &str| {
            std::fs::write(&file, pem).expect("it can be written");
            resolved(&format!("endpoint = \"https://collector\"\nca_file = {file:?}"))
        };
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        let config = resolve(&certificate.repeat(2)).expect("valid").expect("it exports");
        assert!(matches!(config.roots, RootCerts::Specific(roots) if roots.len() == 2));
        let error = resolve("").expect_err("it is empty");
        assert!(error.contains("no certificate") && error.contains("telemetry.ca_file"), "{error}");
    }

    #[test]
    fn the_values_of_headers_are_not_shown() {
        let text = "endpoint = \"http://collector\"\nheaders = { authorization = \"Bearer secret\" }";
        let config = resolved(text).expect("valid").expect("it exports");
        assert!(!format!("{config:?}").contains("secret") && config.headers.len() == 1);
    }
}
