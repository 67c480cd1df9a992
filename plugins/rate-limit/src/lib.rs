//! Limits the rate of requests to an app, by client. A request beyond the rate gets a 429 with
//! `retry-after`, before it waits for the app or uses one of its instances.
//!
//! The keys of its config:
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `limit` | required | the number of requests of a client in each period, 1 to 1,000,000 |
//! | `per` | `1m` | the length of the period, `1ms` to `1d` |
//! | `burst` | `limit` | the number of requests that a client may send in a burst after a pause |
//! | `by` | `address` | what identifies a client: `address`, `header:NAME`, or `app` for all clients together |
//! | `name` | `default` | the name of the limit in header fields; uses with the same name share their counts |
//! | `fields` | `false` | whether the app's responses get the fields `ratelimit` and `ratelimit-policy` too |
//!
//! IPv6 addresses count by their first 64 bits, because one client usually has all addresses of
//! such a network. A request without the header counts by its address. Clients choose most headers
//! freely: use one that an earlier middleware checks, such as `x-jwt-subject` of `require-jwt`.
//!
//! The counts are in the host's memory: all instances share them, and they are 0 after its start.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use isopod_sdk::plugin::counters::{self, Rate, Taken};
use isopod_sdk::plugin::{AppRequest, Decision, RequestChanges, ResponseChanges, ResponseDecision, ResponseHead};
use isopod_sdk::prelude::*;
use serde::Deserialize;

isopod_sdk::middleware!(on_request, on_response);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    limit: u32,
    per: Option<String>,
    burst: Option<u32>,
    by: Option<String>,
    name: Option<String>,
    #[serde(default)]
    fields: bool,
}

#[derive(Deserialize)]
#[serde(try_from = "Config")]
struct Settings {
    rate: Rate,
    by: By,
    name: String,
    policy: String,
    fields: bool,
}

enum By {
    Address,
    Header(String),
    App,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let per = humantime::parse_duration(config.per.as_deref().unwrap_or("1m")).ok();
        let is_in_range = |per: &Duration| (1..=24 * 3600 * 1000).contains(&per.as_millis());
        let per = per.filter(is_in_range).ok_or("`per` must be a duration from \"1ms\" to \"1d\"")?;
        let rate = Rate::new(config.limit, per).with_burst(config.burst.unwrap_or(config.limit));
        let is_count = |count: &u32| (1..=1_000_000).contains(count);
        if !is_count(&rate.tokens) || !is_count(&rate.burst) {
            return Err("`limit` and `burst` must be from 1 to 1,000,000".to_owned());
        }
        if per.as_secs_f64() / f64::from(rate.tokens) * f64::from(rate.burst) > 30.0 * 24.0 * 3600.0 {
            return Err("`burst` must be available again within 30 days".to_owned());
        }
        let by = match config.by.as_deref().unwrap_or("address") {
            "address" => By::Address,
            "app" => By::App,
            other => match other.strip_prefix("header:") {
                Some(name) if is_token(name) => By::Header(name.to_ascii_lowercase()),
                _ => return Err("`by` must be \"address\", \"app\" or one such as \"header:x-api-key\"".to_owned()),
            },
        };
        let name = config.name.unwrap_or_else(|| "default".to_owned());
        let name =
            Some(name).filter(|name| is_token(name)).ok_or("`name` must have up to 64 letters, digits, '-', '_'")?;
        let policy = format!("\"{name}\";q={};w={}", rate.tokens, seconds(per));
        Ok(Self { rate, by, name, policy, fields: config.fields })
    }
}

fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Rounds up, so that a request after this time is accepted.
fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000) as u64
}

/// Returns the client's part of the key. The kinds of clients have different prefixes.
fn client(request: &AppRequest, by: &By) -> String {
    match by {
        By::App => "app".to_owned(),
        By::Header(name) => match request.headers.get_bytes(name) {
            // A hash, since values may be longer than the 256 bytes of a key, and may be secrets.
            Some(value) => {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                format!("header:{}:{:x}", value.len(), hasher.finish())
            }
            None => client(request, &By::Address),
        },
        By::Address => match request.client_address() {
            Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                format!("address:{:x}", u128::from(address) >> 64)
            }
            Some(address) => format!("address:{}", address.to_canonical()),
            None => "address:unknown".to_owned(),
        },
    }
}

async fn on_request(request: &AppRequest, settings: &Settings) -> Result<Decision> {
    let key = format!("{}:{}", settings.name, client(request, &settings.by));
    let taken = counters::take(&key, 1, &settings.rate)?;
    let state = state(&taken, settings);
    if taken.is_taken {
        return Ok(if settings.fields { RequestChanges::new().on_response(state).into() } else { Decision::Pass });
    }
    let problem = r#"{"type":"about:blank","title":"Too Many Requests","status":429}"#;
    let answer = Response::with_type("application/problem+json", problem).with_status(429);
    let answer = answer.with_header("retry-after", seconds(taken.retry_after).to_string());
    Ok(answer.with_header("ratelimit", state).with_header("ratelimit-policy", settings.policy.clone()).into())
}

/// Returns the value of `ratelimit`. `t` is the time until a full burst or the end of a refusal.
fn state(taken: &Taken, settings: &Settings) -> String {
    let more_after = if taken.is_taken { taken.full_after } else { taken.retry_after };
    format!("\"{}\";r={};t={}", settings.name, taken.remaining, seconds(more_after))
}

/// The context is the value of `ratelimit`.
async fn on_response(_: &ResponseHead, state: &[u8], settings: &Settings) -> Result<ResponseDecision> {
    let changes = ResponseChanges::new().append_header("ratelimit", state.to_vec());
    Ok(changes.append_header("ratelimit-policy", settings.policy.clone()).into())
}

#[cfg(test)]
mod tests;
