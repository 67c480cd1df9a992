//! Tests the middleware without a host, with the attacks on JSON Web Tokens that RFC 7519 and RFC
//! 8725 describe. The keys in `tests/` are for these tests only.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::{TestHost, block_on};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

const RSA: &[u8] = include_bytes!("../tests/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../tests/rsa.pub.pem");
const EC: &[u8] = include_bytes!("../tests/ec.pem");
const EC_PUBLIC: &str = include_str!("../tests/ec.pub.pem");
const ED: &[u8] = include_bytes!("../tests/ed.pem");
const ED_PUBLIC: &str = include_str!("../tests/ed.pub.pem");
const ISSUER: &str = "https://id.example.org";

fn settings(config: &Value) -> Settings {
    parse_settings(&config.to_string()).unwrap()
}

fn usual() -> Settings {
    settings(&json!({"key": EC_PUBLIC, "issuer": ISSUER, "audience": "shop", "leeway": "30s"}))
}

/// Returns claims that [`usual`] accepts, with these changes. `null` removes a claim.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({"sub": "ada", "iss": ISSUER, "aud": "shop", "exp": at(600), "nbf": at(-600)});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

/// Returns the Unix time this many seconds from now.
fn at(seconds: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds
}

fn signed(algorithm: Algorithm, claims: &Value) -> String {
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(RSA),
        Algorithm::ES256 => EncodingKey::from_ec_pem(EC),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED),
        _ => EncodingKey::from_secret(b"a secret of the tests, 32 bytes long"),
    };
    encode(&Header::new(algorithm), claims, &key.unwrap()).unwrap()
}

/// Returns the subject that the app sees, or the response.
fn sent(token: &str, settings: &Settings) -> Result<Option<String>, Response> {
    let request = Request::get("/").with_header("authorization", format!("Bearer {token}"));
    decided(request.with_header("x-jwt-subject", "forged").into(), settings)
}

fn decided(request: AppRequest, settings: &Settings) -> Result<Option<String>, Response> {
    match block_on(require_jwt(&request, settings)).unwrap() {
        Decision::Respond(response) => Err(response),
        decision => Ok(decision.apply_to(request).unwrap().header("x-jwt-subject").map(str::to_owned)),
    }
}

/// Returns the reason for a refusal.
#[track_caller]
fn refused(token: &str, settings: &Settings) -> String {
    let response = sent(token, settings).unwrap_err();
    assert_eq!(response.status, 401);
    assert_eq!(response.headers.get("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    assert_eq!(response.headers.get("content-type"), Some("application/problem+json"));
    let problem: Value = response.body_json().unwrap();
    assert_eq!(problem["status"], 401);
    problem["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_with_each_algorithm_passes_with_its_subject() {
    let host = TestHost::new();
    host.set_config("JWT_SECRET", "a secret of the tests, 32 bytes long");
    let rest = json!({"issuer": ISSUER, "audience": "shop"});
    for (algorithm, key, value) in [
        (Algorithm::RS256, "key", RSA_PUBLIC),
        (Algorithm::ES256, "key", EC_PUBLIC),
        (Algorithm::EdDSA, "key", ED_PUBLIC),
        (Algorithm::HS256, "secret_var", "JWT_SECRET"),
    ] {
        let mut config = rest.clone();
        config[key] = json!(value);
        let settings = settings(&config);
        let token = signed(algorithm, &claims(&json!({})));
        assert_eq!(sent(&token, &settings).unwrap().as_deref(), Some("ada"), "{algorithm:?}");
        let others = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256];
        for other in others.into_iter().filter(|other| *other != algorithm) {
            let token = signed(other, &claims(&json!({})));
            assert_eq!(refused(&token, &settings), "the token is invalid: no key matches it", "{other:?}");
        }
    }
}

#[test]
fn a_token_is_checked_with_the_key_of_the_set_that_it_names() {
    let jwk = |algorithm, key: EncodingKey, id: &str| {
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    };
    let rsa = jwk(Algorithm::RS256, EncodingKey::from_rsa_pem(RSA).unwrap(), "a");
    let ec = jwk(Algorithm::ES256, EncodingKey::from_ec_pem(EC).unwrap(), "b");
    let later = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "c", "pub": "AA"});
    let set = settings(&json!({"jwks": {"keys": [rsa, ec, later]}, "audience": "shop"}));
    let token = |id: Option<&str>| {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = id.map(str::to_owned);
        encode(&header, &claims(&json!({})), &EncodingKey::from_ec_pem(EC).unwrap()).unwrap()
    };
    for id in [Some("b"), None] {
        assert_eq!(sent(&token(id), &set).unwrap().as_deref(), Some("ada"));
    }
    assert!(refused(&token(Some("a")), &set).contains("no key matches it"));
    let mut encryption = rsa.clone();
    (encryption["use"], encryption["kid"]) = (json!("enc"), json!("d"));
    let error = parse_settings::<Settings>(&json!({"jwks": {"keys": [encryption]}}).to_string()).err().unwrap();
    assert!(error.to_string().contains("no public key for RS256"), "{error}");
}

