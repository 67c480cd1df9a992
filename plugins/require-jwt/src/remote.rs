//! Key sets at URLs, which an instance caches for all apps by URL. They are kept apart from the
//! settings, so that an app with many configs doesn't evict the key sets of others. Never verifies
//! a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use isopod_sdk::http::fetch_streaming;
use isopod_sdk::prelude::*;
use isopod_sdk::time::{now, timeout};
use jsonwebtoken::jwk::JwkSet;

use crate::keys::{self, Key};

/// A larger key set is refused.
const SET_BYTES_MAX: usize = 256 * 1024;
/// Less than the plugin's time limit for a call, so that a slow server doesn't end the instance.
const FETCH_TIMEOUT: Duration = Duration::from_millis(700);
/// The shortest time between two fetches until the first key set arrives.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The age at which a key set is fetched again, so that removed keys don't stay valid.
const SET_KEPT_FOR: Duration = Duration::from_secs(600);
/// Key sets of an instance. Beyond it, the least recently used ones are evicted.
pub(crate) const SETS_MAX: usize = 256;
/// The size of these key sets in JSON. Beyond it, they are evicted in the same way.
const SETS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A key set that was used within this time is never evicted. If all of them were, a further key
/// set is fetched for each request.
const IN_USE_FOR: Duration = Duration::from_secs(60);

/// A key set at a URL. Its keys stay in use while the server fails.
pub(crate) struct RemoteSet {
    url: String,
    /// The shortest time between two fetches, however many tokens name unknown keys.
    interval: Duration,
}

impl RemoteSet {
    /// Without TLS, only a server on the same machine is permitted: others could replace the keys.
    pub(crate) fn new(url: String, interval: Duration) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
        match scheme {
            "https" if !host.is_empty() && !host.contains('@') => {}
            "http" if is_local && !host.contains('@') => {}
            _ => return Err("`jwks_url` must be a URL that starts with \"https://\"".to_owned()),
        }
        Ok(Self { url, interval })
    }

    /// Returns the keys. Fetches them if they are old, or if the wanted key is missing.
    pub(crate) async fn keys(&self, has_wanted: impl Fn(&[Key]) -> bool) -> Result<Rc<[Key]>> {
        let former = get(&self.url);
        let Fetched { keys, fetched_at, tried_at, .. } = &former;
        let is_within = |time: &Option<SystemTime>, most: Duration| {
            time.is_some_and(|time| now().duration_since(time).is_ok_and(|age| age < most))
        };
        match keys {
            Some(keys) if is_within(fetched_at, SET_KEPT_FOR) && has_wanted(keys) => return Ok(Rc::clone(keys)),
            Some(keys) if is_within(tried_at, self.interval) => return Ok(Rc::clone(keys)),
            None if is_within(tried_at, self.interval.min(FIRST_INTERVAL)) => {
                return Err(Error::msg(format!("the keys at {} could not be fetched a moment ago", self.url)));
            }
            _ => {}
        }
        put(&self.url, Fetched { tried_at: Some(now()), ..former.clone() });
        match (timeout(FETCH_TIMEOUT, self.fetch()).await.and_then(|fetched| fetched), former.keys) {
            (Ok((keys, bytes)), _) => {
                let (fetched_at, tried_at) = (Some(now()), Some(now()));
                put(&self.url, Fetched { keys: Some(Rc::clone(&keys)), bytes, fetched_at, tried_at });
                Ok(keys)
            }
            (Err(error), Some(keys)) => {
                log::warn!("the former keys of {} stay in use: {error}", self.url);
                Ok(keys)
            }
            // A new error, so that it counts as a failure of the plugin. An error with a status
            // would be a response to the client.
            (Err(error), None) => Err(Error::msg(format!("failed to fetch the keys at {}: {error}", self.url))),
        }
    }

    /// Returns the keys, and the size of the set in JSON.
    async fn fetch(&self) -> Result<(Rc<[Key]>, usize)> {
        let request = Request::get(&self.url).with_header("accept", "application/jwk-set+json, application/json");
        let (head, mut body) = fetch_streaming(request).await?;
        if head.status != 200 {
            return Err(Error::msg(format!("the server responds with status {}", head.status)));
        }
        let text = body.read_to_end(SET_BYTES_MAX).await?;
        let set: JwkSet = serde_json::from_slice(&text).context("the response is not a JSON Web Key Set")?;
        Ok((keys::of_set(&set)?, text.len()))
    }
}

/// The keys at a URL, and the times of the last fetches.
#[derive(Clone, Default)]
struct Fetched {
    keys: Option<Rc<[Key]>>,
    /// The size of the key set in JSON.
    bytes: usize,
    fetched_at: Option<SystemTime>,
    tried_at: Option<SystemTime>,
}

struct Entry {
    url: String,
    fetched: Fetched,
    used_at: SystemTime,
}

thread_local! {
    static FETCHED: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Returns the keys of a URL, and marks them as used now.
fn get(url: &str) -> Fetched {
    FETCHED.with_borrow_mut(|entries| {
        let Some(entry) = entries.iter_mut().find(|entry| entry.url == url) else { return Fetched::default() };
        entry.used_at = now();
        entry.fetched.clone()
    })
}

/// Keeps the keys of a URL, if there is room.
fn put(url: &str, fetched: Fetched) {
    FETCHED.with_borrow_mut(|entries| {
        entries.retain(|entry| entry.url != url);
        let (url, used_at) = (url.to_owned(), now());
        let bytes = |entries: &[Entry]| entries.iter().map(|entry| entry.fetched.bytes).sum::<usize>();
        while entries.len() >= SETS_MAX || bytes(entries) + fetched.bytes > SETS_BYTES_MAX {
            let oldest = entries.iter().enumerate().min_by_key(|(_, entry)| entry.used_at);
            // A clock that was set back makes an entry appear to be in use.
            let is_in_use = |entry: &Entry| used_at.duration_since(entry.used_at).is_ok_and(|age| age < IN_USE_FOR);
            match oldest {
                Some((index, entry)) if !is_in_use(entry) => drop(entries.swap_remove(index)),
                _ => return,
            }
        }
        entries.push(Entry { url, fetched, used_at });
    });
}
