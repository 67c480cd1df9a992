//! The URLs of apps and of their parts. Never resolves one.

use crate::api::limits;

/// Builds the URLs of apps.
#[derive(Debug, Clone)]
pub(crate) struct Urls {
    pub(crate) domain: String,
    pub(crate) port: u16,
}

impl Urls {
    /// Returns the URL of an app, or of a part of an app; `None` if the name is too long for DNS.
    pub(crate) fn of(&self, label: &str) -> Option<String> {
        let port = if self.port == 80 { String::new() } else { format!(":{}", self.port) };
        (label.len() <= limits::DNS_LABEL_BYTES_MAX).then(|| format!("http://{label}.{}{port}/", self.domain))
    }
}
