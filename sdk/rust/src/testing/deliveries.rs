//! Delivers events to handlers under test, as the host does: in transactions, with retries and
//! crashes. Never stores an event; `native::queue` does.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::{DeadLetter, TestHost, block_on};
use crate::Result;
use crate::events::{Event, EventError, NewEvent, Reply};
use crate::native::{self, Crash};

/// Deliveries in one run after which the test fails, since its handler sends itself events without
/// end.
const DELIVERIES_MAX: u32 = 10_000;

/// The outcome of one delivery.
#[derive(Debug)]
pub enum Delivery {
    /// The handler succeeded, and its changes were committed.
    Done(Option<Reply>),
    /// The handler failed, and its changes were discarded.
    Failed(EventError),
    /// The host crashed, as [`TestHost::crash_after`] requested.
    Crashed {
        /// Whether the changes were committed before.
        committed: bool,
    },
}

impl Delivery {
    /// Returns the handler's reply.
    ///
    /// If the handler did not succeed.
    #[expect(clippy::panic, reason = "a test fails by a panic")]
    pub fn reply(self) -> Option<Reply> {
        match self {
            Self::Done(reply) => reply,
            Self::Failed(error) => panic!("the handler failed: {error}"),
            Self::Crashed { .. } => panic!("the host crashed during the delivery"),
        }
    }

    /// Returns the handler's failure.
    ///
    /// If the handler did not fail.
    #[expect(clippy::panic, reason = "a test fails by a panic")]
    pub fn failure(self) -> EventError {
        match self {
            Self::Failed(error) => error,
            other => panic!("the handler did not fail: {other:?}"),
        }
    }

    /// Returns whether the host crashed.
    pub fn is_crash(&self) -> bool {
        matches!(self, Self::Crashed { .. })
    }
}

impl TestHost {
    /// Delivers one event to a handler, in a transaction: if the handler succeeds, the values that
    /// it set and the events that it sent are committed; otherwise they are discarded.
    ///
    /// ```
    /// use isopod_sdk::prelude::*;
    /// use isopod_sdk::testing::TestHost;
    ///
    /// async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    ///     kv::open("default")?.increment("orders", 1)?;
    ///     events::emit(NewEvent::new("invoice").with_subject(event.subject()?))?;
    ///     Ok(None)
    /// }
    ///
    /// let host = TestHost::new();
    /// let refused = host.deliver(Event::new("order"), on_event).failure();
    /// assert_eq!(refused.to_string(), "the event has no subject");
    /// assert_eq!(kv::open("default").unwrap().get("orders").unwrap(), None);
    ///
    /// host.deliver(Event::new("order").with_subject("u1"), on_event).reply();
    /// assert_eq!(kv::open("default").unwrap().get_text("orders").unwrap().as_deref(), Some("1"));
    /// assert_eq!(host.emitted()[0].kind, "invoice");
    /// ```
    pub fn deliver<F>(&self, event: Event, handler: impl Fn(Event) -> F) -> Delivery
    where
        F: Future<Output = Result<Option<Reply>, EventError>>,
    {
        let delivery = loop {
            match deliver_once(&event, &handler) {
                Some(delivery) => break delivery,
                None => continue,
            }
        };
        native::with(|world| world.queue.crash_after = None);
        delivery
    }

    /// Delivers one event to a hook, in a transaction as [`TestHost::deliver`] does.
    pub fn deliver_to_hook<F>(&self, event: Event, hook: impl Fn(Event) -> F) -> Delivery
    where
        F: Future<Output = Result<(), EventError>>,
    {
        self.deliver(event, |event| crate::plugin::__handle(hook(event)))
    }

    /// Stores an event, as a sender outside of the app does, and returns its id. [`TestHost::run`]
    /// delivers it.
    pub fn send(&self, event: NewEvent) -> String {
        native::with(|world| world.send(event))
    }

