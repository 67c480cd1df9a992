//! Tests event deliveries with real components: transactions, the events that handlers send, and
//! how handlers fail. `cargo xtask guests outbox probe-events` builds the components.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by a panic")]

use async_trait::async_trait;
use http_body_util::Full;
use isopod_engine::{
    Committable, Effects, EmitError, EmittedEvent, Engine, EngineConfig, Event, EventFailure, EventSink, Fault,
    Handled, HttpOutcome, Instance, KeyValue, KeyWrite, KvError, Output, OutputLine, Program, Reply, RequestBody,
    Sandbox, Speed, ValueVersion, limits,
};
use isopod_policy::Grants;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// The data of one bucket, and the events that were sent.
#[derive(Default)]
struct World {
    data: Mutex<BTreeMap<String, Vec<u8>>>,
    sent: Mutex<Vec<EmittedEvent>>,
    asked: Mutex<Vec<(EmittedEvent, Duration)>>,
    log: Mutex<Vec<String>>,
}

impl World {
    fn put(&self, key: &str, value: &str) {
        self.data.lock().unwrap().insert(key.to_owned(), value.as_bytes().to_vec());
    }

    fn value(&self, key: &str) -> Option<String> {
        self.data.lock().unwrap().get(key).map(|value| String::from_utf8(value.clone()).unwrap())
    }

    fn version(&self, key: &str) -> ValueVersion {
        ValueVersion(self.data.lock().unwrap().get(key).map(|value| Sha256::digest(value).into()))
    }

    /// Commits effects as the embedder does. Returns false after a conflict.
    fn commit(&self, effects: Effects) -> bool {
        if effects.reads.iter().any(|read| self.version(&read.key) != read.version) {
            return false;
        }
        let mut data = self.data.lock().unwrap();
        for KeyWrite { key, value, .. } in effects.writes {
            match value {
                Some(value) => drop(data.insert(key, value)),
                None => drop(data.remove(&key)),
            }
        }
        self.sent.lock().unwrap().extend(effects.emitted);
        true
    }
}

#[async_trait]
impl KeyValue for World {
    async fn get(&self, _: &str, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.data.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, _: &str, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        self.data.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, _: &str, key: &str) -> Result<(), KvError> {
        self.data.lock().unwrap().remove(key);
        Ok(())
    }

    async fn exists(&self, _: &str, key: &str) -> Result<bool, KvError> {
        Ok(self.data.lock().unwrap().contains_key(key))
    }

