//! Deduplication, lists, statistics, cancellation and pruning.

use isopod_store::limits::{EVENT_PAGE_BYTES_MAX, EVENTS_PER_BATCH_MAX, EVENTS_SCANNED_MAX};
use isopod_store::{
    Accepted, CancelReason, Cancelled, DeadChange, EventFilter, EventSeq, EventState, Outcome, Page, QueueStats,
};

use super::{Backend, dead, done, event, ordered, process, retry};
use crate::{at, name};

const DAY: i64 = 24 * 3_600;

impl Backend<'_> {
    async fn ids(&self, filter: EventFilter) -> Vec<String> {
        let page = self.queue.list(&name("bot"), filter, Page::default()).await.expect("it is read");
        assert_eq!(page.next, None);
        page.items.into_iter().map(|found| found.id).collect()
    }
}

pub(super) async fn a_duplicate_returns_the_first_event(backend: &Backend<'_>) {
    let mut other_source = event("1");
    other_source.event.source = "other".to_owned();
    let seqs = backend.accept([event("1"), other_source.clone()], 0).await;
    let again = backend.queue.accept(&name("bot"), vec![event("1"), event("2"), event("2")], at(1)).await;
    let again = again.expect("they are accepted");
    assert_eq!(again[0], Accepted::Duplicate { seq: seqs[0], state: EventState::Ready });
    let Accepted::New { seq } = again[1] else { panic!("{again:?}") };
    assert_eq!(again[2], Accepted::Duplicate { seq, state: EventState::Ready });
    assert_eq!(backend.get("1").await.seq, seqs[1], "the last accepted of this id");
    let first = backend.queue.get(&name("bot"), "1", Some("test")).await.expect("it is read").expect("it exists");
    assert_eq!(first.seq, seqs[0]);
    let by_id = EventFilter { id: Some("1".to_owned()), ..EventFilter::default() };
    assert_eq!(backend.ids(by_id).await.len(), 2);
}

pub(super) async fn a_source_and_id_can_be_used_again_after_the_window(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let claim = backend.claim_one(0).await;
    backend.settle(&claim, done(), 1).await;
    let within = backend.queue.accept(&name("bot"), vec![event("1")], at(DAY - 1)).await.expect("it is accepted");
    assert!(matches!(within[..], [Accepted::Duplicate { state: EventState::Done, .. }]));
    let seqs = backend.accept([event("1")], DAY).await;
    assert_eq!((backend.get("1").await.seq, backend.state("1").await), (seqs[0], EventState::Ready));
}

pub(super) async fn an_unfinished_event_stays_a_duplicate(backend: &Backend<'_>) {
    backend.accept([event("1")], 0).await;
    let again = backend.queue.accept(&name("bot"), vec![event("1")], at(3 * DAY)).await.expect("it is accepted");
    assert!(matches!(again[..], [Accepted::Duplicate { state: EventState::Ready, .. }]));
}

/// A later event with the same source and id was accepted and has ended meanwhile.
pub(super) async fn a_redriven_event_is_recognised_as_the_original(backend: &Backend<'_>) {
    let first = backend.accept([event("1")], 0).await[0];
    backend.settle(&backend.claim_one(0).await, dead(), 1).await;
    backend.accept([event("1")], DAY).await;
    backend.settle(&backend.claim_one(DAY).await, done(), DAY).await;
    let (what, all) = (DeadChange::Redrive, EventFilter::default());
    backend.queue.change_dead(&name("bot"), what, all, None, 10, at(DAY)).await.expect("it is redriven");
    let again = backend.queue.accept(&name("bot"), vec![event("1")], at(3 * DAY)).await;
    assert_eq!(again, Ok(vec![Accepted::Duplicate { seq: first, state: EventState::Ready }]));
}

