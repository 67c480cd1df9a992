//! Requires a valid JSON Web Token (RFC 7519) in `authorization: Bearer …`, and passes its subject
//! to the app in `x-jwt-subject`, which clients can't set. Never fetches keys.
//!
//! The keys of its config:
//!
//! | key | meaning |
//! | --- | --- |
//! | `key` | a public key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA) |
//! | `jwks` | a JSON Web Key Set, as identity providers publish it; keys of other kinds are ignored |
//! | `secret_var` | the name of the plugin's config var with the secret for HS256 |
//! | `issuer`, `audience` | the required `iss` and `aud`; without `audience`, tokens with an `aud` are refused |
//! | `leeway` | the tolerance for clock differences, at most `1h`; by default `1m` |
//!
//! Exactly one of the first three is required. The kind of the key determines the algorithm; the
//! token doesn't. Put `cors` before this middleware: preflight requests have no token.

use isopod_sdk::plugin::{AppRequest, Decision, RequestChanges};
use isopod_sdk::prelude::*;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

isopod_sdk::middleware!(require_jwt);

const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    key: Option<String>,
    jwks: Option<JwkSet>,
    secret_var: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Option<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "Config")]
struct Settings {
    keys: Vec<Key>,
    secret_var: Option<String>,
    validation: Validation,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let keys = match (config.key, config.jwks, &config.secret_var) {
            (Some(pem), None, None) => vec![pem_key(&pem)?],
            (None, Some(set), None) => set.keys.iter().filter_map(jwk_key).collect::<Result<_, _>>()?,
            (None, None, Some(_)) => Vec::new(),
            _ => return Err("exactly one of `key`, `jwks` and `secret_var` is required".to_owned()),
        };
        if keys.is_empty() && config.secret_var.is_none() {
            return Err("`jwks` has no public key for RS256, ES256 or EdDSA".to_owned());
        }
        let leeway = humantime::parse_duration(config.leeway.as_deref().unwrap_or("1m")).ok();
        let leeway = leeway.filter(|time| time.as_secs() <= 3600).ok_or("`leeway` must be a duration up to \"1h\"")?;
        let mut validation = Validation { leeway: leeway.as_secs(), validate_nbf: true, ..Validation::default() };
        validation.required_spec_claims.extend(config.issuer.as_ref().map(|_| "iss".to_owned()));
        validation.required_spec_claims.extend(config.audience.as_ref().map(|_| "aud".to_owned()));
        validation.iss = config.issuer.map(|issuer| [issuer].into());
        validation.aud = config.audience.map(|audience| [audience].into());
        Ok(Self { keys, secret_var: config.secret_var, validation })
    }
}

fn pem_key(pem: &str) -> Result<Key, String> {
    let bytes = if pem.contains("PRIVATE KEY") { &[] } else { pem.as_bytes() };
    let rsa = DecodingKey::from_rsa_pem(bytes).map(|key| (Algorithm::RS256, key));
    let ec = |_| DecodingKey::from_ec_pem(bytes).map(|key| (Algorithm::ES256, key));
    let ed = |_| DecodingKey::from_ed_pem(bytes).map(|key| (Algorithm::EdDSA, key));
    let (algorithm, key) = rsa.or_else(ec).or_else(ed).map_err(|_| "`key` is not a public key in PEM")?;
    Ok(Key { id: None, algorithm, key })
}

/// Returns `None` for a key of another kind or purpose.
fn jwk_key(jwk: &Jwk) -> Option<Result<Key, String>> {
    let id = jwk.common.key_id.clone();
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        AlgorithmParameters::OctetKey(_) => return Some(Err("`jwks` has a secret; use `secret_var`".to_owned())),
        _ => return None,
    };
    let is_other = jwk.common.key_algorithm.is_some_and(|name| name.to_string() != format!("{algorithm:?}"));
    if is_other || jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("`jwks` has an invalid key {id:?}: {error}"));
    Some(key.map(|key| Key { id, algorithm, key }))
}

async fn require_jwt(request: &AppRequest, settings: &Settings) -> Result<Decision> {
    let mut sent = request.headers.get_all("authorization");
    let sent = sent.next().filter(|_| sent.next().is_none()).and_then(|sent| sent.split_at_checked(7));
    let token = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token.trim_ascii());
    let Some(token) = token else { return refuse("Bearer", "send one bearer token") };
    let secret = settings.secret_var.as_deref().map(config::require).transpose()?;
    let secret = secret.map(|secret| DecodingKey::from_secret(secret.as_bytes())).transpose()?;
    let secret = secret.map(|key| Key { id: None, algorithm: Algorithm::HS256, key });
    let keys: Vec<&Key> = settings.keys.iter().chain(&secret).collect();
    match verify(token, &keys, &settings.validation) {
        Ok(Some(subject)) => Ok(RequestChanges::new().set_header("x-jwt-subject", subject).into()),
        Ok(None) => Ok(RequestChanges::new().remove_header("x-jwt-subject").into()),
        Err(fault) => refuse("Bearer error=\"invalid_token\"", &format!("the token is invalid: {fault}")),
    }
}

/// Returns the subject of a token that is valid and was signed with one of the keys.
fn verify(token: &[u8], keys: &[&Key], rules: &Validation) -> Result<Option<String>> {
    let header = if token.len() > TOKEN_BYTES_MAX { None } else { decode_header(token).ok() };
    let header = header.context("it is not a JSON Web Token with a known algorithm")?;
    let mut fault = Error::msg("no key matches it");
    let is_visible = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_named = |key: &Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
    for key in keys.iter().filter(|key| key.algorithm == header.alg && is_named(key)) {
        let rules = Validation { algorithms: vec![key.algorithm], ..rules.clone() };
        match decode(token, &key.key, &rules).map(|token| token.claims) {
            Ok(Claims { sub }) if sub.iter().all(is_visible) => return Ok(sub),
            Ok(_) => fault = Error::msg("its subject is not visible ASCII"),
            Err(error) => fault = error.into(),
        }
    }
    Err(fault)
}

fn refuse(challenge: &'static str, detail: &str) -> Result<Decision> {
    let problem = serde_json::json!({"type": "about:blank", "title": "Unauthorized", "status": 401, "detail": detail});
    let response = Response::with_type("application/problem+json", problem.to_string()).with_status(401);
    Ok(response.with_header("www-authenticate", challenge).into())
}

#[cfg(test)]
mod tests;
