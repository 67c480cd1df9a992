//! Compares random sequences of operations on an app with a small model of their effects. Never
//! knows the host's implementation.
//!
//! ISOPOD_TEST_SEED=NUMBER repeats the sequences of the run that printed this number.

use isopod_tests::{Ask, Bundle, Host, Push};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The maximum number of sequences, and of operations in each.
const LIVES: u32 = 30;
const ACTS: usize = 12;
/// No new sequence starts after this time.
const TIME: Duration = Duration::from_secs(30);
const APP: &str = "shop";

/// An operation of a user on the app, or an event of its host.
#[derive(Debug, Clone)]
enum Act {
    Push(u8),
    PushBad,
    PushAndKill(u8),
    Config(Option<u8>),
    ConfigBad,
    Scale(u32, u32),
    Rollback(u64),
    Stop,
    Start,
    Type(&'static str),
    Kill,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => any::<u8>().prop_map(Act::Push),
        2 => Just(Act::PushBad),
        2 => any::<u8>().prop_map(Act::PushAndKill),
        3 => option::of(0..3u8).prop_map(Act::Config),
        1 => Just(Act::ConfigBad),
        2 => (0..3u32, 0..3u32).prop_map(|(min, more)| Act::Scale(min, (min + more).max(1))),
        3 => (1..6u64).prop_map(Act::Rollback),
        1 => Just(Act::Stop),
        2 => Just(Act::Start),
        1 => prop::sample::select(vec!["dev", "staging", "production"]).prop_map(Act::Type),
        1 => Just(Act::Kill),
        1 => Just(Act::Restart),
    ]
}

/// The content of a release, as far as the API shows it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Content {
    in_manifest: String,
    set: Option<String>,
    scale: Option<(u32, u32)>,
}

struct Model {
    app_type: &'static str,
    is_stopped: bool,
    set: Option<String>,
    /// In the order of their numbers; `None` for failed releases.
    releases: Vec<Option<Content>>,
    current: Option<u64>,
    /// How many entries of each kind the activity must have.
    reported: BTreeMap<&'static str, usize>,
}

impl Model {
    fn new() -> Self {
        let reported = BTreeMap::from([("app-created", 1)]);
        Self { app_type: "dev", is_stopped: false, set: None, releases: Vec::new(), current: None, reported }
    }

    fn present(&self) -> Option<Content> {
        self.current.and_then(|number| self.release(number)).cloned()
    }

    fn release(&self, number: u64) -> Option<&Content> {
        self.releases.get(usize::try_from(number).ok()?.checked_sub(1)?)?.as_ref()
    }

    fn runs(&self) -> bool {
        self.current.is_some() && !self.is_stopped
    }

    fn report(&mut self, kind: &'static str) {
        *self.reported.entry(kind).or_default() += 1;
    }

    fn serve(&mut self, content: Content) {
        self.set.clone_from(&content.set);
        self.releases.push(Some(content));
        self.current = Some(self.releases.len() as u64);
        self.report("app-deployed");
    }

    /// Returns the content of a release that a push with this text creates.
    fn pushed(&self, words: u8) -> Content {
        let scale = self.present().and_then(|present| present.scale);
        Content { in_manifest: words.to_string(), set: self.set.clone(), scale }
    }

    /// Creates a release that differs from the current release. Does nothing without a difference.
    fn change(&mut self, change: impl FnOnce(&mut Content)) {
        let Some(present) = self.present() else { return };
        let mut content = present.clone();
        change(&mut content);
        if content != present {
            self.serve(content);
        }
    }
}

fn bundle(words: u8) -> Bundle {
    Bundle::shape(&[("GREETING", &words.to_string())])
}

/// Applies the operation to the host and to the model, and checks the response.
fn walk_one(host: Host, model: &mut Model, act: &Act) -> Host {
    match act {
        Act::Push(words) => {
            let push = host.deploy(APP, bundle(*words));
            model.serve(model.pushed(*words));
            assert_eq!(push.release, model.current);
        }
        Act::PushBad => {
            host.deploy_failing(APP, &Bundle::shape(&[("HEALTH", "fails")]));
            model.releases.push(None);
            model.report("push-failed");
        }
        Act::PushAndKill(words) => return push_and_kill(host, model, *words),
        Act::Config(value) => {
            let set = value.map(|value| format!("set-{value}"));
            host.set_config(APP, &json!({ "GREETING": set })).expect(200);
            if model.current.is_none() && model.set != set {
                model.set = set;
                model.report("config-changed");
            } else {
                model.change(|content| content.set = set);
            }
        }
        Act::ConfigBad if model.current.is_some() => {
            host.set_config(APP, &json!({ "HEALTH": "fails", "GREETING": "bad" })).expect(422);
            model.releases.push(None);
            model.report("change-failed");
        }
        // Without a release, no health check can fail.
        Act::ConfigBad => {}
        Act::Scale(min, max) => {
            let answer = host.scale(APP, &json!({ "web": { "min": min, "max": max } }));
            answer.expect(if model.current.is_some() { 200 } else { 409 });
            model.change(|content| content.scale = Some((*min, *max)));
        }
        Act::Rollback(to) => roll_back(&host, model, *to),
        Act::Stop => {
            host.stop_app(APP);
            if model.runs() {
                model.report("app-stopped");
            }
            model.is_stopped = true;
        }
        Act::Start if model.current.is_some() => {
            host.start_app(APP);
            if !model.runs() {
                model.report("app-started");
            }
            model.is_stopped = false;
        }
        Act::Start => drop(host.api(Ask::post(format!("/v1/apps/{APP}/start"))).expect(409)),
        Act::Type(app_type) => {
            host.set_type(APP, app_type).expect(if model.runs() { 409 } else { 200 });
            if !model.runs() && model.app_type != *app_type {
                model.app_type = app_type;
                model.report("app-type");
            }
        }
        Act::Kill => return host.kill_and_restart(),
        Act::Restart => return host.restart(),
    }
    host
}

