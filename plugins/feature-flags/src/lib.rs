//! Feature flags: a provider of `isopod-plugins:feature-flags/reader@0.1.0` (`wit/flags.wit`). A
//! change of a flag applies to all apps, without a new release of any app. Never stores a flag:
//! each is a config var of the provider.
//!
//! The flag `new-checkout` is the config var `FLAG_NEW_CHECKOUT`. Its value is a list of rules,
//! separated by commas. The first rule that names the calling app, or no app, decides. Without such
//! a rule, the flag is off:
//!
//! | rule | meaning |
//! | --- | --- |
//! | `on`, `off` | on or off for all apps |
//! | `25%` | on for this share of the keys that an app passes |
//! | `shop=on`, `shop=25%` | the same for one app only |
//!
//! `isopod config set FLAG_NEW_CHECKOUT="shop=25%, off" --app feature-flags` sets it.

#![cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a host calls the provider"))]

use isopod_sdk::prelude::*;

#[cfg(target_family = "wasm")]
mod export;

/// Returns whether a flag is on. A flag with an invalid value is off, and the log names it.
fn is_on(flag: &str, app: Option<&str>, key: Option<&str>) -> bool {
    let Some(rules) = config::get(&variable(flag)) else { return false };
    decide(&rules, flag, app, key).unwrap_or_else(|rule| {
        eprintln!("the flag `{flag}` has an invalid rule: {rule:?}");
        false
    })
}

/// Returns the name of a flag's config var.
fn variable(flag: &str) -> String {
    format!("FLAG_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Applies the first rule for the app. The error is a rule that is not valid.
fn decide<'a>(rules: &'a str, flag: &str, app: Option<&str>, key: Option<&str>) -> std::result::Result<bool, &'a str> {
    for rule in rules.split(',').map(str::trim) {
        let (of, value) = rule.split_once('=').map_or((None, rule), |(of, value)| (Some(of.trim()), value.trim()));
        if of.is_some() && of != app {
            continue;
        }
        return match value.strip_suffix('%') {
            None if value == "on" => Ok(true),
            None if value == "off" => Ok(false),
            None => Err(rule),
            Some(share) => match share.parse::<u64>() {
                Ok(share) if share <= 100 => Ok(share == 100 || key.is_some_and(|key| bucket(flag, key) < share)),
                Ok(_) | Err(_) => Err(rule),
            },
        };
    }
    Ok(false)
}

/// Returns a number below 100 that depends only on the flag and the key (FNV-1a). It depends on the
/// flag, so that each flag is first on for different keys.
fn bucket(flag: &str, key: &str) -> u64 {
    let bytes = flag.bytes().chain([0]).chain(key.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)) % 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_for_the_app_decides() {
        let rules = "shop=on, wiki = off,on";
        assert_eq!(
            [Some("shop"), Some("wiki"), Some("blog"), None].map(|app| decide(rules, "f", app, None)),
            [Ok(true), Ok(false), Ok(true), Ok(true)]
        );
        assert_eq!(decide("shop=on", "f", Some("wiki"), None), Ok(false), "without a rule, the flag is off");
    }

    #[test]
    fn a_flag_is_on_for_about_its_share_of_keys_and_stays_on_as_it_grows() {
        let on = |share: u64| -> Vec<u64> {
            let rules = format!("{share}%");
            (0..1000).filter(|key| decide(&rules, "f", None, Some(&key.to_string())) == Ok(true)).collect()
        };
        let (some, more) = (on(20), on(60));
        assert!((120..280).contains(&some.len()) && (500..700).contains(&more.len()), "{} {}", some.len(), more.len());
        assert!(some.iter().all(|key| more.contains(key)), "a larger share includes the smaller one");
        assert_eq!((on(0).len(), on(100).len()), (0, 1000));
        assert_eq!([decide("99%", "f", None, None), decide("100%", "f", None, None)], [Ok(false), Ok(true)]);
    }

    #[test]
    fn an_invalid_rule_is_named() {
        for rules in ["yes", "101%", "-1%", "shop=maybe", ""] {
            assert_eq!(decide(rules, "f", Some("shop"), Some("k")), Err(rules));
        }
        assert_eq!(decide("wiki=maybe, on", "f", Some("shop"), None), Ok(true), "a rule of another app is not read");
    }

    #[test]
    fn a_flag_is_a_config_var() {
        assert_eq!(variable("new-checkout"), "FLAG_NEW_CHECKOUT");
    }
}
