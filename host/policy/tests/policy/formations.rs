//! Tests formations: how a change is parsed and applied, and what a new manifest inherits.

use isopod_policy::formation::{self, Exported, Formation, FormationChange, FormationError, NewProcess};
use isopod_policy::{
    AppType, Entry, Health, Limits, Manifest, Missed, Order, PluginKind, Process, ProcessName, RetryPolicy, Schedule,
    limits,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALL: Exported =
    Exported { http: true, events: true, command: true, middleware: false, gate: false, provider: false, hook: false };

fn name(text: &str) -> ProcessName {
    text.parse().expect("the name is valid")
}

/// `web` with one to three instances and a health check, and `worker` with defaults.
fn present() -> Formation {
    let health = Health::of_path("/healthz").ok();
    let web = Process { min: Some(1), max: Some(3), health, ..Process::new(Entry::Http) };
    [(name("web"), web), (name("worker"), Process::new(Entry::Events))].into()
}

fn update(body: Value) -> Result<Formation, FormationError> {
    formation::update(&present(), &FormationChange::from_json(&body)?, &Limits::default())
}

fn create(body: Value) -> Result<Formation, FormationError> {
    formation::create(&present(), &NewProcess::from_json(&body)?, &Limits::default(), ALL)
}

#[test]
fn settings_that_a_change_does_not_mention_are_unchanged() {
    let formation = update(json!({"web": {"max": 5}})).expect("the change is valid");
    assert_eq!((formation["web"].min, formation["web"].max), (Some(1), Some(5)));
    assert_eq!(formation["web"].health, present()["web"].health);
    assert_eq!(formation["worker"], present()["worker"]);
    assert_eq!(update(json!({})), Ok(present()));
    assert_eq!(update(json!({"web": {}, "worker": {}})), Ok(present()));
}

#[test]
fn null_clears() {
    let keys = ["min", "max", "health", "schedule", "args", "order", "retry"];
    let body = json!({"web": Value::Object(keys.map(|key| (key.to_owned(), Value::Null)).into_iter().collect())});
    assert_eq!(update(body).expect("the change is valid")["web"], Process::new(Entry::Http));
}

#[test]
fn several_process_types_change_together_or_not() {
    let body = json!({
        "web": {"min": 2, "max": 2, "health": {"path": "/h", "grace": "1m"}},
        "worker": {"schedule": "0 3 * * *", "args": ["--deep"], "order": "subject", "retry": {"attempts": 3}},
    });
    let formation = update(body).expect("the change is valid");
    let health = formation["web"].health.as_ref().expect("there is a check");
    assert_eq!((health.path.as_str(), health.grace.as_secs(), health.threshold), ("/h", 60, 3));
    assert_eq!(formation["worker"].schedule, Schedule::parse("0 3 * * *").ok());
    assert_eq!(formation["worker"].args, ["--deep"]);
    assert_eq!(formation["worker"].order, Some(Order::Subject));
    assert_eq!(formation["worker"].retry, Some(RetryPolicy { attempts: 3, ..RetryPolicy::default() }));
    assert!(update(json!({"web": {"min": 2}, "worker": {"min": 99}})).is_err());
}

#[test]
fn only_minimum_and_maximum_scale() {
    for body in [json!({ "web": { "min": 1 } }), json!({ "web": { "max": null }, "w": {} }), json!({}), json!(7)] {
        assert!(formation::only_scales(&body), "{body}");
    }
    for body in [json!({ "web": { "min": 1, "health": null } }), json!({ "a": { "min": 1 }, "b": { "args": [] } })] {
        assert!(!formation::only_scales(&body), "{body}");
    }
}

#[test]
fn removing_a_schedule_removes_its_settings() {
    let body = json!({"worker": {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "missed": "all"}});
    let scheduled = update(body).expect("the change is valid");
    let timetable = scheduled["worker"].timetable().expect("there is a schedule");
    assert_eq!((timetable.to_string().as_str(), timetable.missed), ("0 3 * * * Europe/Berlin", Missed::All));
    let limits = Limits::default();
    let change = |body: Value| {
        let change = FormationChange::from_json(&body).expect("the body is valid");
        formation::update(&scheduled, &change, &limits)
    };
    assert_eq!(change(json!({"worker": {"schedule": null}})), Ok(present()));
    let moved = change(json!({"worker": {"schedule": "0 4 * * *", "missed": null}})).expect("the change is valid");
    assert_eq!(moved["worker"].time_zone, scheduled["worker"].time_zone);
    assert_eq!(moved["worker"].missed, None);
    assert!(change(json!({"worker": {"schedule": null, "overlap": "allow"}})).is_err());
}

#[test]
fn a_displayed_formation_can_be_sent_back() {
    let shown = formation::shown(&present(), AppType::Production, &Limits::default());
    let body = serde_json::to_value(&shown).expect("it serialises");
    assert_eq!(
        body,
        json!({
            "web": {"entry": "http", "health": "/healthz", "min": 1, "max": 3, "schedule": null,
                "time_zone": null, "missed": null, "overlap": null, "args": [],
                "order": null, "retry": null},
            "worker": {"entry": "events", "health": null, "min": 1, "max": 10, "schedule": null,
                "time_zone": null, "missed": null, "overlap": null, "args": [],
                "order": null, "retry": null},
        })
    );
    let formation = update(body).expect("the change is valid");
    assert_eq!(formation::shown(&formation, AppType::Dev, &Limits::default()), shown);
}

#[test]
fn a_process_type_is_created_and_removed() {
    let body = json!({"name": "nightly", "entry": "events", "schedule": "0 3 * * *"});
    let formation = create(body).expect("the change is valid");
    assert_eq!(formation.len(), 3);
    assert_eq!(formation["nightly"].schedule, Schedule::parse("0 3 * * *").ok());
    assert_eq!(formation::remove(&formation, &name("nightly")), Ok(present()));
}

/// The body of an invalid change, and the words of the error.
#[test]
fn every_error_about_a_change_names_the_key_and_a_remedy() {
    let table = [
        (json!([]), "\"formation\" is a list, but must be an object"),
        (json!({"wbe": {"min": 1}}), "unknown process type \"wbe\"; did you mean \"web\"?"),
        (json!({"zzzzzz": {"min": 1}}), "known: web, worker"),
        (json!({"Web": {}}), "\"web\" would be valid"),
        (json!({"web": null}), "remove a process type with DELETE"),
        (json!({"web": 3}), "\"web\" is a number, but must be an object"),
        (json!({"web": {"mni": 1}}), "unknown key \"web.mni\"; did you mean \"web.min\"?"),
        (
            json!({"web": {"count": 1}}),
            "known: min, max, health, schedule, time_zone, missed, overlap, args, order, retry, entry",
        ),
        (json!({"web": {"min": 4}}), "web.min = 4 exceeds web.max = 3; set both"),
        (json!({"web": {"max": 0}}), "stop the app or remove the process type"),
        (json!({"web": {"max": 11}}), "choose from 0 to 10, which is limits.instances_max"),
        (json!({"web": {"min": -1}}), "\"web.min\" must be a whole number from 0 to 1000"),
        (json!({"web": {"min": 1.5}}), "must be a whole number"),
        (json!({"web": {"min": "1"}}), "must be a whole number"),
        (json!({"web": {"min": 1e99}}), "must be a whole number"),
        (json!({"web": {"max": 4_294_967_296_u64}}), "must be a whole number"),
        (json!({"web": {"entry": "events"}}), "the entry of \"web\" is http and can't be changed"),
        (json!({"web": {"entry": "htp"}}), "\"web.entry\": invalid entry \"htp\": expected \"http\", \"events\" or"),
        (json!({"web": {"entry": 7}}), "is a number, but must be \"http\", \"events\" or \"command\""),
        (json!({"web": {"health": "healthz"}}), "\"web.health\": write a path that starts with '/'"),
        (json!({"web": {"health": 5}}), "\"web.health\" is a number, but must be a path or an object"),
        (json!({"web": {"health": {}}}), "\"web.health.path\" is missing"),
        (json!({"web": {"health": {"path": "/", "grce": "5s"}}}), "did you mean \"web.health.grace\"?"),
        (json!({"web": {"health": {"path": "/", "grace": "2h"}}}), "grace = 2h is out of range"),
        (json!({"web": {"health": {"path": "/", "grace": 5}}}), "such as \"5s\""),
        (json!({"web": {"health": {"path": "/", "grace": []}}}), "is a list"),
        (json!({"worker": {"health": "/h"}}), "\"worker.health\": a health check requires entry"),
        (json!({"web": {"schedule": "0 3 * * *"}}), "\"web.schedule\": a schedule requires entry"),
        (json!({"worker": {"schedule": "0 0 30 2 *"}}), "\"worker.schedule\": schedule \"0 0 30 2 *\" never matches"),
        (json!({"worker": {"schedule": 3}}), "\"worker.schedule\" is a number, but must be text"),
        (json!({"worker": {"args": "--deep"}}), "\"worker.args\" is text, but must be a list of texts"),
        (json!({"worker": {"args": [1]}}), "must be a list of texts"),
        (json!({"worker": {"args": vec!["a"; 65]}}), "at most 64 arguments"),
        (json!({"worker": {"args": ["a\0b"]}}), "without NUL"),
        (json!({"worker": {"time_zone": "UTC"}}), "\"worker.time_zone\": a time zone requires a schedule"),
        (json!({"worker": {"missed": "all"}}), "\"worker.missed\": a setting for missed runs requires a schedule"),
        (json!({"worker": {"overlap": "allow"}}), "\"worker.overlap\": a setting for overlapping runs requires a"),
        (json!({"worker": {"time_zone": "Europe/Berln"}}), "did you mean \"Europe/Berlin\"?"),
        (json!({"worker": {"time_zone": 2}}), "\"worker.time_zone\" is a number, but must be text"),
        (json!({"worker": {"missed": "never"}}), "expected \"once\", \"skip\" or \"all\""),
        (json!({"worker": {"overlap": "wait"}}), "expected \"skip\", \"queue\" or \"allow\""),
        (json!({"worker": {"overlaps": "skip"}}), "did you mean \"worker.overlap\"?"),
        (json!({"web": {"order": "subject"}}), "\"web.order\": an order of events requires entry = \"events\""),
        (json!({"worker": {"order": "fifo"}}), "invalid order \"fifo\": expected \"none\" or \"subject\""),
        (json!({"worker": {"order": true}}), "must be \"none\" or \"subject\""),
        (json!({"web": {"retry": {}}}), "\"web.retry\": retries of events require entry = \"events\""),
        (json!({"worker": {"retry": 3}}), "\"worker.retry\" is a number, but must be an object"),
        (json!({"worker": {"retry": {"atempts": 3}}}), "did you mean \"worker.retry.attempts\"?"),
        (
            json!({"worker": {"retry": {"attempts": 0}}}),
            "\"worker.retry\": attempts = 0 is out of range: choose from 1",
        ),
        (json!({"worker": {"retry": {"attempts": "3"}}}), "must be a whole number without quotes"),
        (json!({"worker": {"retry": {"attempts": -1}}}), "must be a positive whole number"),
        (json!({"worker": {"retry": {"first": -1}}}), "must be a duration with its unit"),
        (json!({"worker": {"retry": {"first": 1}}}), "in quotes, such as \"1s\""),
        (json!({"worker": {"retry": {"first": "2h"}}}), "\"worker.retry\": first = 2h exceeds max = 1h; set both"),
    ];
    for (body, words) in table {
        let error = update(body.clone()).expect_err(&body.to_string()).to_string();
        assert!(error.contains(words), "{body}\n  says     {error}\n  expected {words}");
    }
}

#[test]
fn every_error_about_a_new_process_type_names_the_reason() {
    let table = [
        (json!({"entry": "events"}), "\"name\" is missing"),
        (json!({"name": "a"}), "\"entry\" is missing, as in {\"entry\":\"events\"}"),
        (json!({"name": "web", "entry": "http"}), "process type \"web\" already exists"),
        (json!({"name": "2nd", "entry": "http"}), "doesn't start with a letter"),
        (json!({"name": 2, "entry": "http"}), "\"name\" is a number, but must be text"),
        (json!({"name": "a", "entry": "banana"}), "\"entry\": invalid entry \"banana\": expected \"http\""),
        (json!({"name": "a", "entry": "events", "sched": "x"}), "did you mean \"schedule\"?"),
        (json!({"name": "a", "entry": "http", "schedule": "0 3 * * *"}), "requires entry"),
        (json!({"name": "a", "entry": "http", "min": 3, "max": 2}), "a.min = 3 exceeds a.max = 2"),
    ];
    for (body, words) in table {
        let error = create(body.clone()).expect_err(&body.to_string()).to_string();
        assert!(error.contains(words), "{body}\n  says     {error}\n  expected {words}");
    }
    let new = NewProcess::from_json(&json!({"name": "job", "entry": "command"})).expect("the body is valid");
    let error = formation::create(&present(), &new, &Limits::default(), Exported { command: false, ..ALL });
    assert_eq!(error, Err(FormationError::EntryNotExported { process: name("job"), entry: Entry::Command }));
}

#[test]
fn there_is_always_one_process_type_and_never_too_many() {
    let one = formation::remove(&present(), &name("web")).expect("one is left");
    assert_eq!(formation::remove(&one, &name("worker")), Err(FormationError::NothingLeft { process: name("worker") }));
    assert!(matches!(formation::remove(&one, &name("web")), Err(FormationError::NoSuchProcess { .. })));
    let mut many = Formation::new();
    for number in 0..=limits::PROCESSES_MAX {
        let new = NewProcess { name: name(&format!("p{number}")), process: Process::new(Entry::Events) };
        match formation::create(&many, &new, &Limits::default(), ALL) {
            Ok(more) => many = more,
            Err(error) => assert_eq!(error, FormationError::TooManyProcesses { max: limits::PROCESSES_MAX }),
        }
    }
    assert_eq!(many.len(), limits::PROCESSES_MAX);
}

#[test]
fn the_default_formation_follows_the_components_exports() {
    let names = |exported| formation::default_for(exported).into_keys().map(String::from).collect::<Vec<_>>();
    assert_eq!(names(ALL), ["web", "worker"]);
    assert_eq!(names(Exported { events: true, ..Exported::default() }), ["worker"]);
    assert_eq!(Exported { middleware: true, ..ALL }.plugin_kind(), Some(PluginKind::Middleware));
    assert_eq!(Exported { gate: true, provider: true, ..ALL }.plugin_kind(), Some(PluginKind::Gate));
    assert_eq!(ALL.plugin_kind(), None);
    assert_eq!(names(Exported { middleware: true, ..Exported::default() }), ["plugin"]);
    assert_eq!(names(Exported { hook: true, ..Exported::default() }), ["plugin"]);
    assert_eq!(names(Exported { command: true, ..Exported::default() }), Vec::<String>::new());
}

fn inherited(manifest: &str) -> Formation {
    let manifest = Manifest::parse(&format!("name = \"a\"\n{manifest}")).expect("the manifest is valid");
    formation::inherit(&manifest.processes, &present(), &manifest.limits)
}

#[test]
fn a_deploy_keeps_a_manual_scale_unless_the_manifest_overrides_it() {
    let scale = |formation: &Formation| (formation["web"].min, formation["web"].max);
    let silent = inherited("[processes.web]\nhealth = \"/new\"");
    assert_eq!(scale(&silent), (Some(1), Some(3)));
    assert_eq!(silent["web"].health, Health::of_path("/new").ok());
    assert_eq!(silent.len(), 1, "a process type that the manifest no longer has is removed");
    assert_eq!(scale(&inherited("[processes.web]\nmin = 2")), (Some(2), Some(3)));
    assert_eq!(scale(&inherited("[processes.web]\nmin = 0\nmax = 1")), (Some(0), Some(1)));
    // The inherited maximum of 3 would contradict it.
    assert_eq!(scale(&inherited("[processes.web]\nmin = 5")), (Some(5), None));
    assert_eq!(scale(&inherited("[limits]\ninstances_max = 2\n[processes.web]")), (Some(1), Some(2)));
    assert_eq!(scale(&inherited("[processes.web]\nentry = \"events\"")), (None, None));
}

#[test]
fn a_manifest_without_process_types_keeps_the_current_ones() {
    assert_eq!(inherited(""), present());
    assert_eq!(inherited("[limits]\ninstances_max = 2")["web"].max, Some(2));
}

fn count() -> impl Strategy<Value = Value> {
    prop_oneof![Just(Value::Null), (0..14u32).prop_map(Value::from), (-2..2i64).prop_map(Value::from)]
}

fn body() -> impl Strategy<Value = Value> {
    let health = prop_oneof![Just(Value::Null), Just(json!("/h")), Just(json!({"path": "/h", "threshold": 1}))];
    let schedule = prop_oneof![Just(Value::Null), Just(json!("0 3 * * *")), Just(json!("0 0 30 2 *"))];
    let entry = prop_oneof![Just("http"), Just("events"), Just("command")].prop_map(Value::from);
    let keys = (
        proptest::option::of(count()),
        proptest::option::of(count()),
        proptest::option::of(health),
        proptest::option::of(schedule),
        proptest::option::of(entry),
        proptest::option::of(prop_oneof![Just(Value::Null), Just(json!("Europe/Berlin"))]),
        proptest::option::of(prop_oneof![Just(Value::Null), Just(json!({"attempts": 3}))]),
    );
    keys.prop_map(|(min, max, health, schedule, entry, zone, retry)| {
        let keys = [
            ("min", min),
            ("max", max),
            ("health", health),
            ("schedule", schedule),
            ("entry", entry),
            ("time_zone", zone),
            ("retry", retry),
        ];
        let specified = keys.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value)));
        Value::Object(specified.collect())
    })
}

