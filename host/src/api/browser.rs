//! Requests of browsers: the host names under which a browser may use the admin address, and the
//! website that a request is from. Never reads a token.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode, header, uri::Authority};

use crate::http::problem::Problem;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request of a browser is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("`{0}` is not a name of this host's admin address")]
    UnknownName(String),
    #[error("the request is from a page of another website")]
    OtherSite,
}

impl Refused {
    pub(super) fn problem(&self, detail: String) -> Problem {
        match self {
            Self::UnknownName(_) => {
                Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown-host", "Unknown host name", detail).hint(
                    "use an IP address or `localhost`, or add the name to `admin_names` in the host's settings; \
                     requests with the header authorization may use any name",
                )
            }
            Self::OtherSite => {
                Problem::new(StatusCode::FORBIDDEN, "other-site", "Request from another website", detail)
                    .hint("open the dashboard in the browser, or send the header authorization: Bearer TOKEN")
            }
        }
    }
}

/// The authority of a request, once it has been validated.
#[derive(Debug, Clone)]
pub(super) struct RequestAuthority(pub(super) Authority);

impl RequestAuthority {
    /// Returns the authority. `None` only before the validation.
    pub(super) fn of(extensions: &Extensions) -> Option<&Authority> {
        extensions.get::<Self>().map(|Self(authority)| authority)
    }
}

/// The host names that browsers may use for the admin address.
#[derive(Debug, Clone)]
pub(crate) struct AdminNames(Vec<String>);

impl AdminNames {
    /// `domain` is the parent domain of the apps, which is never the name of an app.
    pub(crate) fn new(domain: &str, names: Vec<String>) -> Self {
        Self(names.into_iter().chain(["localhost".to_owned(), domain.to_owned()]).collect())
    }

    /// Refuses unknown names. A website can point its own name to the admin address (DNS
    /// rebinding); a browser would then treat the responses as those of the website. An IP address
    /// can't be pointed elsewhere.
    pub(super) fn ensure(&self, authority: Option<&Authority>) -> Result<(), Refused> {
        let name = authority.map(|authority| authority.host().trim_end_matches('.')).unwrap_or_default();
        let is_ipv6 = |name: &str| {
            let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        };
        let is_known = self.0.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is_known || name.parse::<Ipv4Addr>().is_ok() || is_ipv6(name) {
            Ok(())
        } else {
            Err(Refused::UnknownName(name.to_owned()))
        }
    }
}

/// Refuses the request of a page that is not the dashboard's own. Browsers send `sec-fetch-site`
/// only over HTTPS and to this machine; `origin` is compared without it.
pub(super) fn ensure_same_origin(headers: &HeaderMap, authority: Option<&Authority>) -> Result<(), Refused> {
    let is_same = match headers.get(FETCH_SITE) {
        Some(site) => site == "same-origin",
        None => headers.get(header::ORIGIN).is_none_or(|origin| {
            let name = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
            name.zip(authority).is_some_and(|(name, authority)| name.eq_ignore_ascii_case(authority.as_str()))
        }),
    };
    if is_same { Ok(()) } else { Err(Refused::OtherSite) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> Authority {
        text.parse().expect("is an authority")
    }

    #[test]
    fn only_addresses_and_known_names_belong_to_the_admin_address() {
        let names = AdminNames::new("apps.example.org", vec!["isopod.example.org".to_owned()]);
        for known in [
            "127.0.0.1:8081",
            "192.0.2.7",
            "[::1]:8081",
            "localhost:8081",
            "LocalHost.",
            "isopod.example.org",
            "apps.example.org:8081",
        ] {
            assert_eq!(names.ensure(Some(&authority(known))), Ok(()), "{known}");
        }
        for other in [
            "attacker.example",
            "127.0.0.1.attacker.example",
            "shop.localhost:8081",
            "shop.apps.example.org",
            "localhost.attacker.example",
            "2130706433",
            "0x7f.1",
        ] {
            let host = other.split(':').next().unwrap_or_default().to_owned();
            assert_eq!(names.ensure(Some(&authority(other))), Err(Refused::UnknownName(host)), "{other}");
        }
        assert!(names.ensure(None).is_err());
    }

    #[test]
    fn requests_from_other_sites_are_detected() {
        let ensure = |fields: &[(HeaderName, &str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), value.parse().expect("is a value")));
            ensure_same_origin(&fields.collect(), Some(&authority("127.0.0.1:8081"))).is_ok()
        };
        assert!(ensure(&[]) && ensure(&[(FETCH_SITE, "same-origin")]));
        for site in ["same-site", "cross-site", "none", ""] {
            assert!(!ensure(&[(FETCH_SITE, site), (header::ORIGIN, "http://127.0.0.1:8081")]), "{site}");
        }
        assert!(ensure(&[(header::ORIGIN, "http://127.0.0.1:8081")]));
        for origin in ["http://127.0.0.1:8080", "http://attacker.example", "null", ""] {
            assert!(!ensure(&[(header::ORIGIN, origin)]), "{origin}");
        }
    }
}
