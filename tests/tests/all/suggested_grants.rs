//! Tests which grant the log of a refused outbound request suggests.

use isopod_tests::{Bundle, Host, guest};

/// Fetches a URL that isn't granted. Returns the message about the refusal in the app's log.
fn refusal(host: &Host, server: &str) -> String {
    let response = host.get("greedy", &format!("/fetch?url=http://{server}/"));
    assert_eq!(response.status, 502, "{server}: {response}");
    let line = host.log_line("greedy", "the reason of the refusal", |line| {
        let refused = format!("refused: {}", server.trim_matches(['[', ']']));
        line["message"].as_str().is_some_and(|text| text.contains(&refused))
    });
    line["message"].as_str().expect("a message").to_owned()
}

#[test]
fn a_refused_request_suggests_a_grant_only_if_a_manifest_accepts_it() {
    let host = Host::start();
    host.deploy("greedy", Bundle::archive("name = \"greedy\"\n", &guest("greedy")));
    for server in ["api.example.org", "my_service:8080", "[2001:db8::2]"] {
        let text = refusal(&host, server);
        assert!(text.contains(&format!("add \"{server}\" to http under [grants]")), "{text}");
        let manifest = format!("name = \"other\"\n[grants]\nhttp = [\"{server}\"]\n");
        host.deploy("other", Bundle::archive(&manifest, &guest("greedy")));
    }
    for server in ["a".repeat(64), ["a".repeat(60).as_str(); 5].join("."), "example.org:0".to_owned()] {
        let text = refusal(&host, &server);
        assert!(text.contains("no grant can allow it") && !text.contains("[grants]"), "{text}");
    }
}
