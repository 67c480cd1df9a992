//! Tests timetables: local times in zones whose clocks skip and repeat times, missed times, and a
//! clock that jumps. An oracle steps through every minute.

use isopod_policy::limits::{MISSED_RUNS_COUNTED, MISSED_RUNS_MAX, SCHEDULE_LATE};
use isopod_policy::{Due, Missed, TimeZone, Timetable, counted_since};
use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp, tz};
use proptest::prelude::*;

use crate::schedules::{at, part, schedule, time};

/// Zones whose clocks are moved by an hour, by half an hour, across the date line, and never.
const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "UTC"];

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn timetable(text: &str, zone: &str) -> Timetable {
    Timetable::new(schedule(text), zone.parse().unwrap_or_else(|error| panic!("{error}")))
}

fn missing(missed: Missed, text: &str) -> Timetable {
    Timetable { missed, ..timetable(text, "UTC") }
}

#[test]
fn a_skipped_time_runs_once_at_the_transition_and_a_repeated_one_the_first_time() {
    let table: [(&str, &str, &str, &[&str]); 14] = [
        // The clock moves from 02:00 to 03:00 at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("*/15 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]),
        // The clock moves from 03:00 back to 02:00 at 01:00 UTC.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", &["2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"]),
        ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", &["2026-10-25T02:00:00Z", "2026-10-26T02:00:00Z"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]),
        ("30 2 8 3 *", "America/New_York", "2026-01-01T00:00:00Z", &["2026-03-08T07:00:00Z", "2027-03-08T07:30:00Z"]),
        // Half an hour is skipped at 02:00 and repeated at 01:30.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
        ),
        // 2011-12-30 is skipped: midnight of the 31st follows the end of the 29th.
        ("0 12 30 12 *", "Pacific/Apia", "2011-01-01T00:00:00Z", &["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"]),
        ("0 */6 * * fri", "Pacific/Apia", "2011-12-26T00:00:00Z", &["2011-12-30T10:00:00Z", "2012-01-05T10:00:00Z"]),
    ];
    for (text, zone, after, expected) in table {
        let timetable = timetable(text, zone);
        let mut after = at(after);
        for next in expected {
            assert_eq!(timetable.next_after(after), Some(at(next)), "{text} in {zone} after {after}");
            after = at(next);
        }
    }
}

#[test]
fn a_time_zone_has_the_spelling_of_the_iana_database() {
    for name in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Calcutta", "Etc/GMT+5", "EST5EDT"] {
        assert_eq!(name.parse::<TimeZone>().map(|zone| zone.to_string()), Ok(name.to_owned()));
    }
    let table = [
        ("europe/berlin", "unknown time zone \"europe/berlin\"; did you mean \"Europe/Berlin\"?"),
        ("Europe/Berln", "did you mean \"Europe/Berlin\"?"),
        ("America/New York", "did you mean \"America/New_York\"?"),
        ("Berlin", "did you mean \"Europe/Berlin\"?"),
        ("utc", "did you mean \"UTC\"?"),
        ("CEST", "write an IANA name, such as \"Europe/Berlin\" or \"UTC\""),
        ("+02:00", "write an IANA name"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "unknown time zone"),
        ("Etc/Unknown", "unknown time zone"),
        ("/etc/localtime", "unknown time zone"),
        ("", "unknown time zone \"\""),
    ];
    for (text, words) in table {
        let error = text.parse::<TimeZone>().expect_err(text).to_string();
        assert!(error.contains(words), "{text:?}\n  says     {error}\n  expected {words}");
    }
    assert!("x".repeat(100_000).parse::<TimeZone>().expect_err("it is too long").to_string().len() < 300);
}