/// After a kill, the push has either completed or failed. The model adopts the result.
fn push_and_kill(host: Host, model: &mut Model, words: u8) -> Host {
    let push = host.push(APP, &bundle(words));
    let host = host.kill_and_restart();
    let ended = host.push_now(&push);
    let made = host.releases(APP).len() - model.releases.len();
    match ended.state.as_str() {
        "completed" => {
            assert_eq!(made, 1, "{ended:?}");
            model.serve(model.pushed(words));
            assert_eq!(ended.release, model.current);
        }
        "failed" => {
            assert!(made <= 1, "{ended:?}");
            model.releases.extend((0..made).map(|_| None));
            model.report("push-failed");
        }
        other => panic!("a push that was interrupted is {other}"),
    }
    host
}

fn roll_back(host: &Host, model: &mut Model, to: u64) {
    let answer = host.rollback(APP, to);
    match model.release(to).cloned() {
        _ if model.current.is_none() => drop(answer.expect(409)),
        None if to > model.releases.len() as u64 => drop(answer.expect(404)),
        None => drop(answer.expect(409)),
        Some(_) if model.current == Some(to) => drop(answer.expect(409)),
        Some(content) => {
            model.serve(content);
            assert_eq!(answer.expect(200).json()["release"].as_u64(), model.current);
        }
    }
}

/// Checks that the host's state equals the model's.
fn compare(host: &Host, model: &Model) {
    let answer = host.get(APP, "/");
    match model.present().filter(|_| model.runs()) {
        Some(content) => {
            let words = content.set.as_deref().unwrap_or(&content.in_manifest);
            let number = model.current.unwrap_or_default();
            assert_eq!(answer.expect(200).text(), format!("v{number} {words}"));
        }
        None => drop(answer.expect(503)),
    }
    assert_eq!(host.state(APP), if model.runs() { "running" } else { "stopped" });
    assert_eq!(host.current(APP), Vec::from_iter(model.current), "exactly one release is current");
    let set = model.set.as_ref().map_or(json!({}), |set| json!({ "GREETING": set }));
    assert_eq!(host.config(APP), set);
    let releases = host.releases(APP);
    assert_eq!(releases.len(), model.releases.len());
    for (release, (number, content)) in releases.iter().zip((1..).zip(&model.releases)) {
        let states: &[&str] = match content {
            _ if Some(number) == model.current => &["ready", "frozen"],
            Some(_) => &["retired"],
            None => &["deployment_error", "build_error"],
        };
        assert!(states.iter().any(|state| release["state"] == *state), "{release} has none of the states {states:?}");
    }
    if let Some((min, max)) = model.present().and_then(|content| content.scale) {
        let web = host.formation(APP)["web"].clone();
        assert_eq!((&web["min"], &web["max"]), (&json!(min), &json!(max)));
    }
    let pushes = host.api(Ask::get(format!("/v1/apps/{APP}/pushes?limit=1000"))).expect(200).json();
    let under_way = |push: &&Value| !Push::from((*push).clone()).is_final();
    assert_eq!(pushes["items"].as_array().and_then(|pushes| pushes.iter().find(under_way)), None);
    let activity = host.activity(APP);
    for (kind, times) in &model.reported {
        let found = activity.iter().filter(|entry| entry["kind"] == *kind).count();
        assert_eq!(found, *times, "number of {kind} entries: {activity:#?}");
    }
}

/// Returns a new seed for each run, or the given seed of an earlier run.
pub(crate) fn seeded() -> (u64, TestRng) {
    let given = std::env::var("ISOPOD_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed: u64 = given.unwrap_or_else(clock);
    println!("ISOPOD_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    (seed, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn an_app_always_matches_the_model_of_its_operations() {
    let (seed, rng) = seeded();
    let config = Config { cases: LIVES, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let begun = Instant::now();
    let walked = TestRunner::new_with_rng(config, rng).run(&vec(act(), 1..=ACTS), |acts| {
        if begun.elapsed() < TIME {
            let mut host = Host::start();
            let mut model = Model::new();
            host.create(APP, model.app_type);
            for act in &acts {
                host = walk_one(host, &mut model, act);
                compare(&host, &model);
            }
        }
        Ok(())
    });
    if let Err(failed) = walked {
        panic!("ISOPOD_TEST_SEED={seed}: {failed}");
    }
}
