//! The metrics of all active apps, which the event streams of a token share: the cost doesn't grow
//! with the number of open pages. Never measures anything itself.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use isopod_store::Token;
use tokio::sync::Mutex;

use super::auth::Authorised;
use crate::api::limits;

/// The latest measurements as JSON, by the name of the token. All tokens for all apps share one,
/// which has no name. Measurements of tokens without streams are removed by later ones.
#[derive(Default)]
pub(crate) struct SharedTop(Mutex<HashMap<Option<String>, Measured>>);

struct Measured {
    at: Instant,
    /// The token, whose scope may have changed.
    row: Arc<Token>,
    top: Bytes,
}

impl Measured {
    fn is_for(&self, token: &Authorised) -> bool {
        token.sees_all() || Arc::ptr_eq(&self.row, &token.row)
    }

    fn is_younger_than(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < age
    }
}

impl SharedTop {
    /// Returns the latest metrics of the apps that a token may see, or those of `measure` if the
    /// latest are old.
    pub(super) async fn latest(
        &self,
        token: &Authorised,
        now: Instant,
        measure: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Bytes> {
        let mut latest = self.0.lock().await;
        let key = (!token.sees_all()).then(|| token.name.clone());
        // Half of the interval, since the ticks of the streams are spread over it.
        let age_max = limits::ALL_METRICS_INTERVAL / 2;
        if let Some(found) = latest.get(&key).filter(|found| found.is_for(token) && found.is_younger_than(age_max, now))
        {
            return Some(found.top.clone());
        }
        let top = measure()?;
        latest.retain(|_, measured| measured.is_younger_than(limits::ALL_METRICS_INTERVAL, now));
        latest.insert(key, Measured { at: now, row: Arc::clone(&token.row), top: top.clone() });
        Some(top)
    }
}

#[cfg(test)]
mod tests {
    use isopod_policy::{Ceiling, Role, Scope};
    use jiff::Timestamp;

    use super::*;
    use crate::api::token_end::TokenEnd;

    fn token(name: &str, scope: Scope) -> Authorised {
        let row = Token {
            name: name.to_owned(),
            hash: String::new(),
            role: Role::Read,
            scope,
            app_ids: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            ceiling: Ceiling::default(),
            expires_at: None,
            last_used_at: None,
            former: None,
        };
        Authorised { name: name.to_owned(), row: Arc::new(row), end: TokenEnd::default() }
    }

    /// Returns the number of measurements of all calls.
    async fn measurements(shared: &SharedTop, now: Instant, tokens: &[&Authorised]) -> usize {
        let mut count = 0;
        for token in tokens {
            let measure = || {
                count += 1;
                Some(Bytes::new())
            };
            shared.latest(token, now, measure).await.expect("a measurement");
        }
        count
    }

    #[tokio::test]
    async fn the_streams_of_a_token_share_each_measurement() {
        let (shared, now) = (SharedTop::default(), Instant::now());
        let some = || Scope::Apps(["hello".parse().expect("a name")].into());
        let (one, other) = (token("one", some()), token("other", some()));
        let (ann, bob) = (token("ann", Scope::All), token("bob", Scope::All));
        assert_eq!(measurements(&shared, now, &[&one, &one, &other, &one, &ann, &bob, &ann]).await, 3);
        // The token has another scope.
        assert_eq!(measurements(&shared, now, &[&token("one", some())]).await, 1);
        let later = now + limits::ALL_METRICS_INTERVAL;
        assert_eq!(measurements(&shared, later, &[&ann, &bob]).await, 1);
        assert_eq!(shared.0.lock().await.len(), 1, "tokens without streams are removed");
    }
}
