//! The buffer of one event delivery: the values that the handler sets, the events that it sends,
//! and the versions of the keys that it reads. Never stores anything: the embedder commits the
//! effects together with the event's acknowledgement.

use crate::{
    account::Account,
    budget::Reservation,
    event::{EmittedEvent, Event},
    fault::Denied,
    limits,
    sandbox::ValueVersion,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, ops::Bound};

/// The effects of a handler, which the embedder commits together with the acknowledgement of its
/// event.
#[derive(Default)]
pub struct Effects {
    /// The keys that the handler has read from the store. A commit must fail if a key has another
    /// version by then. A key appears twice if the handler has read two versions.
    pub reads: Vec<KeyRead>,
    /// The new values, at most one per key.
    pub writes: Vec<KeyWrite>,
    /// The events to store, in the order in which they were sent.
    pub emitted: Vec<EmittedEvent>,
    /// Held until the effects are dropped, or until the embedder takes it.
    charge: EffectsCharge,
}

/// The charge for the memory of a handler's effects, held until this is dropped.
#[derive(Default)]
#[must_use = "dropping the charge releases it"]
pub struct EffectsCharge {
    _reservation: Option<Reservation>,
}

impl Effects {
    /// Takes the charge, so that an embedder that converts the effects holds it until their commit.
    pub fn take_charge(&mut self) -> EffectsCharge {
        std::mem::take(&mut self.charge)
    }
}

/// A key and the version of its value that a handler has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRead {
    pub bucket: String,
    pub key: String,
    pub version: ValueVersion,
}

/// A key and its new value; `None` deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrite {
    pub bucket: String,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// The error of a transaction that has reached a limit. The guest receives the text.
#[derive(Debug)]
pub(crate) struct TransactionFull(pub(crate) String);

impl From<Denied> for TransactionFull {
    fn from(denied: Denied) -> Self {
        Self(denied.call_error())
    }
}

type ByKey<T> = BTreeMap<String, BTreeMap<String, T>>;

/// The buffered effects of the delivery in progress.
#[derive(Default)]
pub(crate) struct Transaction {
    reads: ByKey<ValueVersion>,
    /// A second version of a key that the handler had already read. If set, the commit fails.
    torn: Option<KeyRead>,
    writes: ByKey<Option<Vec<u8>>>,
    emitted: Vec<EmittedEvent>,
    /// Identifies the delivered event.
    event: [u8; 32],
    /// The keys in `reads` and `writes`.
    keys: usize,
    bytes: u64,
}

impl Transaction {
    /// Begins the transaction of an event's delivery.
    pub(crate) fn of(event: &Event) -> Self {
        let length = (event.source.len() as u64).to_le_bytes();
        let digest = Sha256::new().chain_update(length).chain_update(&event.source).chain_update(&event.id);
        let digest = digest.chain_update(event.accepted_ms.to_le_bytes());
        Self { event: digest.finalize().into(), ..Self::default() }
    }

