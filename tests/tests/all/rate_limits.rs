//! Tests the plugin `rate-limit` in front of apps: who is refused, for how long, and that a refused
//! request doesn't reach the app.

use isopod_tests::{Answer, Ask, Bundle, Host, Neighbour, Queue, Raw, guest, plugins::shipped_plugin, wait_for};
use serde_json::json;

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

fn host_with_rate_limit() -> Host {
    let host = Host::start_with("", TRUSTED);
    host.installed(&shipped_plugin("rate-limit", ""));
    host
}

/// An app named `name` whose requests are limited with this config.
fn limited(name: &str, component: &str, config: &str) -> Bundle {
    let uses = format!("[[middleware]]\nuse = \"rate-limit@^0.1\"\nconfig = {config}\n");
    Bundle::archive(&format!("name = \"{name}\"\n{uses}"), &guest(component))
}

fn from(client: &str) -> Ask {
    Ask::get("/").header("x-forwarded-for", client)
}

#[track_caller]
fn expect_refused(answer: &Answer) {
    assert_eq!(answer.status, 429, "{answer}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer}");
    let wait = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "{answer}");
    assert_eq!(answer.header("x-isopod-error-source"), None, "it is the plugin's own response");
}

#[test]
fn a_client_over_its_limit_gets_429_until_its_tokens_return() {
    let host = host_with_rate_limit();
    host.deploy("shop", limited("shop", "hello", "{ limit = 2, per = \"1d\", fields = true }"));
    for remaining in [1, 0] {
        let answer = host.app("shop", from("192.0.2.1")).expect(200);
        let shown = answer.header("ratelimit").expect("the state of the limit").to_owned();
        assert!(shown.starts_with(&format!("\"default\";r={remaining};t=")), "{answer}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=2;w=86400"), "{answer}");
    }
    let answer = host.app("shop", from("192.0.2.1"));
    expect_refused(&answer);
    assert!(answer.header("ratelimit").is_some_and(|state| state.starts_with("\"default\";r=0;t=4")), "{answer}");
    host.app("shop", from("192.0.2.2")).expect(200);
    let line = host.log_line("shop", "the refused request", |line| line["status"] == 429);
    assert_eq!(line["plugin"], "rate-limit", "{line}");
    host.deploy("shop", limited("shop", "hello", "{ limit = 2, per = \"2s\" }"));
    wait_for("a token of the client", || (host.app("shop", from("192.0.2.1")).status == 200).then_some(()));
}

#[test]
fn apps_and_names_have_separate_limits() {
    let host = host_with_rate_limit();
    for app in ["shop", "blog"] {
        host.deploy(app, limited(app, "hello", "{ limit = 1, per = \"1d\" }"));
    }
    for app in ["shop", "blog"] {
        host.app(app, from("192.0.2.1")).expect(200);
        expect_refused(&host.app(app, from("192.0.2.1")));
    }
    host.deploy("shop", limited("shop", "hello", "{ limit = 1, per = \"1d\", name = \"other\" }"));
    host.app("shop", from("192.0.2.1")).expect(200);
}

#[test]
fn a_release_of_the_plugin_or_of_the_app_does_not_reset_the_limits() {
    let host = host_with_rate_limit();
    let app = || limited("shop", "hello", "{ limit = 1, per = \"1d\", by = \"app\" }");
    host.deploy("shop", app());
    host.get("shop", "/").expect(200);
    host.deploy("shop", app());
    expect_refused(&host.get("shop", "/"));
    host.installed(&shipped_plugin("rate-limit", ""));
    assert_eq!(host.plugin("rate-limit")["release"], 2);
    expect_refused(&host.get("shop", "/"));
    let host = host.restart();
    host.get("shop", "/").expect(200);
}

/// The client is limited by its key. Other clients send more keys than the host has buckets.
#[test]
fn clients_with_many_keys_do_not_free_a_limited_client() {
    const KEYS_PER_CONNECTION: usize = 500;
    let host = host_with_rate_limit();
    host.deploy("shop", limited("shop", "hello", "{ limit = 3, per = \"1d\", by = \"header:x-key\" }"));
    let neighbour = Neighbour::beside(&host);
    let with_key = |key: &str| host.app("shop", Ask::get("/").header("x-key", key));
    (0..3).for_each(|_| drop(with_key("limited").expect(200)));
    let long = "x".repeat(7_000);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (host, long, with_key) = (&host, &long, &with_key);
            scope.spawn(move || {
                with_key(&format!("{client} {long}")).expect(200);
                for connection in 0..10 {
                    let request = |number| {
                        let close = if number + 1 == KEYS_PER_CONNECTION { "connection: close\r\n" } else { "" };
                        let key = format!("{client} {connection} {number}");
                        format!("GET / HTTP/1.1\r\nhost: shop.localhost\r\nx-key: {key}\r\n{close}\r\n")
                    };
                    let requests: String = (0..KEYS_PER_CONNECTION).map(request).collect();
                    let responses = Raw::exchange(host.listen, &requests);
                    let further = responses.text().matches("HTTP/1.1 200 OK").count();
                    assert_eq!((responses.status, further + 1), (200, KEYS_PER_CONNECTION));
                }
            });
        }
    });
    expect_refused(&with_key("limited"));
    neighbour.finish();
}

#[test]
fn a_refused_request_needs_no_core_of_the_app() {
    let host = host_with_rate_limit();
    host.deploy("greedy", limited("greedy", "greedy", "{ limit = 2, per = \"1d\", by = \"app\" }"));
    host.set_cores("greedy", &json!({ "pull": 1 })).expect(200);
    let held = host.hold("greedy");
    let waits = host.begin("greedy", Ask::get("/ok"));
    host.until_queue("greedy", Queue::Pull, 1, 1);
    let mut refused = host.begin("greedy", Ask::post("/ok").header("content-length", "1000000000"));
    expect_refused(&refused.answer().expect("an answer while the app's only core is held"));
    held.release_core();
    drop(waits);
}

#[test]
fn an_invalid_limit_fails_the_deploy() {
    let host = host_with_rate_limit();
    for (config, fault) in [("{ limit = 0 }", "from 1 to 1,000,000"), ("{ limit = 1, by = \"cookie\" }", "`by`")] {
        let (code, reason) = host.deploy_failing("shop", &limited("shop", "hello", config));
        assert!(code == "plugin-config" && reason.contains(fault), "{code}: {reason}");
    }
}
