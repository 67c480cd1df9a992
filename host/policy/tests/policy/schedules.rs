//! Tests schedules in UTC: parsing, and the next time. `timetables.rs` tests time zones and missed
//! times.

use isopod_policy::{Schedule, ScheduleError, TimeZone, Timetable};
use jiff::{SignedDuration, Timestamp, tz};
use proptest::prelude::*;

pub(crate) fn schedule(text: &str) -> Schedule {
    Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A timetable in UTC.
fn timetable(text: &str) -> Timetable {
    Timetable::new(schedule(text), TimeZone::default())
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("it is a time")
}

#[test]
fn the_next_time_is_that_of_other_crons() {
    let table = [
        ("0 3 * * *", "2026-11-22T08:00:00Z", "2026-11-23T03:00:00Z"),
        ("0 3 * * *", "2026-11-22T02:59:59.5Z", "2026-11-22T03:00:00Z"),
        ("0 3 * * *", "2026-11-22T03:00:00Z", "2026-11-23T03:00:00Z"),
        ("*/15 8-17 * * mon-fri", "2026-11-20T17:45:00Z", "2026-11-23T08:00:00Z"),
        ("0 0 1 jan *", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"),
        ("0 0 * * 0", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("0 0 * * 7", "2026-11-22T00:00:00Z", "2026-11-29T00:00:00Z"),
        ("0 0 * * fri-sun", "2026-11-21T12:00:00Z", "2026-11-22T00:00:00Z"),
        // The day of the month or the weekday, if neither is `*`.
        ("0 0 13 * 5", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"),
        ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        // 2100 is not a leap year.
        ("0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
        // A 29 February on a Sunday; a field that starts with "*" requires both.
        ("0 0 29 2 */7", "2004-03-01T00:00:00Z", "2032-02-29T00:00:00Z"),
    ];
    for (text, after, expected) in table {
        assert_eq!(timetable(text).next_after(at(after)), Some(at(expected)), "{text} after {after}");
    }
}

#[test]
fn the_longest_gap_is_found() {
    let leap_sunday = timetable("0 0 29 2 */7");
    let mut after = at("1970-01-01T00:00:00Z");
    let mut longest = 0;
    while after < at("2500-01-01T00:00:00Z") {
        let next = leap_sunday.next_after(after).expect("it comes again and again");
        longest = longest.max((next.as_second() - after.as_second()) / (365 * 24 * 3600));
        after = next;
    }
    assert_eq!(longest, 40);
}

#[test]
fn common_schedules_are_parsed_and_printed_unchanged() {
    for text in
        ["* * * * *", "*/5 * * * *", "0 3 1,15 * 1-5", "0-30/10 0 * 1 7", "  0   3 * * *  ", "5 4 * JAN-Mar sUn"]
    {
        let schedule = schedule(text);
        assert_eq!(schedule.to_string(), text);
        let json = serde_json::to_string(&schedule).expect("it serialises");
        assert_eq!(serde_json::from_str::<Schedule>(&json).expect("it reads back"), schedule);
    }
}

#[test]
fn an_error_for_an_invalid_schedule_names_the_field() {
    let table = [
        ("", "five fields"),
        ("daily", "but this has 1"),
        ("@daily", "five fields"),
        ("0 3 * * * *", "but this has 6"),
        ("60 * * * *", "invalid minute \"60\": write *, a number from 0 to 59"),
        ("5-1 * * * *", "invalid minute \"5-1\""),
        ("*/0 * * * *", "invalid minute \"*/0\""),
        ("*/+5 * * * *", "invalid minute"),
        ("5/15 * * * *", "invalid minute \"5/15\""),
        ("a * * * *", "invalid minute \"a\""),
        ("1, * * * *", "invalid minute \"1,\""),
        ("* 24 * * *", "invalid hour \"24\""),
        ("* * 0 * *", "invalid day \"0\""),
        ("* * L * *", "invalid day \"L\""),
        ("* * * 13 *", "invalid month \"13\""),
        ("* * * sun *", "invalid month \"sun\""),
        ("* * * * 8", "invalid weekday \"8\": write *, a number from 0 to 7"),
        ("* * * * 5#3", "invalid weekday"),
    ];
    for (text, words) in table {
        let error = Schedule::parse(text).expect_err(text).to_string();
        assert!(error.contains(words), "{text:?}\n  says     {error}\n  expected {words}");
    }
}

#[test]
fn a_schedule_that_never_matches_is_refused() {
    for text in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 30-31 feb */2"] {
        assert_eq!(Schedule::parse(text), Err(ScheduleError::NeverComes { given: text.to_owned() }));
    }
    // Here the weekday alone suffices.
    assert!(Schedule::parse("0 0 30 2 1").is_ok());
}

#[test]
fn no_time_follows_the_end_of_representable_time() {
    let hourly = timetable("0 * * * *");
    assert_eq!(hourly.next_after(Timestamp::MAX), None);
    assert!(hourly.next_after(Timestamp::MIN).is_some());
}

/// A part of a field, and the values that it matches.
pub(crate) fn part(least: u32, most: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    prop_oneof![
        (1..=most).prop_map(move |step| {
            let values = (least..=most).filter(|value| (value - least).is_multiple_of(step)).collect();
            (format!("*/{step}"), values)
        }),
        (least..=most).prop_map(|value| (value.to_string(), vec![value])),
        (least..=most, least..=most, 1..=most).prop_map(|(one, other, step)| {
            let (from, to) = (one.min(other), one.max(other));
            let values = (from..=to).filter(|value| (value - from).is_multiple_of(step)).collect();
            (format!("{from}-{to}/{step}"), values)
        }),
    ]
}

/// A random time within three hundred years, to the second.
pub(crate) fn time() -> impl Strategy<Value = Timestamp> {
    (-3_000_000_000..6_000_000_000i64).prop_map(|second| Timestamp::from_second(second).expect("it is in range"))
}

proptest! {
    #[test]
    fn the_next_time_matches_and_no_earlier_time_does(
        minute in part(0, 59), hour in part(0, 23), weekday in part(0, 6), after in time(),
    ) {
        let timetable = timetable(&format!("{} {} * * {}", minute.0, hour.0, weekday.0));
        let fits = |time: Timestamp| {
            let civil = tz::TimeZone::UTC.to_datetime(time);
            let weekday_now = u32::from(civil.weekday().to_sunday_zero_offset().unsigned_abs());
            minute.1.contains(&u32::from(civil.minute().unsigned_abs()))
                && hour.1.contains(&u32::from(civil.hour().unsigned_abs()))
                && weekday.1.contains(&weekday_now)
        };
        let next = timetable.next_after(after).expect("it comes every week");
        prop_assert!(next > after && fits(next) && next.as_second() % 60 == 0);
        let minute = SignedDuration::from_secs(60);
        let mut earlier = next - minute;
        while earlier > after {
            prop_assert!(!fits(earlier), "{} fits before {}", earlier, next);
            earlier -= minute;
        }
    }

    #[test]
    fn a_well_formed_schedule_is_parsed_or_never_matches(
        minute in part(0, 59), hour in part(0, 23), day in part(1, 31), month in part(1, 12), weekday in part(0, 7),
    ) {
        let text = format!("{} {} {} {} {}", minute.0, hour.0, day.0, month.0, weekday.0);
        match Schedule::parse(&text) {
            Ok(_) | Err(ScheduleError::NeverComes { .. }) => {}
            Err(error) => prop_assert!(false, "{}: {}", text, error),
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), near in "[0-9*/,a-zA-Z -]{0,20}") {
        let _ = Schedule::parse(&text);
        let _ = Schedule::parse(&near);
    }
}
