//! The keys that verify tokens, from the config or a JSON Web Key Set. Never fetches a key set, and
//! never verifies a token.

use std::rc::Rc;

use isopod_sdk::prelude::*;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

/// RFC 7518 §3.2: an HS256 secret is at least as long as the hash.
const SECRET_BYTES_MIN: usize = 32;
/// A key set with more usable keys is refused, since a token may be checked with each key.
const SET_KEYS_MAX: usize = 64;

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
        // Doesn't state the length: the app's config may name a secret that is not meant for it.
        return Err(format!("the secret {var} is shorter than {SECRET_BYTES_MIN} bytes, which HS256 requires; {set}"));
    }
    let key = DecodingKey::from_secret(secret.as_bytes()).map_err(|error| format!("the secret {var}: {error}"))?;
    Ok(Key { id: None, algorithm: Algorithm::HS256, key })
}

/// Returns the usable keys of a set.
pub(crate) fn of_set(set: &JwkSet) -> Result<Rc<[Key]>, String> {
    let keys: Rc<[Key]> = set.keys.iter().filter_map(of_jwk).collect();
    let is_secret = |jwk: &Jwk| matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
    match keys.len() {
        0 if set.keys.iter().any(is_secret) => {
            Err("the key set has a secret and no public key; use `secret_var`".to_owned())
        }
        0 => Err("the key set has no public key for RS256, ES256 or EdDSA".to_owned()),
        1..=SET_KEYS_MAX => Ok(keys),
        count => Err(format!("the key set has {count} keys; the maximum is {SET_KEYS_MAX}")),
    }
}

/// Returns `None` for a key of another kind or purpose, and for an invalid key. RFC 7517 §5 ignores
/// such keys, so that one of them doesn't make the others unusable.
fn of_jwk(jwk: &Jwk) -> Option<Key> {
    let id = jwk.common.key_id.clone();
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return None,
    };
    let is_other = jwk.common.key_algorithm.is_some_and(|name| name.to_string() != format!("{algorithm:?}"));
    if is_other || jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
        return None;
    }
    Some(Key { id, algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
}
