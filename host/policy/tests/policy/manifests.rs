//! Tests how `isopod.toml` is parsed, which errors it gives, and that printing it gives the same
//! manifest.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use isopod_policy::{
    Access, AppKind, AppType, Entry, Grants, Health, HttpGrant, Isolation, Limits, Manifest, MiddlewareConfig,
    MiddlewareUse, Missed, OnFailure, Order, Overlap, PathPattern, PluginSettings, Process, ProcessName, RetryPolicy,
    Schedule, Snapshot, limits,
};
use proptest::prelude::*;
use serde_json::json;

const FULL: &str = r#"
name = "greeter"
type = "staging"
build = "cargo build --release --target wasm32-wasip2"
component = "target/wasm32-wasip2/release/greeter.wasm"
isolation = "request"

[processes.web]
entry = "http"
health = "/healthz"
min = 0
max = 4
[snapshot]
warm = ["/", "/search?q=isopod"]
[processes.nightly]
entry = "events"
schedule = "0 3 * * *"
args = ["--deep"]

[grants]
http = ["api.github.com", "*.example.org:8443"]
files = { data = "read-write" }
keyvalue = true
events = ["billing"]

[limits]
memory = "32MiB"
request_timeout = "500ms"
queue_max = 50

[config]
GREETING = "hello"
"#;

#[test]
fn every_setting_is_parsed() {
    let manifest = Manifest::parse(FULL).expect("the manifest is valid");
    assert_eq!(manifest.name.as_str(), "greeter");
    assert_eq!((manifest.app_type, manifest.isolation), (AppType::Staging, Isolation::Request));
    assert_eq!(manifest.component.as_deref(), Some("target/wasm32-wasip2/release/greeter.wasm"));
    let web = &manifest.processes["web"];
    assert_eq!((web.entry, web.min, web.max), (Entry::Http, Some(0), Some(4)));
    assert_eq!(web.health, Some(Health::of_path("/healthz").expect("it is a path")));
    assert_eq!(
        manifest.snapshot.as_ref().map(|snapshot| snapshot.warm.as_slice()),
        Some(&["/".to_owned(), "/search?q=isopod".to_owned()][..])
    );
    let nightly = &manifest.processes["nightly"];
    assert_eq!(nightly.schedule.as_ref().map(Schedule::as_str), Some("0 3 * * *"));
    assert_eq!(nightly.args, ["--deep"]);
    assert_eq!(
        manifest.grants.http.iter().map(HttpGrant::to_string).collect::<Vec<_>>().join(" "),
        "api.github.com *.example.org:8443"
    );
    assert_eq!((manifest.grants.files["data"], manifest.grants.keyvalue), (Access::ReadWrite, true));
    assert!(manifest.grants.allows_events_to("billing") && !manifest.grants.allows_events_to("billing-2"));
    assert_eq!((manifest.limits.memory_bytes, manifest.limits.queue_max), (32 << 20, 50));
    assert_eq!(manifest.limits.request_timeout, Duration::from_millis(500));
    assert_eq!(manifest.limits.reply_body_bytes, Limits::default().reply_body_bytes);
    assert_eq!(manifest.config["GREETING"], "hello");
}

#[test]
fn a_name_alone_is_a_manifest_that_grants_nothing() {
    let manifest = Manifest::parse("name = \"greeter\"").expect("the rest has defaults");
    assert_eq!(manifest, Manifest::new("greeter".parse().expect("the name is valid")));
    assert_eq!((manifest.app_type, manifest.isolation), (AppType::Dev, Isolation::Reuse));
    assert_eq!((manifest.grants, manifest.limits), (Grants::default(), Limits::default()));
}

#[test]
fn unspecified_settings_of_a_process_stay_unspecified() {
    let text = "name = \"a\"\ntype = \"production\"\n[processes.web]\n[processes.job]\nentry = \"command\"";
    let manifest = Manifest::parse(text).expect("the manifest is valid");
    for process in manifest.processes.values() {
        assert_eq!(*process, Process::new(process.entry));
    }
    assert!(!manifest.to_toml().contains("min ="), "{}", manifest.to_toml());
}