#[test]
fn claims_are_checked() {
    for (changes, fault) in [
        (json!({"exp": at(-31)}), "ExpiredSignature"),
        (json!({"exp": null}), "Missing required claim: exp"),
        (json!({"exp": "soon"}), "exp"),
        (json!({"exp": -1}), "exp"),
        (json!({"nbf": at(60)}), "ImmatureSignature"),
        (json!({"nbf": "now"}), "nbf"),
        (json!({"aud": "bank"}), "InvalidAudience"),
        (json!({"aud": ["bank", "club"]}), "InvalidAudience"),
        (json!({"aud": null}), "Missing required claim: aud"),
        (json!({"iss": "https://id.example.org.evil.example"}), "InvalidIssuer"),
        (json!({"iss": null}), "Missing required claim: iss"),
        (json!({"sub": 7}), "JSON"),
        (json!({"sub": "a\r\nx-admin: 1"}), "its subject is not visible ASCII"),
    ] {
        let reason = refused(&signed(Algorithm::ES256, &claims(&changes)), &usual());
        assert!(reason.contains(fault), "{changes}: {reason}");
    }
    for changes in
        [json!({"exp": at(-25)}), json!({"nbf": at(25)}), json!({"aud": ["bank", "shop"]}), json!({"nbf": null})]
    {
        assert!(sent(&signed(Algorithm::ES256, &claims(&changes)), &usual()).is_ok(), "{changes}");
    }
    let token = signed(Algorithm::ES256, &claims(&json!({})));
    assert!(refused(&token, &settings(&json!({"key": EC_PUBLIC}))).contains("InvalidAudience"), "no audience is named");
}

#[test]
fn a_client_never_sets_the_subject() {
    let token = signed(Algorithm::ES256, &claims(&json!({"sub": null})));
    assert_eq!(sent(&token, &usual()).unwrap(), None);
}

#[test]
fn a_token_without_a_valid_signature_is_refused() {
    let none = |alg: &str| format!("{}.{}.", base64(&json!({"alg": alg})), base64(&claims(&json!({}))));
    for alg in ["none", "None", "nOnE", "HS256", "ES256", ""] {
        refused(&none(alg), &usual());
    }
    let valid = signed(Algorithm::ES256, &claims(&json!({})));
    let (message, signature) = valid.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let forged = base64(&claims(&json!({"sub": "root"})));
    for token in [
        message.to_owned(),
        format!("{message}."),
        format!("{message}.{}", "A".repeat(86)),
        format!("{message}.{}", &signature[..80]),
        format!("{head}.{forged}.{signature}"),
        format!("{valid}.{signature}"),
    ] {
        refused(&token, &usual());
    }
}

/// The attack on libraries that let the token choose the algorithm: the public key is not secret.
#[test]
fn a_public_key_is_not_accepted_as_an_hs256_secret() {
    for (public, secrets) in [(RSA_PUBLIC, [RSA_PUBLIC, RSA_PUBLIC.trim()]), (EC_PUBLIC, [EC_PUBLIC, EC_PUBLIC.trim()])]
    {
        for secret in secrets {
            let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
            let token = encode(&Header::new(Algorithm::HS256), &claims(&json!({})), &key).unwrap();
            let settings = settings(&json!({"key": public, "audience": "shop"}));
            assert!(refused(&token, &settings).contains("no key matches it"));
        }
    }
}

#[test]
fn huge_tokens_and_garbage_are_refused() {
    let huge = signed(Algorithm::ES256, &claims(&json!({"more": "x".repeat(TOKEN_BYTES_MAX)})));
    assert!(refused(&huge, &usual()).contains("not a JSON Web Token"));
    let deep = format!("{}.{}.AA", base64(&json!({"alg": "ES256"})), "W".repeat(10_000));
    for garbage in ["x", ".", "..", "...", "a.b.c", "e30.e30.e30", "\u{fffd}.\u{0}.x", &deep] {
        refused(garbage, &usual());
    }
}

#[test]
fn a_request_without_exactly_one_bearer_token_is_refused() {
    let valid = signed(Algorithm::ES256, &claims(&json!({})));
    let with = |value: &str| Request::get("/").with_header("authorization", value.to_owned());
    let mut twice = with(&format!("Bearer {valid}"));
    twice.headers.append("authorization", format!("Bearer {valid}"));
    for request in [Request::get("/"), with(""), with("Bearer"), with("Basic YTpi"), with(&valid), twice] {
        let response = decided(request.into(), &usual()).unwrap_err();
        assert_eq!((response.status, response.headers.get("www-authenticate")), (401, Some("Bearer")));
    }
    assert!(decided(with(&format!("bearer  {valid}")).into(), &usual()).is_ok());
}

#[test]
fn the_error_for_an_invalid_config_names_the_fault() {
    let oct = json!({"keys": [{"kty": "oct", "k": "AAAA"}]});
    for (config, fault) in [
        (json!({}), "exactly one of `key`, `jwks` and `secret_var`"),
        (json!({"key": EC_PUBLIC, "secret_var": "X"}), "exactly one of"),
        (json!({"key": "x"}), "`key` is not a public key in PEM"),
        (json!({"key": std::str::from_utf8(EC).unwrap()}), "`key` is not a public key"),
        (json!({"jwks": {"keys": []}}), "`jwks` has no public key"),
        (json!({"jwks": oct}), "use `secret_var`"),
        (json!({"key": EC_PUBLIC, "leeway": "1day"}), "`leeway` must be a duration"),
        (
            json!({"jwks_url": ""}),
            "unknown field `jwks_url`, expected one of `key`, `jwks`, `secret_var`, `issuer`, `audience`, `leeway`",
        ),
    ] {
        let error = parse_settings::<Settings>(&config.to_string()).err().expect(fault).to_string();
        assert!(error.contains(fault), "{config}: {error}");
    }
}

/// Encodes JSON in base64url, as in a token.
fn base64(value: &Value) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len())
            .map(move |index| char::from(DIGITS[(bits >> (18 - 6 * index) & 63) as usize]))
            .collect::<Vec<_>>()
    };
    value.to_string().as_bytes().chunks(3).flat_map(digits).collect()
}
