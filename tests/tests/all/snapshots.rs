//! Tests snapshots: an app that requests a snapshot is initialised during its deploy, and its
//! instances start from the snapshot. If no snapshot can be taken, the push reports the reason, and
//! the app runs without a snapshot.

use isopod_tests::{Ask, Bundle, Host, Push, guest, guests::guest_if_built, wait_for};
use serde_json::json;
use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const FRESH_INSTANCES: &str = "type = \"staging\"\nisolation = \"request\"\n";
const SNAPSHOT: &str = "[snapshot]\n";

/// Returns the example `search` with a separate instance per request.
fn search(rest: &str) -> Bundle {
    Bundle::archive(&format!("name = \"search\"\n{FRESH_INSTANCES}{rest}"), &guest("search"))
}

/// Returns the example `greedy-flat` with a warm-up request before its snapshot.
fn warmed(path: &str) -> Bundle {
    let rest = format!("[limits]\nmemory = \"16MiB\"\nrequest_timeout = \"500ms\"\n[snapshot]\nwarm = [\"{path}\"]\n");
    Bundle::archive(&format!("name = \"greedy\"\n{FRESH_INSTANCES}{rest}"), &guest("greedy-flat"))
}

#[track_caller]
fn assert_snapshot(push: &Push) {
    assert!(push.log.iter().any(|line| line.starts_with("snapshot taken in ")), "{:#?}", push.log);
}

/// Returns the reason why a push took no snapshot.
#[track_caller]
fn refusal(push: &Push) -> &str {
    let line = push.log.iter().find(|line| line.starts_with("no snapshot"));
    line.unwrap_or_else(|| panic!("the push log has no reason for the missing snapshot: {:#?}", push.log))
}

#[test]
fn instances_start_from_the_snapshot_without_initialisation() {
    let host = Host::start();
    let push = host.deploy("search", search("[snapshot]\nwarm = [\"/?q=forty\"]\n"));
    assert_snapshot(&push);
    assert!(push.log.iter().any(|line| line == "app output: the index holds 30 words"), "{:#?}", push.log);
    let built = host.get("search", "/about").expect(200).text();
    assert_eq!(host.get("search", "/about").expect(200).text(), built);
    assert!(host.get("search", "/?q=forty+two").expect(200).text().starts_with("forty two\n"));
    // Without a snapshot each start builds the index.
    host.deploy("plain", search(""));
    let built = host.get("plain", "/about").expect(200).text();
    assert_ne!(host.get("plain", "/about").expect(200).text(), built);
}

#[test]
fn a_snapshot_persists_with_its_release() {
    let host = Host::start();
    host.deploy("search", search(SNAPSHOT));
    let built = host.get("search", "/about").expect(200).text();
    host.set_config("search", &json!({ "GREETING": "hello" })).expect(200);
    assert_eq!(host.get("search", "/about").expect(200).text(), built, "a change of config keeps the snapshot");
    // Compiled code is a cache. The snapshot is stored with the bundles.
    for file in files_in(&host.data().join("cache")) {
        fs::remove_file(file).expect("the cache may be removed");
    }
    let host = host.restart();
    assert_eq!(host.get("search", "/about").expect(200).text(), built, "a restart without a cache keeps the snapshot");
    host.deploy("search", search(SNAPSHOT));
    assert_ne!(host.get("search", "/about").expect(200).text(), built, "a push takes a new snapshot");
    host.rollback("search", 1).expect(200);
    assert_eq!(host.get("search", "/about").expect(200).text(), built, "a rollback restores the release's snapshot");
    assert_eq!(host.release("search", 1)["snapshot"], host.release("search", 4)["snapshot"]);
}

#[test]
fn a_lost_snapshot_costs_only_the_saved_time() {
    let host = Host::start();
    host.deploy("search", search(SNAPSHOT));
    let snapshot = host.release("search", 1)["snapshot"].as_str().expect("it has one").to_owned();
    fs::write(host.data().join("blobs").join(snapshot), "damaged").expect("it can be damaged");
    let host = host.restart();
    assert!(host.get("search", "/?q=forty+two").expect(200).text().starts_with("forty two\n"));
}

#[test]
fn a_failed_snapshot_is_reported_and_the_app_starts_without() {
    let host = Host::start();
    for (path, why) in [
        ("/trap", "GET /trap failed: the guest trapped"),
        ("/spin", "GET /spin failed: the guest did not respond within 500 ms"),
        ("/allocate?mib=32", "ran out of memory"),
        ("/error", "GET /error failed: the guest failed"),
        ("/fetch?url=http://example.com/", "it responded with 502"),
        ("/exit?code=3", "GET /exit?code=3 failed: the guest exited"),
        ("/log-line?text=hello", "log with `log::info!`"),
        ("/handles?count=1", "resources of the host"),
        ("/random", "it takes random bytes"),
        ("/variable?name=HOME", "it reads environment variables"),
        ("/read?path=/data/x", "it looks into its folders"),
        ("/config?name=GREETING", "GET /config?name=GREETING failed"),
    ] {
        let push = host.deploy("greedy", warmed(path));
        assert!(refusal(&push).contains(why), "{path}: {}", refusal(&push));
        let is_asked = why.starts_with("GET");
        assert!(!is_asked || refusal(&push).contains("without the app's grants"), "{path}: {}", refusal(&push));
        host.get("greedy", "/ok").expect(200);
    }
}

