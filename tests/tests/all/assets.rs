//! Tests the static files of apps: how a bundle's `static/` is stored with its release, and how the
//! plugin `static-files` has the host send them.

use isopod_tests::{
    Answer, Ask, Bundle, DiskError, Host, Neighbour, assets::site, guest, plugins::shipped_plugin, wait_for,
};
use std::{fs, path::PathBuf};

/// The response of the app to a path that it doesn't have.
const NO_ROUTE: &str = "No route matches this path.\n";

/// Paths below `static/`, with the contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Starts a host with the plugin and a site of these files.
fn host_with(config: &str, files: Files<'_>) -> Host {
    let host = Host::start();
    serve(&host, config, files);
    host
}

/// Installs the plugin, and deploys a site of these files.
fn serve(host: &Host, config: &str, files: Files<'_>) {
    host.installed(&shipped_plugin("static-files", ""));
    host.deploy("site", site(config, files));
}

fn get(host: &Host, path: &str, headers: &[(&str, &str)]) -> Answer {
    let ask = headers.iter().fold(Ask::get(path), |ask, (name, value)| ask.header(name, *value));
    host.app("site", ask)
}

/// Returns the path of the pack of the first release.
fn pack_of(host: &Host) -> PathBuf {
    let release = host.api(Ask::get("/v1/apps/site/releases/1")).expect(200).json();
    host.data().join("blobs").join(release["assets"]["digest"].as_str().expect("a digest"))
}

/// Content without a repetition, so that a wrong part is noticed.
fn varied(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).flat_map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).take(bytes).collect()
}

#[test]
fn files_are_served_in_front_of_the_app() {
    let files: Files<'_> =
        &[("index.html", b"<h1>site"), ("css/site.css", b"p {}"), ("docs/index.html", b"<h1>docs"), ("empty.txt", b"")];
    let host = host_with("{ cache = { \"/css/*\" = \"max-age=60\" } }", files);
    let home = get(&host, "/", &[]).expect(200);
    assert_eq!((home.text().as_str(), home.header("content-type")), ("<h1>site", Some("text/html; charset=utf-8")));
    assert_eq!((home.header("cache-control"), home.header("content-length")), (Some("no-cache"), Some("8")));
    let css = get(&host, "/css/site.css", &[]).expect(200);
    assert_eq!(
        (css.header("content-type"), css.header("cache-control")),
        (Some("text/css; charset=utf-8"), Some("max-age=60"))
    );
    assert_eq!(get(&host, "/docs?x=1", &[]).expect(308).header("location"), Some("/docs/?x=1"));
    assert_eq!(get(&host, "/docs/", &[]).expect(200).text(), "<h1>docs");
    assert_eq!(get(&host, "/empty.txt", &[]).expect(200).header("content-length"), Some("0"));
    let mut wire = host.begin("site", Ask::new("HEAD", "/css/site.css").header("connection", "close"));
    let head = wire.any_head().expect("a head").expect(200);
    assert!(wire.until_closed().expect("the host closes the connection").is_empty());
    assert_eq!((head.header("content-length"), head.header("etag")), (Some("4"), css.header("etag")));
    for ask in [Ask::get("/other"), Ask::post("/"), Ask::get("/css/../index.html"), Ask::get("/%2e%2e/isopod.toml")] {
        let answer = host.app("site", ask);
        assert_eq!(answer.header("x-content-type-options"), None, "the app responds: {answer}");
    }
}

#[test]
fn a_browser_that_has_a_file_gets_only_what_it_lacks() {
    let content = varied(3 << 20);
    let host = host_with("{}", &[("big.bin", &content), ("a.txt", b"0123456789")]);
    let whole = get(&host, "/big.bin", &[]).expect(200);
    assert!(whole.body == content, "{} bytes", whole.body.len());
    let etag = whole.header("etag").expect("an etag");
    let known = get(&host, "/big.bin", &[("if-none-match", etag)]).expect(304);
    assert_eq!((known.header("etag"), known.body.len()), (Some(etag), 0));
    let part = get(&host, "/big.bin", &[("range", "bytes=1000000-2999999"), ("if-range", etag)]).expect(206);
    assert_eq!(part.header("content-range"), Some(&*format!("bytes 1000000-2999999/{}", content.len())));
    assert!(part.body == content[1_000_000..3_000_000]);
    let last = get(&host, "/a.txt", &[("range", "bytes=-3")]).expect(206);
    assert_eq!((last.text().as_str(), last.header("content-range")), ("789", Some("bytes 7-9/10")));
    let beyond = get(&host, "/a.txt", &[("range", "bytes=10-")]).expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let changed = get(&host, "/a.txt", &[("range", "bytes=0-1"), ("if-range", "\"other\"")]).expect(200);
    assert_eq!(changed.text(), "0123456789");
}

