//! Tests the dashboard's page and files, and sessions of browsers: which requests receive data, and
//! which host names and websites are refused.

use isopod_tests::{Answer, Ask, Host, Wire};
use serde_json::json;

const ATTACKER: &str = "attacker.example:8081";

/// A browser that has signed in.
struct Session {
    cookie: String,
    key: String,
}

impl Session {
    #[track_caller]
    fn of(token: &str, host: &Host) -> Self {
        let answer = host.api_with(token, Ask::post("/v1/session")).expect(201);
        let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().expect("a value").to_owned();
        Self { cookie, key: answer.json()["key"].as_str().expect("a key").to_owned() }
    }

    fn ask(&self, ask: Ask) -> Ask {
        ask.header("cookie", self.cookie.as_str()).header("x-isopod-session", self.key.as_str())
    }
}

/// Asks for the page as a browser does, without a token.
fn page(host: &Host) -> Answer {
    host.api_raw(&Ask::get("/").header("accept", "text/html,application/xhtml+xml,*/*;q=0.8"))
}

/// Returns the paths that the page loads.
fn files_of(page: &str) -> Vec<&str> {
    page.split('"').filter(|text| text.starts_with("/assets/")).collect()
}

#[test]
fn a_browser_receives_the_page_and_its_files_without_a_token() {
    let host = Host::start();
    let answer = page(&host).expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let policy = answer.header("content-security-policy").expect("a content policy");
    assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
    let etag = answer.header("etag").expect("an etag").to_owned();
    let known = Ask::get("/").header("accept", "text/html").header("if-none-match", etag);
    assert!(host.api_raw(&known).expect(304).body.is_empty());

    let text = answer.text();
    assert!(!text.contains("<style") && !text.contains("style="), "{text}");
    for path in files_of(&text) {
        let file = host.api_raw(&Ask::get(path)).expect(200);
        let content_type = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(file.header("content-type"), Some(content_type), "{path}");
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(file.header("cache-control").is_some_and(|value| value.contains("immutable")), "{path}");
        assert_eq!(file.header("content-security-policy"), Some(policy), "{path}");
        let etag = file.header("etag").expect("an etag").to_owned();
        host.api_raw(&Ask::get(path).header("if-none-match", etag)).expect(304);
        let mut wire = Wire::open(host.admin).expect("the API accepts connections");
        wire.ask(&Ask::new("HEAD", path)).expect("it can be sent");
        let head = wire.head().expect("a response").expect(200);
        let fields = ["etag", "content-type", "content-length"];
        assert!(fields.into_iter().all(|name| head.header(name) == file.header(name)), "{path}: {head}");
    }
    let script = files_of(&text).into_iter().find(|path| path.ends_with("app.js")).expect("the script");
    for path in [script.replace("app.js", "../app.js"), script.replace("app.js", "none.js"), "/assets/".to_owned()] {
        host.api_raw(&Ask::get(path)).problem(404, "unknown-route");
    }
    host.api_raw(&Ask::get(script.replace("/assets/", "/assets/0"))).problem(404, "unknown-route");
}

#[test]
fn a_request_without_a_token_receives_no_data() {
    let host = Host::start();
    host.create("hidden-name", "dev");
    let text = page(&host).expect(200).text();
    for path in files_of(&text).into_iter().chain(["/"]) {
        let answer = host.api_raw(&Ask::get(path).header("accept", "text/html"));
        assert!(!answer.text().contains("hidden-name"), "{path}");
    }
    for path in ["/", "/v1/session", "/v1/apps", "/metrics", "/v1/apps/hidden-name/logs", "/v1/openapi.json"] {
        host.api_raw(&Ask::get(path)).problem(401, "no-token");
    }
    for method in ["POST", "PUT", "DELETE"] {
        let answer = host.api_raw(&Ask::new(method, files_of(&text)[0]));
        answer.problem(401, "no-token");
    }
    assert!(host.api(Ask::get("/")).expect(200).text().contains("/assets/"), "a client with a token gets the page");
}

#[test]
fn a_browser_signs_in_and_out() {
    let host = Host::start();
    host.create("shop", "dev");
    let answer = host.api(Ask::post("/v1/session")).expect(201);
    let cookie = answer.header("set-cookie").expect("a cookie");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.split("; ").any(|part| part == attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "the connection has no TLS: {cookie}");
    let token = host.token.trim();
    assert!(!cookie.contains(token) && !answer.text().contains(token));
    assert_eq!((&answer.json()["name"], &answer.json()["role"]), (&json!("admin"), &json!("admin")));

    let session = Session::of(token, &host);
    let apps = host.api_raw(&session.ask(Ask::get("/v1/apps"))).expect(200).json();
    assert_eq!(apps["items"][0]["name"], "shop");
    let shown = host.api_raw(&session.ask(Ask::get("/v1/session"))).expect(200).json();
    assert_eq!((&shown["name"], &shown["key"]), (&json!("admin"), &json!(null)));
    host.api_raw(&session.ask(Ask::post("/v1/apps").json(&json!({ "name": "desk", "type": "dev" })))).expect(201);

    let gone = host.api_raw(&session.ask(Ask::new("DELETE", "/v1/session"))).expect(204);
    assert!(gone.header("set-cookie").is_some_and(|cookie| cookie.ends_with("Max-Age=0")), "{gone}");
    host.api_with("guess", Ask::post("/v1/session")).problem(401, "unknown-token");
}

