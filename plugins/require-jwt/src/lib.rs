//! Requires a valid JSON Web Token (RFC 7519) in `authorization: Bearer …`, and passes its subject
//! to the app in `x-jwt-subject`, which clients can't set.
//!
//! The keys of its config:
//!
//! | key | meaning |
//! | --- | --- |
//! | `key` | a public key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA) |
//! | `jwks` | a JSON Web Key Set, as identity providers publish it; unusable keys are ignored |
//! | `jwks_url` | the `https` URL of a JSON Web Key Set; the plugin needs a grant for its host |
//! | `jwks_interval` | the shortest time between two fetches, `1s` to `10m`; by default `30s` |
//! | `secret_var` | the name of the plugin's config var with the secret for HS256, at least 32 bytes |
//! | `issuer`, `audience` | the required `iss` and `aud`; without `audience`, tokens with an `aud` are refused |
//! | `leeway` | the tolerance for clock differences, at most `1h`; by default `1m` |
//!
//! Exactly one of `key`, `jwks`, `jwks_url` and `secret_var` is required. The kind of the key
//! determines the algorithm; the token doesn't. Put `cors` before this middleware: preflight
//! requests have no token.
//!
//! Each instance of the plugin caches the keys of a URL. It fetches them again after 10 minutes,
//! and when a token names an unknown key, but not more often than `jwks_interval`. While the server
//! fails, the former keys stay in use. Without any keys, requests fail.

mod keys;
mod remote;

use std::rc::Rc;
use std::time::Duration;

use isopod_sdk::plugin::{AppRequest, Decision, RequestChanges};
use isopod_sdk::prelude::*;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use keys::Key;
use remote::RemoteSet;
use serde::Deserialize;

isopod_sdk::middleware!(require_jwt);

const TOKEN_BYTES_MAX: usize = 16 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    key: Option<String>,
    jwks: Option<JwkSet>,
    jwks_url: Option<String>,
    jwks_interval: Option<String>,
    secret_var: Option<String>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Option<String>,
}

#[derive(Deserialize)]
#[serde(try_from = "Config")]
struct Settings {
    keys: Keys,
    validation: Validation,
}

enum Keys {
    Fixed(Rc<[Key]>),
    Remote(RemoteSet),
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let interval = duration("jwks_interval", config.jwks_interval, "30s", "10m")?.max(Duration::from_secs(1));
        let keys = match (config.key, config.jwks, config.jwks_url, config.secret_var) {
            (Some(pem), None, None, None) => Keys::Fixed([keys::of_pem(&pem)?].into()),
            (None, Some(set), None, None) => Keys::Fixed(keys::of_set(&set)?),
            (None, None, Some(url), None) => Keys::Remote(RemoteSet::new(url, interval)?),
            (None, None, None, Some(var)) => Keys::Fixed([keys::of_secret(&var)?].into()),
            _ => return Err("exactly one of `key`, `jwks`, `jwks_url` and `secret_var` is required".to_owned()),
        };
        let leeway = duration("leeway", config.leeway, "1m", "1h")?;
        let mut validation = Validation { leeway: leeway.as_secs(), validate_nbf: true, ..Validation::default() };
        validation.required_spec_claims.extend(config.issuer.as_ref().map(|_| "iss".to_owned()));
        validation.required_spec_claims.extend(config.audience.as_ref().map(|_| "aud".to_owned()));
        validation.iss = config.issuer.map(|issuer| [issuer].into());
        validation.aud = config.audience.map(|audience| [audience].into());
        Ok(Self { keys, validation })
    }
}

fn duration(key: &str, text: Option<String>, usual: &str, most: &str) -> Result<Duration, String> {
    let parsed = |text: &str| humantime::parse_duration(text).ok();
    let time = parsed(text.as_deref().unwrap_or(usual)).filter(|time| parsed(most).is_some_and(|most| *time <= most));
    time.ok_or_else(|| format!("`{key}` must be a duration up to \"{most}\""))
}

async fn require_jwt(request: &AppRequest, settings: &Settings) -> Result<Decision> {
    let mut sent = request.headers.get_all("authorization");
    let sent = sent.next().filter(|_| sent.next().is_none()).and_then(|sent| sent.split_at_checked(7));
    let token = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token.trim_ascii());
    let Some(token) = token else { return refuse("Bearer", "send one bearer token") };
    let invalid = |fault: &str| refuse("Bearer error=\"invalid_token\"", &format!("the token is invalid: {fault}"));
    let header = if token.len() > TOKEN_BYTES_MAX { None } else { decode_header(token).ok() };
    let Some(header) = header else { return invalid("it is not a JSON Web Token with a known algorithm") };
    let keys = match &settings.keys {
        Keys::Fixed(keys) => Rc::clone(keys),
        Keys::Remote(set) => set.keys(|keys| keys.iter().any(|key| is_named(key, &header))).await?,
    };
    match verify(token, &header, &keys, &settings.validation) {
        Ok(Some(subject)) => Ok(RequestChanges::new().set_header("x-jwt-subject", subject).into()),
        Ok(None) => Ok(RequestChanges::new().remove_header("x-jwt-subject").into()),
        Err(fault) => invalid(&fault),
    }
}

/// Returns whether a token with this header may be signed with the key.
fn is_named(key: &Key, header: &Header) -> bool {
    key.algorithm == header.alg && (key.id.is_none() || header.kid.is_none() || key.id == header.kid)
}

/// Returns the subject of a token that is valid and was signed with one of the keys.
fn verify(token: &[u8], header: &Header, keys: &[Key], rules: &Validation) -> Result<Option<String>, String> {
    let mut fault = "no key matches it".to_owned();
    let is_visible = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    for key in keys.iter().filter(|key| is_named(key, header)) {
        let rules = Validation { algorithms: vec![key.algorithm], ..rules.clone() };
        match decode(token, &key.key, &rules).map(|token| token.claims) {
            Ok(Claims { sub }) if sub.iter().all(is_visible) => return Ok(sub),
            Ok(_) => fault = "its subject is not visible ASCII".to_owned(),
            Err(error) => fault = error.to_string(),
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