const PLUGIN: &str = r#"
name = "require-jwt"
kind = "plugin"
component = "plugin.wasm"

[plugin]
version = "1.2.0"
time_limit = "500ms"

[processes.plugin]
max = 4

[grants]
http = ["id.example.org"]
"#;

#[test]
fn a_plugin_has_a_version_and_one_process_type() {
    let manifest = Manifest::parse(PLUGIN).expect("the manifest is valid");
    assert_eq!((manifest.kind, manifest.app_type), (AppKind::Plugin, AppType::Production));
    let settings =
        PluginSettings { time_limit: Duration::from_millis(500), ..PluginSettings::new("1.2.0".parse().unwrap()) };
    assert_eq!(manifest.plugin, Some(settings));
    assert_eq!((manifest.processes["plugin"].entry, manifest.processes["plugin"].max), (Entry::Hook, Some(4)));
    assert_eq!(Manifest::parse(&manifest.to_toml()).expect("it reads back"), manifest);
    let json = serde_json::to_value(&manifest).expect("it serialises");
    assert_eq!(
        (&json["kind"], &json["plugin"]),
        (&json!("plugin"), &json!({"version": "1.2.0", "time_limit": "500ms"}))
    );
    assert_eq!(serde_json::from_value::<Manifest>(json).expect("it reads back"), manifest);
    assert_eq!(Manifest::parse(FULL).expect("it is valid").kind, AppKind::App);
}

#[test]
fn middleware_is_read_in_order_with_its_defaults() {
    let text = r#"
        name = "shop"
        [[middleware]]
        use = "require-jwt@^1.2"
        config = { jwks = "https://id.example.org/jwks", leeway = 30, since = 2026-01-02, rate = 0.5 }
        on_failure = "pass"
        paths = ["/api/*", "/login"]
        [[middleware]]
        use = "cors"
    "#;
    let manifest = Manifest::parse(text).expect("the manifest is valid");
    let [jwt, cors] = manifest.middleware.as_slice() else { panic!("{:?}", manifest.middleware) };
    assert_eq!((jwt.plugin.to_string().as_str(), jwt.on_failure), ("require-jwt@^1.2", OnFailure::Pass));
    assert_eq!(
        jwt.config.as_str(),
        r#"{"jwks":"https://id.example.org/jwks","leeway":30,"rate":0.5,"since":"2026-01-02"}"#
    );
    assert_eq!(jwt.paths.iter().map(PathPattern::to_string).collect::<Vec<_>>(), ["/api/*", "/login"]);
    assert_eq!(*cors, MiddlewareUse::new("cors".parse().expect("a valid reference")));
    assert_eq!((cors.config.as_str(), cors.on_failure), ("{}", OnFailure::Refuse));
    let alone: MiddlewareUse = serde_json::from_value(json!({"use": "cors"})).expect("it is valid");
    assert_eq!(alone, *cors);
}

