//! Tests the gate without a host.

use super::*;
use isopod_sdk::plugin::parse_settings;
use isopod_sdk::testing::block_on;

fn settings(json: &str) -> Settings {
    parse_settings(json).unwrap()
}

fn office_hours() -> Settings {
    settings(r#"{"allow": [{"days": "mon-thu", "from": "09:00", "to": "17:00"}], "time_zone": "Europe/Berlin"}"#)
}

/// Decides about a release at a local time in Berlin, such as `2026-11-30T09:00+01:00`.
fn at(time: &str, settings: &Settings) -> Decision {
    decide(&format!("{time}[Europe/Berlin]").parse::<Zoned>().unwrap(), settings)
}

#[track_caller]
fn expect_next(time: &str, settings: &Settings, next: &str) {
    match at(time, settings) {
        Decision::Refuse(why) => assert!(why.ends_with(&format!("the next window begins {next}")), "{time}: {why}"),
        Decision::Allow => panic!("{time} is allowed"),
    }
}

#[test]
fn a_release_is_allowed_within_a_window() {
    for time in ["2026-11-30T09:00+01:00", "2026-12-03T16:59:59.9+01:00"] {
        assert_eq!(at(time, &office_hours()), Decision::Allow, "{time}");
    }
}

#[test]
fn a_refusal_states_the_current_time_and_the_next_window() {
    let Decision::Refuse(why) = at("2026-11-27T18:03+01:00", &office_hours()) else { panic!("it is allowed") };
    let words = "releases are not allowed now (Fri 2026-11-27 18:03 in Europe/Berlin); \
                 the next window begins Mon 2026-11-30 09:00";
    assert_eq!(why, words);
    expect_next("2026-11-30T08:59:59+01:00", &office_hours(), "Mon 2026-11-30 09:00");
    expect_next("2026-11-30T17:00+01:00", &office_hours(), "Tue 2026-12-01 09:00");
    expect_next("2026-12-03T17:00+01:00", &office_hours(), "Mon 2026-12-07 09:00");
    // One day of the week only, just after its window.
    let friday =
        settings(r#"{"allow": [{"days": "fri", "from": "10:00", "to": "10:01"}], "time_zone": "Europe/Berlin"}"#);
    expect_next("2026-11-27T10:01+01:00", &friday, "Fri 2026-12-04 10:00");
}

#[test]
fn a_window_may_last_across_midnight() {
    let night = r#"{"allow": [{"days": "sun", "from": "22:00", "to": "04:00"}], "time_zone": "Europe/Berlin"}"#;
    let night = settings(night);
    for time in ["2026-11-29T22:00+01:00", "2026-11-30T03:59+01:00"] {
        assert_eq!(at(time, &night), Decision::Allow, "{time}");
    }
    expect_next("2026-11-29T03:00+01:00", &night, "Sun 2026-11-29 22:00");
    expect_next("2026-11-30T04:00+01:00", &night, "Sun 2026-12-06 22:00");
}

#[test]
fn days_are_single_ranges_or_lists() {
    use Weekday::*;
    assert_eq!(days_of("mon-thu").unwrap(), [Monday, Tuesday, Wednesday, Thursday]);
    assert_eq!(days_of("sat-mon, wed").unwrap(), [Saturday, Sunday, Monday, Wednesday]);
    assert_eq!(days_of("fri").unwrap(), [Friday]);
    let whole = settings(r#"{"allow": [{"days": "fri"}], "time_zone": "Europe/Berlin"}"#);
    for time in ["2026-11-27T00:00+01:00", "2026-11-27T23:59:59+01:00"] {
        assert_eq!(at(time, &whole), Decision::Allow, "{time}");
    }
    expect_next("2026-11-28T00:00+01:00", &whole, "Fri 2026-12-04 00:00");
    let always = settings(r#"{"allow": [{}]}"#);
    assert_eq!(at("2026-11-28T00:00+01:00", &always), Decision::Allow);
}

#[test]
fn windows_follow_the_local_clock_across_its_changes() {
    // The offset changes on 2026-03-29 and 2026-10-25.
    assert_eq!(at("2026-03-30T09:00+02:00", &office_hours()), Decision::Allow);
    expect_next("2026-03-28T12:00+01:00", &office_hours(), "Mon 2026-03-30 09:00");
    assert_eq!(at("2026-10-26T16:59+01:00", &office_hours()), Decision::Allow);
    // Berlin skips 02:00 to 03:00, so a window from 02:30 begins at 03:30.
    let night = |from: &str, to: &str| {
        settings(&format!(r#"{{"allow": [{{"from": "{from}", "to": "{to}"}}], "time_zone": "Europe/Berlin"}}"#))
    };
    expect_next("2026-03-29T03:29+02:00", &night("02:30", "05:00"), "Sun 2026-03-29 03:30");
    assert_eq!(at("2026-03-29T03:30+02:00", &night("02:30", "05:00")), Decision::Allow);
    // Berlin repeats 02:00 to 03:00, and a window until 02:30 ends the first time.
    assert_eq!(at("2026-10-25T02:29+02:00", &night("01:00", "02:30")), Decision::Allow);
    expect_next("2026-10-25T02:29+01:00", &night("01:00", "02:30"), "Mon 2026-10-26 01:00");
}

#[test]
fn rollbacks_are_allowed_at_any_time_by_default() {
    let never = |more: &str| {
        // The window has always just ended: the test doesn't depend on the time of day.
        let now = Timestamp::try_from(isopod_sdk::time::now()).unwrap().to_zoned(TimeZone::UTC);
        let day = now.date().checked_add(SignedDuration::from_hours(72)).unwrap().strftime("%a").to_string();
        settings(&format!(r#"{{"allow": [{{"days": "{}", "from": "12:00"}}] {more}}}"#, day.to_lowercase()))
    };
    let allows = |cause: Cause, settings: &Settings| {
        let release = Release { cause, ..Release::new("shop") };
        block_on(before_activate(&release, settings)).unwrap() == Decision::Allow
    };
    let all = [Cause::Push, Cause::Rollback, Cause::Config, Cause::Formation, Cause::Grants, Cause::Approval];
    let allowed = |more: &str| all.map(|cause| allows(cause, &never(more)));
    assert_eq!(allowed(""), [false, true, false, false, false, false]);
    assert_eq!(allowed(r#", "rollbacks": false"#), [false; 6]);
    assert_eq!(allowed(r#", "settings": true"#), [false, true, true, true, true, false]);
}

#[test]
fn an_invalid_config_is_refused_with_a_remedy() {
    let window = |window: &str| format!(r#"{{"allow": [{window}]}}"#);
    for (config, words) in [
        ("{}".to_owned(), "missing field `allow`"),
        (r#"{"allow": []}"#.to_owned(), "has no window"),
        (r#"{"allow": [{}], "time_zone": "Berlin"}"#.to_owned(), "\"Europe/Berlin\""),
        (r#"{"allow": [{}], "zone": "UTC"}"#.to_owned(), "unknown field `zone`"),
        (window(r#"{"days": "mon-"}"#), "\"mon-thu\""),
        (window(r#"{"days": ""}"#), "\"mon-thu\""),
        (window(r#"{"days": "Monday"}"#), "\"mon-thu\""),
        (window(r#"{"from": "9"}"#), "`from` is \"9\""),
        (window(r#"{"from": "24:00", "to": "10:00"}"#), "`from` is \"24:00\""),
        (window(r#"{"to": "25:00"}"#), "`to` is \"25:00\""),
        (window(r#"{"from": "09:00", "to": "09:00"}"#), "leave out both"),
    ] {
        let error = parse_settings::<Settings>(&config).unwrap_err().to_string();
        assert!(error.contains(words), "{config}: {error}");
    }
}
