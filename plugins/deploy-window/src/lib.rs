//! Allows releases only in weekly windows. Outside them, it refuses a release and states when the
//! next window begins.
//!
//! The keys of its config:
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `allow` | required | the windows in which releases are allowed |
//! | `allow.days` | all days | the days on which a window begins, such as `mon-thu` or `mon,wed-fri` |
//! | `allow.from` | `00:00` | the local time at which it begins |
//! | `allow.to` | `24:00` | the local time at which it ends; on the next day if that isn't after `from` |
//! | `time_zone` | `UTC` | the time zone of these days and times, such as `Europe/Berlin` |
//! | `rollbacks` | `true` | whether rollbacks are allowed at any time |
//! | `settings` | `false` | whether changes of config vars, process types and grants are allowed at any time |
//!
//! If a clock change skips the start or end of a window, it moves later by the length of the gap.
//! If a clock change repeats it, the first occurrence counts.

use isopod_sdk::plugin::gate::{Cause, Decision, Release};
use isopod_sdk::prelude::*;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::Deserialize;

isopod_sdk::gate!(before_activate);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    allow: Vec<WindowConfig>,
    time_zone: Option<String>,
    rollbacks: Option<bool>,
    settings: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowConfig {
    days: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

/// A config that has been checked.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Config")]
struct Settings {
    allow: Vec<Window>,
    zone: TimeZone,
    rollbacks: bool,
    settings: bool,
}

/// A span of time that begins on some days of the week.
#[derive(Debug)]
struct Window {
    days: Vec<Weekday>,
    from: Time,
    /// On the next day if it isn't after `from`.
    to: Time,
}

impl TryFrom<Config> for Settings {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        if config.allow.is_empty() {
            return Err("`allow` has no window, so no release would ever be allowed".to_owned());
        }
        let name = config.time_zone.as_deref().unwrap_or("UTC");
        let unknown = |_| format!("`time_zone` is {name:?}; write the name of a time zone, such as \"Europe/Berlin\"");
        let zone = TimeZone::get(name).map_err(unknown)?;
        let allow = config.allow.into_iter().map(Window::try_from).collect::<Result<_, _>>()?;
        let (rollbacks, settings) = (config.rollbacks.unwrap_or(true), config.settings.unwrap_or(false));
        Ok(Self { allow, zone, rollbacks, settings })
    }
}

impl TryFrom<WindowConfig> for Window {
    type Error = String;

    fn try_from(WindowConfig { days, from, to }: WindowConfig) -> Result<Self, String> {
        let (from, to) = (from.as_deref().unwrap_or("00:00"), to.as_deref().unwrap_or("24:00"));
        if from == to {
            return Err(format!("`from` and `to` are both {from:?}; leave out both for the whole day"));
        }
        let days = days_of(days.as_deref().unwrap_or("mon-sun"))?;
        Ok(Self { days, from: time("from", from)?, to: time("to", to)? })
    }
}

fn days_of(text: &str) -> Result<Vec<Weekday>, String> {
    let wrong = || format!("`days` is {text:?}; write days such as \"mon-thu\" or \"mon,wed-fri\"");
    let day = |name: &str| {
        let index = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|known| *known == name.trim())?;
        Weekday::from_monday_zero_offset(index as i8).ok()
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = day(first).zip(day(last)).ok_or_else(wrong)?;
        days.extend(first.cycle_forward().take(first.until(last) as usize + 1));
    }
    Ok(days)
}

fn time(key: &str, text: &str) -> Result<Time, String> {
    let parsed = if key == "to" && text == "24:00" { Ok(Time::midnight()) } else { Time::strptime("%H:%M", text) };
    parsed.map_err(|_| format!("`{key}` is {text:?}; write a time such as \"09:00\""))
}

impl Window {
    /// Returns the window that begins on a date, if one does.
    fn on(&self, date: Date, zone: &TimeZone) -> Option<std::ops::Range<Timestamp>> {
        let end = if self.to > self.from { date } else { date.tomorrow().ok()? };
        let at = |date: Date, time| zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok();
        self.days.contains(&date.weekday()).then_some(at(date, self.from)?..at(end, self.to)?)
    }
}

async fn before_activate(release: &Release, settings: &Settings) -> Result<Decision> {
    let is_free = match release.cause {
        Cause::Rollback => settings.rollbacks,
        Cause::Config | Cause::Formation | Cause::Grants => settings.settings,
        Cause::Push | Cause::Approval => false,
    };
    let now = Timestamp::try_from(isopod_sdk::time::now()).context("the clock is wrong")?;
    Ok(if is_free { Decision::Allow } else { decide(&now.to_zoned(settings.zone.clone()), settings) })
}

/// Decides about a release at this time.
fn decide(now: &Zoned, settings: &Settings) -> Decision {
    // A window that began yesterday may last until today, and each window begins within a week.
    let days = (-1..=8).filter_map(|day| now.date().checked_add(SignedDuration::from_hours(24 * day)).ok());
    let on = |date| settings.allow.iter().filter_map(move |window| window.on(date, &settings.zone));
    let windows: Vec<std::ops::Range<Timestamp>> = days.flat_map(on).collect();
    if windows.iter().any(|window| window.contains(&now.timestamp())) {
        return Decision::Allow;
    }
    let next = windows.iter().map(|window| window.start).filter(|start| *start > now.timestamp()).min();
    let shown = |time: &Zoned| time.strftime("%a %Y-%m-%d %H:%M").to_string();
    let next = next.map_or_else(|| "later".to_owned(), |next| shown(&next.to_zoned(settings.zone.clone())));
    let zone = settings.zone.iana_name().unwrap_or("UTC");
    Decision::refuse(format!("releases are not allowed now ({} in {zone}); the next window begins {next}", shown(now)))
}

#[cfg(test)]
mod tests;