#[test]
fn missed_times_run_once_all_or_never() {
    let (last, before) = (at("2026-11-20T03:00:10Z"), at("2026-11-21T02:59:00Z"));
    let later = at("2026-11-25T12:00:00Z");
    let next = Some(at("2026-11-26T03:00:00Z"));
    let all: Vec<Timestamp> = (21..=25).map(|day| at(&format!("2026-11-{day}T03:00:00Z"))).collect();
    for (missed, runs) in [(Missed::Skip, &all[..0]), (Missed::Once, &all[4..]), (Missed::All, &all[..])] {
        let nightly = missing(missed, "0 3 * * *");
        let idle = Due { runs: Vec::new(), dropped: 0, next: Some(all[0]) };
        assert_eq!(nightly.due(last, before), idle);
        let dropped = 5 - u32::try_from(runs.len()).expect("it is small");
        assert_eq!(nightly.due(last, later), Due { runs: runs.to_vec(), dropped, next });
        assert_eq!(nightly.due(later, later), Due { runs: Vec::new(), dropped: 0, next });
    }
}

#[test]
fn a_run_that_is_only_late_is_not_missed() {
    let nightly = missing(Missed::Skip, "0 3 * * *");
    let (last, time) = (at("2026-11-20T12:00:00Z"), at("2026-11-21T03:00:00Z"));
    let late = SignedDuration::try_from(SCHEDULE_LATE).expect("it is short");
    assert_eq!(nightly.due(last, time).runs, [time]);
    assert_eq!(nightly.due(last, time + late - MINUTE / 60).runs, [time]);
    let due = nightly.due(last, time + late);
    assert_eq!((due.runs.len(), due.dropped), (0, 1));
}

#[test]
fn a_long_downtime_makes_up_for_the_latest_times_only() {
    let minutely = missing(Missed::All, "* * * * *");
    let (last, now) = (at("2016-11-20T00:00:30Z"), at("2026-11-20T00:00:30Z"));
    let due = minutely.due(last, now);
    assert_eq!((due.runs.len(), due.runs.last()), (MISSED_RUNS_MAX, Some(&at("2026-11-20T00:00:00Z"))));
    assert!(due.runs.windows(2).all(|pair| pair[1].duration_since(pair[0]) == MINUTE));
    assert_eq!(usize::try_from(due.dropped), Ok(MISSED_RUNS_COUNTED - MISSED_RUNS_MAX));
    // Times that are unevenly spread.
    let newyear = missing(Missed::All, "* * 1 1 *").due(last, now);
    assert_eq!((newyear.runs.len(), newyear.runs.last()), (MISSED_RUNS_MAX, Some(&at("2026-01-01T23:59:00Z"))));
}

#[test]
fn a_jump_of_years_fires_once_and_the_return_fires_nothing() {
    let nightly = timetable("0 3 * * *", "Europe/Berlin");
    let (now, then) = (at("2026-11-22T12:00:00Z"), at("2036-11-22T12:00:00Z"));
    assert_eq!(nightly.due(now, then).runs, [at("2036-11-22T02:00:00Z")]);
    let idle = Due { runs: Vec::new(), dropped: 0, next: Some(at("2036-11-23T02:00:00Z")) };
    assert_eq!(nightly.due(then, then), idle);
    assert_eq!(nightly.due(then, now), idle);
}

#[test]
fn a_time_far_ahead_is_forgotten_and_a_small_step_back_is_waited_for() {
    let now = at("2026-11-22T12:00:00Z");
    for (last, since) in [
        ("2026-11-20T03:00:00Z", "2026-11-20T03:00:00Z"),
        ("2026-11-22T15:00:00Z", "2026-11-22T15:00:00Z"),
        ("2026-11-22T15:00:01Z", "2026-11-22T12:00:00Z"),
        ("2036-11-22T12:00:00Z", "2026-11-22T12:00:00Z"),
    ] {
        assert_eq!(counted_since(at(last), now), at(since), "{last}");
    }
}

#[test]
fn nothing_is_due_at_the_ends_of_representable_time() {
    for zone in ZONES {
        let hourly = timetable("0 * * * *", zone);
        assert_eq!(hourly.due(Timestamp::MAX, Timestamp::MIN), Due { runs: Vec::new(), dropped: 0, next: None });
        assert_eq!(hourly.next_after(Timestamp::MAX), None);
    }
}

