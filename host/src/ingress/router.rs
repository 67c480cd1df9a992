//! Maps a host name to an app or a part of an app. Never performs I/O.

/// The target of a host name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `hello.localhost`
    App(&'a str),
    /// `v3--hello.localhost` or `web-7f3k2--hello.localhost`: a release or an instance of an app.
    Part { part: &'a str, app: &'a str },
    /// A name outside the domain.
    Elsewhere,
}

/// Parses a host name, with or without a port, below `domain`.
pub(crate) fn route<'a>(host: &'a str, domain: &str) -> Route<'a> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = name
        .len()
        .checked_sub(domain.len())
        .filter(|&start| name.is_char_boundary(start) && name[start..].eq_ignore_ascii_case(domain))
        .and_then(|start| name[..start].strip_suffix('.'));
    match label {
        None | Some("") => Route::Elsewhere,
        Some(label) if label.contains('.') => Route::Elsewhere,
        Some(label) => match label.split_once("--") {
            Some((part, app)) => Route::Part { part, app },
            None => Route::App(label),
        },
    }
}

/// Returns whether a host name is the domain itself, without an app.
pub(crate) fn is_domain(host: &str, domain: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_app_is_named_by_the_label_before_the_domain() {
        assert_eq!(route("hello.localhost", "localhost"), Route::App("hello"));
        assert_eq!(route("hello.localhost:8080", "localhost"), Route::App("hello"));
        assert_eq!(route("hello.LOCALHOST.", "localhost"), Route::App("hello"));
        assert_eq!(route("hello.apps.example.org", "apps.example.org"), Route::App("hello"));
    }

    #[test]
    fn two_hyphens_separate_a_release_or_instance_from_its_app() {
        assert_eq!(route("v3--shop.localhost", "localhost"), Route::Part { part: "v3", app: "shop" });
        assert_eq!(route("web-7f3k2--shop.localhost", "localhost"), Route::Part { part: "web-7f3k2", app: "shop" });
    }

    #[test]
    fn names_outside_the_domain_are_not_routed() {
        for host in
            ["localhost", "127.0.0.1:8080", "hello", "a.b.localhost", "evillocalhost", ".localhost", "", "[::1]:80"]
        {
            assert_eq!(route(host, "localhost"), Route::Elsewhere, "{host}");
        }
    }

    proptest! {
        #[test]
        fn no_host_name_causes_a_panic(host in ".*", domain in "[a-zé.]{1,12}") {
            let _ = route(&host, &domain);
        }
    }
}
