//! Tests the names of apps and process types.

use isopod_policy::{AppName, NameError, NameRule, ProcessName};
use proptest::prelude::*;

fn refused(text: &str) -> NameError {
    text.parse::<AppName>().expect_err(text)
}

#[test]
fn ordinary_names_are_valid() {
    for text in ["a", "greeter", "my-app-2", "3d", "0", &"x".repeat(63)] {
        assert_eq!(text.parse::<AppName>().expect(text).as_str(), text);
    }
}

#[test]
fn the_error_names_the_rule_that_is_broken() {
    assert_eq!(refused("").rule, NameRule::Empty);
    assert_eq!(refused(&"x".repeat(64)).rule, NameRule::TooLong { max: 63 });
    assert_eq!(refused("Greeter").rule, NameRule::BadCharacter('G'));
    assert_eq!(refused("a.b").rule, NameRule::BadCharacter('.'));
    assert_eq!(refused("a b").rule, NameRule::BadCharacter(' '));
    assert_eq!(refused("grüße").rule, NameRule::BadCharacter('ü'));
    assert_eq!(refused("-a").rule, NameRule::HyphenAtEdge);
    assert_eq!(refused("a-").rule, NameRule::HyphenAtEdge);
    assert_eq!(refused("v3--a").rule, NameRule::DoubleHyphen);
    let digit_first = "2web".parse::<ProcessName>().expect_err("process names start with a letter");
    assert_eq!(digit_first.rule, NameRule::NotALetterFirst);
}

#[test]
fn the_error_suggests_a_valid_name() {
    assert_eq!(refused("My Cool App!").suggestion.as_deref(), Some("my-cool-app"));
    assert_eq!(refused("v3--a").suggestion.as_deref(), Some("v3-a"));
    assert_eq!(refused("--").suggestion, None);
    assert_eq!(refused("äpp").suggestion, None, "no different word is suggested");
    assert_eq!(
        refused("Greeter").to_string(),
        "invalid app name \"Greeter\": it contains 'G', but only lowercase letters a-z, digits and '-' are allowed; \
         \"greeter\" would be valid"
    );
}

proptest! {
    #[test]
    fn every_name_of_the_allowed_form_is_valid_and_prints_itself(text in "[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,5}") {
        let name: AppName = text.parse().expect("it has the allowed form");
        prop_assert_eq!(name.to_string(), text.clone());
        let json = serde_json::to_string(&name).expect("it serialises");
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<AppName>(&json).expect("it reads back"), name);
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_every_suggestion_is_valid(text in any::<String>()) {
        if let Some(suggestion) = text.parse::<AppName>().err().and_then(|error| error.suggestion) {
            prop_assert!(suggestion.parse::<AppName>().is_ok(), "{}", suggestion);
        }
        if let Some(suggestion) = text.parse::<ProcessName>().err().and_then(|error| error.suggestion) {
            prop_assert!(suggestion.parse::<ProcessName>().is_ok(), "{}", suggestion);
        }
    }

    #[test]
    fn a_valid_name_is_one_dns_label(text in "[a-zA-Z0-9.-]{0,70}") {
        if let Ok(name) = text.parse::<AppName>() {
            let label = name.as_str();
            prop_assert!(!label.is_empty() && label.len() <= 63);
            prop_assert!(!label.contains('.') && !label.contains("--"));
            prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
        }
    }
}
