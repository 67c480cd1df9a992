//! Tests which hosts a grant allows, and how far a request may reach.

use std::net::IpAddr;

use isopod_policy::{Access, Grants, HttpGrant, Reach};
use proptest::prelude::*;

fn grants(hosts: &[&str]) -> Grants {
    let http = hosts.iter().map(|host| host.parse().expect(host)).collect();
    Grants { http, ..Grants::default() }
}

/// The table of grants: the grant, the requested host and port, and the decision.
#[test]
fn a_grant_allows_exactly_what_it_names() {
    use Reach::{ByAddress, Private, PublicOnly};
    let table: &[(&str, &str, u16, Option<Reach>)] = &[
        ("api.github.com", "api.github.com", 443, Some(PublicOnly)),
        ("api.github.com", "API.GitHub.com.", 80, Some(PublicOnly)),
        ("api.github.com", "api.github.com", 8080, None),
        ("api.github.com", "github.com", 443, None),
        ("api.github.com", "evil-api.github.com", 443, None),
        ("api.github.com", "api.github.com.evil.org", 443, None),
        ("api.github.com:8443", "api.github.com", 8443, Some(PublicOnly)),
        ("api.github.com:8443", "api.github.com", 443, None),
        ("*.example.org", "a.example.org", 443, Some(PublicOnly)),
        ("*.example.org", "a.b.example.org", 443, Some(PublicOnly)),
        ("*.example.org", "example.org", 443, None),
        ("*.example.org", "badexample.org", 443, None),
        ("*.example.org", ".example.org", 443, None),
        ("*.example.org:8443", "a.example.org", 443, None),
        ("*", "anything.org", 443, Some(PublicOnly)),
        ("*", "10.0.0.1", 80, Some(PublicOnly)),
        ("*", "localhost", 80, Some(PublicOnly)),
        ("*", "anything.org", 8080, None),
        ("*:8080", "anything.org", 8080, Some(PublicOnly)),
        ("localhost:9000", "localhost", 9000, Some(Private)),
        ("localhost:9000", "localhost", 80, None),
        ("database", "database", 80, Some(Private)),
        ("database", "database.evil.org", 80, None),
        ("127.0.0.1:9000", "127.0.0.1", 9000, Some(ByAddress)),
        ("127.0.0.1:9000", "localhost", 9000, None),
        ("127.0.0.1:9000", "127.0.0.2", 9000, None),
        ("127.0.0.1:9000", "127.1", 9000, None),
        ("127.0.0.1:9000", "2130706433", 9000, None),
        ("127.0.0.1:9000", "0177.0.0.1", 9000, None),
        ("127.0.0.1:9000", "127.0.0.1.", 9000, None),
        ("127.0.0.1:9000", "[::ffff:127.0.0.1]", 9000, Some(ByAddress)),
        ("127.0.0.1:9000", "[::FFFF:7F00:1]", 9000, Some(ByAddress)),
        ("127.0.0.1:9000", "[::127.0.0.1]", 9000, None),
        ("127.0.0.1:9000", "[64:ff9b::7f00:1]", 9000, None),
        ("[::ffff:127.0.0.1]:9000", "127.0.0.1", 9000, Some(ByAddress)),
        ("[fe80::1]:80", "[fe80::1%25eth0]", 80, None),
        ("[fe80::1]:80", "[fe80::1%eth0]", 80, None),
        ("*:9000", "%31%32%37.0.0.1", 9000, None),
        ("*:9000", "0x7f.1", 9000, None),
        ("1.1.1.1", "1.1.1.1", 443, Some(ByAddress)),
        ("[::1]:80", "[::1]", 80, Some(ByAddress)),
        ("[::1]:80", "::1", 80, Some(ByAddress)),
        ("[::1]:80", "0:0:0:0:0:0:0:1", 80, Some(ByAddress)),
        ("::1", "[::1]", 80, Some(ByAddress)),
        ("*.internal", "db.internal", 80, Some(PublicOnly)),
        ("db.internal", "db.internal", 80, Some(PublicOnly)),
        ("my_service", "my_service", 80, Some(Private)),
        ("api.github.com", "", 443, None),
        ("*", "", 443, None),
        ("*", "a..b", 443, None),
        ("*", "user@host.org", 443, None),
        ("*", "host.org/path", 443, None),
        ("*", "0x7f.1", 80, None),
        ("*", "0x7f000001", 80, None),
    ];
    for (grant, host, port, expected) in table {
        assert_eq!(grants(&[grant]).allows_http(host, *port, true), *expected, "{grant} for {host}:{port}");
    }
}

