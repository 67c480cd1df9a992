//! Tests the alert about certificates that expire soon, and about files that can't be checked.

use isopod_tests::{
    Ask, Host, program,
    tls::{Authority, SERVER},
    upstream::{Then, Upstream, response},
    wait_for,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

const RULE: &str = "certificate-expiry";

/// Starts a host that watches this file and samples often.
fn host(file: &Path, webhook: &Upstream) -> Host {
    let settings = format!(
        "[alerts]\ninterval = \"100ms\"\nwebhook = \"http://{}/\"\n\
         [alerts.certificate_expiry]\nfiles = [{file:?}]\nlasting = \"0s\"\n",
        webhook.address
    );
    Host::start_with("", &settings)
}

#[track_caller]
fn until_text(host: &Host, words: &str) -> Value {
    wait_for(&format!("an alert with `{words}`"), || {
        host.alert(RULE).filter(|alert| alert["text"].as_str().is_some_and(|text| text.contains(words)))
    })
}

#[test]
fn a_certificate_that_expires_soon_has_an_alert_until_its_file_is_replaced() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("shop.pem");
    let write = |text: &str| fs::write(&file, text).expect("it can be written");
    write(&authority.identity(9).certificate);
    let webhook = Upstream::start(|_| Then::Send(response("ok")));
    let host = host(&file, &webhook);
    let fired = until_text(&host, "expires in 9 days, 20");
    assert_eq!(
        (&fired["app"], &fired["unit"], &fired["threshold"]),
        (&Value::Null, &json!("seconds"), &json!(1_209_600.0))
    );
    let beginning = format!("the certificate of {} ({SERVER}) expires", file.display());
    assert!(fired["text"].as_str().is_some_and(|text| text.starts_with(&beginning)), "{fired}");

    write("nonsense");
    let unchecked = until_text(&host, "can't be checked: it contains no certificate in PEM");
    assert_eq!((&unchecked["value"], &unchecked["since"]), (&json!(0.0), &fired["since"]));
    fs::remove_file(&file).expect("it can be removed");
    until_text(&host, "can't be checked: it can't be read: No such file");

    write(&authority.identity(90).certificate);
    host.until_no_alert(RULE);
    wait_for("a message about the new certificate", || {
        let last = webhook.requests().pop()?;
        String::from_utf8_lossy(&last.body).contains("expires in 90 days").then_some(())
    });
}

#[test]
fn the_rule_about_certificates_needs_a_file() {
    let host = Host::start();
    let alerts = host.api(Ask::get("/v1/alerts")).expect(200).json();
    let rules = alerts["rules"].as_array().expect("rules");
    assert!(!rules.iter().any(|rule| rule["rule"] == "certificate-expiry"), "{alerts}");
    let without_file = "[alerts]\ncertificate_expiry = { threshold = \"7days\" }\n";
    program::refuses_settings(without_file, "line 2: `alerts.certificate_expiry`");
}
