//! Alerts: rules about measured values of the host and its apps. Owns the rules with their
//! defaults, and the decision when an alert fires and when it is resolved. Never measures a value.

mod text;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::UnknownWord;
use crate::limits;

/// A measured value that has an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertRule {
    /// Requests and due events that wait in the queues of an app.
    QueueDepth,
    /// The age of the oldest waiting request or event of an app.
    QueueAge,
    /// The time in which an app's waiting events are delivered at the current rate.
    DrainTime,
    /// The share of an app's requests with a 5xx response.
    ErrorRate,
    /// Reports about a process type of an app that crashes repeatedly.
    CrashLoop,
    /// Whether an app is in the state `error`.
    AppDown,
    /// Push jobs of an app that failed since the last one that completed.
    FailedPushes,
    /// The share of the machine's processors that the host uses.
    Cpu,
    /// The share of the memory for guests that is reserved.
    Memory,
    /// Free space on the disk of the data folder.
    DiskSpace,
    /// Log lines that the host dropped.
    LogDrops,
    /// The time until a certificate in one of the files expires that the host watches.
    CertificateExpiry,
}

/// The unit of a measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertUnit {
    /// A number of things.
    Count,
    /// Percent, from 0 to 100.
    Percent,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// On which side of its threshold a value is a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AlertSide {
    /// The threshold and all larger values.
    Above,
    /// The threshold and all smaller values.
    Below,
}

/// The settings of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct AlertSettings {
    /// The alert fires at this value.
    pub threshold: f64,
    /// The alert is resolved beyond this value, on the other side of the threshold or equal to it.
    pub clear: f64,
    /// How long the value must stay there, for both.
    #[serde(skip)]
    pub lasting: Duration,
}

/// The state of an alert.
///
/// ```text
///            at or past `threshold` for `lasting`: fired
///   Quiet ──────────────────────────────────────────────▶ Firing
///         ◀──────────────────────────────────────────────
///                  past `clear` for `lasting`: resolved
/// ```
///
/// Between `clear` and `threshold`, neither time elapses: a value that varies around one of them
/// doesn't change the state. An unknown value changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertState {
    /// The alert doesn't fire.
    Quiet {
        /// Since when each value was at or past the threshold.
        since: Option<Duration>,
    },
    /// The alert fires.
    Firing {
        /// Since when each value was past `clear`.
        clear_since: Option<Duration>,
    },
}

/// A change of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertChange {
    /// The alert fires.
    Fired,
    /// The alert is resolved.
    Resolved,
}

impl AlertRule {
    /// Every rule: first those about apps.
    pub const ALL: [Self; 12] = [
        Self::QueueDepth,
        Self::QueueAge,
        Self::DrainTime,
        Self::ErrorRate,
        Self::CrashLoop,
        Self::AppDown,
        Self::FailedPushes,
        Self::Cpu,
        Self::Memory,
        Self::DiskSpace,
        Self::LogDrops,
        Self::CertificateExpiry,
    ];