#[test]
fn more_memory_than_fits_a_snapshot_is_reported() {
    let host = Host::start();
    let rest = "[limits]\nmemory = \"1GiB\"\n[snapshot]\nwarm = [\"/allocate?mib=150\"]\n";
    let manifest = format!("name = \"greedy\"\n{FRESH_INSTANCES}{rest}");
    let push = host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy-flat")));
    assert!(refusal(&push).contains("at most 128 MiB fit an image"), "{}", refusal(&push));
}

#[test]
fn a_failing_init_is_reported_by_the_snapshot_and_by_the_start() {
    let host = Host::start();
    let bundle = search("[limits]\nmemory = \"2MiB\"\n[snapshot]\n");
    let push = host.ended(&host.push("search", &bundle));
    assert!(refusal(&push).contains("ran out of memory"), "{push:?}");
    assert_eq!((push.state.as_str(), push.reason_code.as_deref()), ("failed", Some("start-failed")), "{push:?}");
}

/// Instances must not share random numbers, and clocks must advance.
#[test]
fn random_numbers_and_clocks_are_fresh_after_a_snapshot() {
    let host = Host::start();
    let manifest = format!("name = \"greedy\"\n{FRESH_INSTANCES}[snapshot]\nwarm = [\"/clocks\", \"/hash\"]\n");
    assert_snapshot(&host.deploy("greedy", Bundle::archive(&manifest, &guest("greedy-flat"))));
    let ask = |path: &str| host.get("greedy", path).expect(200).text();
    assert_ne!(ask("/random"), ask("/random"));
    let clocks = ask("/clocks");
    let (time, since) = clocks.split_once(' ').expect("two words");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_millis();
    let time: u128 = time.parse().expect("milliseconds");
    assert!((now - 60_000..=now).contains(&time), "{time} is not {now}");
    assert!(since.parse::<u64>().is_ok(), "an instant from before the snapshot must be in the past, not {since}");
    // Rust draws the seed of its hash maps once, before the snapshot: all instances of the release
    // share it, as documented.
    assert_eq!(ask("/hash"), ask("/hash"));
}

/// The component uses no SDK, only standard streams, which are all closed after the response.
#[test]
fn a_plain_wasi_component_can_have_a_snapshot() {
    let host = Host::start();
    let manifest = format!("name = \"plain\"\n{FRESH_INSTANCES}[snapshot]\nwarm = [\"/\"]\n");
    assert_snapshot(&host.deploy("plain", Bundle::archive(&manifest, &guest("hello-wasi02"))));
    assert_eq!(host.get("plain", "/").expect(200).text(), "Hello, world!");
}

#[test]
fn neither_secrets_nor_config_are_in_a_snapshot() {
    let host = Host::start();
    host.create("greedy", "staging");
    let (secret, plain) = ("correct-horse-battery-staple", "a-plain-value-of-config");
    host.set_config("greedy", &json!({ "SECRET": { "secret": secret }, "PLAIN": plain })).expect(200);
    let push = host.deploy("greedy", warmed("/ok"));
    assert_snapshot(&push);
    for folder in ["blobs", "cache"] {
        for file in files_in(&host.data().join(folder)) {
            let bytes = fs::read(&file).expect("it can be read");
            let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!holds(secret) && !holds(plain), "{} holds a config var", file.display());
        }
    }
    assert_eq!(host.get("greedy", "/config?name=SECRET").expect(200).text(), secret);
    assert_eq!(host.get("greedy", "/variable?name=PLAIN").expect(200).text(), plain);
}

#[test]
fn an_app_that_cannot_have_a_snapshot_gets_the_reason() {
    let host = Host::start();
    let asked_by = |app_type: &str, guest: &[u8]| {
        let manifest = format!("name = \"app\"\ntype = \"{app_type}\"\n[snapshot]\nwarm = [\"/\"]\n");
        refusal(&host.deploy(app_type, Bundle::archive(&manifest, guest))).to_owned()
    };
    assert!(asked_by("dev", &guest("hello")).contains("dev apps"));
    // Only pushes take snapshots.
    host.set_config("dev", &json!({ "GREETING": "hello" })).expect(200);
    assert!(host.release("dev", 2)["snapshot"].is_null());
    assert!(asked_by("staging", &guest("hello-wasi03")).contains("WASI 0.3"));
    if let Some(javascript) = guest_if_built("hello-js") {
        assert!(asked_by("production", &javascript).contains("ComponentizeJS"));
    }
    let nothing = Bundle::archive(&format!("name = \"a\"\n{FRESH_INSTANCES}{SNAPSHOT}"), &guest("hello"));
    assert!(refusal(&host.deploy("nothing", nothing)).contains("nothing to prepare"));
}

/// Only one snapshot is taken at a time, so an abandoned snapshot would delay the next.
#[test]
fn a_snapshot_of_a_destroyed_app_is_cancelled() {
    let host = Host::start();
    let manifest = format!("name = \"endless\"\n{FRESH_INSTANCES}[snapshot]\nwarm = [\"/spin\"]\n");
    let endless = host.push("endless", &Bundle::archive(&manifest, &guest("greedy-flat")));
    wait_for("the build", || (host.push_now(&endless).state == "building").then_some(()));
    let begun = Instant::now();
    host.api(Ask::new("DELETE", "/v1/apps/endless")).expect(204);
    assert_snapshot(&host.deploy("greedy", warmed("/ok")));
    // The time limit of a snapshot is 30 s.
    assert!(begun.elapsed() < Duration::from_secs(30), "the next snapshot waited for the abandoned one");
}

fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder exists");
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}
