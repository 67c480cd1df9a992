//! The keys that verify tokens: from the config, or from a JSON Web Key Set at a URL, which is
//! cached. Never verifies a token.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use isopod_sdk::http::fetch_streaming;
use isopod_sdk::prelude::*;
use isopod_sdk::time::{now, timeout};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// RFC 7518 §3.2: an HS256 secret is at least as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// A larger key set is refused.
const SET_BYTES_MAX: usize = 256 * 1024;
/// A key set with more usable keys is refused, since a token may be checked with each key.
const SET_KEYS_MAX: usize = 64;
/// Less than the plugin's time limit for a call, so that a slow server doesn't end the instance.
const FETCH_TIMEOUT: Duration = Duration::from_millis(700);
/// The shortest time between two fetches until the first key set arrives.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
/// The age at which a key set is fetched again, so that removed keys don't stay valid.
const SET_KEPT_FOR: Duration = Duration::from_secs(600);

pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

pub(crate) fn of_pem(pem: &str) -> Result<Key, String> {
    let bytes = if pem.contains("PRIVATE KEY") { &[] } else { pem.as_bytes() };
    let rsa = DecodingKey::from_rsa_pem(bytes).map(|key| (Algorithm::RS256, key));
    let ec = |_| DecodingKey::from_ec_pem(bytes).map(|key| (Algorithm::ES256, key));
    let ed = |_| DecodingKey::from_ed_pem(bytes).map(|key| (Algorithm::EdDSA, key));
    let (algorithm, key) = rsa.or_else(ec).or_else(ed).map_err(|_| "`key` is not a public key in PEM")?;
    Ok(Key { id: None, algorithm, key })
}

/// Returns the key with the secret in this config var.
pub(crate) fn of_secret(var: &str) -> Result<Key, String> {
    let set = format!("set it with `isopod config set {var}=… --secret --app require-jwt`");
    let secret = config::get(var).ok_or_else(|| format!("the plugin has no config var {var}; {set}"))?;
    if secret.len() < SECRET_BYTES_MIN {
        let bytes = secret.len();
        return Err(format!("the secret {var} has {bytes} bytes, but HS256 requires {SECRET_BYTES_MIN}; {set}"));
    }
    let key = DecodingKey::from_secret(secret.as_bytes()).map_err(|error| format!("the secret {var}: {error}"))?;
    Ok(Key { id: None, algorithm: Algorithm::HS256, key })
}

/// Returns the usable keys of a set.
pub(crate) fn of_set(set: &JwkSet) -> Result<Rc<[Key]>, String> {
    let keys: Rc<[Key]> = set.keys.iter().filter_map(of_jwk).collect::<Result<_, _>>()?;
    match keys.len() {
        0 => Err("the key set has no public key for RS256, ES256 or EdDSA".to_owned()),
        1..=SET_KEYS_MAX => Ok(keys),
        count => Err(format!("the key set has {count} keys; the maximum is {SET_KEYS_MAX}")),
    }
}

/// Returns `None` for a key of another kind or purpose.
fn of_jwk(jwk: &Jwk) -> Option<Result<Key, String>> {
    let id = jwk.common.key_id.clone();
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => return Some(Err("the key set has a secret; use `secret_var`".to_owned())),
        _ => return None,
    };
    let is_other = jwk.common.key_algorithm.is_some_and(|name| name.to_string() != format!("{algorithm:?}"));
    if is_other || jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("the key set has an invalid key {id:?}: {error}"));
    Some(key.map(|key| Key { id, algorithm, key }))
}

/// A key set at a URL. Its keys stay in use while the server fails.
pub(crate) struct RemoteSet {
    url: String,
    /// The shortest time between two fetches, however many tokens name unknown keys.
    interval: Duration,
    cached: RefCell<Cached>,
}

#[derive(Clone, Default)]
struct Cached {
    keys: Option<Rc<[Key]>>,
    fetched_at: Option<SystemTime>,
    tried_at: Option<SystemTime>,
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
        Ok(Self { url, interval, cached: RefCell::default() })
    }

    /// Returns the keys. Fetches them if they are old, or if the wanted key is missing.
    pub(crate) async fn keys(&self, has_wanted: impl Fn(&[Key]) -> bool) -> Result<Rc<[Key]>> {
        let Cached { keys, fetched_at, tried_at } = self.cached.borrow().clone();
        let is_within = |time: Option<SystemTime>, most: Duration| {
            time.is_some_and(|time| now().duration_since(time).is_ok_and(|age| age < most))
        };
        match &keys {
            Some(keys) if is_within(fetched_at, SET_KEPT_FOR) && has_wanted(keys) => return Ok(Rc::clone(keys)),
            Some(keys) if is_within(tried_at, self.interval) => return Ok(Rc::clone(keys)),
            None if is_within(tried_at, self.interval.min(FIRST_INTERVAL)) => {
                return Err(Error::msg(format!("the keys at {} could not be fetched a moment ago", self.url)));
            }
            _ => {}
        }
        self.cached.borrow_mut().tried_at = Some(now());
        match (timeout(FETCH_TIMEOUT, self.fetch()).await.and_then(|fetched| fetched), keys) {
            (Ok(fetched), _) => {
                let mut cached = self.cached.borrow_mut();
                (cached.keys, cached.fetched_at) = (Some(Rc::clone(&fetched)), Some(now()));
                Ok(fetched)
            }
            (Err(error), Some(keys)) => {
                log::warn!("the former keys of {} stay in use: {error}", self.url);
                Ok(keys)
            }
            // A new error, so that it counts as a failure of the plugin. An error with a status
            // would be a response to the client.
            (Err(error), None) => Err(Error::msg(format!("fetching the keys at {}: {error}", self.url))),
        }
    }

    async fn fetch(&self) -> Result<Rc<[Key]>> {
        let request = Request::get(&self.url).with_header("accept", "application/jwk-set+json, application/json");
        let (head, mut body) = fetch_streaming(request).await?;
        if head.status != 200 {
            return Err(Error::msg(format!("the server responds with status {}", head.status)));
        }
        let set = body.read_to_end(SET_BYTES_MAX).await?;
        let set: JwkSet = serde_json::from_slice(&set).context("the response is not a JSON Web Key Set")?;
        Ok(of_set(&set)?)
    }
}