/// The fields of a schedule, and the values that they match.
type Fields = [(String, Vec<u32>); 4];

fn fields() -> impl Strategy<Value = Fields> {
    let hour = prop_oneof![
        part(0, 23),
        (0..4u32).prop_map(|hour| (hour.to_string(), vec![hour])),
        Just(("*".to_owned(), (0..24).collect()))
    ];
    let day = prop_oneof![3 => Just(("*".to_owned(), (1..32).collect())), 1 => part(1, 31)];
    let weekday = prop_oneof![3 => Just(("*".to_owned(), (0..7).collect())), 1 => part(0, 6)];
    (part(0, 59), hour, day, weekday).prop_map(|(minute, hour, day, weekday)| [minute, hour, day, weekday])
}

fn text([minute, hour, day, weekday]: &Fields) -> String {
    format!("{} {} {} * {}", minute.0, hour.0, day.0, weekday.0)
}

fn matches([minute, hour, day, weekday]: &Fields, local: DateTime) -> bool {
    let has = |field: &(String, Vec<u32>), value: i8| field.1.contains(&u32::from(value.unsigned_abs()));
    let (on_day, on_weekday) = (has(day, local.day()), has(weekday, local.weekday().to_sunday_zero_offset()));
    let on = match day.0.starts_with('*') || weekday.0.starts_with('*') {
        true => on_day && on_weekday,
        false => on_day || on_weekday,
    };
    on && has(minute, local.minute()) && has(hour, local.hour())
}

/// Returns the times after `from` and up to `to` by stepping through every minute: a time is due
/// when the local clock first reads a matching time or has passed it.
fn stepped(fields: &Fields, zone: &tz::TimeZone, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let whole = |time: Timestamp| Timestamp::from_second(time.as_second().div_euclid(60) * 60).expect("in range");
    let mut now = whole(from) - SignedDuration::from_hours(60);
    let mut latest = zone.to_datetime(now);
    let mut found = Vec::new();
    while now < whole(to) {
        now += MINUTE;
        let reading = zone.to_datetime(now);
        let mut is_due = false;
        while latest < reading {
            latest = latest.checked_add(MINUTE).expect("in range");
            is_due |= matches(fields, latest);
        }
        if is_due && now > from {
            found.push(now);
        }
    }
    found
}

/// A zone, and a time from 1975 to 2060: any, or near a change of the zone's clock.
fn zone_and_time() -> impl Strategy<Value = (&'static str, Timestamp)> {
    // Most near times are in the hours that the clock skips or repeats.
    let minutes = prop_oneof![3 => -70..70i64, 1 => -2_880..2_880i64];
    (0..ZONES.len(), 157_766_400..2_840_140_800i64, any::<bool>(), minutes).prop_map(
        |(zone, second, is_near, minutes)| {
            let (zone, time) = (ZONES[zone], Timestamp::from_second(second).expect("in range"));
            let change = rules(zone).following(time).next().map(|found| found.timestamp()).filter(|_| is_near);
            (zone, change.map_or(time, |change| change + SignedDuration::from_mins(minutes)))
        },
    )
}

fn rules(zone: &str) -> tz::TimeZone {
    tz::TimeZoneDatabase::bundled().get(zone).expect("it exists")
}

