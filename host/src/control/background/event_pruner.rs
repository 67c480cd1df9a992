//! Cancels expired events that no delivery claims, deletes events that ended before the
//! deduplication window, and shrinks the databases afterwards. Opens only the databases of apps
//! that have events. Never deletes a dead letter, or an event that has not ended.

use std::{collections::HashSet, fmt::Display, sync::Arc, time::Duration};

use isopod_policy::AppName;
use isopod_store::EventSeq;
use jiff::{SignedDuration, Timestamp};

use crate::control::{
    AppRecord,
    app_table::AppTable,
    events::{Events, EventsError},
    failpoint, limits,
};

/// The pruner.
pub(in crate::control) struct Service {
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) events: Events,
}

/// The queues of all apps, and the time.
trait Queues {
    type Error: Display;
    /// Finds the apps that have events of earlier runs of the host.
    async fn find_kept(&self) -> Result<(), Self::Error>;
    /// Takes the apps with events.
    fn take(&self) -> HashSet<AppName>;
    /// Puts an app back.
    fn put_back(&self, app: &AppName);
    /// Cancels expired events of an app in one step. Returns the position after which the next step
    /// continues.
    async fn expire(&self, app: &AppName, after: Option<EventSeq>) -> Result<Option<EventSeq>, Self::Error>;
    /// Deletes up to `most` events of an app that ended before a time. Returns their number.
    async fn prune(&self, app: &AppName, before: Timestamp, most: usize) -> Result<usize, Self::Error>;
    /// Shrinks an app's database in a short step. Returns whether it can shrink further.
    async fn shrink(&self, app: &AppName) -> Result<bool, Self::Error>;
    async fn pause(&self, pause: Duration);
    fn now(&self) -> Timestamp;
}

impl Service {
    /// Prunes one app after the other, at an interval, until the host shuts down. One scan finds
    /// the apps with events of earlier runs of the host.
    pub(in crate::control) async fn run(self) {
        let mut interval = tokio::time::interval(failpoint::interval("event-prune", limits::EVENT_PRUNE_INTERVAL));
        // The first tick is immediate. It is skipped, since a starting host has more urgent work.
        interval.tick().await;
        loop {
            interval.tick().await;
            round(&self).await;
        }
    }

    /// Returns an app, unless it was destroyed.
    fn app(&self, name: &AppName) -> Option<Arc<AppRecord>> {
        self.app_table.app(name).ok()
    }
}

impl Queues for Service {
    type Error = EventsError;

    async fn find_kept(&self) -> Result<(), EventsError> {
        self.events.find_kept().await
    }

    fn take(&self) -> HashSet<AppName> {
        self.events.take_prunable()
    }

    fn put_back(&self, app: &AppName) {
        if let Some(app) = self.app(app) {
            self.events.prune_again(&app);
        }
    }

    async fn expire(&self, app: &AppName, after: Option<EventSeq>) -> Result<Option<EventSeq>, EventsError> {
        let Some(app) = self.app(app) else { return Ok(None) };
        self.events.expire(&app, after).await
    }

    async fn prune(&self, app: &AppName, before: Timestamp, most: usize) -> Result<usize, EventsError> {
        let Some(app) = self.app(app) else { return Ok(0) };
        self.events.prune(&app, before, most).await
    }

    async fn shrink(&self, app: &AppName) -> Result<bool, EventsError> {
        let Some(app) = self.app(app) else { return Ok(false) };
        self.events.shrink(&app).await
    }

    async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Prunes each app. The failure of one app doesn't affect the others.
async fn round<Q: Queues>(queues: &Q) {
    if let Err(error) = queues.find_kept().await {
        tracing::warn!(%error, "the apps with events that have ended could not be found");
    }
    for app in queues.take() {
        if let Err(error) = prune(queues, &app).await {
            tracing::warn!(%app, %error, "the app's events could not be pruned; the next round tries again");
            queues.put_back(&app);
        }
    }
}

/// Prunes an app in small steps, so that other changes of its database can run in between.
async fn prune<Q: Queues>(queues: &Q, app: &AppName) -> Result<(), Q::Error> {
    let mut after = queues.expire(app, None).await?;
    while after.is_some() {
        queues.pause(limits::EVENT_PRUNE_PAUSE).await;
        after = queues.expire(app, after).await?;
    }
    let window = SignedDuration::try_from(isopod_store::limits::DEDUPLICATION_WINDOW).unwrap_or_default();
    let before = queues.now().saturating_sub(window).unwrap_or(Timestamp::MIN);
    while queues.prune(app, before, limits::EVENTS_PRUNED_PER_STEP).await? == limits::EVENTS_PRUNED_PER_STEP {
        queues.pause(limits::EVENT_PRUNE_PAUSE).await;
    }
    for _ in 0..limits::SHRINK_STEPS_MAX {
        if !queues.shrink(app).await? {
            return Ok(());
        }
        queues.pause(limits::SHRINK_PAUSE).await;
    }
    queues.put_back(app);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
    };

    use super::*;

    /// An app's queue: ended events by their age in seconds, and steps that shrink its database.
    #[derive(Default)]
    struct Queue {
        ended: Vec<i64>,
        shrinks: usize,
        fails: bool,
    }

    #[derive(Default)]
    struct Fake {
        queues: RefCell<BTreeMap<AppName, Queue>>,
        taken: RefCell<HashSet<AppName>>,
        is_scan_failing: bool,
        expiry_steps: Cell<i64>,
        pauses: RefCell<Vec<Duration>>,
    }

