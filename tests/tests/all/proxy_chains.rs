//! Tests the facts that an app receives about a client behind a trusted proxy, if the client sent
//! misleading fields.

use super::proxies::{deployed, shown};
use isopod_tests::PROBES;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";

/// The proxy has appended its client's address to the client's fields.
#[test]
fn a_client_cannot_hide_its_address_behind_a_trusted_proxy() {
    let host = deployed(TRUSTED);
    for probe in PROBES {
        for (name, text) in [
            ("x-forwarded-for", "\", 192.0.2.1"),
            ("x-forwarded-for", "\"6.6.6.6, 192.0.2.1"),
            ("x-forwarded-for", "6.6.6.6, \u{e9}, 192.0.2.1"),
            ("forwarded", "for=\"6.6.6.6, for=192.0.2.1"),
            ("forwarded", "for=\u{e9}, for=192.0.2.1"),
        ] {
            let shown = shown(&host, probe, &[(name, text)]);
            assert_eq!(shown.header("x-real-ip"), Some("192.0.2.1"), "{probe}: {name}: {text}");
            let chain = shown.header("x-forwarded-for").expect("it is always set");
            assert!(chain.ends_with("192.0.2.1, 127.0.0.1"), "{probe}: {name}: {chain}");
        }
    }
}

#[test]
fn an_app_receives_one_forwarded_host() {
    let host = deployed(TRUSTED);
    for probe in PROBES {
        let own = format!("{probe}.localhost");
        for (hosts, expected) in [
            (&["shop.example"][..], "shop.example"),
            (&["a.example", "shop.example"], "shop.example"),
            (&["a.example, shop.example"], "shop.example"),
            (&["shop.example", ""], "shop.example"),
            (&[""], own.as_str()),
            (&["", ""], own.as_str()),
        ] {
            let fields: Vec<_> = hosts.iter().map(|host| ("x-forwarded-host", *host)).collect();
            assert_eq!(shown(&host, probe, &fields).header("x-forwarded-host"), Some(expected), "{probe}: {hosts:?}");
        }
    }
}