#[test]
fn every_error_about_plugins_names_the_key_and_a_remedy() {
    let app = |text: &str| format!("name = \"a\"\n{text}");
    let used = |text: &str| format!("name = \"a\"\n[[middleware]]\n{text}");
    let plugin = |text: &str| format!("name = \"a\"\nkind = \"plugin\"\nplugin = {{ version = \"1.0.0\" }}\n{text}");
    let table = [
        (app("kind = \"plug\""), "expected \"app\" or \"plugin\""),
        (app("kind = \"plugin\""), "\"plugin\" is missing; add a line like plugin = { version"),
        (app("[plugin]\nversion = \"1.0.0\""), "\"plugin\": the settings of a plugin require kind = \"plugin\""),
        (app("kind = \"plugin\"\nplugin = {}"), "\"plugin.version\" is missing"),
        (app("kind = \"plugin\"\nplugin = { versoin = \"1\" }"), "did you mean \"plugin.version\"?"),
        (app("kind = \"plugin\"\nplugin = { version = \"1.0\" }"), "write three numbers, such as \"1.2.0\""),
        (
            app("kind = \"plugin\"\nplugin = { version = \"1.0.0\", time_limit = \"11s\" }"),
            "\"plugin.time_limit\": choose from 1ms to 10s",
        ),
        (
            app("kind = \"plugin\"\nplugin = { version = \"1.0.0\", time_limit = 1 }"),
            "is a whole number, but must be a duration in quotes",
        ),
        (plugin("type = \"dev\""), "the type of a plugin is always \"production\""),
        (plugin("[[middleware]]\nuse = \"b\""), "a plugin can't use middleware"),
        (plugin("[snapshot]"), "a plugin can't have a snapshot"),
        (plugin("[processes.web]"), "the only process type of a plugin is \"plugin\""),
        (
            plugin("[processes.plugin]\nentry = \"http\""),
            "the entry of a plugin's process type follows from its exports",
        ),
        (app("[processes.web]\nentry = \"middleware\""), "requires kind = \"plugin\""),
        (app("[middleware]\nuse = \"b\""), "\"middleware\" is a table, but must be a list"),
        (used(""), "\"middleware[0].use\" is missing"),
        (used("ues = \"b\""), "unknown key \"middleware[0].ues\"; did you mean \"middleware[0].use\"?"),
        (used("use = \"B\""), "\"b\" would be valid"),
        (used("use = \"b@one\""), "line 3, column 7: \"middleware[0].use\": \"one\" is not a range of versions"),
        (used("use = \"b\"\non_failure = \"retry\""), "expected \"refuse\" or \"pass\""),
        (used("use = \"b\"\npaths = []"), "the list is empty"),
        (used("use = \"b\"\npaths = [\"api\"]"), "\"middleware[0].paths[0]\": the pattern must start with '/'"),
        (used("use = \"b\"\nconfig = { a = nan }"), "\"middleware[0].config\": nan can't be represented in JSON"),
        (
            used(&format!("use = \"b\"\nconfig = '{}'", "\"".repeat(limits::MIDDLEWARE_CONFIG_BYTES_MAX / 2))),
            "the config has 65538 bytes as JSON; the maximum is 65536",
        ),
    ];
    for (text, words) in table {
        let error = Manifest::parse(&text).expect_err(&text).to_string();
        assert!(error.contains(words), "{text}\n{error}");
    }
    let many = "[[middleware]]\nuse = \"b\"\n".repeat(limits::MIDDLEWARE_MAX + 1);
    let error = Manifest::parse(&app(&many)).expect_err("too many").to_string();
    assert!(error.contains("\"middleware\" has 17 entries; the maximum is 16"), "{error}");
}

#[test]
fn a_health_check_is_a_path_or_a_table() {
    let health = |written: &str| {
        let text = format!("name = \"a\"\n[processes.web]\nhealth = {written}");
        let manifest = Manifest::parse(&text).expect(written);
        manifest.processes["web"].health.clone().expect("there is a health check")
    };
    let usual = Health::of_path("/h").expect("it is a path");
    assert_eq!(health("\"/h\""), usual);
    assert_eq!(health("{ path = \"/h\" }"), usual);
    let written = "{ path = \"/h\", grace = \"0s\", interval = \"1m\", timeout = \"500ms\", threshold = 1 }";
    let expected = Health {
        grace: Duration::ZERO,
        interval: Duration::from_secs(60),
        timeout: Duration::from_millis(500),
        threshold: 1,
        ..usual
    };
    assert_eq!(health(written), expected);
}

