//! The contract of an event queue: facts that hold for every backend, and failures of the backend
//! in SQLite. Owns the list of facts and what they share. Never tests a table, except for damage.

mod bounds;
mod damage;
mod damaged_rows;
mod dead;
mod delivery;
mod effects;
mod failures;
mod lists;
mod model;
mod order;
mod pruning;
mod space;

use isopod_policy::ProcessName;
use isopod_store::{
    Accepted, Claim, Effects, Event, EventPayload, EventQueue, EventSeq, EventState, KvStore, NewEvent, Outcome,
    Settled, StoredEvent,
};
use jiff::Timestamp;

use crate::{at, name};

/// A queue with the key-value store of the same backend.
struct Backend<'b> {
    queue: &'b dyn EventQueue,
    kv: &'b KvStore,
}

/// Runs each fact with each backend.
macro_rules! facts {
    ($($file:ident: $($fact:ident)*;)*) => {
        mod sqlite {
            $($(
                #[tokio::test]
                async fn $fact() {
                    let folder = tempfile::tempdir().expect("the folder is created");
                    let store = isopod_store::Store::open(folder.path()).expect("the store opens");
                    let backend = super::Backend { queue: store.events(), kv: store.kv() };
                    super::$file::$fact(&backend).await;
                }
            )*)*
        }
    };
}

facts! {
    delivery:
        an_accepted_event_is_claimed_once_and_done
        an_event_keeps_all_of_its_content
        a_failed_attempt_is_counted_and_delayed
        an_uncounted_attempt_is_given_back
        equal_errors_in_a_row_are_counted
        a_truncated_error_is_recognised
        a_scheduled_event_waits_for_its_time
        an_expired_event_is_cancelled
        a_claim_returns_the_earliest_events_of_its_process_type
        a_claim_is_bounded_in_bytes
        a_batch_with_an_oversized_event_is_refused_whole
        delays_continue_after_the_clock_was_set_back
        a_queue_without_events_reads_as_empty
    ;
    order:
        events_of_a_subject_are_delivered_one_at_a_time
        a_retry_blocks_its_subject_only
        a_scheduled_event_does_not_block_its_subject
        ending_the_head_in_any_way_unblocks_the_next
        waiting_events_that_expired_are_cancelled_without_a_claim
        a_cancelled_blocked_event_leaves_the_head
        unordered_events_of_a_subject_are_delivered_in_parallel
    ;
    effects:
        effects_and_acknowledgement_commit_together
        a_changed_key_is_a_conflict_that_writes_nothing
        a_failed_outcome_leaves_the_rest_of_its_batch
        emitted_duplicates_are_not_added
        emitted_events_are_bounded_in_bytes
        an_old_lease_writes_nothing
    ;
    dead:
        dead_letters_are_redriven_in_order
        a_redriven_event_does_not_expire
        a_redrive_is_limited_by_filter_and_count
        dropped_dead_letters_are_gone
        a_redriven_event_of_a_busy_subject_waits
    ;
    lists:
        a_duplicate_returns_the_first_event
        a_source_and_id_can_be_used_again_after_the_window
        an_unfinished_event_stays_a_duplicate
        a_redriven_event_is_recognised_as_the_original
        events_of_many_sources_with_one_id_are_listed_in_pages
        a_page_is_bounded_in_bytes
        a_list_is_newest_first_and_paged
        a_list_is_filtered_by_each_field
        events_of_a_source_are_found_by_the_start_of_their_ids
        an_event_is_listed_by_its_state_beside_many_others
        statistics_count_each_state
        only_events_that_wait_for_no_earlier_one_are_claimable
        waiting_events_can_be_cancelled
        prune_removes_old_ended_events_only
    ;
}

fn process(text: &str) -> ProcessName {
    text.parse().expect("the test writes valid names")
}

/// Returns an event of the process type `worker`.
fn event(id: &str) -> NewEvent {
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

/// Returns an ordered event of a subject.
fn ordered(id: &str, subject: &str) -> NewEvent {
    let mut new = event(id);
    new.event.subject = Some(subject.to_owned());
    new.is_ordered = true;
    new
}

fn done() -> Outcome {
    Outcome::Done { effects: Effects::default() }
}

fn retry(at: Timestamp) -> Outcome {
    Outcome::Retry { at, error: "it failed".to_owned(), is_counted: true }
}

fn dead() -> Outcome {
    Outcome::Dead { error: "it failed for good".to_owned() }
}

/// The result of a settlement that emitted nothing.
const COMMITTED: Result<Settled, isopod_store::StoreError> = Ok(Settled::Committed { has_emitted: false });

impl Backend<'_> {
    /// Accepts events of the app `bot`, none of them a duplicate.
    async fn accept(&self, events: impl IntoIterator<Item = NewEvent>, second: i64) -> Vec<EventSeq> {
        let accepted = self.queue.accept(&name("bot"), events.into_iter().collect(), at(second)).await;
        let seq = |accepted| match accepted {
            Accepted::New { seq } => seq,
            Accepted::Duplicate { .. } => panic!("a duplicate"),
        };
        accepted.expect("they are accepted").into_iter().map(seq).collect()
    }

    /// Claims up to ten events of the process type `worker`.
    async fn claim(&self, second: i64) -> Vec<Claim> {
        self.queue.claim(&name("bot"), &process("worker"), 10, at(second)).await.expect("it is claimed").claims
    }

    /// Claims like [`Backend::claim`], and returns the ids.
    async fn claimed_ids(&self, second: i64) -> Vec<String> {
        self.claim(second).await.into_iter().map(|claim| claim.event.id).collect()
    }

    /// Claims the only due event.
    async fn claim_one(&self, second: i64) -> Claim {
        let claims = self.claim(second).await;
        let [claim] = <[Claim; 1]>::try_from(claims).expect("one event is due");
        claim
    }

    async fn settle(&self, claim: &Claim, outcome: Outcome, second: i64) {
        assert_eq!(self.queue.settle(&name("bot"), claim.lease, outcome, at(second)).await, COMMITTED);
    }

    async fn get(&self, id: &str) -> StoredEvent {
        self.queue.get(&name("bot"), id, None).await.expect("it is read").expect("it exists")
    }

    async fn state(&self, id: &str) -> EventState {
        self.get(id).await.state
    }
}