    /// Returns the rule's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueDepth => "queue-depth",
            Self::QueueAge => "queue-age",
            Self::DrainTime => "drain-time",
            Self::ErrorRate => "error-rate",
            Self::CrashLoop => "crash-loop",
            Self::AppDown => "app-down",
            Self::FailedPushes => "failed-pushes",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::DiskSpace => "disk-space",
            Self::LogDrops => "log-drops",
            Self::CertificateExpiry => "certificate-expiry",
        }
    }

    /// Returns whether the rule applies to each app, and not to the host.
    pub fn is_of_apps(self) -> bool {
        match self {
            Self::QueueDepth
            | Self::QueueAge
            | Self::DrainTime
            | Self::ErrorRate
            | Self::CrashLoop
            | Self::AppDown
            | Self::FailedPushes => true,
            Self::Cpu | Self::Memory | Self::DiskSpace | Self::LogDrops | Self::CertificateExpiry => false,
        }
    }

    /// Returns the unit of the rule's values.
    pub fn unit(self) -> AlertUnit {
        match self {
            Self::QueueDepth | Self::CrashLoop | Self::AppDown | Self::FailedPushes | Self::LogDrops => {
                AlertUnit::Count
            }
            Self::QueueAge | Self::DrainTime | Self::CertificateExpiry => AlertUnit::Seconds,
            Self::ErrorRate | Self::Cpu | Self::Memory => AlertUnit::Percent,
            Self::DiskSpace => AlertUnit::Bytes,
        }
    }

    /// Returns on which side of the threshold a value is a problem.
    pub fn side(self) -> AlertSide {
        match self {
            Self::DiskSpace | Self::CertificateExpiry => AlertSide::Below,
            _ => AlertSide::Above,
        }
    }

    /// Returns the settings of a rule that isn't configured.
    pub fn defaults(self) -> AlertSettings {
        let (threshold, lasting_s) = match self {
            Self::QueueDepth => (10_000.0, 60),
            Self::QueueAge => (300.0, 60),
            Self::DrainTime => (900.0, 60),
            Self::ErrorRate => (10.0, 60),
            Self::CrashLoop => (1.0, 0),
            Self::AppDown => (1.0, 30),
            Self::FailedPushes => (3.0, 0),
            Self::Cpu => (90.0, 300),
            Self::Memory => (85.0, 60),
            Self::DiskSpace => ((1_u64 << 30) as f64, 60),
            Self::LogDrops => (1.0, 0),
            Self::CertificateExpiry => (14.0 * 86_400.0, 60),
        };
        AlertSettings { threshold, clear: self.default_clear(threshold), lasting: Duration::from_secs(lasting_s) }
    }

    /// Returns the default `clear` for a threshold.
    pub fn default_clear(self, threshold: f64) -> f64 {
        match self.side() {
            AlertSide::Above => threshold * limits::ALERT_CLEAR_ABOVE,
            AlertSide::Below => threshold * limits::ALERT_CLEAR_BELOW,
        }
    }

    /// Returns why these settings are invalid, if they are.
    pub fn check(self, settings: &AlertSettings) -> Result<(), &'static str> {
        let AlertSettings { threshold, clear, lasting } = *settings;
        let is_percent = self.unit() == AlertUnit::Percent;
        // A comparison with NaN is false.
        if !(threshold > 0.0 && threshold < f64::INFINITY) || (is_percent && threshold > 100.0) {
            return Err(if is_percent { "it must be above 0 and at most 100" } else { "it must be above 0" });
        }
        if !(0.0..f64::INFINITY).contains(&clear) {
            return Err("`clear` must not be negative");
        }
        if lasting > limits::ALERT_LASTING_MAX {
            return Err("`lasting` must be at most 1 day");
        }
        match self.side() {
            AlertSide::Above if clear > threshold => Err("`clear` is above the threshold at which the alert fires"),
            AlertSide::Below if clear < threshold => Err("`clear` is below the threshold at which the alert fires"),
            AlertSide::Above | AlertSide::Below => Ok(()),
        }
    }

    /// Decides whether a new value changes the state of the rule's alert, and returns the change.
    /// `now` is a time that never runs backwards, since any origin. An unknown value changes
    /// nothing.
    pub fn step(
        self,
        settings: &AlertSettings,
        state: &mut AlertState,
        value: Option<f64>,
        now: Duration,
    ) -> Option<AlertChange> {
        let value = value.filter(|value| !value.is_nan())?;
        match state {
            AlertState::Quiet { since } => {
                let has_lasted = lasts(since, self.is_breached(settings, value), settings.lasting, now);
                has_lasted.then(|| {
                    *state = AlertState::Firing { clear_since: None };
                    AlertChange::Fired
                })
            }
            AlertState::Firing { clear_since } => {
                let has_lasted = lasts(clear_since, self.is_clear(settings, value), settings.lasting, now);
                has_lasted.then(|| {
                    *state = AlertState::default();
                    AlertChange::Resolved
                })
            }
        }
    }

    fn is_breached(self, settings: &AlertSettings, value: f64) -> bool {
        match self.side() {
            AlertSide::Above => value >= settings.threshold,
            AlertSide::Below => value <= settings.threshold,
        }
    }

    fn is_clear(self, settings: &AlertSettings, value: f64) -> bool {
        // With `clear` equal to the threshold, the threshold itself still counts as a problem.
        match self.side() {
            AlertSide::Above => value <= settings.clear && value < settings.threshold,
            AlertSide::Below => value >= settings.clear && value > settings.threshold,
        }
    }
}

/// Updates since when a condition holds. Returns whether it has held for `lasting`.
fn lasts(since: &mut Option<Duration>, holds: bool, lasting: Duration, now: Duration) -> bool {
    if !holds {
        *since = None;
        return false;
    }
    now.saturating_sub(*since.get_or_insert(now)) >= lasting
}

impl Default for AlertState {
    fn default() -> Self {
        Self::Quiet { since: None }
    }
}

impl AlertState {
    /// Returns whether the alert fires.
    pub fn is_firing(self) -> bool {
        matches!(self, Self::Firing { .. })
    }

