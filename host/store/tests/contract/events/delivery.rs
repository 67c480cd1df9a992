//! Claims, attempts, delays and expiry.

use isopod_store::limits::EVENT_ERROR_BYTES_MAX;
use isopod_store::{EventFilter, EventState, LastError, Outcome, Page, Settled, StoreError};

use super::{Backend, COMMITTED, done, event, process, retry};
use crate::{at, name};

pub(super) async fn an_accepted_event_is_claimed_once_and_done(backend: &Backend<'_>) {
    let seqs = backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(1).await;
    assert_eq!((claim.lease.seq, claim.attempt, claim.accepted_at), (seqs[0], 1, at(0)));
    assert_eq!((&claim.event, &claim.last_error), (&event("1").event, &None));
    assert_eq!(backend.claim(1).await, []);
    backend.settle(&claim, done(), 2).await;
    assert_eq!(backend.queue.settle(&name("bot"), claim.lease, done(), at(2)).await, Ok(Settled::LeaseLost));
    let found = backend.get("1").await;
    assert_eq!((found.state, found.ended_at(), found.attempt), (EventState::Done, Some(at(2)), 1));
    assert_eq!(backend.queue.payload(&name("bot"), seqs[0]).await, Ok(None), "a done event has no content");
}

pub(super) async fn an_event_keeps_all_of_its_content(backend: &Backend<'_>) {
    let mut full = event("1");
    full.event.subject = Some("user/1".to_owned());
    full.event.payload.time = Some("2026-11-29T12:00:00Z".to_owned());
    full.event.payload.data_content_type = Some("application/octet-stream".to_owned());
    full.event.payload.data_schema = Some("https://example.org/schema".to_owned());
    full.event.payload.extensions = vec![("trace".to_owned(), "\"ä\"\n".to_owned()), ("b".to_owned(), String::new())];
    full.event.payload.data = Some(vec![0, 255, 1]);
    let mut bare = event("2");
    bare.event.payload.data = None;
    let seqs = backend.accept([full.clone(), bare.clone()], 0).await;
    let claims = backend.claim(0).await;
    assert_eq!([&claims[0].event, &claims[1].event], [&full.event, &bare.event]);
    assert_eq!(backend.queue.payload(&name("bot"), seqs[0]).await, Ok(Some(full.event.payload)));
}

pub(super) async fn a_failed_attempt_is_counted_and_delayed(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    for attempt in 1..=3 {
        let second = i64::from(attempt) * 10;
        let claim = backend.claim_one(second).await;
        assert_eq!((claim.attempt, claim.attempts_max), (attempt, 3));
        backend.settle(&claim, retry(at(second + 5)), second).await;
        let found = backend.get("1").await;
        assert_eq!((found.state, found.due_at), (EventState::Delayed, Some(at(second + 5))));
        assert_eq!(found.error.as_deref(), Some("it failed"));
        let early = backend.queue.claim(&name("bot"), &process("worker"), 10, at(second + 4)).await.expect("claimed");
        assert_eq!((early.claims, early.next_due, early.has_more), (vec![], Some(at(second + 5)), false));
    }
}

pub(super) async fn an_uncounted_attempt_is_given_back(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    for _ in 0..4 {
        let claim = backend.claim_one(1).await;
        assert_eq!(claim.attempt, 1);
        let snooze = Outcome::Retry { at: at(1), error: String::new(), is_counted: false };
        backend.settle(&claim, snooze, 1).await;
        assert_eq!((backend.get("1").await.attempt, backend.state("1").await), (0, EventState::Ready));
    }
}

pub(super) async fn equal_errors_in_a_row_are_counted(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let errors = [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)];
    for (text, repeats) in errors {
        let claim = backend.claim_one(1).await;
        let failed = Outcome::Retry { at: at(1), error: text.to_owned(), is_counted: true };
        backend.settle(&claim, failed, 1).await;
        let claim = backend.claim_one(1).await;
        assert_eq!(claim.last_error, Some(LastError { text: text.to_owned(), repeats }));
        let snooze = Outcome::Retry { at: at(1), error: String::new(), is_counted: false };
        backend.settle(&claim, snooze, 1).await;
    }
}

pub(super) async fn a_truncated_error_is_recognised(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let error = format!("a{}", "é".repeat(EVENT_ERROR_BYTES_MAX));
    for repeats in 1..=2 {
        let claim = backend.claim_one(1).await;
        let failed = Outcome::Retry { at: at(1), error: error.clone(), is_counted: true };
        backend.settle(&claim, failed, 1).await;
        let claim = backend.claim_one(1).await;
        let last = claim.last_error.as_ref().expect("it failed");
        assert_eq!((last.text.len(), last.repeats), (EVENT_ERROR_BYTES_MAX - 1, repeats));
        assert!(last.is_of(&error) && last.is_of(&last.text) && !last.is_of("a"));
        let snooze = Outcome::Retry { at: at(1), error: String::new(), is_counted: false };
        backend.settle(&claim, snooze, 1).await;
    }
}

pub(super) async fn a_scheduled_event_waits_for_its_time(backend: &Backend<'_>) {
    let mut later = event("later");
    later.not_before = Some(at(60));
    let mut past = event("past");
    past.not_before = Some(at(-60));
    backend.accept([later, past], 0).await;
    assert_eq!((backend.state("later").await, backend.state("past").await), (EventState::Delayed, EventState::Ready));
    assert_eq!(backend.claimed_ids(59).await, ["past"]);
    assert_eq!(backend.claimed_ids(60).await, ["later"]);
}