/// The keys of an invalid process type, and the words of the error.
#[test]
fn every_error_of_schedules_and_events_names_the_key_and_a_remedy() {
    let table = [
        (
            "entry = \"http\"\norder = \"subject\"",
            "line 4, column 9: \"processes.w.order\": an order of events requires",
        ),
        ("entry = \"events\"\norder = \"fifo\"", "expected \"none\" or \"subject\""),
        ("entry = \"http\"\nretry = {}", "\"processes.w.retry\": retries of events require entry = \"events\""),
        ("entry = \"command\"\nretry = {}", "retries of events require entry"),
        ("entry = \"events\"\nretry = 3", "is a whole number, but must be a table"),
        ("entry = \"events\"\nretry = { tries = 3 }", "known: attempts, first, max"),
        ("entry = \"events\"\nretry = { frist = \"1s\" }", "did you mean \"processes.w.retry.first\"?"),
        ("entry = \"events\"\nretry = { attempts = 101 }", "choose from 1 to 100"),
        ("entry = \"events\"\nretry = { first = 1 }", "in quotes, such as \"1s\""),
        ("entry = \"events\"\nretry = { max = \"200h\" }", "choose from 100ms to 7d"),
        ("entry = \"events\"\nretry = { max = \"500ms\" }", "first = 1s exceeds max = 500ms; set both"),
        (
            "entry = \"events\"\ntime_zone = \"UTC\"",
            "line 4, column 13: \"processes.w.time_zone\": a time zone requires",
        ),
        (
            "entry = \"events\"\nmissed = \"all\"",
            "\"processes.w.missed\": a setting for missed runs requires a schedule",
        ),
        ("entry = \"http\"\nschedule = \"0 3 * * *\"\ntime_zone = \"UTC\"", "a schedule requires entry"),
        ("entry = \"command\"\ntimezone = \"UTC\"", "did you mean \"processes.w.time_zone\"?"),
        ("entry = \"command\"\ntime_zone = \"berlin\"", "did you mean \"Europe/Berlin\"?"),
        ("entry = \"command\"\nmissed = \"last\"", "expected \"once\", \"skip\" or \"all\""),
        ("entry = \"command\"\noverlap = true", "is true or false, but must be text"),
    ];
    for (keys, words) in table {
        let text = format!("name = \"a\"\n[processes.w]\n{keys}");
        let error = Manifest::parse(&text).expect_err(&text).to_string();
        assert!(error.contains(words), "{text}\n  says     {error}\n  expected {words}");
    }
}