proptest! {
    #[test]
    fn the_times_are_those_of_a_walk_through_every_minute(
        fields in fields(), (zone, after) in zone_and_time(),
    ) {
        let timetable = Timetable::new(
            match isopod_policy::Schedule::parse(&text(&fields)) {
                Ok(schedule) => schedule,
                Err(_) => return Ok(()),
            },
            zone.parse().expect("it exists"),
        );
        let until = after + SignedDuration::from_hours(60);
        let times = std::iter::successors(timetable.next_after(after), |time| timetable.next_after(*time));
        let times: Vec<Timestamp> = times.take_while(|time| *time <= until).collect();
        prop_assert_eq!(times, stepped(&fields, &rules(zone), after, until), "{} in {}", text(&fields), zone);
    }

    #[test]
    fn a_change_of_the_apia_date_line_is_walked_correctly(fields in fields(), minutes in -2_000..2_000i64) {
        let Ok(schedule) = isopod_policy::Schedule::parse(&text(&fields)) else { return Ok(()) };
        let timetable = Timetable::new(schedule, "Pacific/Apia".parse().expect("it exists"));
        let after = at("2011-12-30T10:00:00Z") + SignedDuration::from_mins(minutes);
        let until = after + SignedDuration::from_hours(60);
        let times = std::iter::successors(timetable.next_after(after), |time| timetable.next_after(*time));
        let times: Vec<Timestamp> = times.take_while(|time| *time <= until).collect();
        prop_assert_eq!(times, stepped(&fields, &rules("Pacific/Apia"), after, until));
    }

    #[test]
    fn no_time_fires_twice_when_the_clock_jumps(
        minute in part(0, 59), hour in part(0, 23), (zone, first) in zone_and_time(), missed in 0..3usize,
        jumps in proptest::collection::vec(-200_000..200_000i64, 1..20),
    ) {
        let timetable = Timetable {
            missed: Missed::ALL[missed],
            ..timetable(&format!("{} {} * * *", minute.0, hour.0), zone)
        };
        let (mut now, mut last, mut ran) = (first, first, Vec::new());
        for jump in jumps {
            now += SignedDuration::from_secs(jump);
            let due = timetable.due(last, now);
            prop_assert!(due.next.is_some_and(|next| next > now && next > last));
            prop_assert!(due.runs.iter().all(|run| last < *run && *run <= now));
            if due.runs.is_empty() && due.dropped == 0 {
                prop_assert!(timetable.next_after(last).is_some_and(|next| next > now));
            } else {
                last = now;
                prop_assert!(timetable.due(last, now).runs.is_empty());
            }
            ran.extend(due.runs);
        }
        prop_assert!(ran.windows(2).all(|pair| pair[0] < pair[1]), "{ran:?}");
    }

    #[test]
    fn every_passed_time_runs_or_is_counted_as_dropped(
        minute in part(0, 59), hour in part(0, 23), (zone, last) in zone_and_time(), passed in 0..400_000i64,
        missed in 0..3usize,
    ) {
        let timetable = Timetable {
            missed: Missed::ALL[missed],
            ..timetable(&format!("{} {} * * *", minute.0, hour.0), zone)
        };
        let now = last + SignedDuration::from_secs(passed);
        let due = timetable.due(last, now);
        let times = std::iter::successors(timetable.next_after(last), |time| timetable.next_after(*time));
        let times: Vec<Timestamp> = times.take_while(|time| *time <= now).collect();
        prop_assert_eq!(due.runs.len() + usize::try_from(due.dropped).expect("it is small"), times.len());
        prop_assert!(times.ends_with(&due.runs));
        let most = match timetable.missed {
            Missed::Skip | Missed::Once => 1,
            Missed::All => MISSED_RUNS_MAX,
        };
        prop_assert!(due.runs.len() <= most);
        if timetable.missed != Missed::Skip {
            prop_assert_eq!(due.runs.len(), times.len().min(most));
        }
    }

    #[test]
    fn no_text_makes_the_parser_of_time_zones_panic(
        text in any::<String>(), near in "[A-Z][a-z]{0,8}/[A-Za-z_]{0,12}",
    ) {
        let _ = text.parse::<TimeZone>();
        let _ = near.parse::<TimeZone>();
    }

    #[test]
    fn any_time_of_three_hundred_years_has_a_next_one(time in time(), zone in 0..ZONES.len()) {
        let next = timetable("30 2 * * *", ZONES[zone]).next_after(time).expect("it comes every day");
        prop_assert!(next > time && next.duration_since(time) <= SignedDuration::from_hours(49));
    }
}
