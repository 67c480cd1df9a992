//! Tests config vars: how a change is parsed and applied, and that no secret is ever shown.

use std::collections::BTreeMap;

use isopod_policy::{ConfigChange, ConfigError, ConfigVars, Sealed, limits};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Seals by reversing the text, so that a test sees which secret was sealed under which key.
fn seal(key: &str, secret: &str) -> Sealed {
    Sealed::new(format!("{key}/{}", secret.chars().rev().collect::<String>()))
}

fn open(key: &str, sealed: &Sealed) -> Result<String, String> {
    let text = sealed.as_base64().strip_prefix(&format!("{key}/")).ok_or_else(|| format!("not the seal of {key}"))?;
    Ok(text.chars().rev().collect())
}

fn apply(vars: &ConfigVars, body: Value) -> Result<(ConfigVars, String), ConfigError> {
    let applied = vars.apply(&ConfigChange::from_json(&body)?, seal)?;
    Ok((applied.vars, applied.changed.join(" ")))
}

fn vars() -> ConfigVars {
    let body = json!({"GREETING": "hello", "TOKEN": {"secret": "s3cret"}});
    apply(&ConfigVars::default(), body).expect("the change is valid").0
}

fn redacted(vars: &ConfigVars) -> Value {
    serde_json::to_value(vars.redacted()).expect("it serialises")
}

#[test]
fn vars_are_set_and_removed_and_changes_are_named() {
    let (vars, changed) =
        apply(&vars(), json!({"GREETING": "hi", "NEW": "", "OLD": null})).expect("the change is valid");
    assert_eq!(changed, "GREETING NEW");
    assert_eq!(redacted(&vars), json!({"GREETING": "hi", "NEW": "", "TOKEN": {"secret": true}}));
    let (vars, changed) = apply(&vars, json!({"TOKEN": null, "NEW": null})).expect("the change is valid");
    assert_eq!((changed.as_str(), redacted(&vars)), ("NEW TOKEN", json!({"GREETING": "hi"})));
}

#[test]
fn an_equal_value_is_not_a_change() {
    let body = redacted(&vars());
    assert_eq!(apply(&vars(), body), Ok((vars(), String::new())), "a displayed config can be sent back");
    assert_eq!(apply(&vars(), json!({})), Ok((vars(), String::new())));
    let (_, changed) = apply(&vars(), json!({"TOKEN": {"secret": "s3cret"}})).expect("the change is valid");
    assert_eq!(changed, "TOKEN", "a secret is never compared");
}

#[test]
fn a_secret_becomes_plain_only_with_a_new_value() {
    let (vars, changed) =
        apply(&vars(), json!({"TOKEN": "open", "GREETING": {"secret": "sh"}})).expect("the change is valid");
    assert_eq!(changed, "GREETING TOKEN");
    assert_eq!(redacted(&vars), json!({"GREETING": {"secret": true}, "TOKEN": "open"}));
    let error = apply(&vars, json!({"TOKEN": {"secret": true}})).expect_err("it is plain");
    assert_eq!(error, ConfigError::NoSuchSecret { key: "TOKEN".to_owned() });
}

