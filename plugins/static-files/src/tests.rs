//! Tests of the decisions, without a host. Never tests how the host sends a file.

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::{TestHost, block_on};

const FILES: [&str; 7] = [
    "index.html",
    "404.html",
    "assets/app.js",
    "docs/index.html",
    "with space.txt",
    ".well-known/security.txt",
    ".env",
];

fn decided(config: &str, request: Request) -> Decision {
    let host = TestHost::new();
    FILES.into_iter().for_each(|file| host.add_asset(file, file));
    let settings: Settings = parse_settings(config).unwrap();
    block_on(serve(&request.into(), &settings)).unwrap()
}

/// Returns the file and the status of the response, or `app` if the request continues.
fn served(config: &str, request: Request) -> String {
    match decided(config, request) {
        Decision::Pass | Decision::Change(_) => "app".to_owned(),
        Decision::Asset(response) => format!("{} {}", response.status, response.path),
        Decision::Respond(response) => format!("{} {}", response.status, response.headers.get("location").unwrap()),
        Decision::ReadBody(_) => panic!("it reads no bodies"),
    }
}

fn get(path: &str) -> Request {
    Request::get(path)
}

#[test]
fn paths_of_files_are_served_and_others_continue_to_the_app() {
    for (path, expected) in [
        ("/", "200 index.html"),
        ("/?a=b", "200 index.html"),
        ("/index.html", "200 index.html"),
        ("/assets/app.js?v=1", "200 assets/app.js"),
        ("/docs/", "200 docs/index.html"),
        ("/docs?a=b", "308 /docs/?a=b"),
        ("/with%20space.txt", "200 with space.txt"),
        ("/.well-known/security.txt", "200 .well-known/security.txt"),
        ("/assets/", "app"),
        ("/assets", "app"),
        ("/missing", "app"),
    ] {
        assert_eq!(served("{}", get(path)), expected, "{path}");
        let mut head = get(path);
        head.method = Method::Head;
        assert_eq!(served("{}", head), expected, "HEAD {path}");
        assert_eq!(served("{}", Request::post(path)), "app", "POST {path}");
    }
}

#[test]
fn no_path_leads_to_a_hidden_file_or_out_of_the_folder() {
    for path in [
        "/.env",
        "/%2eenv",
        "/assets/../.env",
        "/../index.html",
        "/%2e%2e/index.html",
        "/docs/..%2findex.html",
        "//index.html",
        "/./index.html",
        "/INDEX.html",
        "/index.html%00",
        "/index.html/",
        "/%ff",
        "/docs%5cindex.html",
        "//evil.example/docs",
    ] {
        assert_eq!(served("{}", get(path)), "app", "{path}");
    }
}

#[test]
fn a_prefix_is_not_part_of_the_files_paths() {
    let config = r#"{"prefix": "/ui/"}"#;
    for (path, expected) in [("/ui/", "200 index.html"), ("/ui/docs", "308 /ui/docs/"), ("/", "app"), ("/ui", "app")] {
        assert_eq!(served(config, get(path)), expected, "{path}");
    }
}

#[test]
fn browsers_get_the_fallback_for_pages_without_a_file() {
    let page = |path| get(path).with_header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let config = r#"{"fallback": "index.html"}"#;
    assert_eq!(served(config, page("/orders/7")), "200 index.html");
    assert_eq!(served(config, page("/.env")), "200 index.html");
    assert_eq!(served(config, page("/assets/app.js")), "200 assets/app.js");
    assert_eq!(served(config, get("/orders/7").with_header("accept", "*/*")), "app");
    let config = r#"{"fallback": "index.html", "not_found": "404.html"}"#;
    assert_eq!(served(config, page("/orders/7")), "200 index.html");
    assert_eq!(served(config, get("/orders/7")), "404 404.html");
    assert_eq!(served(config, Request::post("/orders")), "app");
}

#[test]
fn responses_that_depend_on_accept_vary_by_it() {
    let vary = |config, path, accept| {
        let settings: Settings = parse_settings(config).unwrap();
        match decided(config, get(path).with_header("accept", accept)) {
            Decision::Pass => None,
            Decision::Asset(response) => response.headers.get("vary").map(str::to_owned),
            Decision::Change(_) => {
                let decided = block_on(add_vary(&Response::new(200).into(), &[], &settings)).unwrap();
                decided.apply_to(Response::new(200).into()).headers.get("vary").map(str::to_owned)
            }
            Decision::Respond(_) | Decision::ReadBody(_) => panic!("no folder is redirected, and no body is read"),
        }
    };
    let (plain, pages) = ("{}", r#"{"fallback": "index.html"}"#);
    let (missing, both) = (r#"{"not_found": "404.html"}"#, r#"{"fallback": "index.html", "not_found": "404.html"}"#);
    for accept in ["text/html", "application/json"] {
        for (config, expected) in [(plain, None), (missing, None), (pages, Some("accept")), (both, Some("accept"))] {
            assert_eq!(vary(config, "/orders/7", accept).as_deref(), expected, "{config} {accept}");
            assert_eq!(vary(config, "/index.html", accept), None, "a file is the same for all: {config} {accept}");
        }
    }
}

#[test]
fn the_longest_pattern_sets_cache_control() {
    let config = r#"{"cache": {"/*": "max-age=1", "/assets/*": "immutable", "*.txt": "max-age=2"}}"#;
    let Settings(config) = parse_settings(config).unwrap();
    for (path, value) in [("/index.html", "max-age=1"), ("/assets/app.js", "immutable"), ("/a.txt", "max-age=2")] {
        assert_eq!(cache_control(&config, path), value, "{path}");
    }
    assert_eq!(cache_control(&Config::default(), "/index.html"), "no-cache");
    let response = response(&config, "assets/app.js");
    assert_eq!(response.headers.get("cache-control"), Some("immutable"));
    assert_eq!(response.headers.get("x-content-type-options"), Some("nosniff"));
}

#[test]
fn an_invalid_config_is_refused_with_its_key() {
    for (config, fault) in [
        (r#"{"prefix": "ui"}"#, "`prefix`"),
        (r#"{"fallback": "/index.html"}"#, "`fallback`"),
        (r#"{"not_found": "../x"}"#, "`not_found`"),
        (r#"{"index": ""}"#, "`index`"),
        (r#"{"cache": {"assets/*": "x"}}"#, "`cache`"),
        (r#"{"cache": {"/a*b": "x"}}"#, "`cache`"),
        (r#"{"cache": {"/a": "x\n"}}"#, "`cache`"),
        (r#"{"spa": true}"#, "unknown field `spa`"),
    ] {
        let error = parse_settings::<Settings>(config).err().unwrap().to_string();
        assert!(error.contains(fault), "{config}: {error}");
    }
}

#[test]
fn a_named_file_that_the_bundle_lacks_is_an_error() {
    TestHost::new();
    let settings: Settings = parse_settings(r#"{"not_found": "404.html"}"#).unwrap();
    let error = block_on(serve(&get("/x").into(), &settings)).unwrap_err().to_string();
    assert!(error.contains("static/404.html"), "{error}");
}