/// More events have the id than one page reads.
pub(super) async fn events_of_many_sources_with_one_id_are_listed_in_pages(backend: &Backend<'_>) {
    let (batch, count) = (EVENTS_PER_BATCH_MAX, EVENTS_SCANNED_MAX + 7);
    let of_source = |number: usize| {
        let mut new = event("1");
        // The order of the sources is not that of the positions.
        new.event.source = format!("{}", number * 7_919 % 100_003);
        new
    };
    for first in (0..count).step_by(batch) {
        backend.accept((first..count.min(first + batch)).map(of_source), 0).await;
    }
    let state = Some(EventState::Dead);
    for (filter, expected) in [
        (EventFilter { id: Some("1".to_owned()), ..EventFilter::default() }, count),
        (EventFilter { id: Some("1".to_owned()), state, ..EventFilter::default() }, 0),
    ] {
        let (mut seqs, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = Page { cursor, limit: Some(1_000) };
            let page = backend.queue.list(&name("bot"), filter.clone(), page).await.expect("it is read");
            seqs.extend(page.items.into_iter().map(|found| found.seq));
            (cursor, pages) = (page.next, pages + 1);
            if cursor.is_none() {
                break;
            }
        }
        assert!(seqs.len() == expected && seqs.is_sorted_by(|newer, older| newer > older), "{}", seqs.len());
        assert_eq!(pages, if expected == 0 { 2 } else { count.div_ceil(1_000) });
    }
}

pub(super) async fn a_list_is_newest_first_and_paged(backend: &Backend<'_>) {
    backend.accept((0..7).map(|number| event(&number.to_string())), 0).await;
    for filter in [EventFilter::default(), EventFilter { state: Some(EventState::Ready), ..EventFilter::default() }] {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = Page { cursor, limit: Some(3) };
            let page = backend.queue.list(&name("bot"), filter.clone(), page).await.expect("it is read");
            ids.push(page.items.iter().map(|found| found.id.clone()).collect::<String>());
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids, ["654", "321", "0"]);
    }
    let wrong = Page { cursor: Some("x".to_owned()), limit: None };
    assert!(backend.queue.list(&name("bot"), EventFilter::default(), wrong).await.is_err());
}

pub(super) async fn a_list_is_filtered_by_each_field(backend: &Backend<'_>) {
    let mut other = ordered("2", "ben");
    (other.process, other.event.source, other.event.event_type) =
        (process("mailer"), "elsewhere".to_owned(), "received".to_owned());
    backend.accept([ordered("1", "anna"), other], 0).await;
    let all = EventFilter::default;
    let filters = [
        EventFilter { process: Some(process("mailer")), ..all() },
        EventFilter { event_type: Some("received".to_owned()), ..all() },
        EventFilter { subject: Some("ben".to_owned()), ..all() },
        EventFilter { source: Some("elsewhere".to_owned()), ..all() },
        EventFilter { id: Some("2".to_owned()), ..all() },
    ];
    for filter in filters {
        assert_eq!(backend.ids(filter.clone()).await, ["2"], "{filter:?}");
        let ready = EventFilter { state: Some(EventState::Ready), ..filter.clone() };
        assert_eq!(backend.ids(ready).await, ["2"], "{filter:?}");
        assert_eq!(backend.ids(EventFilter { state: Some(EventState::Done), ..filter }).await, [""; 0]);
    }
}

pub(super) async fn statistics_count_each_state(backend: &Backend<'_>) {
    let mut scheduled = event("scheduled");
    scheduled.not_before = Some(at(500));
    let first = [event("done"), event("dead"), event("retried"), event("leased"), ordered("head", "anna")];
    backend.accept(first, 0).await;
    let claims = backend.claim(10).await;
    backend.settle(&claims[0], done(), 10).await;
    backend.settle(&claims[1], dead(), 10).await;
    backend.settle(&claims[2], retry(at(100)), 10).await;
    backend.accept([event("ready"), ordered("blocked", "anna"), scheduled], 20).await;
    let stats = backend.queue.stats(&name("bot"), at(20)).await.expect("they are read");
    let [worker] = &stats[..] else { panic!("{stats:?}") };
    let expected = QueueStats {
        process: process("worker"),
        ready: 2,
        delayed: 2,
        leased: 2,
        dead: 1,
        bytes: worker.bytes,
        oldest_accepted_at: Some(at(0)),
        next_due: Some(at(100)),
        has_claimable: true,
    };
    assert_eq!((worker, worker.backlog()), (&expected, 6));
    for (state, ids) in [
        (EventState::Ready, vec!["blocked", "ready"]),
        (EventState::Delayed, vec!["scheduled", "retried"]),
        (EventState::Leased, vec!["head", "leased"]),
        (EventState::Done, vec!["done"]),
        (EventState::Dead, vec!["dead"]),
        (EventState::Cancelled, vec![]),
    ] {
        assert_eq!(backend.ids(EventFilter { state: Some(state), ..EventFilter::default() }).await, ids);
    }
}