    /// Returns whether the state is that of an alert without a recent problem, which needs no
    /// memory.
    pub fn is_idle(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for AlertRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AlertRule {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "alert rule",
            given: text.chars().take(80).collect(),
            expected: "the name of a rule, such as \"queue-depth\"",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: AlertRule = AlertRule::QueueDepth;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn settings(threshold: f64, clear: f64, lasting_s: u64) -> AlertSettings {
        AlertSettings { threshold, clear, lasting: seconds(lasting_s) }
    }

    /// Returns the changes of an alert with their times, for values at one per second.
    fn changes(rule: AlertRule, settings: &AlertSettings, values: &[f64]) -> Vec<(u64, AlertChange)> {
        let mut state = AlertState::default();
        let mut step =
            |(now, value): (u64, &f64)| Some((now, rule.step(settings, &mut state, Some(*value), seconds(now))?));
        (0..).zip(values).filter_map(&mut step).collect()
    }

    #[test]
    fn an_alert_fires_after_its_minimum_duration() {
        let settings = settings(10.0, 5.0, 2);
        assert_eq!(changes(RULE, &settings, &[10.0, 10.0, 9.0, 10.0, 11.0, 12.0, 99.0]), [(5, AlertChange::Fired)]);
    }

    #[test]
    fn an_alert_is_resolved_once_its_value_stays_past_clear() {
        let settings = settings(10.0, 5.0, 1);
        let values = [10.0, 10.0, 7.0, 5.0, 7.0, 5.0, 4.0, 0.0];
        assert_eq!(changes(RULE, &settings, &values), [(1, AlertChange::Fired), (6, AlertChange::Resolved)]);
    }

    #[test]
    fn free_space_alerts_below_its_threshold() {
        let settings = settings(10.0, 20.0, 0);
        let values = [30.0, 11.0, 10.0, 15.0, 21.0];
        let expected = [(2, AlertChange::Fired), (4, AlertChange::Resolved)];
        assert_eq!(changes(AlertRule::DiskSpace, &settings, &values), expected);
    }

    #[test]
    fn an_unknown_value_changes_nothing() {
        let (settings, mut state) = (settings(10.0, 5.0, 0), AlertState::default());
        assert_eq!(RULE.step(&settings, &mut state, Some(10.0), seconds(0)), Some(AlertChange::Fired));
        for value in [None, Some(f64::NAN)] {
            assert_eq!(RULE.step(&settings, &mut state, value, seconds(9)), None);
        }
        assert!(state.is_firing());
    }

    #[test]
    fn the_defaults_are_valid() {
        for rule in AlertRule::ALL {
            assert_eq!(rule.check(&rule.defaults()), Ok(()), "{rule}");
            assert_eq!(rule.as_str().parse(), Ok(rule));
            assert_eq!(serde_json::to_value(rule).expect("it is serialised"), rule.as_str());
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (rule, wrong) in [
            (RULE, settings(0.0, 0.0, 0)),
            (RULE, settings(5.0, 6.0, 0)),
            (RULE, settings(5.0, -1.0, 0)),
            (RULE, settings(f64::NAN, 0.0, 0)),
            (RULE, settings(5.0, 1.0, 86_401)),
            (AlertRule::Cpu, settings(101.0, 1.0, 0)),
            (AlertRule::DiskSpace, settings(5.0, 4.0, 0)),
        ] {
            assert!(rule.check(&wrong).is_err(), "{rule} {wrong:?}");
        }
    }

    fn any_settings() -> impl Strategy<Value = AlertSettings> {
        (1..20_u32, 0..20_u32, 0..5_u64)
            .prop_map(|(threshold, clear, lasting)| settings(threshold.into(), threshold.min(clear).into(), lasting))
    }

    proptest! {
        /// Compares with the definition, computed from the whole history.
        #[test]
        fn a_change_follows_the_minimum_duration_of_its_condition(
            settings in any_settings(), values in prop::collection::vec(0..25_u32, 0..60),
        ) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let found = changes(RULE, &settings, &values);
            let lasting = settings.lasting.as_secs() as usize;
            let (mut is_firing, mut since_change, mut expected) = (false, 0, Vec::new());
            for now in 0..values.len() {
                let Some(first) = now.checked_sub(lasting).filter(|first| *first >= since_change) else { continue };
                let is_past = |value: &f64| match is_firing {
                    false => *value >= settings.threshold,
                    true => *value < settings.threshold && *value <= settings.clear,
                };
                if values[first..=now].iter().all(is_past) {
                    is_firing = !is_firing;
                    since_change = now + 1;
                    expected.push((now as u64, if is_firing { AlertChange::Fired } else { AlertChange::Resolved }));
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_value_between_clear_and_threshold_changes_no_state(
            settings in any_settings(), before in prop::collection::vec(0..25_u32, 0..20), part in 0.01..0.99_f64,
        ) {
            let between = settings.clear + (settings.threshold - settings.clear) * part;
            prop_assume!(between > settings.clear && between < settings.threshold);
            let before: Vec<f64> = before.into_iter().map(f64::from).collect();
            let mut after = before.clone();
            after.extend([between; 20]);
            prop_assert_eq!(changes(RULE, &settings, &before), changes(RULE, &settings, &after));
        }

        #[test]
        fn a_steady_value_changes_an_alert_at_most_once(settings in any_settings(), value in 0..25_u32) {
            prop_assert!(changes(RULE, &settings, &[f64::from(value); 40]).len() <= 1);
        }
    }
}