    /// Delivers the stored events that are due, those of [`TestHost::send`] and those that handlers
    /// have sent to their own app, until none is due. Returns the number of deliveries.
    ///
    /// An event is delivered again by the retry policy if its handler fails, and immediately if the
    /// host crashes. Attempts are counted. Events are delivered one at a time in the order in which
    /// they are due. Events for other apps are only collected.
    ///
    /// ```
    /// use isopod_sdk::prelude::*;
    /// use isopod_sdk::testing::TestHost;
    /// use std::time::Duration;
    ///
    /// async fn flaky(event: Event) -> Result<Option<Reply>, EventError> {
    ///     kv::open("default")?.increment("handled", 1)?;
    ///     if event.attempt < 3 { Err("not yet")? } else { Ok(None) }
    /// }
    ///
    /// let host = TestHost::new();
    /// host.send(NewEvent::new("order"));
    /// assert_eq!(host.run(flaky), 1);
    /// while host.advance_to_next_event() {
    ///     host.run(flaky);
    /// }
    /// assert_eq!(kv::open("default").unwrap().get_text("handled").unwrap().as_deref(), Some("1"));
    /// ```
    pub fn run<F>(&self, handler: impl Fn(Event) -> F) -> u32
    where
        F: Future<Output = Result<Option<Reply>, EventError>>,
    {
        let mut deliveries = 0;
        while let Some(claimed) = native::with(|world| world.claim()) {
            deliveries += 1;
            assert!(deliveries <= DELIVERIES_MAX, "{DELIVERIES_MAX} deliveries, and events are still due");
            match self.deliver(claimed.event.clone(), &handler) {
                Delivery::Done(_) | Delivery::Crashed { committed: true } => {}
                Delivery::Failed(error) => native::with(|world| world.put_back(claimed, Some(&error))),
                Delivery::Crashed { committed: false } => native::with(|world| world.put_back(claimed, None)),
            }
        }
        deliveries
    }

    /// Advances the clock to the time at which the next stored event is due. Returns false if no
    /// event is stored.
    pub fn advance_to_next_event(&self) -> bool {
        native::with(|world| {
            let due = world.next_due();
            world.now = due.map_or(world.now, |due| due.max(world.now));
            due.is_some()
        })
    }

    /// Makes the host crash in the next delivery, after this number of steps. Each call of a
    /// handler to the host is a step, and so is the commit. After the crash, the state is that
    /// which the real host would have on its disk, and the host starts again immediately.
    ///
    /// ```
    /// use isopod_sdk::prelude::*;
    /// use isopod_sdk::testing::TestHost;
    ///
    /// async fn on_event(event: Event) -> Result<Option<Reply>, EventError> {
    ///     let bucket = kv::open("default")?;
    ///     bucket.increment("events", 1)?;
    ///     bucket.set("last", &event.id)?;
    ///     Ok(None)
    /// }
    ///
    /// for step in 0..=3 {
    ///     let host = TestHost::new();
    ///     host.send(NewEvent::new("order"));
    ///     host.crash_after(step);
    ///     host.run(on_event);
    ///     let counted = kv::open("default").unwrap().get_text("events").unwrap();
    ///     assert_eq!(counted.as_deref(), Some("1"), "after step {step}");
    /// }
    /// ```
    pub fn crash_after(&self, step: u32) {
        native::with(|world| world.queue.crash_after = Some(step));
    }

    /// Makes the commit of the next delivery conflict with `change`, which stands for the changes
    /// of another handler. The handler then runs again.
    ///
    /// A handler that the test calls directly has no transaction, like a handler of requests or of
    /// events with a reply. `change` then happens immediately before the handler's next write. A
    /// handler that reads a value and later sets it overwrites the change; `update` and `increment`
    /// don't.
    ///
    /// ```
    /// use isopod_sdk::prelude::*;
    /// use isopod_sdk::testing::{TestHost, answer};
    ///
    /// async fn count(_: Request) -> Result<Response> {
    ///     Ok(Response::text(kv::open("default")?.increment("visitors", 1)?.to_string()))
    /// }
    ///
    /// let host = TestHost::new();
    /// host.conflict(|| drop(answer(count(Request::get("/")))));
    /// assert_eq!(answer(count(Request::get("/"))).body_text().unwrap(), "2");
    /// ```
    pub fn conflict(&self, change: impl FnOnce() + 'static) {
        native::with(|world| world.queue.conflict = Some(Box::new(change)));
    }

