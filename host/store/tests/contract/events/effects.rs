//! The effects of a handler, committed together with the outcome of its event.

use isopod_store::limits::EVENT_BATCH_BYTES_MAX;
use isopod_store::{
    Accepted, Effects, EventState, KeyRead, KeyWrite, NewEvent, Outcome, Settled, StoreError, ValueVersion,
};

use super::{Backend, COMMITTED, done, event, ordered};
use crate::{at, name};

fn write(key: &str, value: Option<&[u8]>) -> KeyWrite {
    KeyWrite { bucket: "b".to_owned(), key: key.to_owned(), value: value.map(<[u8]>::to_vec) }
}

fn with_effects(reads: Vec<KeyRead>, writes: Vec<KeyWrite>, emitted: Vec<NewEvent>) -> Outcome {
    Outcome::Done { effects: Effects { reads, writes, emitted } }
}

impl Backend<'_> {
    pub(super) async fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.kv.get(&name("bot"), "b", key).await.expect("it is read")
    }

    async fn set(&self, key: &str, value: &[u8]) {
        self.kv.set(&name("bot"), "b", key, value).await.expect("the key is set");
    }

    /// Reads a key as a handler does.
    async fn read(&self, key: &str) -> KeyRead {
        let (_, version) = self.kv.get_versioned(&name("bot"), "b", key).await.expect("it is read");
        KeyRead { bucket: "b".to_owned(), key: key.to_owned(), version }
    }
}

pub(super) async fn effects_and_acknowledgement_commit_together(backend: &Backend<'_>) {
    backend.set("old", b"x").await;
    backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(0).await;
    let reads = vec![backend.read("old").await, backend.read("none").await];
    let writes = vec![write("old", None), write("new", Some(b"1")), write("new", Some(b"2"))];
    let outcome = with_effects(reads, writes, vec![event("2")]);
    let settled = backend.queue.settle(&name("bot"), claim.lease, outcome, at(1)).await;
    assert_eq!(settled, Ok(Settled::Committed { has_emitted: true }));
    assert_eq!((backend.value("old").await, backend.value("new").await), (None, Some(b"2".to_vec())));
    assert_eq!((backend.state("1").await, backend.state("2").await), (EventState::Done, EventState::Ready));
    assert_eq!(backend.claimed_ids(1).await, ["2"]);
}

pub(super) async fn a_changed_key_is_a_conflict_that_writes_nothing(backend: &Backend<'_>) {
    backend.set("count", b"1").await;
    backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(0).await;
    let count = |read| with_effects(vec![read], vec![write("count", Some(b"2"))], vec![event("2")]);
    let read = backend.read("count").await;
    backend.set("count", b"5").await;
    let settled = backend.queue.settle(&name("bot"), claim.lease, count(read), at(1)).await;
    assert_eq!(settled, Ok(Settled::Conflict));
    assert_eq!((backend.value("count").await, backend.state("1").await), (Some(b"5".to_vec()), EventState::Leased));
    assert_eq!(backend.queue.get(&name("bot"), "2", None).await, Ok(None));
    // A key that didn't exist and was created is a conflict too.
    let absent = KeyRead { bucket: "b".to_owned(), key: "count".to_owned(), version: ValueVersion(None) };
    let settled = backend.queue.settle(&name("bot"), claim.lease, count(absent), at(1)).await;
    assert_eq!(settled, Ok(Settled::Conflict));
    let read = backend.read("count").await;
    let settled = backend.queue.settle(&name("bot"), claim.lease, count(read), at(1)).await;
    assert_eq!(settled, Ok(Settled::Committed { has_emitted: true }));
    assert_eq!(backend.get("1").await.attempt, 1, "a conflict is not an attempt");
}