    /// Returns the id of the next event to send. It is derived from the delivered event, so that a
    /// repeated delivery sends an event with the same id, which its receiver can recognise. A later
    /// event with the source and id of the delivered one sends events with other ids: these are no
    /// duplicates of earlier ones that still wait.
    pub(crate) fn next_id(&self) -> String {
        let number = (self.emitted.len() as u64).to_le_bytes();
        let digest = Sha256::new().chain_update(self.event).chain_update(number).finalize();
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the buffered value of a key, if the handler has set or deleted it.
    pub(crate) fn written(&self, bucket: &str, key: &str) -> Option<&Option<Vec<u8>>> {
        self.writes.get(bucket)?.get(key)
    }

    /// Returns the version of a key that the handler has read from the store.
    pub(crate) fn version_read(&self, bucket: &str, key: &str) -> Option<ValueVersion> {
        self.reads.get(bucket)?.get(key).copied()
    }

    /// Returns whether the handler has seen two versions of a key. The commit will fail.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Records the version of a key that the handler reads.
    pub(crate) fn note_read(
        &mut self,
        account: &mut Account,
        bucket: &str,
        key: &str,
        version: ValueVersion,
    ) -> Result<(), TransactionFull> {
        match self.version_read(bucket, key) {
            Some(first) if first == version => return Ok(()),
            Some(_) => {
                let (bucket, key) = (bucket.to_owned(), key.to_owned());
                self.torn.get_or_insert(KeyRead { bucket, key, version });
                return Ok(());
            }
            None => {}
        }
        self.charge(account, true, entry_bytes(bucket, key, None), 0)?;
        self.reads.entry(bucket.to_owned()).or_default().insert(key.to_owned(), version);
        Ok(())
    }

    /// Buffers a value, or the deletion of a key.
    pub(crate) fn write(
        &mut self,
        account: &mut Account,
        bucket: &str,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> Result<(), TransactionFull> {
        let before = self.written(bucket, key).map(|value| entry_bytes(bucket, key, value.as_ref()));
        let bytes = entry_bytes(bucket, key, value.as_ref());
        self.charge(account, before.is_none(), bytes, before.unwrap_or(0))?;
        self.writes.entry(bucket.to_owned()).or_default().insert(key.to_owned(), value);
        Ok(())
    }

    /// Buffers an event.
    pub(crate) fn emit(&mut self, account: &mut Account, event: EmittedEvent) -> Result<(), TransactionFull> {
        let most = limits::EMITTED_EVENTS_MAX;
        if self.emitted.len() >= most {
            return Err(TransactionFull(format!("an event handler sends at most {most} events for one event")));
        }
        self.charge(account, false, event.stored_bytes_max(), 0)?;
        self.emitted.push(event);
        Ok(())
    }

    /// Merges the buffered values into a page of the store's keys. `next` is the cursor of the next
    /// page: the last key of this page.
    pub(crate) fn merge_page(
        &self,
        bucket: &str,
        cursor: Option<&str>,
        keys: Vec<String>,
        next: Option<String>,
    ) -> (Vec<String>, Option<String>) {
        let Some(written) = self.writes.get(bucket) else { return (keys, next) };
        let after = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        let until = next.as_deref().map_or(Bound::Unbounded, Bound::Included);
        if matches!((cursor, next.as_deref()), (Some(after), Some(until)) if after >= until) {
            return (keys, next);
        }
        let mut merged: BTreeMap<String, ()> = keys.into_iter().map(|key| (key, ())).collect();
        for (key, value) in written.range::<str, _>((after, until)) {
            match value {
                Some(_) => drop(merged.insert(key.clone(), ())),
                None => drop(merged.remove(key)),
            }
        }
        let mut keys: Vec<String> = merged.into_keys().collect();
        if keys.len() <= limits::KEYS_PER_CALL_MAX {
            return (keys, next);
        }
        keys.truncate(limits::KEYS_PER_CALL_MAX);
        let next = keys.last().cloned();
        (keys, next)
    }

    /// Ends the transaction. The effects stay charged to the host's memory until they are dropped.
    pub(crate) fn into_effects(self, account: &mut Account) -> Effects {
        let reads = self.reads.into_iter().flat_map(|(bucket, keys)| {
            keys.into_iter().map(move |(key, version)| KeyRead { bucket: bucket.clone(), key, version })
        });
        let writes = self.writes.into_iter().flat_map(|(bucket, keys)| {
            keys.into_iter().map(move |(key, value)| KeyWrite { bucket: bucket.clone(), key, value })
        });
        Effects {
            reads: reads.chain(self.torn).collect(),
            writes: writes.collect(),
            emitted: self.emitted,
            charge: EffectsCharge { _reservation: Some(account.end_transaction()) },
        }
    }

    /// Charges an entry of `bytes` that replaces one of `before` bytes.
    fn charge(
        &mut self,
        account: &mut Account,
        is_new_key: bool,
        bytes: u64,
        before: u64,
    ) -> Result<(), TransactionFull> {
        let (keys, total) = (self.keys + usize::from(is_new_key), self.bytes - before + bytes);
        let most = limits::TRANSACTION_KEYS_MAX;
        if keys > most {
            return Err(TransactionFull(format!(
                "an event handler reads and writes at most {most} keys for one event: send further events for the rest"
            )));
        }
        let most = limits::TRANSACTION_BYTES_MAX;
        if total > most {
            let most = most >> 20;
            return Err(TransactionFull(format!(
                "the values and events that an event handler changes for one event exceed {most} MiB: send further \
                 events for the rest"
            )));
        }
        account.set_transaction(total)?;
        (self.keys, self.bytes) = (keys, total);
        Ok(())
    }
}

/// Returns the version of a buffered value. It differs from the versions of the store if the value
/// differs.
pub(crate) fn version_of(value: Option<&[u8]>) -> ValueVersion {
    ValueVersion(value.map(|value| Sha256::digest(value).into()))
}

fn entry_bytes(bucket: &str, key: &str, value: Option<&Vec<u8>>) -> u64 {
    limits::TRANSACTION_ENTRY_BYTES + (bucket.len() + key.len() + value.map_or(0, Vec::len)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountLimits;
    use crate::budget::Budget;
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn account() -> Account {
        account_in(&Arc::new(Budget::new(u64::MAX)))
    }

    fn account_in(budget: &Arc<Budget>) -> Account {
        let limits = AccountLimits { memory_bytes: 1 << 20, table_elements: 1, may_use_reserve: true };
        Account::new(limits, budget)
    }

    fn write(transaction: &mut Transaction, account: &mut Account, key: &str, value: Option<&str>) {
        let value = value.map(|value| value.as_bytes().to_vec());
        transaction.write(account, "b", key, value).unwrap_or_else(|full| panic!("{}", full.0));
    }

    /// Lists all keys as a guest does: page after page, of a store whose pages have this size.
    fn listed(transaction: &Transaction, stored: &BTreeSet<String>, page_keys: usize) -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = stored.iter().filter(|key| cursor.as_ref().is_none_or(|cursor| *key > cursor));
            let mut keys: Vec<String> = after.take(page_keys + 1).cloned().collect();
            let has_more = keys.len() > page_keys;
            keys.truncate(page_keys);
            let next = if has_more { keys.last().cloned() } else { None };
            let (keys, next) = transaction.merge_page("b", cursor.as_deref(), keys, next);
            assert!(keys.len() <= limits::KEYS_PER_CALL_MAX);
            all.extend(keys);
            match next {
                Some(next) => cursor = Some(next),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_of_keys_contain_every_change_once_and_in_order() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let (mut transaction, mut account) = (Transaction::default(), account());
            let stored: BTreeSet<String> = (0..20).map(|_| format!("{:02}", random.random_range(0..40))).collect();
            let mut expected = stored.clone();
            for _ in 0..20 {
                let key = format!("{:02}", random.random_range(0..42));
                let is_set: bool = random.random();
                write(&mut transaction, &mut account, &key, is_set.then_some("v"));
                if is_set {
                    expected.insert(key)
                } else {
                    expected.remove(&key)
                };
            }
            let expected: Vec<String> = expected.into_iter().collect();
            assert_eq!(listed(&transaction, &stored, random.random_range(1..6)), expected, "seed {seed}");
        }
    }

    #[test]
    fn only_deliveries_of_the_same_stored_event_send_events_with_the_same_ids() {
        let of = |id: &str, attempt, accepted_ms| {
            let event =
                Event { id: id.to_owned(), source: "/shop".to_owned(), attempt, accepted_ms, ..Event::default() };
            Transaction::of(&event).next_id()
        };
        assert_eq!(of("1", 1, 5), of("1", 2, 5), "another attempt");
        assert_ne!(of("1", 1, 5), of("2", 1, 5));
        assert_ne!(of("1", 1, 5), of("1", 1, 6), "a later event with the same source and id");
    }

    #[test]
    fn a_page_with_many_changes_is_split() {
        let (mut transaction, mut account) = (Transaction::default(), account());
        let keys: Vec<String> = (0..2_500).map(|number| format!("{number:04}")).collect();
        keys.iter().for_each(|key| write(&mut transaction, &mut account, key, Some("v")));
        let stored = BTreeSet::from(["0500".to_owned(), "2499x".to_owned()]);
        let expected: Vec<String> = keys.into_iter().chain(["2499x".to_owned()]).collect();
        assert_eq!(listed(&transaction, &stored, 1), expected);
    }

    #[test]
    fn a_replaced_value_is_charged_once() {
        let (mut transaction, mut account) = (Transaction::default(), account());
        for _ in 0..100 {
            write(&mut transaction, &mut account, "k", Some(&"v".repeat(1 << 20)));
        }
        write(&mut transaction, &mut account, "k", Some("v"));
        assert_eq!(transaction.bytes, limits::TRANSACTION_ENTRY_BYTES + 3);
        let effects = transaction.into_effects(&mut account);
        assert_eq!(effects.writes.len(), 1);
    }

    #[test]
    fn effects_stay_charged_while_the_embedder_holds_their_charge() {
        let budget = Arc::new(Budget::new(1 << 20));
        let (mut transaction, mut one, mut other) = (Transaction::default(), account_in(&budget), account_in(&budget));
        write(&mut transaction, &mut one, "k", Some(&"v".repeat(700_000)));
        let mut effects = transaction.into_effects(&mut one);
        let charge = effects.take_charge();
        drop((effects, one));
        assert!(other.set_transaction(700_000).is_err());
        drop(charge);
        assert!(other.set_transaction(700_000).is_ok());
    }

    #[test]
    fn events_are_charged_up_to_the_exact_limit() {
        let (mut transaction, mut account) = (Transaction::default(), account());
        let event = |bytes: u64| EmittedEvent {
            data: Some(vec![0; usize::try_from(bytes).expect("it fits")]),
            ..EmittedEvent::default()
        };
        let most = limits::TRANSACTION_BYTES_MAX;
        let each = most / 1_000 - limits::EMITTED_EVENT_ENTRY_BYTES;
        (0..999).for_each(|_| assert!(transaction.emit(&mut account, event(each)).is_ok()));
        let left = most - transaction.bytes - limits::EMITTED_EVENT_ENTRY_BYTES;
        assert!(transaction.emit(&mut account, event(left + 1)).is_err());
        assert!(transaction.emit(&mut account, event(left)).is_ok());
        assert_eq!(transaction.bytes, most);
    }
}
