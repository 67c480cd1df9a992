//! Dead letters.

use isopod_store::{DeadChange, EventFilter, EventSeq, EventState, Swept};

use super::{Backend, dead, done, event, ordered};
use crate::{at, name};

impl Backend<'_> {
    /// Accepts events one by one, and makes each a dead letter.
    async fn bury(&self, events: impl IntoIterator<Item = super::NewEvent>) -> Vec<EventSeq> {
        let mut seqs = Vec::new();
        for new in events {
            seqs.extend(self.accept([new], 0).await);
            let claim = self.claim_one(0).await;
            self.settle(&claim, dead(), 0).await;
        }
        seqs
    }

    async fn redrive(&self, filter: EventFilter, after: Option<EventSeq>, most: usize) -> Swept {
        self.queue
            .change_dead(&name("bot"), DeadChange::Redrive, filter, after, most, at(1))
            .await
            .expect("they are redriven")
    }

    async fn dead_ids(&self) -> Vec<String> {
        let filter = EventFilter { state: Some(EventState::Dead), ..EventFilter::default() };
        let page = self.queue.list(&name("bot"), filter, isopod_store::Page::default()).await.expect("it is read");
        page.items.into_iter().map(|found| found.id).collect()
    }
}

pub(super) async fn dead_letters_are_redriven_in_order(backend: &Backend<'_>) {
    let seqs = backend.bury([ordered("1", "anna"), ordered("2", "anna"), event("3")]).await;
    let found = backend.get("1").await;
    assert_eq!((found.error.as_deref(), found.attempt), (Some("it failed for good"), 1));
    assert!(backend.queue.payload(&name("bot"), seqs[0]).await.expect("it is read").is_some());
    let stats = backend.queue.stats(&name("bot"), at(20)).await.expect("they are read");
    assert_eq!((stats[0].dead, stats[0].backlog()), (3, 0));
    assert_eq!(backend.redrive(EventFilter::default(), None, 10).await, Swept { changed: 3, next: None });
    assert_eq!(backend.dead_ids().await, [""; 0]);
    let claims = backend.claim(1).await;
    let ids: Vec<&str> = claims.iter().map(|claim| claim.event.id.as_str()).collect();
    assert_eq!((ids, claims[0].attempt), (vec!["1", "3"], 1));
    assert_eq!(claims[0].event, ordered("1", "anna").event);
    backend.settle(&claims[0], done(), 1).await;
    assert_eq!(backend.claimed_ids(1).await, ["2"]);
}

pub(super) async fn a_redriven_event_does_not_expire(backend: &Backend<'_>) {
    let mut expiring = event("1");
    expiring.expires_at = Some(at(10));
    backend.accept([expiring], 0).await;
    let claim = backend.claim_one(0).await;
    assert_eq!(claim.expires_at, Some(at(10)));
    backend.settle(&claim, dead(), 0).await;
    backend.redrive(EventFilter::default(), None, 10).await;
    assert_eq!(backend.claim_one(20).await.expires_at, None);
}

pub(super) async fn a_redrive_is_limited_by_filter_and_count(backend: &Backend<'_>) {
    let mut other = event("other");
    other.event.event_type = "received".to_owned();
    backend.bury([event("1"), other, event("2"), event("3")]).await;
    let sent = || EventFilter { event_type: Some("sent".to_owned()), ..EventFilter::default() };
    let first = backend.redrive(sent(), None, 2).await;
    assert_eq!((first.changed, backend.dead_ids().await), (2, vec!["3".to_owned(), "other".to_owned()]));
    let second = backend.redrive(sent(), first.next, 2).await;
    assert_eq!((second, backend.dead_ids().await), (Swept { changed: 1, next: None }, vec!["other".to_owned()]));
    let by_id = EventFilter { id: Some("other".to_owned()), ..EventFilter::default() };
    assert_eq!(backend.redrive(by_id, None, 2).await, Swept { changed: 1, next: None });
}

pub(super) async fn dropped_dead_letters_are_gone(backend: &Backend<'_>) {
    backend.bury([event("1"), event("2")]).await;
    backend.accept([event("3")], 0).await;
    let one = EventFilter { id: Some("1".to_owned()), ..EventFilter::default() };
    let dropped = backend.queue.change_dead(&name("bot"), DeadChange::Drop, one, None, 10, at(1)).await;
    assert_eq!(dropped, Ok(Swept { changed: 1, next: None }));
    assert_eq!(
        (backend.queue.get(&name("bot"), "1", None).await, backend.dead_ids().await),
        (Ok(None), vec!["2".into()])
    );
    let all = backend.queue.change_dead(&name("bot"), DeadChange::Drop, EventFilter::default(), None, 10, at(1)).await;
    assert_eq!(all, Ok(Swept { changed: 1, next: None }));
    assert_eq!(backend.state("3").await, EventState::Ready, "only dead letters are dropped");
    let seqs = backend.accept([event("1")], 1).await;
    assert!(seqs[0] > backend.get("3").await.seq, "no position is used twice");
}

pub(super) async fn a_redriven_event_of_a_busy_subject_waits(backend: &Backend<'_>) {
    backend.bury([ordered("1", "anna")]).await;
    backend.accept([ordered("2", "anna"), ordered("3", "anna")], 0).await;
    let running = backend.claim_one(0).await;
    backend.redrive(EventFilter::default(), None, 10).await;
    assert!(backend.get("1").await.is_blocked);
    backend.settle(&running, done(), 1).await;
    assert_eq!(backend.claimed_ids(1).await, ["1"]);
}