pub(super) async fn only_events_that_wait_for_no_earlier_one_are_claimable(backend: &Backend<'_>) {
    let claimable = async |time| {
        let stats = backend.queue.stats(&name("bot"), at(time)).await.expect("they are read");
        (stats[0].ready, stats[0].has_claimable, stats[0].claimable_at_most())
    };
    backend.accept([ordered("head", "anna"), ordered("blocked", "anna")], 0).await;
    assert_eq!(claimable(0).await, (2, true, 2));
    let claims = backend.claim(0).await;
    assert_eq!(claimable(0).await, (1, false, 0), "its subject has a running event");
    backend.settle(&claims[0], retry(at(100)), 10).await;
    assert_eq!(claimable(10).await, (1, false, 0), "its subject has a delayed event");
    backend.accept([event("other")], 10).await;
    assert_eq!(claimable(10).await, (2, true, 2));
}

/// Events of an earlier version may have attributes of any length.
pub(super) async fn a_page_is_bounded_in_bytes(backend: &Backend<'_>) {
    let large = |number: usize| {
        let mut new = event(&format!("{number:02}"));
        new.event.subject = Some("s".repeat(1 << 20));
        new.process = process(if number.is_multiple_of(3) { "mailer" } else { "worker" });
        new
    };
    for first in (0..12).step_by(6) {
        backend.accept((first..first + 6).map(large), 0).await;
    }
    for state in [None, Some(EventState::Ready)] {
        let (mut ids, mut page) = (Vec::new(), Page { cursor: None, limit: Some(1_000) });
        loop {
            let filter = EventFilter { state, ..EventFilter::default() };
            let found = backend.queue.list(&name("bot"), filter, page.clone()).await.expect("it is read");
            let bytes: usize = found.items.iter().filter_map(|event| event.subject.as_ref()).map(String::len).sum();
            assert!(bytes <= EVENT_PAGE_BYTES_MAX + (1 << 20), "a page has {bytes} bytes");
            ids.extend(found.items.into_iter().map(|event| event.id));
            page.cursor = found.next;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids, (0..12).rev().map(|number| format!("{number:02}")).collect::<Vec<_>>(), "{state:?}");
    }
}