pub(super) async fn a_failed_outcome_leaves_the_rest_of_its_batch(backend: &Backend<'_>) {
    backend.accept(["1", "2", "3", "4"].map(event), 0).await;
    let leases: Vec<_> = backend.claim(0).await.into_iter().map(|claim| claim.lease).collect();
    let mut large = event("large");
    large.event.payload.data = Some(vec![0; 3 << 20]);
    let outcomes = vec![
        (leases[0], with_effects(vec![], vec![write("one", Some(b"1"))], vec![])),
        (leases[1], with_effects(vec![], vec![write("two", Some(b"2")), write("two", Some(&[0; 2 << 20]))], vec![])),
        (leases[2], with_effects(vec![], vec![write("three", Some(b"3"))], vec![event("5"), large])),
        (leases[3], done()),
    ];
    let settled = backend.queue.settle_all(&name("bot"), outcomes, at(1)).await.expect("it is committed");
    assert_eq!((&settled[0], &settled[3]), (&COMMITTED, &COMMITTED));
    assert!(matches!(settled[1], Err(StoreError::ValueTooLarge { .. })), "{settled:?}");
    assert!(matches!(settled[2], Err(StoreError::EventTooLarge { .. })), "{settled:?}");
    for (key, value) in [("one", Some(b"1".to_vec())), ("two", None), ("three", None)] {
        assert_eq!(backend.value(key).await, value, "{key}");
    }
    for (id, state) in
        ["1", "2", "3", "4"].iter().zip([EventState::Done, EventState::Leased, EventState::Leased, EventState::Done])
    {
        assert_eq!(backend.state(id).await, state, "{id}");
    }
    let stats = backend.queue.stats(&name("bot"), at(20)).await.expect("they are read");
    assert_eq!((stats[0].leased, stats[0].ready), (2, 0), "the counters leave out what was rolled back");
}

pub(super) async fn emitted_events_are_bounded_in_bytes(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(0).await;
    let mut emitted: Vec<NewEvent> = (10..18).map(|number| event(&number.to_string())).collect();
    let bytes: u64 = emitted.iter().map(|new| new.event.bytes()).sum();
    let each = usize::try_from((EVENT_BATCH_BYTES_MAX - bytes) / 8).expect("it fits");
    for new in &mut emitted {
        new.event.payload.data.get_or_insert_default().extend(vec![7; each]);
    }
    let mut larger = emitted.clone();
    larger[0].event.payload.data.get_or_insert_default().extend([7; 8]);
    let settle = async |emitted| {
        backend.queue.settle(&name("bot"), claim.lease, with_effects(vec![], vec![], emitted), at(1)).await
    };
    let refused = settle(larger).await;
    assert!(matches!(refused, Err(StoreError::EventBatchTooLarge { events: 8, .. })), "{refused:?}");
    assert_eq!(settle(emitted).await, Ok(Settled::Committed { has_emitted: true }));
}

pub(super) async fn emitted_duplicates_are_not_added(backend: &Backend<'_>) {
    backend.accept([event("1"), event("2")], 0).await;
    let claims = backend.claim(0).await;
    for (claim, has_emitted) in claims.iter().zip([true, false]) {
        let outcome = with_effects(vec![], vec![], vec![ordered("e", "anna"), ordered("e", "anna")]);
        let settled = backend.queue.settle(&name("bot"), claim.lease, outcome, at(1)).await;
        assert_eq!(settled, Ok(Settled::Committed { has_emitted }));
    }
    assert_eq!(backend.claimed_ids(1).await, ["e"]);
    let again = backend.queue.accept(&name("bot"), vec![ordered("e", "anna")], at(1)).await.expect("it is accepted");
    assert!(matches!(again[..], [Accepted::Duplicate { state: EventState::Leased, .. }]), "{again:?}");
}

pub(super) async fn an_old_lease_writes_nothing(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let old = backend.claim_one(0).await;
    backend.settle(&old, super::retry(at(0)), 0).await;
    let new = backend.claim_one(0).await;
    let outcome = with_effects(vec![], vec![write("k", Some(b"old"))], vec![event("2")]);
    assert_eq!(backend.queue.settle(&name("bot"), old.lease, outcome, at(1)).await, Ok(Settled::LeaseLost));
    assert_eq!((backend.value("k").await, backend.state("1").await), (None, EventState::Leased));
    backend.settle(&new, done(), 1).await;
}
