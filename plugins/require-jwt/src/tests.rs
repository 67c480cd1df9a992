//! Tests the middleware without a host, with the attacks on JSON Web Tokens that RFC 7519 and RFC
//! 8725 describe. The keys in `tests/` are for these tests only.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::{TestHost, block_on};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
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
    TestHost::new().set_config("SHORT", &"x".repeat(31));
    let oct = json!({"keys": [{"kty": "oct", "k": "AAAA"}]});
    for (config, fault) in [
        (json!({}), "exactly one of `key`, `jwks`, `jwks_url` and `secret_var`"),
        (json!({"key": EC_PUBLIC, "secret_var": "X"}), "exactly one of"),
        (json!({"key": "x"}), "`key` is not a public key in PEM"),
        (json!({"key": std::str::from_utf8(EC).unwrap()}), "`key` is not a public key"),
        (json!({"jwks": {"keys": []}}), "the key set has no public key"),
        (json!({"jwks": oct}), "use `secret_var`"),
        (json!({"key": EC_PUBLIC, "leeway": "1day"}), "`leeway` must be a duration"),
        (json!({"key": EC_PUBLIC, "jwks_interval": "11m"}), "`jwks_interval` must be a duration"),
        (json!({"jwks_url": ""}), "`jwks_url` must be a URL"),
        (json!({"jwks_url": "http://id.example.org/jwks"}), "`jwks_url` must be a URL"),
        (json!({"jwks_url": "http://localhost.example.org/jwks"}), "`jwks_url` must be a URL"),
        (json!({"jwks_url": "http://localhost:80@id.example.org/jwks"}), "`jwks_url` must be a URL"),
        (json!({"jwks_url": "https:///jwks"}), "`jwks_url` must be a URL"),
        (json!({"issuers": ""}), "unknown field `issuers`"),
        (json!({"secret_var": "MISSING"}), "the plugin has no config var MISSING; set it with `isopod config set"),
        (json!({"secret_var": "SHORT"}), "SHORT is shorter than 32 bytes"),
    ] {
        let error = parse_settings::<Settings>(&config.to_string()).err().expect(fault).to_string();
        assert!(error.contains(fault), "{config}: {error}");
    }
}

const JWKS_URL: &str = "https://id.example.org/jwks";

/// The identity provider's responses, and how often it was asked.
#[derive(Clone, Default)]
struct Provider(Rc<std::cell::RefCell<(u16, String, u32)>>);

impl Provider {
    fn start(host: &TestHost, set: &Value) -> Self {
        let provider = Self::default();
        provider.publish(200, set.to_string());
        let asked = provider.clone();
        host.on_fetch(move |request| {
            assert_eq!((request.authority(), request.path()), ("id.example.org", "/jwks"));
            let mut state = asked.0.borrow_mut();
            state.2 += 1;
            match state.0 {
                0 => Err(Error::msg("the connection failed")),
                status => Ok(Response::text(state.1.clone()).with_status(status)),
            }
        });
        provider
    }

    fn publish(&self, status: u16, body: impl Into<String>) {
        let mut state = self.0.borrow_mut();
        (state.0, state.1) = (status, body.into());
    }

    fn fetches(&self) -> u32 {
        self.0.borrow().2
    }
}

fn rsa_set(id: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(&EncodingKey::from_rsa_pem(RSA).unwrap(), Algorithm::RS256).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    json!({"keys": [jwk]})
}

/// Returns a token that names a key. The library compares its times with the real clock.
fn named(id: &str) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(id.to_owned());
    encode(&header, &claims(&json!({})), &EncodingKey::from_rsa_pem(RSA).unwrap()).unwrap()
}

fn remote() -> Settings {
    settings(&json!({"jwks_url": JWKS_URL, "issuer": ISSUER, "audience": "shop"}))
}

#[test]
fn the_keys_of_a_url_are_cached_and_fetched_again_for_an_unknown_key() {
    let host = TestHost::new();
    let provider = Provider::start(&host, &rsa_set("a"));
    let settings = remote();
    for _ in 0..3 {
        assert_eq!(sent(&named("a"), &settings).unwrap().as_deref(), Some("ada"));
    }
    assert_eq!(provider.fetches(), 1);
    provider.publish(200, rsa_set("b").to_string());
    for _ in 0..3 {
        assert!(refused(&named("b"), &settings).contains("no key matches it"), "the keys were just fetched");
    }
    assert_eq!(provider.fetches(), 1);
    host.advance(Duration::from_secs(30));
    assert!(sent(&named("b"), &settings).is_ok());
    assert!(refused(&named("a"), &settings).contains("no key matches it"), "the key was removed");
    assert_eq!(provider.fetches(), 2);
    host.advance(Duration::from_secs(600));
    assert!(sent(&named("b"), &settings).is_ok());
    assert_eq!(provider.fetches(), 3, "old keys are fetched again");
}