    /// Pages are small, so that listings have several.
    async fn list_keys(&self, _: &str, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), KvError> {
        let data = self.data.lock().unwrap();
        let after = data.keys().filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor));
        let mut keys: Vec<String> = after.take(3).cloned().collect();
        let next = (keys.len() > 2).then(|| keys[1].clone());
        keys.truncate(2);
        Ok((keys, next))
    }

    async fn increment(&self, _: &str, key: &str, delta: i64) -> Result<i64, KvError> {
        let sum = self.value(key).map_or(0, |text| text.parse::<i64>().unwrap()) + delta;
        self.put(key, &sum.to_string());
        Ok(sum)
    }

    async fn get_versioned(&self, _: &str, key: &str) -> Result<(Option<Vec<u8>>, ValueVersion), KvError> {
        let value = self.data.lock().unwrap().get(key).cloned();
        Ok((value, self.version(key)))
    }

    async fn set_if(
        &self,
        _: &str,
        key: &str,
        seen: ValueVersion,
        value: Vec<u8>,
    ) -> Result<Result<(), ValueVersion>, KvError> {
        if self.version(key) != seen {
            return Ok(Err(self.version(key)));
        }
        self.data.lock().unwrap().insert(key.to_owned(), value);
        Ok(Ok(()))
    }

    fn check_entry(&self, _: &str, key: &str, _: &[u8]) -> Result<(), KvError> {
        if key.is_empty() { Err(KvError::Other("a key has at least 1 byte".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl EventSink for World {
    async fn check(&self, event: &EmittedEvent) -> Result<(), EmitError> {
        match event.event_type.as_str() {
            "" => Err(EmitError::Invalid("the event has no type".to_owned())),
            "full" => Err(EmitError::Full("the queue is full".to_owned())),
            _ => Ok(()),
        }
    }

    async fn emit(&self, event: EmittedEvent) -> Result<(), EmitError> {
        self.check(&event).await?;
        self.sent.lock().unwrap().push(event);
        Ok(())
    }

    async fn ask(&self, event: EmittedEvent, timeout: Duration) -> Result<Option<Reply>, EmitError> {
        let kind = event.event_type.clone();
        self.asked.lock().unwrap().push((event, timeout));
        match kind.as_str() {
            "never" => std::future::pending().await,
            // Another handler changes a key while the asking one runs.
            "changes" => {
                self.put("n", "changed");
                Ok(None)
            }
            "fails" => Err(EmitError::Failed("no stock".to_owned())),
            "long" => {
                let data = vec![b'x'; limits::HOST_CALL_BYTES_MAX + 1];
                Ok(Some(Reply { data_content_type: "text/plain".to_owned(), data }))
            }
            _ => Ok(Some(Reply { data_content_type: "text/plain".to_owned(), data: b"42".to_vec() })),
        }
    }
}

struct Log(Arc<World>);

impl Output for Log {
    fn line(&self, line: OutputLine<'_>) {
        self.0.log.lock().unwrap().push(line.text.to_owned());
    }
}

/// A component in a sandbox, and the world around it.
struct App {
    world: Arc<World>,
    program: Program,
}

impl App {
    async fn load(guest: &str, change: impl FnOnce(&mut Sandbox)) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/guests/{guest}.wasm"));
        let bytes = std::fs::read(&file)
            .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask guests {guest}` builds it", file.display()));
        let engine = Engine::new(EngineConfig { instances_max: 10, ..EngineConfig::default() }).unwrap();
        let component = engine.load(bytes.into(), Speed::Quick).await.unwrap();
        let world = Arc::new(World::default());
        let mut sandbox = Sandbox {
            grants: Grants { keyvalue: true, ..Grants::default() },
            keyvalue: Some(Arc::clone(&world) as Arc<dyn KeyValue>),
            events: Some(Arc::clone(&world) as Arc<dyn EventSink>),
            may_use_reserve: true,
            ..Sandbox::without_rights("outbox".to_owned(), Arc::new(Log(Arc::clone(&world))))
        };
        change(&mut sandbox);
        let program = engine.program(&component, sandbox).unwrap();
        Self { world, program }
    }

    async fn outbox() -> Self {
        Self::load("outbox", |_| ()).await
    }

    async fn instance(&self) -> Box<Instance> {
        self.program.start().await.unwrap()
    }

    /// Delivers an event with these steps in a transaction of a new instance.
    async fn deliver(&self, steps: Value) -> Result<Result<Committable, EventFailure>, Fault> {
        self.instance().await.event_in_transaction(event(steps), "r1").await.0
    }

    /// Delivers an event that succeeds. Returns the results of its steps, and its effects.
    async fn effects(&self, steps: Value) -> (Value, Effects) {
        let Committable { reply, effects } = self.deliver(steps).await.unwrap().unwrap();
        (serde_json::from_slice(&reply.unwrap().data).unwrap(), effects)
    }
}

fn event(steps: Value) -> Event {
    Event {
        id: "e1".to_owned(),
        source: "/test".to_owned(),
        event_type: "steps".to_owned(),
        data: Some(steps.to_string().into_bytes()),
        attempt: 1,
        ..Event::default()
    }
}

fn reads(effects: &Effects) -> Vec<&str> {
    effects.reads.iter().map(|read| read.key.as_str()).collect()
}

fn writes(effects: &Effects) -> Vec<(&str, Option<&str>)> {
    effects
        .writes
        .iter()
        .map(|write| (write.key.as_str(), write.value.as_deref().map(|value| std::str::from_utf8(value).unwrap())))
        .collect()
}

#[tokio::test]
async fn a_handler_sees_its_own_changes_and_the_store_sees_them_after_the_commit() {
    let app = App::outbox().await;
    app.world.put("old", "1");
    app.world.put("gone", "x");
    let (results, effects) = app
        .effects(json!([
            ["get", "old"],
            ["set", "old", "2"],
            ["get", "old"],
            ["increment", "old"],
            ["increment", "n"],
            ["delete", "gone"],
            ["exists", "gone"],
            ["append", "text", "a"],
            ["append", "text", "b"],
            ["get", "text"]
        ]))
        .await;
    assert_eq!(results, json!(["1", null, "2", 3, 1, null, false, "a", "ab", "ab"]));
    assert_eq!((app.world.value("old").as_deref(), app.world.value("n")), (Some("1"), None), "nothing is stored yet");
    assert_eq!(reads(&effects), ["n", "old", "text"], "a key that was only written isn't read");
    assert_eq!(writes(&effects), [("gone", None), ("n", Some("1")), ("old", Some("3")), ("text", Some("ab"))]);
    assert!(app.world.commit(effects));
    assert_eq!((app.world.value("old").as_deref(), app.world.value("gone")), (Some("3"), None));
}

#[tokio::test]
async fn a_listing_contains_the_changes_of_its_delivery() {
    let app = App::outbox().await;
    for key in ["b", "d", "f", "h", "j"] {
        app.world.put(key, "x");
    }
    let (results, _) = app
        .effects(json!([
            ["set", "a", "1"],
            ["set", "e", "1"],
            ["set", "z", "1"],
            ["set", "d", "2"],
            ["delete", "f"],
            ["delete", "z"],
            ["set", "zz", "1"],
            ["list"]
        ]))
        .await;
    assert_eq!(results[7], json!(["a", "b", "d", "e", "h", "j", "zz"]));
}

#[tokio::test]
async fn a_failure_discards_the_effects_and_the_instance_is_reused() {
    let app = App::outbox().await;
    let steps = |failure: Value| event(json!([["set", "k", "v"], ["emit", { "type": "more" }], failure]));
    let mut instance = app.instance().await;
    for (failure, expected) in [
        (json!(["fail", "permanent", "m"]), EventFailure::Permanent { message: "m".to_owned() }),
        (json!(["fail", "retry", "m"]), EventFailure::Retry { message: "m".to_owned() }),
        (
            json!(["fail", "retry-after", "m", 1_500]),
            EventFailure::RetryAfter { message: "m".to_owned(), after: Duration::from_millis(1_500) },
        ),
        (
            json!(["fail", "snooze", "m", 5_000_000_000_u64]),
            EventFailure::Snooze { message: "m".to_owned(), after: Duration::from_millis(5_000_000_000) },
        ),
    ] {
        let (handled, reused) = instance.event_in_transaction(steps(failure), "r1").await;
        assert_eq!(handled.unwrap().err(), Some(expected));
        instance = reused.expect("the instance can be reused");
    }
    let (handled, _) = instance.event_in_transaction(event(json!([["get", "k"]])), "r1").await;
    let Committable { reply, effects } = handled.unwrap().unwrap();
    assert_eq!((reply.unwrap().data, effects.emitted.len()), (b"[null]".to_vec(), 0));
    assert!(app.world.sent.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_trap_discards_the_effects() {
    let app = App::outbox().await;
    let trapped = app.deliver(json!([["set", "k", "v"], ["trap"]])).await;
    assert!(matches!(trapped, Err(Fault::Trap { .. })));
    assert_eq!(app.world.value("k"), None);
}

#[tokio::test]
async fn a_changed_key_is_a_conflict_and_the_handler_can_run_again() {
    let app = App::outbox().await;
    app.world.put("n", "1");
    let instance = app.instance().await;
    let (handled, instance) = instance.event_in_transaction(event(json!([["increment", "n"]])), "r1").await;
    app.world.put("n", "10");
    assert!(!app.world.commit(handled.unwrap().unwrap().effects));
    let again = instance.expect("it can be reused");
    let (handled, _) = again.event_in_transaction(event(json!([["increment", "n"]])), "r1").await;
    assert!(app.world.commit(handled.unwrap().unwrap().effects));
    assert_eq!(app.world.value("n").as_deref(), Some("11"));
}

#[tokio::test]
async fn a_key_that_changes_while_a_handler_runs_is_a_conflict() {
    for (steps, last) in [
        (json!([["get", "n"], ["ask", { "type": "changes" }], ["get", "n"]]), "changed"),
        // Compare-and-swap must not fail forever: the delivery runs again in any case.
        (json!([["get", "n"], ["ask", { "type": "changes" }], ["append", "n", "!"]]), "changed!"),
        (json!([["append", "n", "!"], ["ask", { "type": "changes" }], ["get", "n"]]), "old!"),
    ] {
        let app = App::outbox().await;
        app.world.put("n", "old");
        let (results, effects) = app.effects(steps.clone()).await;
        assert_eq!(results[2], last, "{steps}");
        assert!(!app.world.commit(effects), "{steps}");
        assert_eq!(app.world.value("n").as_deref(), Some("changed"));
    }
}

#[tokio::test]
async fn events_of_a_handler_are_effects_in_order() {
    let app = App::outbox().await;
    let (results, effects) = app
        .effects(json!([
            ["emit", { "type": "a", "id": "7", "subject": "u1", "delay_ms": 1_500, "expires_ms": 9_000,
                       "source": "/shop", "extensions": { "tenant": "t1" }, "steps": [["attempt"]] }],
            ["emit", { "type": "b" }],
            ["emit", { "type": "full" }],
            ["emit", { "type": "" }]
        ]))
        .await;
    assert_eq!(results[0], json!("7"));
    assert_eq!(results[1].as_str().unwrap().len(), 32, "a generated id: {results}");
    assert!(results[2]["error"].as_str().unwrap().contains("the queue is full"), "{results}");
    assert!(results[3]["error"].as_str().unwrap().contains("the event has no type"), "{results}");
    assert!(app.world.sent.lock().unwrap().is_empty());
    let expected = EmittedEvent {
        id: "7".to_owned(),
        source: Some("/shop".to_owned()),
        event_type: "a".to_owned(),
        subject: Some("u1".to_owned()),
        data_content_type: Some("application/json".to_owned()),
        data: Some(b"[[\"attempt\"]]".to_vec()),
        extensions: vec![("tenant".to_owned(), "t1".to_owned())],
        delay: Some(Duration::from_millis(1_500)),
        expires_after: Some(Duration::from_secs(9)),
        ..EmittedEvent::default()
    };
    assert_eq!(effects.emitted[0], expected);
    assert_eq!(effects.emitted[1].event_type, "b");
}

#[tokio::test]
async fn a_repeated_delivery_sends_events_with_the_same_ids() {
    let app = App::outbox().await;
    let ids = async |id: &str| {
        let event = Event { id: id.to_owned(), ..event(json!([["emit", {}], ["emit", {}]])) };
        let handled = app.instance().await.event_in_transaction(event, "r1").await.0;
        handled.unwrap().unwrap().effects.emitted.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    let first = ids("e1").await;
    assert_ne!(first[0], first[1]);
    assert_eq!(ids("e1").await, first);
    assert!(ids("e2").await.iter().all(|id| !first.contains(id)));
}

#[tokio::test]
async fn an_http_handler_writes_and_sends_immediately() {
    let app = App::outbox().await;
    let body = json!([["set", "k", "v"], ["emit", { "type": "a" }], ["fail", "retry", "m"]]).to_string();
    let request = http::Request::post("http://outbox.localhost/").body(RequestBody::Full(Full::from(body))).unwrap();
    let HttpOutcome { response, .. } = app.instance().await.http(request, "r1").await;
    drop(response);
    assert_eq!((app.world.value("k").as_deref(), app.world.sent.lock().unwrap().len()), (Some("v"), 1));
}

#[tokio::test]
async fn without_a_transaction_an_event_handler_writes_immediately() {
    let app = App::outbox().await;
    let steps = json!([["set", "k", "v"], ["emit", { "type": "a" }], ["fail", "retry", "m"]]);
    let (handled, _): (Result<Handled, Fault>, _) = app.instance().await.event(event(steps), "r1").await;
    assert!(handled.unwrap().is_err());
    assert_eq!((app.world.value("k").as_deref(), app.world.sent.lock().unwrap().len()), (Some("v"), 1));
}

#[tokio::test]
async fn events_to_another_app_need_a_grant() {
    let app = App::outbox().await;
    let steps = json!([["emit", { "app": "billing" }], ["ask", { "app": "billing" }], ["emit", { "app": "outbox" }]]);
    let (results, effects) = app.effects(steps.clone()).await;
    for refused in [&results[0], &results[1]] {
        let text = refused["error"].as_str().unwrap();
        assert!(text.contains("add \"billing\" to events under [grants] in isopod.toml"), "{text}");
    }
    assert_eq!(effects.emitted.len(), 1, "the app's own name needs no grant");
    assert!(app.world.log.lock().unwrap().iter().any(|line| line.contains("`billing` are not granted")));
    let granted = App::load("outbox", |sandbox| sandbox.grants.events = vec!["billing".parse().unwrap()]).await;
    let (results, effects) = granted.effects(steps).await;
    assert_eq!((&results[1], effects.emitted.len()), (&json!("42"), 2));
}

#[tokio::test]
async fn a_host_without_events_denies_them() {
    let app = App::load("outbox", |sandbox| sandbox.events = None).await;
    let (results, _) = app.effects(json!([["emit", {}], ["ask", {}]])).await;
    for refused in [&results[0], &results[1]] {
        assert!(refused["error"].as_str().unwrap().contains("this host takes no events"), "{refused}");
    }
}

#[tokio::test]
async fn a_question_is_delivered_immediately_and_its_reply_is_bounded() {
    let app = App::load("outbox", |sandbox| sandbox.limits.request_timeout = Duration::from_secs(20)).await;
    let (results, effects) = app
        .effects(json!([
            ["ask", { "type": "price", "subject": "u1" }, 500],
            ["ask", { "type": "price" }, 3_600_000],
            ["ask", { "type": "fails" }],
            ["ask", { "type": "never" }, 20],
            ["ask", { "type": "long" }],
            ["ask", { "type": "price", "delay_ms": 1 }]
        ]))
        .await;
    assert_eq!(results[0], json!("42"));
    for (index, expected) in [(2, "no stock"), (3, "did not reply within 20 ms"), (4, "the limit is"), (5, "no delay")]
    {
        let text = results[index]["error"].as_str().unwrap();
        assert!(text.contains(expected), "{text}");
    }
    let asked = app.world.asked.lock().unwrap();
    assert_eq!((asked[0].1, asked[1].1), (Duration::from_millis(500), Duration::from_secs(20)));
    assert_eq!((asked[0].0.subject.as_deref(), effects.emitted.len()), (Some("u1"), 0));
}

#[tokio::test]
async fn the_changes_of_a_delivery_are_bounded_and_charged() {
    let app = App::outbox().await;
    let too_many = limits::TRANSACTION_KEYS_MAX + 1;
    let (results, effects) = app.effects(json!([["fill", 9, 1 << 20], ["get", "fill-00000"], ["set", "k", "v"]])).await;
    let text = results[0]["error"].as_str().unwrap();
    assert!(text.contains("exceed 8 MiB: send further events for the rest"), "{text}");
    assert!(results[2].is_null(), "a small value still fits: {results}");
    assert_eq!(effects.writes.len(), 8);
    let (results, _) = app.effects(json!([["fill", too_many, 0], ["set", "", "v"]])).await;
    assert!(results[0]["error"].as_str().unwrap().contains("at most 10000 keys"), "{}", results[0]);
    assert!(results[1]["error"].as_str().unwrap().contains("at least 1 byte"), "{}", results[1]);
    let many: Vec<Value> = (0..=limits::EMITTED_EVENTS_MAX).map(|_| json!(["emit", {}])).collect();
    let (results, effects) = app.effects(json!(many)).await;
    assert_eq!(effects.emitted.len(), limits::EMITTED_EVENTS_MAX);
    assert!(results[limits::EMITTED_EVENTS_MAX]["error"].as_str().unwrap().contains("at most 1000 events"));
}

#[tokio::test]
async fn a_long_error_of_a_handler_is_truncated() {
    let app = App::outbox().await;
    let failure = app.deliver(json!([["fail", "long", "", 100_000]])).await.unwrap().err().unwrap();
    assert!(failure.message().len() <= limits::GUEST_ERROR_BYTES_MAX + "…".len());
}

#[tokio::test]
async fn a_component_of_the_former_event_interface_is_delivered_to() {
    let app = App::load("probe-events", |_| ()).await;
    assert!(app.program.info().entries.events);
    let kind = |kind: &str| Event { event_type: kind.to_owned(), ..event(json!("data")) };
    let mut instance = app.instance().await;
    for (event, expected) in [
        (kind("echo"), Ok(Some(Reply { data_content_type: "text/plain".to_owned(), data: b"\"data\"".to_vec() }))),
        (kind("permanent"), Err(EventFailure::Permanent { message: "refused".to_owned() })),
        (
            kind("retry"),
            Err(EventFailure::RetryAfter { message: "not yet".to_owned(), after: Duration::from_millis(1_500) }),
        ),
    ] {
        let (handled, reused) = instance.event_in_transaction(event, "r1").await;
        assert_eq!(handled.unwrap().map(|committable| committable.reply), expected);
        instance = reused.unwrap();
    }
}