pub(super) async fn events_of_a_source_are_found_by_the_start_of_their_ids(backend: &Backend<'_>) {
    let found = async |source: &str, prefix: &str, most| {
        let found = backend.queue.with_id_prefix(&name("bot"), source, prefix, most).await.expect("it is read");
        found.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(found("run", "n-", 9).await, [""; 0], "without a queue");
    let of = |source: &str, id: &str| {
        let mut event = event(id);
        event.event.source = source.to_owned();
        event
    };
    let runs = ["n-1", "n-3", "n-2", "n", "n-", "n.", "m-9", "n-\u{10fffd}"].map(|id| of("run", id));
    let others = ["n-1", "n-4"].map(|id| of("other", id));
    backend.accept(runs.into_iter().chain(others), 0).await;
    // Many later events don't hide them.
    for batch in 0..=EVENTS_SCANNED_MAX / EVENTS_PER_BATCH_MAX {
        let later = (0..EVENTS_PER_BATCH_MAX).map(|number| event(&format!("{batch}-{number}")));
        backend.accept(later, 1).await;
    }
    assert_eq!(found("run", "n-", 9).await, ["n-\u{10fffd}", "n-", "n-2", "n-3", "n-1"], "newest first");
    assert_eq!(found("run", "n-", 3).await, ["n-\u{10fffd}", "n-2", "n-3"], "those with the greatest ids");
    assert_eq!(found("other", "n-", 9).await, ["n-4", "n-1"]);
    assert_eq!(found("run", "x", 9).await, [""; 0]);
}

/// The first page contains it, however many events in other states were accepted later.
pub(super) async fn an_event_is_listed_by_its_state_beside_many_others(backend: &Backend<'_>) {
    let mut scheduled = event("scheduled");
    scheduled.not_before = Some(at(500));
    let seqs = backend.accept([event("done"), event("dead"), event("retried"), scheduled, event("cancelled")], 0).await;
    let claims = backend.claim(0).await;
    for (claim, outcome) in claims.iter().zip([done(), dead(), retry(at(100))]) {
        backend.settle(claim, outcome, 0).await;
    }
    backend.settle(&claims[3], Outcome::Retry { at: at(0), error: String::new(), is_counted: false }, 0).await;
    backend.queue.cancel(&name("bot"), seqs[4], CancelReason::Request, at(0)).await.expect("it is cancelled");
    let batch = EVENTS_PER_BATCH_MAX;
    for first in (0..EVENTS_SCANNED_MAX + batch).step_by(batch) {
        backend.accept((first..first + batch).map(|number| event(&format!("ready-{number}"))), 0).await;
    }
    for (state, ids) in [
        (EventState::Delayed, vec!["scheduled", "retried"]),
        (EventState::Done, vec!["done"]),
        (EventState::Dead, vec!["dead"]),
        (EventState::Cancelled, vec!["cancelled"]),
        (EventState::Leased, vec![]),
    ] {
        for process in [None, Some(process("worker"))] {
            let filter = EventFilter { state: Some(state), process, ..EventFilter::default() };
            let found = backend.queue.list(&name("bot"), filter, Page::default()).await.expect("it is read");
            let found = (found.items.into_iter().map(|event| event.id).collect::<Vec<_>>(), found.next);
            assert_eq!(found, (ids.iter().map(|id| (*id).to_owned()).collect(), None), "{state:?}");
        }
    }
}

pub(super) async fn waiting_events_can_be_cancelled(backend: &Backend<'_>) {
    let mut scheduled = event("scheduled");
    scheduled.not_before = Some(at(500));
    let failed = backend.accept([event("failed")], 0).await[0];
    backend.settle(&backend.claim_one(0).await, retry(at(100)), 0).await;
    let seqs = backend.accept([event("leased"), scheduled, event("ready")], 0).await;
    let (app, queue) = (name("bot"), backend.queue);
    let leased = queue.claim(&app, &process("worker"), 1, at(0)).await.expect("it is claimed").claims;
    let cancel = async |seq| queue.cancel(&app, seq, CancelReason::Request, at(1)).await;
    assert_eq!(cancel(seqs[0]).await, Ok(Cancelled::Running));
    for seq in [seqs[1], seqs[2], failed] {
        assert_eq!(cancel(seq).await, Ok(Cancelled::Cancelled));
        assert_eq!(cancel(seq).await, Ok(Cancelled::Ended(EventState::Cancelled)));
    }
    for (id, error) in [
        ("scheduled", "cancelled by a request"),
        ("ready", "cancelled by a request"),
        ("failed", "cancelled by a request; last error: it failed"),
    ] {
        assert_eq!(backend.get(id).await.error.as_deref(), Some(error), "{id}");
    }
    backend.settle(&leased[0], dead(), 1).await;
    assert_eq!(cancel(seqs[0]).await, Ok(Cancelled::Ended(EventState::Dead)));
    assert_eq!(cancel(EventSeq(1_000)).await, Ok(Cancelled::Unknown));
    assert_eq!(backend.claim(1_000).await, []);
}

pub(super) async fn prune_removes_old_ended_events_only(backend: &Backend<'_>) {
    let mut dies = event("dies");
    dies.process = process("mailer");
    let seqs = backend.accept([event("1"), event("2"), event("3"), event("waits"), dies], 0).await;
    for (claim, second) in backend.claim(0).await.iter().take(3).zip([1, 2, 3]) {
        backend.settle(claim, done(), second).await;
    }
    let mailer = backend.queue.claim(&name("bot"), &process("mailer"), 1, at(0)).await.expect("it is claimed").claims;
    backend.settle(&mailer[0], dead(), 1).await;
    let app = name("bot");
    assert_eq!(backend.queue.prune(&app, at(3), 1, at(9)).await, Ok(1));
    assert_eq!(backend.queue.get(&app, "1", None).await, Ok(None), "the first that ended");
    assert_eq!(backend.queue.prune(&app, at(3), 10, at(9)).await, Ok(1));
    assert_eq!(backend.queue.prune(&app, at(3), 10, at(9)).await, Ok(0));
    assert_eq!(backend.ids(EventFilter::default()).await, ["dies", "waits", "3"]);
    // A removed event can be accepted again; an event that waits is never removed.
    assert!(backend.accept([event("1")], 9).await[0] > seqs[3]);
}