#[derive(Debug, Clone)]
enum Step {
    Create(Value),
    Update(Value),
    Remove(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop_oneof![Just("web"), Just("worker"), Just("job"), Just("nightly")];
    prop_oneof![
        (name(), body()).prop_map(|(name, mut body)| {
            body["name"] = json!(name);
            Step::Create(body)
        }),
        (name(), body()).prop_map(|(name, body)| Step::Update(json!({ name: body }))),
        name().prop_map(Step::Remove),
    ]
}

fn take(present: &Formation, step: &Step, limits: &Limits) -> Result<Formation, FormationError> {
    match step {
        Step::Create(body) => formation::create(present, &NewProcess::from_json(body)?, limits, ALL),
        Step::Update(body) => formation::update(present, &FormationChange::from_json(body)?, limits),
        Step::Remove(process) => formation::remove(present, &name(process)),
    }
}

proptest! {
    #[test]
    fn any_sequence_of_changes_gives_a_formation_that_reads_back(
        steps in proptest::collection::vec(step(), 0..20), specified in proptest::collection::vec(step(), 0..6),
        instances_max in 1..12u32,
    ) {
        let limits = Limits::default();
        let run = |steps: &[Step]| {
            steps.iter().fold(present(), |formation, step| take(&formation, step, &limits).unwrap_or(formation))
        };
        let (one, mut other) = (run(&steps), run(&specified));
        prop_assert!(!one.is_empty());
        prop_assert_eq!(formation::check(&one, &limits, ALL), Ok(()));
        let lower = Limits { instances_max, ..Limits::default() };
        for process in other.values_mut() {
            process.min = process.min.map(|min| min.min(instances_max));
            process.max = process.max.map(|max| max.min(instances_max));
        }
        let inherited = formation::inherit(&other, &one, &lower);
        prop_assert_eq!(formation::check(&inherited, &lower, ALL), Ok(()));
        let manifest = Manifest { processes: inherited, limits: lower, ..Manifest::new("a".parse().expect("valid")) };
        prop_assert_eq!(Manifest::parse(&manifest.to_toml()).expect("it reads back"), manifest);
    }

    #[test]
    fn no_body_makes_the_parser_panic(key in "[a-z]{1,6}", inner in "[a-z]{1,8}", text in any::<String>()) {
        for value in [json!({&inner: text}), json!([text]), json!(text), json!({&inner: {&key: text}})] {
            let _ = FormationChange::from_json(&json!({&key: value}));
            let _ = NewProcess::from_json(&json!({"name": key, "entry": "http", &inner: value}));
        }
    }
}