#[test]
fn a_precompressed_form_is_sent_to_clients_that_accept_it() {
    let host = host_with("{}", &[("app.js", b"the script"), ("app.js.br", b"brotli"), ("app.js.gz", b"gzipped")]);
    for (accepted, text, encoding) in
        [("gzip, br", "brotli", Some("br")), ("gzip", "gzipped", Some("gzip")), ("br;q=0", "the script", None)]
    {
        let answer = get(&host, "/app.js", &[("accept-encoding", accepted)]).expect(200);
        assert_eq!((answer.text().as_str(), answer.header("content-encoding")), (text, encoding), "{answer}");
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"), "{answer}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "{answer}");
    }
}

#[test]
fn a_page_without_a_file_gets_the_fallback_and_a_missing_file_gets_404() {
    let config = "{ fallback = \"index.html\", not_found = \"404.html\" }";
    let host = host_with(config, &[("index.html", b"the app"), ("404.html", b"nothing here")]);
    let page = get(&host, "/orders/7", &[("accept", "text/html")]).expect(200);
    assert_eq!((page.text().as_str(), page.header("vary")), ("the app", Some("accept")));
    let missing = get(&host, "/orders/7.js", &[("range", "bytes=0-1")]).expect(404);
    assert_eq!((missing.text().as_str(), missing.header("vary")), ("nothing here", Some("accept")));
    host.deploy("site", site("{ fallback = \"index.html\" }", &[("index.html", b"the app")]));
    let response = get(&host, "/orders/7", &[("accept", "application/json")]).expect(404);
    assert_eq!((response.text().as_str(), response.header("vary")), (NO_ROUTE, Some("accept")));
}

#[test]
fn the_files_change_with_the_release() {
    let host = host_with("{}", &[("index.html", b"one")]);
    let asking = Neighbour::asking(host.listen, "site", |text| text == "one" || text == "two");
    let shown = |release: u32| host.api(Ask::get(format!("/v1/apps/site/releases/{release}"))).expect(200).json();
    host.deploy("site", site("{}", &[("index.html", b"two"), ("new.txt", b"new")]));
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "two");
    assert_eq!(host.get("v1--site", "/").expect(200).text(), "one", "a former release has its own files");
    let (first, second) = (shown(1), shown(2));
    assert_eq!((&first["assets"]["files"], &second["assets"]["files"]), (&1.into(), &2.into()));
    assert_eq!(
        (&second["assets"]["bytes"], second["size_bytes"].as_u64()),
        (&6.into(), Some(guest("hello").len() as u64 + 6))
    );
    // A bare component keeps the files, as it keeps all settings.
    host.deploy("site", Bundle::component(guest("hello")));
    assert_eq!(get(&host, "/new.txt", &[]).expect(200).text(), "new");
    host.rollback("site", 1).expect(200);
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "one");
    asking.finish();
    // A bundle without static/ has no files.
    let manifest = "name = \"site\"\n[[middleware]]\nuse = \"static-files\"\n";
    host.deploy("site", Bundle::archive(manifest, &guest("hello")));
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "Hello, world!");
}

#[test]
fn files_are_served_after_a_restart_of_the_host() {
    let host = host_with("{}", &[("index.html", b"one")]);
    let host = host.restart();
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "one");
    let host = host.kill_and_restart();
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "one");
}

#[test]
fn a_missing_pack_fails_only_the_requests_for_its_files() {
    let host = host_with("{}", &[("index.html", b"one")]);
    let neighbour = Neighbour::beside(&host);
    fs::remove_file(pack_of(&host)).expect("the pack is a file");
    let failed = get(&host, "/", &[]).expect(500);
    assert!(failed.text().contains("urn:isopod:problem:disk"), "{failed}");
    host.deploy("site", site("{}", &[("index.html", b"one")]));
    wait_for("the pack is stored again", || (get(&host, "/", &[]).status == 200).then_some(()));
    neighbour.finish();
}

#[test]
fn a_pack_that_cannot_be_read_disables_no_other_middleware() {
    let host = Host::start();
    host.installed(&shipped_plugin("static-files", ""));
    host.installed(&shipped_plugin("cors", ""));
    let manifest = "name = \"site\"\n[[middleware]]\nuse = \"cors\"\nconfig = { origins = [\"https://a.example\"] }\n\
                    [[middleware]]\nuse = \"static-files\"\nconfig = { prefix = \"/files/\" }\n\
                    paths = [\"/files/*\"]\non_failure = \"pass\"\n";
    let component = guest("hello");
    let files: [(&str, &[u8]); 3] =
        [("isopod.toml", manifest.as_bytes()), ("component.wasm", &component), ("static/a.txt", b"a")];
    host.deploy("site", Bundle::archive_of(&files));
    let pack = pack_of(&host);
    let host = host.restart_after(|_| fs::remove_file(&pack).expect("the pack is a file"));
    for ask in [Ask::get("/api"), Ask::post("/api")] {
        let answer = host.app("site", ask.header("origin", "https://a.example")).expect(404);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"), "{answer}");
        assert_eq!(answer.text(), NO_ROUTE);
    }
    // The setting is for failures of the plugin.
    let failed = get(&host, "/files/a.txt", &[]).expect(500);
    assert!(failed.text().contains("urn:isopod:problem:disk"), "{failed}");
    let calls = host.metric("isopod_app_plugin_calls_total{app=\"site\",plugin=\"static-files\",outcome=\"failure\"}");
    assert_eq!(calls, 0.0);
}

