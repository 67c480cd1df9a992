//! Bounds what all holders use at one time, and the share of each: one token can't take all permits
//! or all bytes. Never waits, and never knows what is counted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::http::byte_budget::Exceeded;

/// A limit for all holders together, and one for each holder.
#[derive(Debug)]
pub(crate) struct Shares {
    max: u64,
    share: u64,
    /// Into how many parts the rest that other holders leave is divided: a holder may use one of
    /// them, up to its share.
    parts: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// What each holder uses. A holder that uses nothing has no entry.
    by_holder: HashMap<Arc<str>, u64>,
}

/// What one holder uses, as permits or bytes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    holder: Arc<str>,
    amount: u64,
}

impl Shares {
    pub(crate) fn new(max: u64, share: u64) -> Arc<Self> {
        Arc::new(Self { max, share, parts: 1, held: Mutex::default() })
    }

    /// Returns limits that a few holders can't exhaust. A holder may use the fraction `share / max`
    /// of the amount that other holders leave free: `share` if it is the only holder.
    pub(crate) fn shrinking(max: u64, share: u64) -> Arc<Self> {
        Arc::new(Self { max, share, parts: (max / share.max(1)).max(1), held: Mutex::default() })
    }

    /// Takes one permit.
    pub(crate) fn permit(self: &Arc<Self>, holder: &str) -> Result<Share, Exceeded> {
        let mut share = self.up_to(holder, 1)?;
        share.grow_to(1).map(|()| share)
    }

    /// Returns a share that counts nothing yet. Fails if the limits have no room now for the final
    /// amount.
    pub(crate) fn up_to(self: &Arc<Self>, holder: &str, amount: u64) -> Result<Share, Exceeded> {
        self.check(&self.lock(), holder, amount)?;
        Ok(Share { shares: Arc::clone(self), holder: holder.into(), amount: 0 })
    }

    fn check(&self, held: &Held, holder: &str, more: u64) -> Result<(), Exceeded> {
        let own = held.by_holder.get(holder).copied().unwrap_or(0);
        if more > self.share.saturating_sub(own) {
            return Err(Exceeded::Own);
        }
        debug_assert!(held.all >= own, "what a holder uses is counted in the sum");
        let left = self.max.saturating_sub(held.all - own);
        if own + more > left / self.parts { Err(Exceeded::Shared) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Raises the counted amount to `amount`. On failure the previous amount still counts.
    pub(crate) fn grow_to(&mut self, amount: u64) -> Result<(), Exceeded> {
        let more = amount.saturating_sub(self.amount);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.shares.lock();
        self.shares.check(&held, &self.holder, more)?;
        held.all += more;
        *held.by_holder.entry(Arc::clone(&self.holder)).or_default() += more;
        self.amount += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut held = self.shares.lock();
        debug_assert!(held.all >= self.amount, "a released share was counted");
        held.all -= self.amount;
        if let Some(own) = held.by_holder.get_mut(&self.holder) {
            debug_assert!(*own >= self.amount, "a released share was counted for its holder");
            *own -= self.amount;
            if *own == 0 {
                held.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_cannot_take_all_permits_and_a_dropped_permit_is_released() {
        let shares = Shares::new(8, 4);
        let mut own: Vec<Share> = (0..9).map_while(|_| shares.permit("ci").ok()).collect();
        assert_eq!((own.len(), shares.permit("ci").err()), (4, Some(Exceeded::Own)));
        let others: Vec<Share> = (0..9).map_while(|n| shares.permit(&format!("other-{}", n % 3)).ok()).collect();
        assert_eq!((others.len(), shares.permit("ann").err()), (4, Some(Exceeded::Shared)));
        own.pop();
        assert!(shares.permit("ann").is_ok());
        drop((own, others));
        let held = shares.lock();
        assert!(held.all == 0 && held.by_holder.is_empty(), "{held:?}");
    }

    #[test]
    fn a_few_holders_of_shrinking_shares_leave_a_part_to_others() {
        let shares = Shares::shrinking(1024, 256);
        let hold = |holder: String| -> Vec<Share> { (0..=1024).map_while(|_| shares.permit(&holder).ok()).collect() };
        let held: Vec<Vec<Share>> = (0..4).map(|holder| hold(holder.to_string())).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [256, 192, 144, 108]);
        assert_eq!(shares.permit("0").err(), Some(Exceeded::Own), "it has its whole share");
        assert_eq!(shares.permit("1").err(), Some(Exceeded::Shared), "the others leave no more to it");
        let others: Vec<_> = (4..100).map(|holder| hold(holder.to_string())).collect();
        assert_eq!(shares.permit("new").err(), Some(Exceeded::Shared));
        assert_eq!(held.iter().chain(&others).map(Vec::len).sum::<usize>(), 1021);
        drop((held, others));
        assert_eq!(hold("new".to_owned()).len(), 256);
    }

    #[test]
    fn announced_bytes_do_not_count_before_they_arrive() {
        let shares = Shares::new(100, 50);
        let announced: Vec<_> = (0..50).map(|_| shares.up_to("ci", 50)).collect();
        assert!(announced.iter().all(Result::is_ok), "none of these bytes has arrived");
        let mut first = shares.up_to("ci", 50).expect("there is room");
        assert_eq!(first.grow_to(40), Ok(()));
        assert_eq!(shares.up_to("ci", 11).err(), Some(Exceeded::Own));
        let mut second = shares.up_to("ci", 10).expect("there is room");
        assert_eq!((second.grow_to(11), second.grow_to(10)), (Err(Exceeded::Own), Ok(())));
        assert_eq!(first.grow_to(3), Ok(()), "a share never shrinks");
        let mut third = shares.up_to("ann", 50).expect("there is room");
        assert_eq!((third.grow_to(50), shares.up_to("bob", 1).err()), (Ok(()), Some(Exceeded::Shared)));
        drop(first);
        assert_eq!(second.grow_to(50), Ok(()));
    }
}