    fn name(text: &str) -> AppName {
        text.parse().unwrap()
    }

    impl Fake {
        fn with(queues: impl IntoIterator<Item = (&'static str, Queue)>) -> Self {
            let queues: BTreeMap<_, _> = queues.into_iter().map(|(app, queue)| (name(app), queue)).collect();
            let taken = RefCell::new(queues.keys().cloned().collect());
            Self { queues: RefCell::new(queues), taken, ..Self::default() }
        }

        fn ended(&self, app: &str) -> usize {
            self.queues.borrow()[&name(app)].ended.len()
        }

        fn pauses(&self, of: Duration) -> usize {
            self.pauses.borrow().iter().filter(|pause| **pause == of).count()
        }

        fn is_put_back(&self, app: &str) -> bool {
            self.taken.borrow().contains(&name(app))
        }
    }

    impl Queues for Fake {
        type Error = String;

        async fn find_kept(&self) -> Result<(), String> {
            if self.is_scan_failing { Err("no scan".to_owned()) } else { Ok(()) }
        }

        fn take(&self) -> HashSet<AppName> {
            self.taken.take()
        }

        fn put_back(&self, app: &AppName) {
            self.taken.borrow_mut().insert(app.clone());
        }

        async fn expire(&self, _: &AppName, after: Option<EventSeq>) -> Result<Option<EventSeq>, String> {
            let step = after.map_or(0, |seq| seq.0) + 1;
            self.expiry_steps.set(self.expiry_steps.get() + 1);
            Ok((step < EXPIRY_STEPS).then_some(EventSeq(step)))
        }

        async fn prune(&self, app: &AppName, before: Timestamp, most: usize) -> Result<usize, String> {
            let (mut queues, age) = (self.queues.borrow_mut(), self.now().as_second() - before.as_second());
            let queue = queues.get_mut(app).unwrap();
            if queue.fails {
                return Err("no disk".to_owned());
            }
            let mut removed = 0;
            queue.ended.retain(|ended| {
                let is_old = *ended > age && removed < most;
                removed += usize::from(is_old);
                !is_old
            });
            Ok(removed)
        }

        async fn shrink(&self, app: &AppName) -> Result<bool, String> {
            let mut queues = self.queues.borrow_mut();
            let queue = queues.get_mut(app).unwrap();
            queue.shrinks = queue.shrinks.saturating_sub(1);
            Ok(queue.shrinks > 0)
        }

        async fn pause(&self, pause: Duration) {
            self.pauses.borrow_mut().push(pause);
        }

        fn now(&self) -> Timestamp {
            Timestamp::from_second(1_800_000_000).unwrap()
        }
    }

    const DAY: i64 = 24 * 3_600;
    const EXPIRY_STEPS: i64 = 3;

    #[tokio::test]
    async fn events_before_the_window_are_removed_in_steps() {
        let steps = 3;
        let old = steps * limits::EVENTS_PRUNED_PER_STEP + 7;
        let ended = std::iter::repeat_n(DAY + 1, old).chain([DAY - 1, 0]).collect();
        let fake = Fake::with([("shop", Queue { ended, ..Queue::default() })]);
        round(&fake).await;
        let expiry_steps = fake.expiry_steps.get();
        assert_eq!(expiry_steps, EXPIRY_STEPS);
        let pauses = steps + usize::try_from(expiry_steps - 1).unwrap();
        assert_eq!((fake.ended("shop"), fake.pauses(limits::EVENT_PRUNE_PAUSE)), (2, pauses));
        assert!(!fake.is_put_back("shop"));
    }

    #[tokio::test]
    async fn a_failing_app_or_scan_does_not_affect_other_apps() {
        let old = || Queue { ended: vec![2 * DAY], ..Queue::default() };
        let mut fake = Fake::with([("a", old()), ("b", Queue { fails: true, ..old() }), ("c", old())]);
        fake.is_scan_failing = true;
        round(&fake).await;
        assert_eq!(["a", "b", "c"].map(|app| fake.ended(app)), [0, 1, 0]);
        assert_eq!(["a", "b", "c"].map(|app| fake.is_put_back(app)), [false, true, false]);
        fake.queues.borrow_mut().get_mut(&name("b")).unwrap().fails = false;
        round(&fake).await;
        assert_eq!(fake.ended("b"), 0, "the next round tries again");
    }

    #[tokio::test]
    async fn the_file_shrinks_in_bounded_steps_after_pruning() {
        let shrinks = limits::SHRINK_STEPS_MAX + 5;
        let fake = Fake::with([
            ("large", Queue { ended: vec![2 * DAY], shrinks, ..Queue::default() }),
            ("other", Queue { ended: vec![2 * DAY], ..Queue::default() }),
        ]);
        round(&fake).await;
        assert_eq!(["large", "other"].map(|app| fake.ended(app)), [0, 0]);
        assert_eq!(fake.pauses(limits::SHRINK_PAUSE), limits::SHRINK_STEPS_MAX);
        assert_eq!(["large", "other"].map(|app| fake.is_put_back(app)), [true, false]);
        round(&fake).await;
        assert_eq!(fake.queues.borrow()[&name("large")].shrinks, 0);
        assert!(!fake.is_put_back("large"));
    }
}
