//! The token buckets of one plugin for one app: a table of limited size that grows with the number
//! of buckets that aren't full. Never decides whether tokens are taken.
//!
//! The table has sets of a few slots. The hash of a key selects its set. A new key takes the slot
//! of a full bucket. If the set has no such slot, the table doubles. At its maximum size, or
//! without room in the host's memory budget, the bucket of the set that is full soonest is evicted.
//! Keys that take few tokens therefore don't evict the bucket of a client that has used up its
//! tokens.

use crate::{
    budget::{Budget, Reservation},
    limits,
};
use isopod_policy::{Rate, Taken, TokenBucket};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// Takes tokens from the bucket of a key. Charges a table that grows to the memory budget.
    pub(crate) fn take(&self, key: &str, tokens: u32, rate: Rate, memory: &Arc<Budget>) -> Result<Taken, NoBucket> {
        let hash = self.hasher.hash_one(key);
        let mut table = self.lock();
        // Read under the lock, so that the time of the table never decreases.
        table.take(hash, tokens, rate, self.created.elapsed(), memory).ok_or(NoBucket)
    }

    /// Drops the table if all buckets are full.
    pub fn drop_full(&self) {
        let mut table = self.lock();
        if table.is_full(self.created.elapsed()) {
            *table = Table::default();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// A power of two of sets.
    sets: Vec<[Slot; WAYS]>,
    /// The table's reservation in the memory budget.
    reservation: Option<Reservation>,
}

/// The bucket of a key. A slot with a full bucket is free.
#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    hash: u64,
    bucket: TokenBucket,
}

impl Table {
    fn take(&mut self, hash: u64, tokens: u32, rate: Rate, now: Duration, memory: &Arc<Budget>) -> Option<Taken> {
        // A call with an invalid number of tokens must not evict a bucket.
        TokenBucket::default().take(tokens, rate, now)?;
        let slot = self.slot(hash, now, memory);
        let taken = slot.bucket.take(tokens, rate, now)?;
        slot.bucket = taken.bucket;
        Some(taken)
    }

    /// Returns the slot of a key.
    fn slot(&mut self, hash: u64, now: Duration, memory: &Arc<Budget>) -> &mut Slot {
        if self.sets.is_empty() {
            self.sets.push(Default::default());
        }
        while !self.has_room(hash, now) && self.sets.len() * WAYS < limits::COUNTERS_MAX {
            if !self.reserve_double(memory) {
                break;
            }
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

    fn is_full(&self, now: Duration) -> bool {
        self.sets.iter().flatten().all(|slot| slot.bucket.is_full(now))
    }

    /// Reserves memory for a table of twice the size. A small table isn't charged. Returns whether
    /// the budget has room.
    fn reserve_double(&mut self, memory: &Arc<Budget>) -> bool {
        let bytes = size_of_val(&*self.sets);
        let charged = if bytes > limits::COUNTERS_BYTES_UNCHARGED { bytes } else { 0 };
        let more = if bytes * 2 > limits::COUNTERS_BYTES_UNCHARGED { bytes * 2 - charged } else { 0 };
        let reservation = self.reservation.get_or_insert_with(|| Reservation::empty(memory));
        reservation.grow(more as u64, false).is_ok()
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

    fn memory() -> Arc<Budget> {
        Arc::new(Budget::new(u64::MAX))
    }

    fn take(table: &mut Table, hash: u64, now: Duration) -> bool {
        table.take(hash, 1, rate(10), now, &memory()).expect("a number of tokens that fits").is_taken
    }

    /// Takes tokens from more buckets than the table holds.
    fn take_of_each_key(counters: &Counters, tokens: u32, rate: Rate, memory: &Arc<Budget>) {
        for key in 0..20_000 {
            counters.take(&format!("key {key}"), tokens, rate, memory).expect("it fits");
        }
    }

    /// Returns different hashes in a random order.
    fn hashes(count: u64) -> impl Iterator<Item = u64> {
        (1..=count).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    #[test]
    fn keys_have_separate_buckets() {
        let counters = Counters::default();
        let mut taken =
            ["a", "a", "b", "a"].map(|key| counters.take(key, 1, rate(2), &memory()).expect("it fits").is_taken);
        assert_eq!(taken, [true, true, true, false]);
        let other = Counters::default();
        taken = ["a"; 4].map(|key| other.take(key, 1, rate(2), &memory()).expect("it fits").is_taken);
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(counters.take("a", 3, rate(2), &memory()), Err(NoBucket));
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

    #[test]
    fn an_invalid_number_of_tokens_evicts_no_bucket() {
        let mut table = Table::default();
        for _ in 0..10 {
            assert!(take(&mut table, 7, NOW));
        }
        let sets = table.sets.len();
        for hash in hashes(100_000) {
            assert!(table.take(hash, 11, rate(10), NOW, &memory()).is_none());
        }
        assert!(!take(&mut table, 7, NOW));
        assert_eq!(table.sets.len(), sets);
    }

    #[test]
    fn a_large_table_is_charged_until_its_buckets_are_full() {
        let budget = Arc::new(Budget::new(1 << 20));
        let counters: Vec<Counters> = (0..20).map(|_| Counters::default()).collect();
        let sets = |counters: &Counters| counters.lock().sets.len();
        let fill = |counters: &Counters| take_of_each_key(counters, 1, rate(1), &budget);
        counters.iter().for_each(fill);
        let bytes: usize = counters.iter().map(|counters| size_of_val(&*counters.lock().sets)).sum();
        assert!(bytes <= (1 << 20) + 20 * limits::COUNTERS_BYTES_UNCHARGED, "{bytes} bytes");
        assert_eq!(sets(&counters[0]) * WAYS, limits::COUNTERS_MAX);
        assert!(
            sets(&counters[19]) * WAYS * size_of::<Slot>() >= limits::COUNTERS_BYTES_UNCHARGED,
            "a small table isn't charged"
        );
        counters.iter().for_each(Counters::drop_full);
        assert_eq!(sets(&counters[0]) * WAYS, limits::COUNTERS_MAX, "its buckets are not full");
        drop(counters);
        let again = Counters::default();
        fill(&again);
        assert_eq!(sets(&again) * WAYS, limits::COUNTERS_MAX, "the memory of dropped tables is free");
    }

    #[test]
    fn a_table_of_full_buckets_is_dropped() {
        let budget = memory();
        let counters = Counters::default();
        let often = Rate::new(1_000_000, Duration::from_millis(1), 1_000_000).expect("a valid rate");
        take_of_each_key(&counters, 1_000_000, often, &budget);
        assert!(!counters.lock().sets.is_empty());
        std::iter::repeat_with(|| counters.drop_full()).find(|()| counters.lock().sets.is_empty());
        assert_eq!(counters.lock().sets.capacity(), 0);
        assert!(counters.lock().reservation.is_none());
    }
}
