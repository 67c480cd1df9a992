//! The order of events with the same subject.

use isopod_store::{CancelReason, Cancelled, EventState, NewEvent, Swept};

use super::{Backend, dead, done, event, ordered, process, retry};
use crate::{at, name};

pub(super) async fn events_of_a_subject_are_delivered_one_at_a_time(backend: &Backend<'_>) {
    let mut other_process = ordered("m1", "anna");
    other_process.process = process("mailer");
    backend
        .accept(
            [ordered("a1", "anna"), ordered("a2", "anna"), ordered("b1", "ben"), ordered("a3", "anna"), other_process],
            0,
        )
        .await;
    assert!(backend.get("a2").await.is_blocked && !backend.get("a1").await.is_blocked);
    assert!(!backend.get("m1").await.is_blocked, "another process type has its own line");
    let claims = backend.claim(0).await;
    let ids: Vec<&str> = claims.iter().map(|claim| claim.event.id.as_str()).collect();
    assert_eq!(ids, ["a1", "b1"]);
    backend.settle(&claims[0], done(), 0).await;
    let claim = backend.claim_one(0).await;
    assert_eq!(claim.event.id, "a2");
    backend.settle(&claim, done(), 0).await;
    assert_eq!(backend.claimed_ids(0).await, ["a3"]);
}

pub(super) async fn a_retry_blocks_its_subject_only(backend: &Backend<'_>) {
    backend.accept([ordered("a1", "anna"), ordered("a2", "anna"), ordered("b1", "ben")], 0).await;
    let claims = backend.claim(0).await;
    backend.settle(&claims[0], retry(at(60)), 0).await;
    backend.settle(&claims[1], done(), 0).await;
    assert_eq!(backend.claimed_ids(59).await, [""; 0]);
    assert_eq!(backend.claimed_ids(60).await, ["a1"]);
}

pub(super) async fn a_scheduled_event_does_not_block_its_subject(backend: &Backend<'_>) {
    let mut later = ordered("a1", "anna");
    later.not_before = Some(at(60));
    backend.accept([later, ordered("a2", "anna"), ordered("a3", "anna")], 0).await;
    let claim = backend.claim_one(0).await;
    assert_eq!(claim.event.id, "a2");
    // Once it is due, it joins the line behind the running event.
    assert_eq!(backend.claim(60).await, []);
    assert!(backend.get("a1").await.is_blocked);
    backend.settle(&claim, done(), 61).await;
    assert_eq!(backend.claimed_ids(61).await, ["a1"]);
}

pub(super) async fn ending_the_head_in_any_way_unblocks_the_next(backend: &Backend<'_>) {
    let mut expiring = ordered("expires", "anna");
    expiring.expires_at = Some(at(10));
    let seqs = backend
        .accept([ordered("dies", "anna"), ordered("cancelled", "anna"), expiring, ordered("last", "anna")], 0)
        .await;
    let claim = backend.claim_one(0).await;
    backend.settle(&claim, dead(), 0).await;
    assert!(!backend.get("cancelled").await.is_blocked);
    assert_eq!(
        backend.queue.cancel(&name("bot"), seqs[1], CancelReason::Request, at(0)).await,
        Ok(Cancelled::Cancelled)
    );
    assert!(!backend.get("expires").await.is_blocked);
    let claimed = backend.queue.claim(&name("bot"), &process("worker"), 1, at(10)).await.expect("it is claimed");
    assert_eq!((claimed.claims, claimed.has_more), (vec![], true));
    assert_eq!(backend.state("expires").await, EventState::Cancelled);
    assert_eq!(backend.claimed_ids(10).await, ["last"]);
}

pub(super) async fn waiting_events_that_expired_are_cancelled_without_a_claim(backend: &Backend<'_>) {
    let expiring = |new: NewEvent| NewEvent { expires_at: Some(at(10)), ..new };
    let delayed = NewEvent { not_before: Some(at(5)), ..expiring(event("delayed")) };
    backend.accept([expiring(event("leased"))], 0).await;
    let leased = backend.claim_one(0).await;
    backend.accept([expiring(event("failed"))], 0).await;
    backend.settle(&backend.claim_one(0).await, retry(at(5)), 0).await;
    let waiting = [expiring(ordered("head", "anna")), expiring(ordered("second", "anna")), ordered("last", "anna")];
    backend.accept(waiting.into_iter().chain([expiring(event("ready")), delayed, event("kept")]), 0).await;
    let bot = name("bot");
    assert_eq!(backend.queue.expire(&bot, None, at(9)).await, Ok(Swept { changed: 0, next: None }));
    assert_eq!(backend.queue.expire(&bot, None, at(10)).await, Ok(Swept { changed: 5, next: None }));
    for id in ["head", "second", "ready", "delayed", "failed"] {
        let event = backend.get(id).await;
        let reason = "expired before its delivery";
        let error = if id == "failed" { "expired before its delivery; last error: it failed" } else { reason };
        assert_eq!((event.state, event.error.as_deref()), (EventState::Cancelled, Some(error)), "{id}");
    }
    assert_eq!(backend.queue.expire(&bot, None, at(10)).await, Ok(Swept { changed: 0, next: None }));
    backend.settle(&leased, done(), 10).await;
    assert_eq!(backend.claimed_ids(10).await, ["last", "kept"]);
}

pub(super) async fn a_cancelled_blocked_event_leaves_the_head(backend: &Backend<'_>) {
    let seqs = backend.accept([ordered("a1", "anna"), ordered("a2", "anna"), ordered("a3", "anna")], 0).await;
    let claim = backend.claim_one(0).await;
    assert_eq!(
        backend.queue.cancel(&name("bot"), seqs[1], CancelReason::Request, at(0)).await,
        Ok(Cancelled::Cancelled)
    );
    assert_eq!(backend.claim(0).await, []);
    backend.settle(&claim, done(), 0).await;
    assert_eq!(backend.claimed_ids(0).await, ["a3"]);
}

pub(super) async fn unordered_events_of_a_subject_are_delivered_in_parallel(backend: &Backend<'_>) {
    let unordered = |id: &str| {
        let mut new = ordered(id, "anna");
        new.is_ordered = false;
        new
    };
    let mut no_subject = event("4");
    no_subject.is_ordered = true;
    backend.accept([unordered("1"), ordered("2", "anna"), unordered("3"), no_subject], 0).await;
    assert_eq!(backend.claimed_ids(0).await, ["1", "2", "3", "4"]);
}