#[test]
fn configs_with_one_url_share_its_keys() {
    let host = TestHost::new();
    let provider = Provider::start(&host, &rsa_set("a"));
    // The instance has parsed the config again, since other configs evicted it.
    for _ in 0..3 {
        assert!(sent(&named("a"), &remote()).is_ok());
    }
    assert_eq!(provider.fetches(), 1);
}

#[test]
fn many_urls_do_not_evict_the_keys_of_a_url_in_use() {
    let host = TestHost::new();
    let provider = Provider::start(&host, &rsa_set("a"));
    // No key has this id, so that no signature is verified.
    let unknown = named("unknown");
    let other = |number: usize| {
        refused(&unknown, &settings(&json!({"jwks_url": format!("{JWKS_URL}?{number}"), "audience": "shop"})));
    };
    assert!(sent(&named("a"), &remote()).is_ok());
    (0..2 * remote::SETS_MAX).for_each(other);
    let fetches = provider.fetches();
    assert!(sent(&named("a"), &remote()).is_ok());
    assert_eq!(provider.fetches(), fetches);
    // Later, unused sets make room.
    host.advance(Duration::from_secs(61));
    other(0);
    other(2 * remote::SETS_MAX);
    let fetches = provider.fetches();
    other(2 * remote::SETS_MAX);
    assert_eq!(provider.fetches(), fetches);
}

#[test]
fn unusable_keys_of_a_set_are_ignored() {
    let mut set = rsa_set("a");
    let keys = set["keys"].as_array_mut().unwrap();
    keys.push(json!({"kty": "oct", "k": "AAAA"}));
    keys.push(json!({"kty": "RSA", "n": "?", "e": "AQAB"}));
    let settings = settings(&json!({"jwks": set, "issuer": ISSUER, "audience": "shop"}));
    assert!(sent(&named("a"), &settings).is_ok());
}

#[test]
fn the_former_keys_stay_in_use_while_the_provider_fails() {
    let host = TestHost::new();
    let provider = Provider::start(&host, &rsa_set("a"));
    let settings = remote();
    assert!(sent(&named("a"), &settings).is_ok());
    let without_keys = json!({"keys": []}).to_string();
    let many = json!({"keys": vec![rsa_set("a")["keys"][0].clone(); 65]}).to_string();
    for (status, body) in [
        (0, String::new()),
        (500, String::new()),
        (302, rsa_set("b").to_string()),
        (200, "<html>".to_owned()),
        (200, without_keys),
        (200, many),
        (200, " ".repeat(256 * 1024 + 1)),
    ] {
        provider.publish(status, body);
        host.advance(Duration::from_secs(601));
        let before = provider.fetches();
        for _ in 0..3 {
            assert!(sent(&named("a"), &settings).is_ok(), "{status}");
        }
        assert_eq!(provider.fetches(), before + 1, "{status}");
        assert!(host.logs().last().unwrap().message.contains("the former keys of https://id.example.org/jwks"));
    }
}

#[test]
fn without_any_keys_each_request_is_a_failure_of_the_plugin() {
    let host = TestHost::new();
    let provider = Provider::start(&host, &json!({}));
    let settings = remote();
    let failed = |token: &str| {
        let request = Request::get("/").with_header("authorization", format!("Bearer {token}"));
        block_on(require_jwt(&request.into(), &settings)).err()
    };
    for status in [0, 404, 200] {
        provider.publish(status, " ".repeat(256 * 1024 + 1));
        host.advance(Duration::from_secs(1));
        let error = failed(&named("a")).unwrap();
        assert!(!error.is_for_client() && error.to_string().contains(JWKS_URL), "{error}");
        assert!(failed(&named("a")).unwrap().to_string().contains("could not be fetched a moment ago"));
    }
    assert_eq!(provider.fetches(), 3);
    provider.publish(200, rsa_set("a").to_string());
    host.advance(Duration::from_secs(1));
    assert!(failed(&named("a")).is_none());
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
