//! Resolves the settings of TLS of the host's own requests. Reads only the file of authorities.

use std::path::PathBuf;

use serde::Deserialize;
use ureq::tls::RootCerts;

use super::ConfigError;
use crate::certificates;

/// The table `tls`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsSection {
    ca_file: Option<PathBuf>,
}

/// Returns the authorities that the host's own requests trust.
pub(super) fn resolve(section: TlsSection) -> Result<RootCerts, ConfigError> {
    let Some(file) = section.ca_file else { return Ok(RootCerts::WebPki) };
    certificates::with_public(&file).map_err(|error| ConfigError::Setting {
        setting: "tls.ca_file".to_owned(),
        reason: format!("{}: {error}", file.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_file_is_refused_with_the_reason() {
        let resolve = |text: &str| resolve(toml::from_str(text).expect("it is a table"));
        assert!(matches!(resolve(""), Ok(RootCerts::WebPki)));
        let error = resolve("ca_file = \"/missing.pem\"").expect_err("it is missing").to_string();
        assert!(error.starts_with("`tls.ca_file`: /missing.pem: it can't be read"), "{error}");
    }
}