pub(super) async fn an_expired_event_is_cancelled(backend: &Backend<'_>) {
    let mut expiring = event("1");
    expiring.expires_at = Some(at(10));
    let mut retried = event("2");
    retried.expires_at = Some(at(10));
    backend.accept([expiring, retried], 0).await;
    let claims = backend.claim(5).await;
    backend.settle(&claims[1], retry(at(100)), 6).await;
    backend.settle(&claims[0], retry(at(6)), 6).await;
    assert_eq!(backend.get("2").await.due_at, Some(at(10)), "an event doesn't wait beyond its expiry");
    assert_eq!(backend.claim(10).await, []);
    for id in ["1", "2"] {
        let found = backend.get(id).await;
        assert_eq!((found.state, found.ended_at()), (EventState::Cancelled, Some(at(10))));
        assert!(found.error.is_some_and(|error| error.contains("expired")));
    }
    assert_eq!(backend.queue.stats(&name("bot"), at(20)).await, Ok(vec![]));
}

pub(super) async fn a_claim_returns_the_earliest_events_of_its_process_type(backend: &Backend<'_>) {
    let mut other = event("other");
    other.process = process("mailer");
    let mut events = vec![other];
    events.extend((0..12).map(|number| event(&number.to_string())));
    backend.accept(events, 0).await;
    let first = backend.queue.claim(&name("bot"), &process("worker"), 5, at(0)).await.expect("it is claimed");
    let ids: Vec<&str> = first.claims.iter().map(|claim| claim.event.id.as_str()).collect();
    assert_eq!((ids, first.has_more), (vec!["0", "1", "2", "3", "4"], true));
    assert_eq!(backend.claimed_ids(0).await, ["5", "6", "7", "8", "9", "10", "11"]);
    let other = backend.queue.claim(&name("bot"), &process("mailer"), 5, at(0)).await.expect("it is claimed");
    assert_eq!((other.claims.len(), other.has_more), (1, false));
    let unknown = backend.queue.claim(&name("bot"), &process("gone"), 5, at(0)).await.expect("it is claimed");
    assert_eq!(unknown.claims, []);
}

pub(super) async fn a_claim_is_bounded_in_bytes(backend: &Backend<'_>) {
    for number in 0..10 {
        let mut large = event(&number.to_string());
        large.event.payload.data = Some(vec![7; 1 << 20]);
        backend.accept([large], 0).await;
    }
    let first = backend.queue.claim(&name("bot"), &process("worker"), 10, at(0)).await.expect("it is claimed");
    assert_eq!((first.claims.len(), first.has_more), (7, true));
    assert_eq!(backend.claim(0).await.len(), 3);
}

pub(super) async fn a_batch_with_an_oversized_event_is_refused_whole(backend: &Backend<'_>) {
    let mut large = event("large");
    large.event.payload.data = Some(vec![7; 3 << 20]);
    let refused = backend.queue.accept(&name("bot"), vec![event("1"), large], at(0)).await;
    assert!(matches!(refused, Err(StoreError::EventTooLarge { .. })), "{refused:?}");
    let many = (0..1_001).map(|number| event(&number.to_string())).collect();
    let refused = backend.queue.accept(&name("bot"), many, at(0)).await;
    assert!(matches!(refused, Err(StoreError::EventBatchTooLarge { events: 1_001, .. })), "{refused:?}");
    assert_eq!(backend.claim(0).await, []);
}

pub(super) async fn delays_continue_after_the_clock_was_set_back(backend: &Backend<'_>) {
    let scheduled = |id: &str, second| {
        let mut new = event(id);
        new.not_before = Some(at(second));
        new
    };
    // The clock is right, and this event is scheduled for a time of day.
    backend.accept([scheduled("absolute", 5_000)], 0).await;
    // The clock is an hour ahead.
    backend.accept([event("retried"), scheduled("relative", 3_700)], 3_600).await;
    let claim = backend.claim_one(3_600).await;
    backend.settle(&claim, retry(at(3_630)), 3_600).await;
    let due = |second| Some(at(second));
    let next_due = async |second| {
        let stats = backend.queue.stats(&name("bot"), at(second)).await.expect("they are read");
        stats[0].next_due
    };
    assert_eq!(next_due(10).await, due(10), "a claim is needed for the shift");
    assert_eq!(backend.claim(10).await, [], "back at the right time");
    assert_eq!(next_due(10).await, due(40));
    assert_eq!(backend.get("retried").await.due_at, due(40), "30 s after the clock was set back");
    assert_eq!(backend.get("relative").await.due_at, due(110));
    assert_eq!(backend.get("absolute").await.due_at, due(5_000));
    assert_eq!(backend.claimed_ids(40).await, ["retried"]);
    assert_eq!(backend.claimed_ids(110).await, ["relative"]);
}

pub(super) async fn a_queue_without_events_reads_as_empty(backend: &Backend<'_>) {
    let (app, queue) = (name("none"), backend.queue);
    assert_eq!(queue.stats(&app, at(0)).await, Ok(vec![]));
    assert_eq!(queue.get(&app, "1", None).await, Ok(None));
    assert_eq!(queue.prune(&app, at(0), 10, at(0)).await, Ok(0));
    let page = queue.list(&app, EventFilter::default(), Page::default()).await.expect("it is read");
    assert_eq!((page.items, page.next), (vec![], None));
    backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(0).await;
    assert_eq!(queue.settle(&app, claim.lease, done(), at(0)).await, Ok(Settled::LeaseLost));
    assert_eq!(queue.settle(&name("bot"), claim.lease, done(), at(0)).await, COMMITTED);
}
