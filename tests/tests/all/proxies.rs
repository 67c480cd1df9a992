//! Tests the facts about a client that an app receives: from the connection, or from a trusted
//! proxy.

use isopod_tests::{Ask, Host, PROBES, Shown};

pub(super) fn deployed(settings: &str) -> Host {
    let host = Host::start_with("", settings);
    host.deploy_probes();
    host
}

#[track_caller]
pub(super) fn shown(host: &Host, probe: &str, fields: &[(&str, &str)]) -> Shown {
    let ask = fields.iter().fold(Ask::get("/show"), |ask, (name, value)| ask.header(name, *value));
    Shown::read(&host.app(probe, ask).expect(200).text())
}

#[test]
fn forwarding_headers_of_a_client_are_replaced() {
    let host = deployed("trusted_proxies = [\"10.0.0.0/8\"]");
    for probe in PROBES {
        let claims = [
            ("forwarded", "for=6.6.6.6;proto=https"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
        ];
        for fields in [&claims[..], &[]] {
            let shown = shown(&host, probe, fields);
            assert_eq!(shown.header("x-forwarded-for"), Some("127.0.0.1"), "{probe}");
            assert_eq!(shown.header("x-real-ip"), Some("127.0.0.1"));
            assert_eq!(shown.header("x-forwarded-proto"), Some("http"));
            assert_eq!(shown.header("x-forwarded-host"), Some(format!("{probe}.localhost").as_str()));
            for name in ["forwarded", "x-forwarded-port", "x_forwarded_for"] {
                assert_eq!(shown.header(name), None, "{probe}");
            }
            assert_eq!(shown.scheme.as_deref(), Some("http"));
        }
    }
}

#[test]
fn the_headers_of_a_trusted_proxy_are_trusted() {
    let host = deployed("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]");
    for probe in PROBES {
        let fields = [
            ("x-forwarded-for", "6.6.6.6, 192.0.2.1, 10.0.0.7"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.example"),
        ];
        let said = shown(&host, probe, &fields);
        assert_eq!(said.scheme.as_deref(), Some("https"), "{probe}");
        assert_eq!(said.authority, Some(format!("{probe}.localhost")), "the routed host name stays");
        assert_eq!(said.header("x-forwarded-for"), Some("6.6.6.6, 192.0.2.1, 10.0.0.7, 127.0.0.1"));
        assert_eq!(said.header("x-forwarded-proto"), Some("https"));
        assert_eq!(said.header("x-forwarded-host"), Some("shop.example"));
        assert_eq!(said.header("x-real-ip"), Some("192.0.2.1"), "the last address that is not a trusted proxy");
        let said = shown(&host, probe, &[("forwarded", "for=192.0.2.1;proto=https")]);
        assert_eq!(said.scheme.as_deref(), Some("https"), "{probe}");
        assert_eq!(said.header("forwarded"), Some("for=192.0.2.1;proto=https, for=127.0.0.1"));
        assert_eq!(said.header("x-real-ip"), Some("192.0.2.1"));
    }
}