#[test]
fn each_part_of_a_session_is_useless_alone() {
    let host = Host::start();
    let (one, other) = (Session::of(host.token.trim(), &host), Session::of(host.token.trim(), &host));
    let apps = || Ask::get("/v1/apps");
    host.api_raw(&apps().header("cookie", one.cookie.as_str())).problem(401, "no-token");
    host.api_raw(&apps().header("x-isopod-session", one.key.as_str())).problem(401, "no-token");
    let mixed = Session { cookie: one.cookie.clone(), key: other.key };
    let answer = host.api_raw(&mixed.ask(apps()));
    assert_eq!(answer.status, 401, "{answer}");
    for key in ["", "%", "AAAA", "é"] {
        let broken = Session { cookie: one.cookie.clone(), key: key.to_owned() };
        assert_eq!(host.api_raw(&broken.ask(apps())).status, 401, "{key}");
    }
}

#[test]
fn a_session_has_the_role_of_its_token_and_ends_with_it() {
    let host = Host::start();
    host.create("shop", "dev");
    host.create("desk", "dev");
    let body = json!({ "name": "reader", "role": "read", "apps": ["shop"] });
    let made = host.api(Ask::post("/v1/tokens").json(&body)).expect(201).json();
    let session = Session::of(made["token"].as_str().expect("a secret"), &host);
    let apps = host.api_raw(&session.ask(Ask::get("/v1/apps"))).expect(200).json();
    assert_eq!(apps["items"].as_array().map(Vec::len), Some(1), "{apps}");
    host.api_raw(&session.ask(Ask::post("/v1/apps/shop/stop"))).problem(403, "role-too-small");
    host.api_raw(&session.ask(Ask::get("/v1/apps/desk"))).problem(403, "out-of-scope");
    host.api(Ask::new("DELETE", "/v1/tokens/reader")).expect(204);
    host.api_raw(&session.ask(Ask::get("/v1/apps"))).problem(401, "unknown-token");
}

#[test]
fn a_session_outlasts_a_restart_of_the_host() {
    let host = Host::start();
    let session = Session::of(host.token.trim(), &host);
    let host = host.restart();
    host.api_raw(&session.ask(Ask::get("/v1/apps"))).expect(200);
}

#[test]
fn browsers_are_refused_under_the_host_name_of_an_attacker() {
    let host = Host::start();
    let text = page(&host).expect(200).text();
    let session = Session::of(host.token.trim(), &host);
    let refused = |ask: Ask| host.api_raw(&ask.header("host", ATTACKER)).problem(421, "unknown-host");
    let problem = refused(Ask::get("/").header("accept", "text/html"));
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("attacker.example")), "{problem}");
    assert!(problem["hint"].as_str().is_some_and(|text| text.contains("admin_names")), "{problem}");
    refused(Ask::get(files_of(&text)[0]));
    refused(Ask::post("/v1/session").header("authorization", format!("Bearer {}", host.token.trim())));
    // The browser would send the cookie to the attacker's name only if the attacker had set it.
    let with_port = session.cookie.replacen("isopod-session", "isopod-session-8081", 1);
    refused(Session { cookie: with_port, key: session.key }.ask(Ask::get("/v1/apps")));
    // Programs use any name, since they have no cookies.
    host.api(Ask::get("/v1/apps").header("host", ATTACKER)).expect(200);
    host.api_raw(&Ask::get("/livez").header("host", ATTACKER)).expect(200);
}

#[test]
fn an_operator_can_add_host_names_for_browsers() {
    let host = Host::start_with("", "admin_names = [\"isopod.example.org\"]");
    let html = |name: &str| host.api_raw(&Ask::get("/").header("accept", "text/html").header("host", name));
    for name in ["isopod.example.org", "isopod.example.org:8443", "127.0.0.1:8081", "[::1]:8081", "localhost:8081"] {
        html(name).expect(200);
    }
    for name in ["shop.localhost:8081", "example.org", "127.0.0.1.attacker.example"] {
        html(name).problem(421, "unknown-host");
    }
}

#[test]
fn a_session_is_refused_to_other_websites() {
    let host = Host::start();
    let session = Session::of(host.token.trim(), &host);
    let with = |name: &str, value: &str| host.api_raw(&session.ask(Ask::get("/v1/apps")).header(name, value));
    with("sec-fetch-site", "same-origin").expect(200);
    for site in ["cross-site", "same-site", "none"] {
        with("sec-fetch-site", site).problem(403, "other-site");
    }
    with("origin", "http://localhost").expect(200);
    with("origin", "http://shop.localhost:8080").problem(403, "other-site");
    let sign_in = Ask::post("/v1/session").header("sec-fetch-site", "cross-site");
    host.api(sign_in).problem(403, "other-site");
    let preflight = Ask::new("OPTIONS", "/v1/apps")
        .header("origin", "http://attacker.example")
        .header("access-control-request-headers", "x-isopod-session");
    let answer = host.api_raw(&preflight);
    assert!(answer.header("access-control-allow-origin").is_none(), "{answer}");
}

#[test]
fn the_cookie_of_a_session_over_https_is_secure() {
    let host = Host::start_with("", "trusted_proxies = [\"127.0.0.1\"]");
    let answer = host.api(Ask::post("/v1/session").header("x-forwarded-proto", "https")).expect(201);
    assert!(answer.header("set-cookie").is_some_and(|cookie| cookie.ends_with("; Secure")), "{answer}");
}