/// An invalid manifest, and the words of the error.
#[test]
fn every_error_names_its_position_and_a_remedy() {
    let table: &[(&str, &str)] = &[
        ("", "isopod.toml, line 1, column 1: \"name\" is missing; add a line like name = \"greeter\""),
        ("name = \"a", "line 1, column"),
        ("name = 3", "line 1, column 8: \"name\" is a whole number, but must be text in quotes"),
        ("name = \"A\"", "\"a\" would be valid"),
        ("nam = \"a\"", "line 1, column 1: unknown key \"nam\"; did you mean \"name\"?"),
        ("name = \"a\"\n\n[proceses.web]", "line 3, column 2: unknown key \"proceses\"; did you mean \"processes\"?"),
        ("name = \"a\"\n[grants]\nhtpp = []", "unknown key \"grants.htpp\"; did you mean \"grants.http\"?"),
        ("name = \"a\"\n[limits]\nmem = \"1MiB\"", "did you mean \"limits.memory\"?"),
        ("name = \"a\"\n[limits]\nxyzzy = 1", "unknown key \"limits.xyzzy\"; known: memory, request_timeout"),
        ("name = \"a\"\ntype = \"prod\"", "expected \"dev\", \"staging\" or \"production\""),
        ("name = \"a\"\nisolation = \"none\"", "expected \"reuse\" or \"request\""),
        ("name = \"a\"\nbuild = \" \"", "the build command is empty"),
        ("name = \"a\"\ncomponent = \"/etc/passwd\"", "must be relative"),
        ("name = \"a\"\ncomponent = \"../a.wasm\"", "must stay below"),
        ("name = \"a\"\ncomponent = \"a\\\\b.wasm\"", "write '/'"),
        ("name = \"a\"\nprocesses = 1", "\"processes\" is a whole number, but must be a table"),
        ("name = \"a\"\n[processes.Web]", "\"web\" would be valid"),
        ("name = \"a\"\n[processes.worker]", "line 2, column 1: \"processes.worker.entry\" is missing"),
        ("name = \"a\"\n[processes.web]\nentry = \"htp\"", "expected \"http\", \"events\" or \"command\""),
        ("name = \"a\"\n[processes.web]\nhealth = \"healthz\"", "starts with '/'"),
        ("name = \"a\"\n[processes.w]\nentry = \"events\"\nhealth = \"/h\"", "requires entry = \"http\""),
        ("name = \"a\"\n[processes.web]\nhealth = 1", "must be a path in quotes or a table"),
        ("name = \"a\"\n[processes.web.health]\ngrace = \"5s\"", "\"processes.web.health.path\" is missing"),
        ("name = \"a\"\n[processes.web.health]\nintervall = \"5s\"", "did you mean \"processes.web.health.interval\"?"),
        ("name = \"a\"\n[processes.web.health]\npath = \"/\"\ngrace = 5", "in quotes, such as \"5s\""),
        ("name = \"a\"\n[processes.web.health]\npath = \"/\"\nthreshold = 0", "choose from 1 to 100"),
        ("name = \"a\"\n[processes.web]\nschedule = \"0 3 * * *\"", "requires entry = \"events\""),
        ("name = \"a\"\n[processes.w]\nentry = \"events\"\nschedule = \"daily\"", "five fields"),
        ("name = \"a\"\n[processes.w]\nentry = \"events\"\nschedule = \"0 25 * * *\"", "invalid hour \"25\""),
        ("name = \"a\"\n[processes.w]\nentry = \"events\"\nschedule = \"0 0 30 2 *\"", "never matches"),
        ("name = \"a\"\n[processes.web]\nmin = 5\nmax = 3", "line 3, column 7: \"processes.web.min\": min = 5 exceeds"),
        ("name = \"a\"\n[processes.web]\nmax = 0", "at least 1"),
        ("name = \"a\"\n[processes.web]\nmax = 99", "choose from 0 to 10, which is limits.instances_max"),
        ("name = \"a\"\n[processes.web]\nmin = -1", "negative or too large"),
        ("name = \"a\"\n[grants]\nkeyvalue = \"yes\"", "\"grants.keyvalue\" is text, but must be true or false"),
        ("name = \"a\"\n[grants]\nhttp = [\"ok.org\", \"https://x.org\"]", "line 3, column 19: \"grants.http[1]\""),
        ("name = \"a\"\n[grants.files]\n\"../up\" = \"read-only\"", "invalid folder name"),
        ("name = \"a\"\n[grants.files]\ndata = \"write\"", "expected \"read-only\" or \"read-write\""),
        ("name = \"a\"\n[limits]\nmemory = 64", "must be a size with its unit, in quotes, such as \"64MiB\""),
        ("name = \"a\"\n[limits]\nmemory = \"64\"", "\"64\" has no unit; write \"64MiB\""),
        ("name = \"a\"\n[limits]\nmemory = \"64MB\"", "the units are B, KiB, MiB, GiB"),
        ("name = \"a\"\n[limits]\nmemory = \"8GiB\"", "choose from 1MiB to 4GiB"),
        ("name = \"a\"\n[limits]\nrequest_timeout = 30", "in quotes, such as \"30s\""),
        ("name = \"a\"\n[limits]\nqueue_max = \"9\"", "must be a whole number without quotes"),
        ("name = \"a\"\n[snapshot]\nwram = [\"/\"]", "did you mean \"snapshot.warm\"?"),
        ("name = \"a\"\n[snapshot]\nwarm = [\"index\"]", "\"snapshot.warm[0]\": write a path that starts with '/'"),
        ("name = \"a\"\nsnapshot = true", "\"snapshot\" is true or false, but must be a table"),
        ("name = \"a\"\n[config]\n\"BAD-KEY\" = \"x\"", "no digit first"),
        ("name = \"a\"\n[config]\nPORT = 80", "\"config.PORT\" is a whole number, but must be text in quotes"),
        ("name = \"a\"\nname = \"b\"", "line 2"),
    ];
    for (text, words) in table {
        let error = Manifest::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text:?}\n  says     {error}\n  expected {words}");
        assert!(error.starts_with("isopod.toml, line "), "{error}");
    }
}

