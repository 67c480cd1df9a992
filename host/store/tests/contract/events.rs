//! The contract of an event queue. Owns facts that hold for every backend. Never tests a table.

use isopod_store::{
    Accepted, Effects, Event, EventFilter, EventPayload, EventQueue, EventState, NewEvent, Outcome, Page, Settled,
    Store,
};

use crate::{at, name};

pub(crate) fn process(text: &str) -> isopod_policy::ProcessName {
    text.parse().expect("the test writes valid names")
}

pub(crate) fn event(id: &str) -> NewEvent {
    NewEvent {
        process: process("worker"),
        event: Event {
            id: id.to_owned(),
            source: "test".to_owned(),
            event_type: "sent".to_owned(),
            subject: None,
            payload: EventPayload { data: Some(id.as_bytes().to_vec()), ..EventPayload::default() },
        },
        is_ordered: false,
        not_before: None,
        expires_at: None,
        attempts_max: 3,
    }
}

/// Runs a fact with each backend.
macro_rules! facts {
    ($($fact:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $fact() {
                    let folder = tempfile::tempdir().expect("the folder is created");
                    let store = super::Store::open(folder.path()).expect("the store opens");
                    super::$fact(store.events()).await;
                }
            )*
        }
    };
}

facts! {
    an_accepted_event_is_claimed_once_and_done
}

async fn an_accepted_event_is_claimed_once_and_done(queue: &dyn EventQueue) {
    let app = name("bot");
    let accepted = queue.accept(&app, vec![event("1")], at(0)).await.expect("it is accepted");
    let [Accepted::New { seq }] = accepted[..] else { panic!("{accepted:?}") };
    let claimed = queue.claim(&app, &process("worker"), 10, at(1)).await.expect("it is claimed");
    let [claim] = &claimed.claims[..] else { panic!("{claimed:?}") };
    assert_eq!((claim.lease.seq, claim.attempt, &claim.event), (seq, 1, &event("1").event));
    assert_eq!(queue.claim(&app, &process("worker"), 10, at(1)).await.expect("claimed").claims, []);
    let stats = queue.stats(&app).await.expect("they are read");
    assert_eq!((stats[0].leased, stats[0].oldest_accepted_at), (1, Some(at(0))));
    let done = || Outcome::Done { effects: Effects::default() };
    let settled = queue.settle(&app, claim.lease, done(), at(2)).await;
    assert_eq!(settled, Ok(Settled::Committed { has_emitted: false }));
    assert_eq!(queue.settle(&app, claim.lease, done(), at(2)).await, Ok(Settled::LeaseLost));
    let found = queue.get(&app, "1", None).await.expect("it is read").expect("it exists");
    assert_eq!((found.state, found.ended_at(), found.attempt), (EventState::Done, Some(at(2)), 1));
    let again = queue.accept(&app, vec![event("1")], at(3)).await;
    assert_eq!(again, Ok(vec![Accepted::Duplicate { seq, state: EventState::Done }]));
    let page = queue.list(&app, EventFilter::default(), Page::default()).await.expect("it is read");
    assert_eq!(page.items, [found]);
    assert_eq!(queue.stats(&app).await, Ok(vec![]));
}