#[test]
fn without_a_grant_nothing_is_allowed() {
    let none = Grants::default();
    assert_eq!(none.allows_http("example.org", 443, true), None);
    assert!(none.files.is_empty() && !none.keyvalue);
}

#[test]
fn the_widest_of_several_grants_counts() {
    let both = grants(&["*", "localhost:80"]);
    assert_eq!(both.allows_http("localhost", 80, false), Some(Reach::Private));
    assert_eq!(both.allows_http("localhost", 443, true), Some(Reach::PublicOnly));
    assert_eq!(both.allows_http("example.org", 80, false), Some(Reach::PublicOnly));
}

#[test]
fn an_invalid_grant_is_refused_with_the_reason() {
    for (text, why) in [
        ("", "the host is empty"),
        ("https://api.github.com", "without scheme and path"),
        ("api.github.com/v3", "without scheme and path"),
        ("a b", "only letters, digits"),
        ("host:port", "the port is not a number"),
        ("host:0", "the port is not a number"),
        ("host:65536", "the port is not a number"),
        ("host:+80", "the port is not a number"),
        ("host:", "the port is not a number"),
        ("[::1", "is not closed"),
        ("[hello]", "is not an IPv6 address"),
        ("[::1]80", "follow ']'"),
        ("*.*.org", "only letters, digits"),
        ("a*.org", "'*' must be alone"),
        ("*.127.0.0.1", "not an address"),
        ("*.1", "can't end in a number"),
        ("127.1", "can't end in a number"),
        ("a..b", "1 to 63 characters"),
    ] {
        let error = text.parse::<HttpGrant>().expect_err(text);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[test]
fn the_grant_of_a_server_is_what_a_manifest_accepts() {
    for (host, port, expected) in [
        ("api.github.com", 443, "api.github.com"),
        ("API.GitHub.com.", 80, "api.github.com"),
        ("api.github.com", 8443, "api.github.com:8443"),
        ("my_service", 80, "my_service"),
        ("10.0.0.1", 9000, "10.0.0.1:9000"),
        ("::1", 80, "[::1]"),
        ("[2001:db8::1]", 8080, "[2001:db8::1]:8080"),
        (&"a".repeat(63), 80, &"a".repeat(63)),
    ] {
        assert_eq!(HttpGrant::of_server(host, port).map(String::from).as_deref(), Ok(expected));
    }
    let [label, name] = ["a".repeat(64), ["a".repeat(60).as_str(); 5].join(".")];
    for (host, port, why) in [
        (label.as_str(), 80, "1 to 63 characters"),
        (&name, 80, "at most 253 characters"),
        ("a..b", 80, "1 to 63 characters"),
        ("", 80, "the host is empty"),
        ("127.1", 80, "can't end in a number"),
        ("fe80::1%25eth0", 80, "only letters, digits"),
        ("*.example.org", 80, "only letters, digits"),
        ("example.org", 0, "the port is not a number"),
    ] {
        let refused = HttpGrant::of_server(host, port).expect_err(host);
        assert!(refused.contains(why), "{host}:{port}: {refused}");
    }
}

#[test]
fn grants_read_and_print_as_json() {
    let text = concat!(
        r#"{"http":["api.github.com","*.example.org:8443","[::1]:80","*"],"#,
        r#""files":{"data":"read-write","docs":"read-only"},"keyvalue":true,"events":["billing"]}"#,
    );
    let grants: Grants = serde_json::from_str(text).expect("the grants are valid");
    assert_eq!(grants.files["data"], Access::ReadWrite);
    assert_eq!(serde_json::to_string(&grants).expect("they serialise"), text);
    assert_eq!(serde_json::from_str::<Grants>("{}").expect("all is optional"), Grants::default());
    assert!(serde_json::from_str::<Grants>(r#"{"htp":[]}"#).is_err());
    assert!(serde_json::from_str::<Grants>(r#"{"http":["https://x"]}"#).is_err());
    assert!(serde_json::from_str::<Grants>(r#"{"events":["Billing"]}"#).is_err());
}

#[test]
fn the_reach_of_a_grant_depends_on_how_exactly_it_names_the_host() {
    let admits = |address: &str| {
        let address = address.parse().expect(address);
        [Reach::PublicOnly, Reach::Private, Reach::ByAddress].map(|reach| reach.admits(address))
    };
    for address in ["1.1.1.1", "2606:4700:4700::1111"] {
        assert_eq!(admits(address), [true, true, true], "{address}");
    }
    for address in ["127.0.0.1", "10.0.0.1", "::1", "::ffff:192.168.0.1"] {
        assert_eq!(admits(address), [false, true, true], "{address}");
    }
    for address in ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254"] {
        assert_eq!(admits(address), [false, false, true], "{address}");
    }
    for address in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1"] {
        assert_eq!(admits(address), [false, false, false], "{address}");
    }
}

fn host() -> impl Strategy<Value = String> {
    let name = "[a-z][a-z0-9-]{0,6}[a-z](\\.[a-z]{2,6}){0,3}";
    prop_oneof![
        Just("*".to_owned()),
        name,
        name.prop_map(|name| format!("*.{name}")),
        any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<std::net::Ipv6Addr>().prop_map(|address| format!("[{address}]")),
    ]
}

proptest! {
    #[test]
    fn the_grant_of_a_server_is_accepted_and_allows_it(
        host in prop_oneof![host(), "[a-z0-9._*:%-]{0,70}"], port in any::<u16>(),
    ) {
        match HttpGrant::of_server(&host, port) {
            Ok(grant) => {
                prop_assert_eq!(&grant.to_string().parse::<HttpGrant>().expect("a manifest accepts it"), &grant);
                let exact = Grants { http: vec![grant], ..Grants::default() };
                prop_assert!(exact.allows_http(&host, port, false).is_some());
            }
            Err(_) => {
                let http = format!("*:{port}").parse().into_iter().collect();
                let wide = Grants { http, ..Grants::default() };
                prop_assert_eq!(wide.allows_http(&host, port, false), None);
            }
        }
    }

    #[test]
    fn every_printed_grant_parses_to_the_same_grant(host in host(), port in proptest::option::of(1..=u16::MAX)) {
        let text = port.map_or(host.clone(), |port| format!("{host}:{port}"));
        let grant: HttpGrant = text.parse().expect("it has the allowed form");
        prop_assert_eq!(grant.to_string().parse::<HttpGrant>().expect("it reads back"), grant);
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_a_parsed_grant_prints_itself(
        grant in any::<String>(), host in any::<String>(),
    ) {
        if let Ok(read) = grant.parse::<HttpGrant>() {
            prop_assert_eq!(read.to_string().parse::<HttpGrant>().expect("it reads back"), read);
        }
        let _ = grants(&["*", "*.example.org", "localhost"]).allows_http(&host, 443, true);
    }

    #[test]
    fn a_wildcard_never_reaches_private_addresses(address in any::<IpAddr>(), port in any::<u16>()) {
        let wide = grants(&["*", "*:8080", "*.example.org"]);
        prop_assert!(wide.allows_http(&address.to_string(), port, false) <= Some(Reach::PublicOnly));
    }
}