#[test]
fn the_stored_form_is_sealed_and_reads_back() {
    let stored = serde_json::to_string(&vars()).expect("it serialises");
    assert_eq!(stored, r#"{"GREETING":"hello","TOKEN":{"sealed":"TOKEN/terc3s"}}"#);
    assert_eq!(serde_json::from_str::<ConfigVars>(&stored).expect("it reads back"), vars());
}

#[test]
fn guests_receive_the_manifests_vars_overlaid_by_the_apps() {
    let manifest = BTreeMap::from([("GREETING".to_owned(), "hey".to_owned()), ("LANG".to_owned(), "de".to_owned())]);
    let effective = vars().effective(&manifest, open).expect("it can be opened");
    let expected = [("GREETING", "hello"), ("LANG", "de"), ("TOKEN", "s3cret")];
    assert_eq!(effective, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert!(vars().effective(&manifest, |_, _| Err("the key is gone")).is_err());
}

#[test]
fn every_error_names_the_key_and_never_the_value() {
    let hidden = "hunter2";
    let long = hidden.repeat(limits::CONFIG_VALUE_BYTES_MAX / 7 + 1);
    let table = [
        (json!([hidden]), "but found a list"),
        (json!({"BAD-KEY": hidden}), "invalid config var \"BAD-KEY\""),
        (json!({"9": hidden}), "no digit first"),
        (json!({"": hidden}), "invalid config var"),
        (json!({"A": long}), "A has 32774 bytes; the maximum is 32768"),
        (json!({"A": {"secret": long}}), "A has 32774 bytes"),
        (json!({"A": format!("{hidden}\0")}), "contains a NUL"),
        (json!({"A": {"secret": format!("{hidden}\0")}}), "contains a NUL"),
        (json!({"A": 3}), "\"A\" is a number, but must be text"),
        (json!({"A": [hidden]}), "\"A\" is a list"),
        (json!({"A": {"secret": 3}}), "an object of another form"),
        (json!({"A": {"secret": false}}), "an object of another form"),
        (json!({"A": {"secret": hidden, "more": hidden}}), "an object of another form"),
        (json!({"A": {"secret": true}}), "A is not a stored secret"),
    ];
    for (body, words) in table {
        let error = apply(&vars(), body).expect_err(words).to_string();
        assert!(error.contains(words), "says {error}\n  expected {words}");
        assert!(!error.contains(hidden), "{error}");
    }
}

#[test]
fn the_number_and_the_size_are_limited() {
    let many: serde_json::Map<String, Value> = (0..257).map(|number| (format!("K{number}"), json!(""))).collect();
    assert_eq!(apply(&ConfigVars::default(), Value::Object(many)), Err(ConfigError::TooMany { count: 257 }));
    let large: serde_json::Map<String, Value> =
        (0..9).map(|number| (format!("K{number}"), json!("x".repeat(limits::CONFIG_VALUE_BYTES_MAX)))).collect();
    let bytes = 9 * (limits::CONFIG_VALUE_BYTES_MAX + 2);
    assert_eq!(apply(&ConfigVars::default(), Value::Object(large)), Err(ConfigError::TooLarge { bytes }));
}

#[test]
fn an_app_above_the_limits_may_still_reduce_its_vars() {
    let stored: serde_json::Map<String, Value> = (0..300).map(|number| (format!("K{number}"), json!("a"))).collect();
    let many: ConfigVars =
        serde_json::from_value(Value::Object(stored)).expect("stored config vars are read without limits");
    let (fewer, changed) = apply(&many, json!({"K1": null, "K2": "b"})).expect("the change is valid");
    assert_eq!(changed, "K1 K2");
    assert!(apply(&fewer, json!({"NEW1": "a", "NEW2": "a"})).is_err());
}

proptest! {
    #[test]
    fn a_secret_is_shown_only_by_opening_it(secret in "[A-Z]{8,20}", key in "[a-z]{1,8}") {
        let body = json!({&key: {"secret": secret}});
        let change = ConfigChange::from_json(&body).expect("the body is valid");
        let applied = vars().apply(&change, seal).expect("the change is valid");
        let turned: String = secret.chars().rev().collect();
        for text in [format!("{change:?} {applied:?}"), redacted(&applied.vars).to_string()] {
            prop_assert!(!text.contains(&secret) && !text.contains(&turned));
        }
        let effective = applied.vars.effective(&BTreeMap::new(), open).expect("it can be opened");
        prop_assert_eq!(&effective[&key], &secret);
    }

    #[test]
    fn applying_a_change_twice_changes_nothing(
        body in proptest::collection::btree_map("[A-F]", proptest::option::of("[a-c]{0,2}"), 0..6),
    ) {
        let body = json!(body);
        let (once, _) = apply(&vars(), body.clone()).expect("the change is valid");
        prop_assert_eq!(apply(&once, body), Ok((once.clone(), String::new())));
        let stored = serde_json::to_string(&once).expect("it serialises");
        prop_assert_eq!(serde_json::from_str::<ConfigVars>(&stored).expect("it reads back"), once);
    }

    #[test]
    fn no_body_makes_the_parser_panic_or_repeat_the_value(key in any::<String>(), value in "[!-~]{9,30}") {
        prop_assume!(!key.contains(&value));
        for body in [json!({&key: &value}), json!({&key: {"secret": &value}}), json!({&key: [&value]}), json!(&value)] {
            if let Err(error) = apply(&vars(), body) {
                prop_assert!(!error.to_string().contains(&value));
            }
        }
    }
}