    /// Sets the retry policy: the number of attempts, and the first and the largest delay between
    /// them. The delay doubles with each attempt. By default 10 attempts, 1 s and 1 h.
    pub fn set_retry(&self, attempts: u32, first: Duration, max: Duration) {
        native::with(|world| world.queue.retry = (attempts, first, max));
    }

    /// Grants sending events to another app.
    pub fn grant_events(&self, app: &str) {
        native::with(|world| world.queue.granted.insert(app.to_owned()));
    }

    /// Defines the replies to the events that handlers send with `events::ask`.
    pub fn on_ask(&self, answer: impl Fn(NewEvent) -> Result<Option<Reply>> + 'static) {
        native::with(|world| world.queue.answers = Some(std::rc::Rc::new(answer)));
    }

    /// Returns the events that handlers have sent so far, to this app and to others.
    pub fn emitted(&self) -> Vec<NewEvent> {
        native::with(|world| world.queue.emitted.clone())
    }

    /// Returns the stored events that have not ended, each with the number of its attempts so far.
    pub fn waiting(&self) -> Vec<Event> {
        native::with(|world| world.queue.waiting.iter().map(|queued| queued.event.clone()).collect())
    }

    /// Returns the dead letters: events that have failed without a further attempt.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        native::with(|world| world.queue.dead.clone())
    }
}

