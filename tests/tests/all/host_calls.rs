//! Tests host calls with the largest arguments that guests can pass: each returns soon, yields to
//! other guests between its parts, or is rejected.

use isopod_tests::{Bundle, Host, Neighbour, guest};

fn host() -> Host {
    let host = Host::start();
    let manifest = "name = \"hoarder\"\n[limits]\nrequest_timeout = \"1m\"\n";
    host.deploy("hoarder", Bundle::archive(manifest, &guest("hoarder")));
    host
}

#[test]
fn random_bytes_are_returned_up_to_a_limit() {
    let host = host();
    let neighbour = Neighbour::beside(&host);
    let most = 1_u64 << 20;
    for bytes in [0, 1, 16 * 1024 - 1, 16 * 1024 + 1, most - 1, most] {
        let said = host.get("hoarder", &format!("/random?bytes={bytes}")).expect(200).text();
        assert!(said.starts_with(&format!("{bytes} bytes, ")), "{said}");
    }
    // About one byte in 256 is zero if all bytes are random.
    let said = host.get("hoarder", &format!("/random?bytes={most}")).expect(200).text();
    let zeros: u32 = said.split(", ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a number");
    assert!((3_500..4_700).contains(&zeros), "{said}");
    for bytes in [most + 1, 60 << 20, 4_000_000_000] {
        host.get("hoarder", &format!("/random?bytes={bytes}")).problem_of("hoarder", 502, "app-failed");
    }
    host.log_line("hoarder", "the limit", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("1048576") && text.contains("use several calls"))
    });
    neighbour.finish();
}

/// Each byte ends a line, so one call writes at most a few thousand lines.
#[test]
fn a_flood_of_empty_lines_is_written_in_many_calls() {
    let host = host();
    let neighbour = Neighbour::beside(&host);
    assert_eq!(host.get("hoarder", "/lines?count=409600").expect(200).text(), "100 calls");
    host.get("hoarder", "/write?bytes=4097").problem_of("hoarder", 502, "app-failed");
    neighbour.finish();
}
