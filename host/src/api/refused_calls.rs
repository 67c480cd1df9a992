//! Counts the calls that the API refuses, per token, for the audit trail. A flood of calls creates
//! one entry per token and interval. Never refuses a call, and never waits for the store.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::Method;
use isopod_policy::text::{excerpt, printable};
use isopod_store::{CALLS_REFUSED, NewActivity};
use jiff::Timestamp;
use serde_json::json;

use crate::api::limits;

/// A refused call.
#[derive(Debug, Clone)]
pub(crate) struct RefusedCall<'a> {
    pub(crate) token: &'a str,
    /// The code of the problem.
    pub(crate) code: &'static str,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) from: Option<IpAddr>,
}

/// The refused calls that are not stored yet.
#[derive(Debug, Default)]
pub(crate) struct RefusedCalls(Mutex<Unstored>);

#[derive(Debug, Default)]
struct Unstored {
    /// The calls of each token since its last entry.
    counted: HashMap<String, Calls>,
    /// The entries to store next.
    entries: Vec<NewActivity>,
}

#[derive(Debug)]
struct Calls {
    count: u64,
    by_code: BTreeMap<&'static str, u64>,
    /// The first addresses.
    from: Vec<IpAddr>,
    last: String,
    first_at: Timestamp,
}

impl RefusedCalls {
    /// Counts a call. Ignores the calls of tokens beyond the limit.
    pub(crate) fn record(&self, call: &RefusedCall<'_>, now: Timestamp) {
        let tokens = &mut self.lock().counted;
        if !tokens.contains_key(call.token) && tokens.len() >= limits::REFUSED_TOKENS_MAX {
            return;
        }
        let empty =
            || Calls { count: 0, by_code: BTreeMap::new(), from: Vec::new(), last: String::new(), first_at: now };
        let calls = tokens.entry(call.token.to_owned()).or_insert_with(empty);
        calls.count += 1;
        *calls.by_code.entry(call.code).or_default() += 1;
        if let Some(from) = call.from
            && !calls.from.contains(&from)
            && calls.from.len() < limits::REFUSED_ADDRESSES_SHOWN
        {
            calls.from.push(from);
        }
        let path = printable(call.path);
        calls.last = format!("{} {}", call.method, excerpt(&path, limits::REFUSED_PATH_SHOWN_BYTES));
    }

    /// Returns the calls as one entry for each token: the same entries until they are stored.
    pub(crate) fn unstored(&self, now: Timestamp) -> Vec<NewActivity> {
        let mut unstored = self.lock();
        if unstored.entries.is_empty() {
            let mut counted: Vec<_> = std::mem::take(&mut unstored.counted).into_iter().collect();
            counted.sort_by_key(|(token, calls)| (calls.first_at, token.clone()));
            unstored.entries = counted.into_iter().map(|(token, calls)| calls.entry(&token, now)).collect();
        }
        unstored.entries.clone()
    }

    /// Records that the entries are stored.
    pub(crate) fn stored(&self) {
        self.lock().entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Unstored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn entry(self, token: &str, now: Timestamp) -> NewActivity {
        let Self { count, by_code, from, last, first_at } = self;
        let codes: Vec<String> = by_code.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let calls = if count == 1 { "1 call" } else { &format!("{count} calls") };
        let shown: Vec<String> = from.iter().map(ToString::to_string).collect();
        let from = if shown.is_empty() { String::new() } else { format!(" from {}", shown.join(", ")) };
        let text = format!("{calls} with the token `{token}` refused ({}){from}; the last: {last}", codes.join(", "));
        let data = json!({
            "by": token, "count": count, "codes": by_code, "addresses": shown, "last": last, "first_at": first_at,
        });
        NewActivity { app: None, kind: CALLS_REFUSED.to_owned(), text, data, at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("is a time")
    }

    fn call<'a>(token: &'a str, path: &'a str) -> RefusedCall<'a> {
        let from = Some(IpAddr::from([10, 0, 0, 1]));
        RefusedCall { token, code: "role-too-small", method: &Method::POST, path, from }
    }

    #[test]
    fn a_flood_of_refused_calls_is_one_entry_per_token() {
        let refused = RefusedCalls::default();
        for number in 0..100_000 {
            refused.record(&call("ci", &format!("/v1/apps/a{number}/pushes")), at(number));
        }
        refused.record(&RefusedCall { code: "out-of-scope", ..call("ann", "/v1/tokens") }, at(7));
        let entries = refused.unstored(at(60));
        let texts: Vec<&str> = entries.iter().map(|entry| entry.text.as_str()).collect();
        let expected = [
            "100000 calls with the token `ci` refused (role-too-small 100000) from 10.0.0.1; the last: POST \
             /v1/apps/a99999/pushes",
            "1 call with the token `ann` refused (out-of-scope 1) from 10.0.0.1; the last: POST /v1/tokens",
        ];
        assert_eq!(texts, expected);
        assert_eq!((&entries[0].data["count"], entries[0].at), (&json!(100_000), at(60)));
        refused.stored();
        assert!(refused.unstored(at(61)).is_empty());
    }

    #[test]
    fn calls_are_kept_until_they_are_stored() {
        let refused = RefusedCalls::default();
        refused.record(&call("ci", "/v1/tokens"), at(0));
        let entries = refused.unstored(at(60));
        refused.record(&call("ci", "/v1/tokens"), at(70));
        assert_eq!((entries.len(), refused.unstored(at(120))), (1, entries));
        refused.stored();
        let later = refused.unstored(at(120));
        assert_eq!((later.len(), &later[0].data["count"]), (1, &json!(1)));
    }

    #[test]
    fn hostile_paths_and_many_tokens_and_addresses_are_bounded() {
        let refused = RefusedCalls::default();
        for number in 0..=255 {
            let from = Some(IpAddr::from([10, 0, 0, number]));
            let path = format!("/\u{1b}[31m{}", "x".repeat(100_000));
            refused.record(&RefusedCall { from, ..call("ci", &path) }, at(0));
        }
        for number in 0..2 * limits::REFUSED_TOKENS_MAX {
            refused.record(&call(&format!("t{number}"), "/"), at(1));
        }
        let entries = refused.unstored(at(60));
        assert_eq!(entries.len(), limits::REFUSED_TOKENS_MAX);
        assert!(entries[0].text.len() < 600 && !entries[0].text.contains('\u{1b}'), "{}", entries[0].text);
        assert_eq!(entries[0].data["addresses"].as_array().map(Vec::len), Some(limits::REFUSED_ADDRESSES_SHOWN));
    }
}
