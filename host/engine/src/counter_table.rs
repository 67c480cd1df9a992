//! The token buckets of one plugin for one app: a table of limited size that grows with the number
//! of buckets that aren't full. Never decides whether tokens are taken.
//!
//! The table has sets of a few slots. The hash of a key selects its set. A new key takes the slot
//! of a full bucket. If the set has no such slot, the table doubles. At its maximum size, the
//! bucket that is full soonest is evicted. A client with many keys therefore evicts buckets that
//! miss few tokens before the bucket of a client that has used up its tokens.

use crate::limits;
use isopod_policy::{Rate, Taken, TokenBucket};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Slots of a set.
const WAYS: usize = 8;

/// The buckets of one plugin for one app. Empty until the first tokens are taken.
#[derive(Debug)]
pub struct Counters {
    table: Mutex<Table>,
    /// Its random keys prevent clients from choosing keys with equal hashes.
    hasher: RandomState,
    created: Instant,
}

/// No bucket has this number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoBucket;

impl Default for Counters {
    fn default() -> Self {
        Self { table: Mutex::default(), hasher: RandomState::new(), created: Instant::now() }
    }
}

impl Counters {
    pub(crate) fn take(&self, key: &str, tokens: u32, rate: Rate) -> Result<Taken, NoBucket> {
        let hash = self.hasher.hash_one(key);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the time of the table never decreases.
        table.take(hash, tokens, rate, self.created.elapsed()).ok_or(NoBucket)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// A power of two of sets.
    sets: Vec<[Slot; WAYS]>,
}

/// The bucket of a key. A slot with a full bucket is free.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    hash: u64,
    bucket: TokenBucket,
}

impl Table {
    fn take(&mut self, hash: u64, tokens: u32, rate: Rate, now: Duration) -> Option<Taken> {
        let slot = self.slot(hash, now);
        let taken = slot.bucket.take(tokens, rate, now)?;
        slot.bucket = taken.bucket;
        Some(taken)
    }

    /// Returns the slot of a key.
    fn slot(&mut self, hash: u64, now: Duration) -> &mut Slot {
        if self.sets.is_empty() {
            self.sets.push(Default::default());
        }
        while !self.has_room(hash, now) && self.sets.len() * WAYS < limits::COUNTERS_MAX {
            self.double();
        }
        let index = self.index(hash);
        let set = &mut self.sets[index];
        let found = set.iter().position(|slot| slot.hash == hash);
        let index = found.unwrap_or_else(|| soonest_full(set));
        if found.is_none() {
            set[index] = Slot { hash, bucket: TokenBucket::default() };
        }
        &mut set[index]
    }

    fn index(&self, hash: u64) -> usize {
        (hash & (self.sets.len() as u64 - 1)) as usize
    }

    fn has_room(&self, hash: u64, now: Duration) -> bool {
        self.sets[self.index(hash)].iter().any(|slot| slot.hash == hash || slot.bucket.is_full(now))
    }

    fn double(&mut self) {
        let former = std::mem::take(&mut self.sets);
        self.sets = vec![Default::default(); former.len() * 2];
        for slot in former.into_iter().flatten() {
            let index = self.index(slot.hash);
            let set = &mut self.sets[index];
            // The slots of a set go into two sets, so each of them has room.
            set[soonest_full(set)] = slot;
        }
    }
}

fn soonest_full(set: &[Slot; WAYS]) -> usize {
    set.iter().enumerate().min_by_key(|(_, slot)| slot.bucket).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn rate(burst: u32) -> Rate {
        Rate::new(1, Duration::from_secs(3600), burst).expect("a valid rate")
    }

    fn take(table: &mut Table, hash: u64, now: Duration) -> bool {
        table.take(hash, 1, rate(10), now).expect("a number of tokens that fits").is_taken
    }

    /// Returns different hashes in a random order.
    fn hashes(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    #[test]
    fn keys_have_separate_buckets() {
        let counters = Counters::default();
        let mut taken = ["a", "a", "b", "a"].map(|key| counters.take(key, 1, rate(2)).expect("it fits").is_taken);
        assert_eq!(taken, [true, true, true, false]);
        let other = Counters::default();
        taken = ["a"; 4].map(|key| other.take(key, 1, rate(2)).expect("it fits").is_taken);
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(counters.take("a", 3, rate(2)), Err(NoBucket));
    }

    #[test]
    fn the_table_holds_many_buckets_and_has_a_maximum_size() {
        let mut table = Table::default();
        let many = limits::COUNTERS_MAX as u64 / 8;
        for _ in 0..10 {
            assert!(hashes(many).all(|hash| take(&mut table, hash, NOW)));
        }
        assert!(hashes(many).all(|hash| !take(&mut table, hash, NOW)), "all of them are remembered");
        assert!(hashes(1_000_000).skip(many as usize).all(|hash| take(&mut table, hash, NOW)));
        assert_eq!(table.sets.len() * WAYS, limits::COUNTERS_MAX);
        assert_eq!(size_of::<Slot>(), 16);
    }

    #[test]
    fn many_keys_do_not_free_an_empty_bucket() {
        let mut table = Table::default();
        for _ in 0..10 {
            assert!(take(&mut table, 7, NOW));
        }
        for hash in hashes(1_000_000) {
            take(&mut table, hash, NOW);
        }
        assert!(!take(&mut table, 7, NOW));
    }

    #[test]
    fn slots_of_full_buckets_are_reused() {
        let mut table = Table::default();
        for (number, hash) in hashes(100_000).enumerate() {
            let later = NOW + Duration::from_secs(3600) * u32::try_from(number).expect("a small number");
            take(&mut table, hash, later);
        }
        assert_eq!(table.sets.len(), 1);
    }
}
