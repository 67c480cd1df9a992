//! Limits the open event streams, of each token and of all. Never sends an event.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::error::Error;
use crate::api::limits;

/// The number of open event streams by token.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<HashMap<String, usize>>);

impl Subscribers {
    /// Takes a permit for one event stream. Dropping the permit releases it.
    pub(super) fn take(self: &Arc<Self>, token: &str) -> Result<SubscriberPermit, Error> {
        let mut permits = self.lock();
        if permits.values().sum::<usize>() >= limits::SUBSCRIBERS_MAX {
            return Err(Error::TooManySubscribers);
        }
        let own = permits.entry(token.to_owned()).or_default();
        if *own >= limits::SUBSCRIBERS_PER_TOKEN {
            return Err(Error::TooManyOfToken { token: token.to_owned() });
        }
        *own += 1;
        Ok(SubscriberPermit { subscribers: Arc::clone(self), token: token.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of one event stream.
pub(super) struct SubscriberPermit {
    subscribers: Arc<Subscribers>,
    token: String,
}

impl Drop for SubscriberPermit {
    fn drop(&mut self) {
        let mut permits = self.subscribers.lock();
        if let Some(own) = permits.get_mut(&self.token) {
            *own -= 1;
        }
        permits.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_cannot_take_all_permits_and_a_dropped_permit_is_released() {
        let subscribers = Arc::new(Subscribers::default());
        let mut own: Vec<SubscriberPermit> =
            (0..limits::SUBSCRIBERS_PER_TOKEN).map_while(|_| subscribers.take("ci").ok()).collect();
        assert_eq!(own.len(), limits::SUBSCRIBERS_PER_TOKEN);
        assert!(matches!(subscribers.take("ci"), Err(Error::TooManyOfToken { .. })));
        let others: Vec<SubscriberPermit> =
            (0..).map_while(|n| subscribers.take(&format!("other-{}", n % 7)).ok()).collect();
        assert_eq!(own.len() + others.len(), limits::SUBSCRIBERS_MAX);
        assert!(matches!(subscribers.take("ann"), Err(Error::TooManySubscribers)));
        own.pop();
        assert!(subscribers.take("ann").is_ok());
        drop((own, others));
        assert!(subscribers.lock().is_empty());
    }
}
