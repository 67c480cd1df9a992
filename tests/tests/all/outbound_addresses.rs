//! Tests that no notation of an address reaches the host itself, and none extends a grant.

use crate::{commands::serve, outbound::Elsewhere};
use isopod_tests::{Ask, Bundle, Host, guest, guests::guest_path};

fn deploy(host: &Host, grants: &[String]) {
    let manifest = format!("name = \"greedy\"\n[grants]\nhttp = {grants:?}\n");
    host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy")));
}

/// Spellings of this machine's addresses in a URL. `%` is written as `%25`, since the URL is in a
/// query.
const SPELLINGS: &str = "127.0.0.1 127.1 2130706433 0177.0.0.1 0x7f.1 0x7f000001 127.0.0.1. 127.9.9.9 0.0.0.0 0 \
    localhost LOCALHOST localhost. LocalHost. a.localhost [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] \
    [::FFFF:7F00:1] [::ffff:0.0.0.0] [::ffff:0:0] [::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::] [2002:7f00:1::1] \
    [2002::] [::ffff:0:127.0.0.1] [::1%25250] [::1%25lo] [fe80::1%25lo] %2531%2532%2537.0.0.1 localhos%2574 \
    user@127.0.0.1 255.255.255.255 224.0.0.1 [ff02::1]";

/// Returns every grant that a tenant could request for this machine.
fn grants(port: u16) -> Vec<String> {
    let hosts = "* *.localhost 127.0.0.1 127.9.9.9 0.0.0.0 localhost a.localhost [::1] [::] [::ffff:127.0.0.1] \
                 [::ffff:0.0.0.0] [::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::] [2002:7f00:1::1] [2002::] \
                 [::ffff:0:127.0.0.1]";
    hosts.split_whitespace().map(|host| format!("{host}:{port}")).collect()
}

#[test]
fn no_spelling_of_an_address_reaches_the_hosts_own_listeners() {
    let host = Host::start();
    for own in [host.admin, host.listen] {
        deploy(&host, &grants(own.port()));
        for spelling in SPELLINGS.split_whitespace() {
            let answer = host.get("greedy", &format!("/fetch?url=http://{spelling}:{}/livez", own.port()));
            assert_eq!(answer.status, 502, "{spelling}:{}: {answer}", own.port());
        }
    }
    assert_eq!(host.api(Ask::get("/v1/apps/greedy/status")).expect(200).json()["status"], "up");
}

#[test]
fn a_grant_of_an_address_applies_to_its_mapped_form_only() {
    let (host, elsewhere) = (Host::start(), Elsewhere::start());
    let port = elsewhere.address.port();
    for granted in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"] {
        deploy(&host, &[format!("{granted}:{port}")]);
        for spelling in SPELLINGS.split_whitespace() {
            let answer = host.get("greedy", &format!("/fetch?url=http://{spelling}:{port}/"));
            let is_granted = ["127.0.0.1", "[::ffff:127.0.0.1]", "[::FFFF:7F00:1]"].contains(&spelling);
            assert_eq!(answer.status, if is_granted { 200 } else { 502 }, "{spelling} by {granted}: {answer}");
        }
    }
}

/// `isopod serve` and `isopod run` follow the same rule: their options open only the named
/// addresses, and no unspecified address.
#[test]
fn a_served_component_reaches_only_allowed_and_usable_addresses() {
    let elsewhere = Elsewhere::start();
    let port = elsewhere.address.port();
    let component = guest_path("greedy");
    let status = |allowed: &[&str], spelling: &str| {
        let (_serving, address) = serve(&component, allowed);
        let path = format!("/fetch?url=http://{spelling}:{port}/");
        Ask::get(path).send(address).expect("it answers").status
    };
    for (allowed, spelling, expected) in [
        ("127.0.0.1", "127.0.0.1", 200),
        ("127.0.0.1", "[::ffff:127.0.0.1]", 200),
        ("127.0.0.1", "localhost", 502),
        ("0.0.0.0", "0.0.0.0", 502),
        ("[::ffff:0.0.0.0]", "[::ffff:0.0.0.0]", 502),
    ] {
        let allowed = format!("{allowed}:{port}");
        assert_eq!(status(&["--allow-http", &allowed], spelling), expected, "{spelling} by {allowed}");
    }
    for (spelling, expected) in [("127.0.0.1", 200), ("localhost", 200), ("0.0.0.0", 502), ("[::]", 502)] {
        assert_eq!(status(&["--inherit-network"], spelling), expected, "{spelling} with the whole network");
    }
}
