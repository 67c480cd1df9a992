//! The endpoint of a drain: parses its URL, and shows it without secrets. Never connects.

use std::fmt;

use http::Uri;
use isopod_engine::OutboundServer;
use isopod_policy::HttpGrant;

use crate::control::limits;

/// The path of an OTLP endpoint whose URL has none.
const OTLP_PATH: &str = "/v1/logs";

/// How lines are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RFC 5424 over TCP or TLS, with the length before each message (RFC 6587, RFC 5425).
    Syslog,
    /// RFC 5424, one message per datagram.
    SyslogUdp,
    /// POST requests with one JSON object per line.
    Http,
    /// POST requests of OTLP/HTTP in its JSON encoding.
    Otlp,
}

/// The endpoint of a drain.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    scheme: String,
    pub(super) protocol: Protocol,
    pub(super) server: OutboundServer,
    /// Path and query of HTTP requests.
    pub(super) target: String,
    /// The user and the password of HTTP requests.
    pub(super) credentials: Option<String>,
}

impl Endpoint {
    /// Parses a URL. Returns why it isn't an endpoint.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if url.len() > limits::DRAIN_URL_BYTES_MAX {
            return Err(format!("it is longer than {} bytes", limits::DRAIN_URL_BYTES_MAX));
        }
        let uri: Uri = url.parse().map_err(|error| format!("it is not a URL: {error}"))?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let (protocol, is_tls, usual_port) = match scheme.as_str() {
            "syslog" | "syslog+tcp" => (Protocol::Syslog, false, 514),
            "syslog+tls" => (Protocol::Syslog, true, 6514),
            "syslog+udp" => (Protocol::SyslogUdp, false, 514),
            "http" => (Protocol::Http, false, 80),
            "https" => (Protocol::Http, true, 443),
            "otlp+http" => (Protocol::Otlp, false, 4318),
            "otlp+https" => (Protocol::Otlp, true, 443),
            _ => {
                return Err("its scheme must be https, http, otlp+https, otlp+http, syslog (TCP), syslog+tls or \
                            syslog+udp"
                    .to_owned());
            }
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let user = authority.rsplit_once('@');
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let after_host = user.map_or(authority, |(_, server)| server).get(host.len()..).unwrap_or_default();
        let port = match after_host.strip_prefix(':') {
            None => usual_port,
            Some(port) => {
                let port = port.parse::<u16>().ok().filter(|port| *port > 0);
                port.ok_or("its port is not a number from 1 to 65535")?
            }
        };
        let host = host.to_ascii_lowercase();
        let credentials = user.map(|(credentials, _)| decoded(credentials)).transpose()?;
        let is_syslog = matches!(protocol, Protocol::Syslog | Protocol::SyslogUdp);
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        if is_syslog && (credentials.is_some() || target.len() > 1) {
            return Err("a syslog endpoint has no user, path or query".to_owned());
        }
        let target = if protocol == Protocol::Otlp && target == "/" { OTLP_PATH } else { target };
        let (target, server) = (target.to_owned(), OutboundServer { host, port, is_tls });
        Ok(Self { scheme, protocol, server, target, credentials })
    }

    /// Returns the grant that an app would need to reach the server.
    pub(super) fn grant(&self) -> Result<HttpGrant, &'static str> {
        HttpGrant::of_server(&self.server.host, self.server.port)
    }
}

/// Decodes the percent-encoded user and password.
fn decoded(credentials: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(credentials).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "its user or password is not UTF-8".to_owned())
}

/// Shows the URL without the user, the password, the path and the query: each may be a secret.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, server, target, credentials, .. } = self;
        let user = if credentials.is_some() { "***@" } else { "" };
        write!(f, "{scheme}://{user}{}:{}", server.host, server.port)?;
        match (self.protocol, target.as_str()) {
            (Protocol::Syslog | Protocol::SyslogUdp, _) => Ok(()),
            (Protocol::Http | Protocol::Otlp, "/" | OTLP_PATH) => f.write_str(target),
            (Protocol::Http | Protocol::Otlp, _) => f.write_str("/***"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap_or_else(|why| panic!("{url}: {why}"))
    }

    #[test]
    fn the_scheme_selects_protocol_tls_and_port() {
        for (url, protocol, is_tls, port) in [
            ("syslog://logs.example.org", Protocol::Syslog, false, 514),
            ("syslog+tcp://logs.example.org:1514", Protocol::Syslog, false, 1514),
            ("syslog+tls://logs.example.org/", Protocol::Syslog, true, 6514),
            ("SYSLOG+UDP://logs.example.org", Protocol::SyslogUdp, false, 514),
            ("https://logs.example.org/in?k=1", Protocol::Http, true, 443),
            ("http://[::1]:9000", Protocol::Http, false, 9000),
            ("otlp+http://collector", Protocol::Otlp, false, 4318),
            ("otlp+https://collector.example.org", Protocol::Otlp, true, 443),
        ] {
            let endpoint = parsed(url);
            assert_eq!(
                (endpoint.protocol, endpoint.server.is_tls, endpoint.server.port),
                (protocol, is_tls, port),
                "{url}"
            );
        }
        assert_eq!(parsed("otlp+http://collector").target, "/v1/logs");
        assert_eq!(parsed("otlp+http://collector/in").target, "/in");
    }

    #[test]
    fn secrets_are_not_shown() {
        let endpoint = parsed("https://user:p%40ss@logs.example.org/in?token=secret");
        assert_eq!(endpoint.credentials.as_deref(), Some("user:p@ss"));
        assert_eq!(endpoint.to_string(), "https://***@logs.example.org:443/***");
        assert!(!format!("{endpoint:?}").contains("secret"));
        assert_eq!(parsed("https://logs.example.org/inputs/secret").to_string(), "https://logs.example.org:443/***");
        assert_eq!(parsed("https://logs.example.org?secret").to_string(), "https://logs.example.org:443/***");
        assert_eq!(parsed("otlp+http://collector").to_string(), "otlp+http://collector:4318/v1/logs");
        assert_eq!(parsed("syslog://logs.example.org").to_string(), "syslog://logs.example.org:514");
    }

    #[test]
    fn invalid_endpoints_are_refused() {
        let long = format!("https://logs.example.org/{}", "x".repeat(limits::DRAIN_URL_BYTES_MAX));
        for url in [
            "",
            "logs.example.org",
            "ftp://logs.example.org",
            "https://",
            "https://logs.example.org:99999/",
            "syslog://logs.example.org/path",
            "syslog://user@logs.example.org",
            "https://%ff@logs.example.org",
            &long,
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}
