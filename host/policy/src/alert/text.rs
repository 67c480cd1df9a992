//! The sentences of alerts for people. Never decides whether an alert fires.

use super::{AlertRule, AlertSettings, AlertUnit};

impl AlertRule {
    /// Returns what the value means, with the threshold: a sentence without its first capital.
    pub fn text(self, value: f64, settings: &AlertSettings) -> String {
        let (value, threshold) = (self.unit().show(value), self.unit().show(settings.threshold));
        match self {
            Self::QueueDepth => {
                format!("{value} requests and events wait in its queues (threshold {threshold})")
            }
            Self::QueueAge => format!("the oldest waiting request or event is {value} old (threshold {threshold})"),
            Self::DrainTime => {
                format!("delivering its waiting events takes {value} at the current rate (threshold {threshold})")
            }
            Self::ErrorRate => {
                format!("{value} of its recent requests failed with 5xx (threshold {threshold})")
            }
            Self::CrashLoop => {
                format!("reports of a crash loop in the last 3 minutes: {value} (threshold {threshold})")
            }
            Self::AppDown if value == "0" => "it is no longer in the state `error`".to_owned(),
            Self::AppDown => "it is in the state `error` and takes no traffic".to_owned(),
            Self::FailedPushes => {
                format!("failed push jobs since the last completed one: {value} (threshold {threshold})")
            }
            Self::Cpu => format!("the host uses {value} of the processors (threshold {threshold})"),
            Self::Memory => format!("guests hold {value} of `memory_max` (threshold {threshold})"),
            Self::DiskSpace => format!("the disk of the data folder has {value} free (threshold {threshold})"),
            Self::LogDrops => format!("log lines dropped recently: {value} (threshold {threshold})"),
            Self::CertificateExpiry => format!("the first certificate expires in {value} (threshold {threshold})"),
        }
    }
}

impl AlertUnit {
    /// Formats a value for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Percent => format!("{} %", (value * 10.0).round() / 10.0),
            Self::Seconds if value < 120.0 => format!("{value:.0} s"),
            Self::Seconds if value < 7_200.0 => format!("{:.0} min", value / 60.0),
            Self::Seconds if value < 172_800.0 => format!("{:.0} h", value / 3_600.0),
            Self::Seconds => format!("{:.0} days", value / 86_400.0),
            Self::Bytes => {
                let (mut scaled, mut unit) = (value, "B");
                for next in ["KiB", "MiB", "GiB", "TiB"] {
                    if scaled < 1_024.0 {
                        break;
                    }
                    (scaled, unit) = (scaled / 1_024.0, next);
                }
                format!("{} {unit}", (scaled * 10.0).round() / 10.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_their_unit() {
        for (unit, value, shown) in [
            (AlertUnit::Count, 12_345.4, "12345"),
            (AlertUnit::Percent, 93.25, "93.3 %"),
            (AlertUnit::Seconds, 90.2, "90 s"),
            (AlertUnit::Seconds, 900.0, "15 min"),
            (AlertUnit::Seconds, 86_400.0, "24 h"),
            (AlertUnit::Seconds, 1_209_600.0, "14 days"),
            (AlertUnit::Bytes, 12.0, "12 B"),
            (AlertUnit::Bytes, 1_610_612_736.0, "1.5 GiB"),
        ] {
            assert_eq!(unit.show(value), shown);
        }
    }

    #[test]
    fn a_text_contains_the_value_and_the_threshold() {
        for rule in AlertRule::ALL {
            let (settings, value) = (rule.defaults(), 42.0);
            let text = rule.text(value, &settings);
            let has_numbers = text.contains(&rule.unit().show(value))
                && text.contains(&format!("(threshold {})", rule.unit().show(settings.threshold)));
            assert!(has_numbers || rule == AlertRule::AppDown, "{text}");
        }
    }
}
