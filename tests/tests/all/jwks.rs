//! Tests the plugin `require-jwt` with keys at a URL, whose server rotates them, fails and stalls.

use isopod_tests::{
    Ask, Bundle, Host, Neighbour, Upstream, guest,
    guests::repository,
    plugins::shipped_plugin,
    upstream::{Then, response},
    wait_for,
};
use std::sync::{Arc, Mutex};

/// The claims of `RS256` in `shipped_plugins.rs`, signed with the same key.
use super::shipped_plugins::RS256;

/// A key set of `plugins/require-jwt/tests`.
fn key_set(name: &str) -> Then {
    let file = repository().join("plugins/require-jwt/tests").join(name);
    Then::Send(response(&std::fs::read_to_string(file).expect("a key set")))
}

/// An identity provider.
struct Provider {
    upstream: Upstream,
    then: Arc<Mutex<Then>>,
}

impl Provider {
    fn start(first: Then) -> Self {
        let then = Arc::new(Mutex::new(first));
        let current = Arc::clone(&then);
        let upstream = Upstream::start(move |_| current.lock().expect("no panic while it is locked").clone());
        Self { upstream, then }
    }

    fn set(&self, then: Then) {
        *self.then.lock().expect("no panic while it is locked") = then;
    }

    fn fetches(&self) -> usize {
        self.upstream.requests().len()
    }

    /// Starts a host with the plugin, and with an app that uses it with the keys of this provider.
    fn host(&self) -> Host {
        let host = Host::start();
        let address = self.upstream.address;
        let tables = format!("[grants]\nhttp = [\"{address}\"]\n[limits]\ninstances_max = 1\n");
        host.installed(&shipped_plugin("require-jwt", &tables));
        let rules = "issuer = \"https://id.example.org\", audience = \"shop\", jwks_interval = \"1s\"";
        let uses = format!(
            "[[middleware]]\nuse = \"require-jwt\"\nconfig = {{ jwks_url = \"http://{address}/\", {rules} }}\n"
        );
        host.deploy("shop", Bundle::archive(&format!("name = \"shop\"\n{uses}"), &guest("hello")));
        host
    }
}

fn status(host: &Host) -> u16 {
    host.app("shop", Ask::get("/").header("authorization", format!("Bearer {RS256}"))).status
}

#[test]
fn keys_are_fetched_once_and_again_for_a_key_that_is_unknown() {
    let provider = Provider::start(key_set("ec.jwks.json"));
    let host = provider.host();
    assert_eq!(status(&host), 401, "the set has no RSA key");
    provider.set(key_set("rsa.jwks.json"));
    wait_for("the new key", || (status(&host) == 200).then_some(()));
    let fetches = provider.fetches();
    assert!((0..20).all(|_| status(&host) == 200));
    assert_eq!(provider.fetches(), fetches, "a known key is not fetched again");
}

#[test]
fn tokens_stay_valid_while_the_provider_of_the_keys_fails() {
    let provider = Provider::start(key_set("rsa.jwks.json"));
    let host = provider.host();
    assert_eq!(status(&host), 200);
    provider.set(Then::Send(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let before = provider.fetches();
    // The set has no key for this algorithm, so the plugin tries to fetch a newer set.
    let other = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";
    wait_for("a fetch", || {
        host.app("shop", Ask::get("/").header("authorization", format!("Bearer {other}"))).expect(401);
        (provider.fetches() > before).then_some(())
    });
    assert_eq!(status(&host), 200);
    host.log_line("require-jwt", "the failed fetch", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("the former keys") && text.contains("500"))
    });
}

#[test]
fn without_keys_requests_fail_until_the_provider_responds() {
    let provider = Provider::start(Then::SendAndStall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()));
    let host = provider.host();
    let neighbour = Neighbour::beside(&host);
    let ask = Ask::get("/").header("authorization", format!("Bearer {RS256}"));
    host.app("shop", ask).problem_of("shop", 502, "plugin-failed");
    for broken in ["<html>", "{\"keys\":[]}", &" ".repeat(1 << 20)] {
        provider.set(Then::SendAndClose(response(broken)));
        let before = provider.fetches();
        wait_for("a fetch", || {
            assert_eq!(status(&host), 502);
            (provider.fetches() > before).then_some(())
        });
    }
    provider.set(key_set("rsa.jwks.json"));
    wait_for("the keys", || (status(&host) == 200).then_some(()));
    neighbour.finish();
}