/// Runs a handler once, and ends its transaction. Returns `None` after a conflict.
fn deliver_once<F>(event: &Event, handler: &impl Fn(Event) -> F) -> Option<Delivery>
where
    F: Future<Output = Result<Option<Reply>, EventError>>,
{
    let roll_back = || native::with(|world| world.roll_back());
    if native::with(|world| world.begin()) {
        roll_back();
        return Some(Delivery::Crashed { committed: false });
    }
    let handled = match catch_unwind(AssertUnwindSafe(|| block_on(handler(event.clone())))) {
        Ok(handled) => handled,
        Err(payload) => {
            roll_back();
            // A panic of the handler fails the test.
            return if payload.is::<Crash>() {
                Some(Delivery::Crashed { committed: false })
            } else {
                resume_unwind(payload)
            };
        }
    };
    match handled {
        Err(failure) => {
            roll_back();
            Some(Delivery::Failed(failure))
        }
        Ok(reply) => {
            if let Some(change) = native::with(|world| world.queue.conflict.take()) {
                roll_back();
                change();
                return None;
            }
            let crashed = native::with(|world| world.commit());
            Some(if crashed { Delivery::Crashed { committed: true } } else { Delivery::Done(reply) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// Reads, writes, sends and requests: five host calls, then the commit.
    async fn pay(event: Event) -> Result<Option<Reply>, EventError> {
        let bucket = kv::open("default")?;
        let paid: u32 = bucket.get_json("paid")?.unwrap_or(0);
        bucket.set_json("paid", &(paid + 1))?;
        fetch(Request::post("https://pay.example/").with_header("idempotency-key", event.idempotency_key())).await?;
        events::emit(NewEvent::new("receipt").with_subject("u1"))?;
        bucket.set("attempt", event.attempt.to_string())?;
        Ok(None)
    }

    fn text(key: &str) -> Option<String> {
        kv::open("default").unwrap().get_text(key).unwrap()
    }

    #[test]
    fn state_is_exact_and_requests_repeat_whatever_step_the_host_crashes_after() {
        const STEPS: u32 = 6;
        for step in 0..=STEPS + 1 {
            let host = TestHost::new();
            let keys = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
            let requested = keys.clone();
            host.on_fetch(move |request| {
                requested.borrow_mut().push(request.headers.get("idempotency-key").unwrap().to_owned());
                Ok(Response::new(204))
            });
            host.send(NewEvent::new("order"));
            host.crash_after(step);
            let pay_orders =
                |event: Event| async move { if event.kind == "order" { pay(event).await } else { Ok(None) } };
            host.run(pay_orders);
            let crashed_before_commit = step < STEPS;
            assert_eq!(text("paid").as_deref(), Some("1"), "crash after step {step}");
            assert_eq!(text("attempt").as_deref(), Some(if crashed_before_commit { "2" } else { "1" }), "{step}");
            assert_eq!((host.emitted().len(), host.waiting().len()), (1, 0), "{step}");
            let keys = keys.borrow();
            assert_eq!(keys.len(), if (3..STEPS).contains(&step) { 2 } else { 1 }, "{step}");
            assert!(keys.iter().all(|key| *key == keys[0]));
        }
    }

    #[test]
    fn a_failed_delivery_changes_nothing_and_is_repeated_by_the_policy() {
        async fn fails(_: Event) -> Result<Option<Reply>, EventError> {
            kv::open("default")?.set("k", "v")?;
            events::emit(NewEvent::new("more"))?;
            Err("out of luck")?
        }
        let host = TestHost::new();
        host.set_retry(3, Duration::from_secs(2), Duration::from_secs(3));
        host.send(NewEvent::new("order"));
        let began = host.now();
        assert_eq!(host.run(fails), 1);
        let mut deliveries = 1;
        while host.advance_to_next_event() {
            deliveries += host.run(fails);
        }
        assert_eq!((deliveries, host.now().duration_since(began).unwrap()), (3, Duration::from_secs(2 + 3)));
        let dead = host.dead_letters();
        assert_eq!((dead[0].event.attempt, dead[0].error.as_str()), (3, "out of luck"));
        assert_eq!((text("k"), host.emitted().len(), host.waiting().len()), (None, 0, 0));
    }

    #[test]
    fn a_write_outside_of_a_delivery_conflicts_with_a_change() {
        let host = TestHost::new();
        let bucket = kv::open("default").unwrap();
        let conflict = |key| host.conflict(move || kv::open("default").unwrap().set(key, "10").unwrap());
        conflict("set");
        let read: u32 = bucket.get_json("set").unwrap().unwrap_or(0);
        bucket.set_json("set", &(read + 1)).unwrap();
        conflict("incremented");
        bucket.increment("incremented", 1).unwrap();
        conflict("updated");
        bucket.update_json("updated", |old: Option<u32>| old.unwrap_or(0) + 1).unwrap();
        conflict("deleted");
        bucket.delete("deleted").unwrap();
        let texts = ["set", "incremented", "updated", "deleted"].map(text);
        assert_eq!(texts.each_ref().map(Option::as_deref), [Some("1"), Some("11"), Some("11"), None]);
    }

    #[test]
    fn a_snoozed_delivery_is_not_counted() {
        async fn snoozes(event: Event) -> Result<Option<Reply>, EventError> {
            let seen = kv::open("default")?.increment("never committed", 1)?;
            assert_eq!((seen, event.attempt), (1, 1));
            Err(EventError::snooze("too early", Duration::from_secs(60)))
        }
        let host = TestHost::new();
        host.set_retry(1, Duration::from_secs(1), Duration::from_secs(1));
        host.send(NewEvent::new("order").with_expiry(Duration::from_secs(200)));
        let mut deliveries = host.run(snoozes);
        while host.advance_to_next_event() {
            deliveries += host.run(snoozes);
        }
        assert_eq!((deliveries, host.dead_letters().len()), (4, 0), "at 0, 60, 120 and 180 s; then it has expired");
    }

    #[test]
    fn a_conflict_runs_the_handler_again_with_the_new_values() {
        async fn adds(event: Event) -> Result<Option<Reply>, EventError> {
            Ok(Some(Reply::text(format!("{} {}", kv::open("default")?.increment("n", 1)?, event.attempt))))
        }
        let host = TestHost::new();
        host.conflict(|| kv::open("default").unwrap().set("n", "10").unwrap());
        assert_eq!(host.deliver(Event::new("x"), adds).reply(), Some(Reply::text("11 1")));
        assert_eq!(text("n").as_deref(), Some("11"));
    }

    #[test]
    fn an_event_with_the_same_id_is_stored_once() {
        let host = TestHost::new();
        for _ in 0..2 {
            host.send(NewEvent::new("order").with_id("7"));
            events::emit(NewEvent::new("order").with_id("8").with_delay(Duration::from_secs(5))).unwrap();
        }
        let handled = async |_: Event| Ok(None);
        assert_eq!((host.run(handled), host.waiting().len()), (1, 1));
        host.advance(Duration::from_secs(5));
        assert_eq!((host.run(handled), host.waiting().len()), (1, 0));
    }

    #[test]
    fn events_to_another_app_need_a_grant() {
        let host = TestHost::new();
        let refused = events::emit(NewEvent::new("bill").to_app("billing")).unwrap_err();
        assert!(refused.to_string().contains("events = [\"billing\"]"), "{refused}");
        host.grant_events("billing");
        events::emit(NewEvent::new("bill").to_app("billing")).unwrap();
        assert_eq!((host.emitted().len(), host.waiting().len()), (1, 0));
    }

    #[test]
    fn several_apps_receive_an_event_with_the_same_id() {
        let host = TestHost::new();
        let targets = ["billing", "crm"];
        targets.iter().for_each(|app| host.grant_events(app));
        let passes_on = async |event: Event| {
            let same = || NewEvent::new("order").with_id(&event.id).with_source(&event.source);
            for app in targets {
                events::emit(same().to_app(app))?;
                events::emit(same().with_id("8").to_app(app))?;
            }
            events::emit(same().with_id("8"))?;
            Ok(None)
        };
        host.deliver(Event::new("order"), passes_on).reply();
        let emitted = host.emitted();
        let of = |app: Option<&str>| emitted.iter().filter(|event| event.app.as_deref() == app).count();
        assert_eq!((of(Some("billing")), of(Some("crm")), of(None), host.waiting().len()), (2, 2, 1, 1));
    }

    #[test]
    fn a_delay_that_the_host_refuses_is_refused() {
        let host = TestHost::new();
        let (day, event) = (Duration::from_secs(24 * 3_600), || NewEvent::new("reminder"));
        events::emit(event().with_delay(365 * day).with_expiry(366 * day)).unwrap();
        for refused in [
            event().with_delay(Duration::MAX),
            event().with_expiry(367 * day),
            event().with_delay(2 * day).with_expiry(day),
        ] {
            assert!(events::emit(refused).unwrap_err().to_string().contains("delay"));
        }
        assert_eq!(host.emitted().len(), 1);
    }

    #[test]
    fn a_test_defines_the_replies_to_questions() {
        let host = TestHost::new();
        let ask = || block_on(events::ask(NewEvent::new("price"), Duration::from_secs(1)));
        assert!(ask().unwrap_err().to_string().contains("TestHost::on_ask"));
        host.on_ask(|event| Ok(Some(Reply::text(event.kind))));
        assert_eq!(ask().unwrap(), Some(Reply::text("price")));
    }

    #[test]
    #[should_panic(expected = "a bug of the handler")]
    fn a_panic_of_a_handler_fails_the_test() {
        let host = TestHost::new();
        host.deliver(Event::new("x"), async |_: Event| -> Result<Option<Reply>, EventError> {
            panic!("a bug of the handler")
        });
    }
}
