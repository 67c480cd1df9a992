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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_too_long_for_dns_has_no_url() {
        let urls = Urls { domain: "localhost".to_owned(), port: 8080 };
        let [fits, is_too_long] = [59, 60].map(|chars| format!("v3--{}", "a".repeat(chars)));
        assert_eq!(urls.of(&fits), Some(format!("http://{fits}.localhost:8080/")));
        assert_eq!(urls.of(&is_too_long), None);
    }
}