#[test]
fn granted_apps_are_a_list_of_names() {
    for (written, words) in [
        ("\"billing\"", "\"grants.events\" is text, but must be a list"),
        ("[\"crm\", \"Billing\"]", "\"grants.events[1]\": invalid app name \"Billing\""),
    ] {
        let error = Manifest::parse(&format!("name = \"a\"\n[grants]\nevents = {written}")).expect_err(written);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn granted_interfaces_name_their_providers() {
    let written = "name = \"a\"\n[grants.interfaces]\n\"acme:text/shout@1.0.0\" = \"shouter@^1.2\"\n";
    let manifest = Manifest::parse(written).expect("it is valid");
    let (interface, provider) = manifest.grants.interfaces.iter().next().expect("it is granted");
    assert_eq!((interface.as_str(), provider.to_string().as_str()), ("acme:text/shout@1.0.0", "shouter@^1.2"));
    for (written, words) in [
        ("[\"shouter\"]", "\"grants.interfaces\" is a list, but must be a table"),
        ("{ shout = \"shouter\" }", "is not the name of an interface"),
        ("{ \"acme:text/shout\" = \"Shouter\" }", "invalid app name \"Shouter\""),
        ("{ \"isopod:app/emit@0.1.0\" = \"shouter\" }", "reserved for interfaces of the host"),
    ] {
        let error = Manifest::parse(&format!("name = \"a\"\n[grants]\ninterfaces = {written}")).expect_err(written);
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// Otherwise, providers could form a cycle.
#[test]
fn a_plugin_uses_no_provider() {
    let plugin = "name = \"a\"\nkind = \"plugin\"\nplugin = { version = \"1.0.0\" }\n";
    let error = Manifest::parse(&format!("{plugin}[grants.interfaces]\n\"b:c/d\" = \"e\"\n")).expect_err("a cycle");
    assert!(error.to_string().contains("a plugin can't use providers"), "{error}");
}

#[test]
fn a_column_counts_characters_not_bytes() {
    let error = Manifest::parse("name = \"a\" # ok\n\"ä\" = 1").expect_err("there is no such key");
    assert_eq!((error.line, error.column), (Some(2), Some(1)));
    let error = Manifest::parse("config = { \"Ä\" = \"1\", B = 2 }\nname = \"a\"").expect_err("2 is not a text");
    assert_eq!((error.line, error.column), (Some(1), Some(27)));
}

#[test]
fn a_manifest_above_a_limit_is_refused() {
    let error = Manifest::parse(&" ".repeat(limits::MANIFEST_BYTES_MAX + 1)).expect_err("it is too large");
    assert!(error.to_string().contains("the maximum is 65536"), "{error}");
    let many = (0..=limits::PROCESSES_MAX).map(|number| format!("[processes.p{number}]\nentry = \"events\"\n"));
    let error = Manifest::parse(&format!("name = \"a\"\n{}", many.collect::<String>())).expect_err("too many");
    assert!(error.to_string().contains("has 33 entries; the maximum is 32"), "{error}");
    let deep = format!("name = {}", "[".repeat(10_000));
    assert!(Manifest::parse(&deep).is_err(), "deep nesting must be an error, not a stack overflow");
}

#[test]
fn json_is_parsed_by_the_same_rules() {
    let manifest = Manifest::parse(FULL).expect("the manifest is valid");
    let json = serde_json::to_string(&manifest).expect("it serialises");
    assert_eq!(serde_json::from_str::<Manifest>(&json).expect("it reads back"), manifest);
    let error = serde_json::from_str::<Manifest>(r#"{"name":"a","tpye":"dev"}"#).expect_err("tpye is not a key");
    assert!(error.to_string().contains("did you mean \"type\"?"), "{error}");
    assert!(serde_json::from_str::<Manifest>(r#"{"name":"a","build":null}"#).is_err());
}

fn health() -> impl Strategy<Value = Health> {
    let milliseconds = |range: &RangeInclusive<Duration>| {
        let whole = |end: &Duration| u64::try_from(end.as_millis()).expect("it is short");
        (whole(range.start())..=whole(range.end())).prop_map(Duration::from_millis)
    };
    let durations = (
        milliseconds(&limits::HEALTH_GRACE),
        milliseconds(&limits::HEALTH_INTERVAL),
        milliseconds(&limits::HEALTH_TIMEOUT),
    );
    let settings = proptest::option::of((durations, limits::HEALTH_THRESHOLD));
    ("/[a-z0-9/?-]{0,10}", settings).prop_map(|(path, settings)| {
        let usual = Health::of_path(&path).expect("it is a path");
        match settings {
            None => usual,
            Some(((grace, interval, timeout), threshold)) => Health { grace, interval, timeout, threshold, ..usual },
        }
    })
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    (limits::RETRY_ATTEMPTS, 100..604_800_000u64, 0..604_800_000u64).prop_map(|(attempts, first, more)| {
        let max = Duration::from_millis(first + more).min(*limits::RETRY_DELAY.end());
        RetryPolicy { attempts, first: Duration::from_millis(first), max }
    })
}

fn process() -> impl Strategy<Value = Process> {
    let health = proptest::option::of(health());
    let schedule = prop_oneof![Just("0 3 * * *"), Just("  */5 1-3 *   * MON,5 ")];
    let schedule = proptest::option::of(schedule.prop_map(|text| Schedule::parse(text).expect("it is a schedule")));
    let args = proptest::collection::vec("[ -~äö\n]{0,10}", 0..3);
    let (min, max) = (proptest::option::of(0..5u32), proptest::option::of(5..10u32));
    let order = proptest::option::of(prop_oneof![Just(Order::None), Just(Order::Subject)]);
    let events = (order, proptest::option::of(retry()));
    let zone = prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/Argentina/Buenos_Aires")];
    let zone = zone.prop_map(|name| name.parse().expect("it exists"));
    let words = (proptest::sample::select(Missed::ALL), proptest::sample::select(Overlap::ALL));
    let times = (proptest::option::of(zone), proptest::option::of(words.0), proptest::option::of(words.1));
    (0..3usize, health, schedule, min, max, args, events, times).prop_map(
        |(entry, health, schedule, min, max, args, events, times)| {
            let entry = Entry::ALL[entry];
            let (order, retry) = if entry == Entry::Events { events } else { (None, None) };
            let health = health.filter(|_| entry == Entry::Http);
            let schedule = schedule.filter(|_| entry != Entry::Http);
            let (time_zone, missed, overlap) = if schedule.is_some() { times } else { (None, None, None) };
            Process {
                health,
                schedule,
                time_zone,
                missed,
                overlap,
                min,
                max,
                args,
                order,
                retry,
                ..Process::new(entry)
            }
        },
    )
}

fn some_limits() -> impl Strategy<Value = Limits> {
    (
        limits::MEMORY_BYTES,
        10..3_600_000u64,
        limits::REQUEST_BODY_BYTES,
        limits::REPLY_BODY_BYTES,
        10..=1_000u32,
        limits::QUEUE,
        limits::TABLE_ELEMENTS,
        limits::LOG_LINE_BYTES,
    )
        .prop_map(|(memory, timeout_ms, request, reply, instances, queue, table, line)| Limits {
            memory_bytes: memory,
            request_timeout: Duration::from_millis(timeout_ms),
            request_body_bytes: request,
            reply_body_bytes: reply,
            instances_max: instances,
            queue_max: queue,
            table_elements: table,
            log_line_bytes: line,
        })
}

fn some_grants() -> impl Strategy<Value = Grants> {
    let host = "[a-z]{1,8}\\.(com|org)(:[1-9][0-9]{0,3})?".prop_map(|text| text.parse().expect("a valid grant"));
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    let files = proptest::collection::btree_map("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,10}", access, 0..3);
    let app = "[a-z0-9]{1,10}".prop_map(|text| text.parse().expect("a valid name"));
    let events = proptest::collection::vec(app, 0..3);
    let provider = "[a-z]{1,8}(@\\^1)?".prop_map(|text| text.parse().expect("a plugin"));
    let interface = "[a-z]{1,4}:[a-z]{1,4}/[a-z]{1,4}(@0\\.1\\.0)?".prop_map(|text| text.parse().expect("a name"));
    let interfaces = proptest::collection::btree_map(interface, provider, 0..3);
    (proptest::collection::vec(host, 0..4), files, any::<bool>(), events, interfaces)
        .prop_map(|(http, files, keyvalue, events, interfaces)| Grants { http, files, keyvalue, events, interfaces })
}

fn some_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        (-8000..8000i32).prop_map(|eighths| json!(f64::from(eighths) / 8.0)),
        "[ -~äö\n]{0,10}".prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| json!(items)),
            proptest::collection::btree_map("[ -~ä]{0,5}", inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

fn middleware() -> impl Strategy<Value = MiddlewareUse> {
    let plugin = prop_oneof![Just("cors"), Just("require-jwt@^1.2"), Just("a@>=1.2, <3")];
    let paths = proptest::collection::vec(prop_oneof![Just("/api/*"), Just("/login"), Just("/größe")], 0..3);
    (plugin, some_json(), proptest::sample::select(OnFailure::ALL), paths).prop_map(
        |(plugin, config, on_failure, paths)| MiddlewareUse {
            config: MiddlewareConfig::new(&config).expect("it is short"),
            on_failure,
            paths: paths.into_iter().map(|path| path.parse().expect("a valid pattern")).collect(),
            ..MiddlewareUse::new(plugin.parse().expect("a valid reference"))
        },
    )
}

fn manifest() -> impl Strategy<Value = Manifest> {
    let name = "[a-z0-9]{1,10}(-[a-z0-9]{1,10}){0,3}".prop_map(|text| text.parse().expect("a valid name"));
    let process_name = "[a-z]{1,8}".prop_map(|text| text.parse::<ProcessName>().expect("a valid name"));
    let head = (name, 0..3usize, any::<bool>(), proptest::option::of("[a-z]{1,9}( [ -~]{0,20})?"));
    let component = proptest::option::of("[a-z0-9_]{1,8}(/[a-zA-Z0-9_.-]{1,8}w){0,3}");
    let warm = proptest::collection::vec("/[a-z0-9/?=-]{0,10}", 0..3);
    let snapshot = proptest::option::of(warm.prop_map(|warm| Snapshot { warm }));
    let config = proptest::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,10}", "[^\0]{0,20}", 0..4);
    let processes = proptest::collection::btree_map(process_name, process(), 0..4);
    let middleware = proptest::collection::vec(middleware(), 0..3);
    (head, component, processes, some_grants(), some_limits(), snapshot, config, middleware).prop_map(
        |((name, app_type, fresh, build), component, processes, grants, limits, snapshot, config, middleware): (
            _,
            _,
            BTreeMap<_, _>,
            _,
            _,
            _,
            _,
            _,
        )| Manifest {
            app_type: AppType::ALL[app_type],
            isolation: if fresh { Isolation::Request } else { Isolation::Reuse },
            build,
            component,
            processes,
            grants,
            limits,
            snapshot,
            config,
            middleware,
            ..Manifest::new(name)
        },
    )
}

proptest! {
    #[test]
    fn every_manifest_reads_back_from_toml_and_json(manifest in manifest()) {
        let toml = manifest.to_toml();
        match Manifest::parse(&toml) {
            Ok(read) => prop_assert_eq!(&read, &manifest),
            Err(error) => prop_assert!(false, "{}\n{}", error, toml),
        }
        let json = serde_json::to_string(&manifest).expect("it serialises");
        prop_assert_eq!(serde_json::from_str::<Manifest>(&json).expect("it reads back"), manifest);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Manifest::parse(&text);
    }

    #[test]
    fn no_change_of_a_valid_manifest_makes_the_parser_panic(
        at in 0..FULL.len(), removed in 0..20usize, inserted in "[ -~\n]{0,8}",
    ) {
        let mut text = FULL.to_owned();
        let end = (at + removed).min(text.len());
        text.replace_range(at..end, &inserted);
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(Manifest::parse(&manifest.to_toml()).expect("a printed manifest is valid"), manifest);
        }
    }
}

#[test]
fn an_error_for_a_duplicate_key_names_its_position() {
    for (text, wanted) in [
        ("name = \"x\"\nname = \"y\"\n", "line 2, column 1: the key `name` appears more than once"),
        ("name = \"x\"\n[config]\nA = \"1\"\nA = \"2\"\n", "line 4, column 1: the key `A` appears more than once"),
        ("name = \"x\"\n[grants]\n[grants]\n", "the key `grants` appears more than once"),
    ] {
        let error = Manifest::parse(text).expect_err("it is refused").to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