#[test]
fn a_failed_read_within_a_file_and_an_aborted_download_are_logged() {
    let host = Host::start_with_faults("");
    let content = vec![0; 32 << 20];
    serve(&host, "{}", &[("big.bin", &content)]);
    let begin = || {
        let mut wire = host.begin("site", Ask::get("/big.bin"));
        let head = wire.head().expect("a head").expect(200);
        (wire, head.header("x-request-id").expect("an id").to_owned())
    };
    let line = |id: &str| host.log_line("site", "of the request", |line| line["request_id"] == id);
    let (aborted, id) = begin();
    drop(aborted);
    let aborted = line(&id);
    assert_eq!((&aborted["fault"], &aborted["plugin"]), (&"client-gone".into(), &"static-files".into()));
    assert!(aborted["bytes"].as_u64().is_some_and(|bytes| bytes < content.len() as u64), "{aborted}");
    let (mut broken, id) = begin();
    host.faults().fail(DiskError::ReadOfBlobs);
    let end = loop {
        match broken.piece() {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_err(), "it never looks complete");
    let broken = line(&id);
    assert_eq!((&broken["fault"], &broken["status"]), (&"disk".into(), &200.into()));
    wait_for("the host's log has the error", || host.said().contains("static files can't be read").then_some(()));
    host.faults().end_errors();
    assert_eq!(get(&host, "/big.bin", &[("range", "bytes=0-9")]).expect(206).body, [0; 10]);
}

#[test]
fn destroying_an_app_aborts_its_downloads() {
    let host = host_with("{}", &[("big.bin", &vec![0; 32 << 20])]);
    let mut wire = host.begin("site", Ask::get("/big.bin"));
    wire.head().expect("a head").expect(200);
    host.api(Ask::new("DELETE", "/v1/apps/site")).expect(204);
    let mut bytes = 0;
    let end = loop {
        match wire.piece() {
            Ok(Some(piece)) => bytes += piece.len(),
            end => break end,
        }
    };
    assert!(end.is_err() && bytes < 32 << 20, "{bytes}");
}

#[test]
fn a_release_with_missing_or_damaged_files_does_not_go_live() {
    let host = host_with("{}", &[("index.html", b"one")]);
    let pack = pack_of(&host);
    host.deploy("site", site("{}", &[("index.html", b"two")]));
    let mut content = fs::read(&pack).expect("the pack is a file");
    *content.last_mut().expect("it has content") ^= 1;
    fs::write(&pack, &content).expect("the test may change it");
    let damaged = host.rollback("site", 1).expect(422);
    assert!(damaged.text().contains("unreadable-files") && damaged.text().contains("digest"), "{damaged}");
    fs::remove_file(&pack).expect("the pack is a file");
    let missing = host.rollback("site", 1).expect(422);
    assert!(missing.text().contains("unreadable-files") && missing.text().contains("missing"), "{missing}");
    assert_eq!(get(&host, "/", &[]).expect(200).text(), "two");
}

#[test]
fn a_hostile_static_folder_is_refused_and_the_former_release_serves() {
    let host = host_with("{}", &[("index.html", b"one")]);
    let neighbour = Neighbour::beside(&host);
    let large = vec![0; 9 << 20];
    let names: Vec<String> = (0..8).map(|index| format!("large-{index}.bin")).collect();
    let too_large: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), large.as_slice())).collect();
    let names: Vec<String> = (0..10_001).map(|index| format!("f{index}")).collect();
    let too_many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let hostile: [(Files<'_>, &str); 8] = [
        (&[("../../evil", b"x")], "outside"),
        (&[("a/../../b", b"x")], "outside"),
        (&[("a\\b", b"x")], "backslashes"),
        (&[("a\nb", b"x")], "control"),
        (&[("C:evil", b"x")], "relative"),
        (&[("a", b"x"), ("./a", b"y")], "twice"),
        (&too_large, "more than"),
        (&too_many, "more than 10000"),
    ];
    for (files, words) in hostile {
        let (code, reason) = host.deploy_failing("site", &site("{}", files));
        assert!(code == "invalid-bundle" && reason.contains(words), "{code}: {reason}");
        assert_eq!(get(&host, "/", &[]).expect(200).text(), "one");
    }
    // Two names that differ in case are two files, as their URLs are.
    host.deploy("site", site("{}", &[("A.txt", b"upper"), ("a.txt", b"lower")]));
    assert_eq!(get(&host, "/A.txt", &[]).expect(200).text(), "upper");
    assert_eq!(get(&host, "/a.txt", &[]).expect(200).text(), "lower");
    neighbour.finish();
}
