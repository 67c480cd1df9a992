//! Owns the settings of alerts in the configuration file, and resolves their defaults. Never
//! decides whether an alert fires.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use isopod_policy::{AlertRule, AlertSettings};
use serde::Deserialize;
use ureq::tls::RootCerts;

use super::{
    ConfigError,
    units::{Size, Span},
};
use crate::control::{
    alerts::{AlertConfig, WebhookUrl},
    limits,
};

/// The table `alerts`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertsSection {
    webhook: Option<String>,
    interval: Option<Span>,
    #[serde(default)]
    dev_apps: bool,
    #[serde(default)]
    queue_depth: RuleSection<u64>,
    #[serde(default)]
    queue_age: RuleSection<Span>,
    #[serde(default)]
    drain_time: RuleSection<Span>,
    #[serde(default)]
    error_rate: RuleSection<f64>,
    #[serde(default)]
    crash_loop: RuleSection<u64>,
    #[serde(default)]
    app_down: SwitchSection,
    #[serde(default)]
    failed_pushes: RuleSection<u64>,
    #[serde(default)]
    cpu: RuleSection<f64>,
    #[serde(default)]
    memory: RuleSection<f64>,
    #[serde(default)]
    disk_space: RuleSection<Size>,
    #[serde(default)]
    log_drops: RuleSection<u64>,
    #[serde(default)]
    certificate_expiry: CertificateSection,
}

/// The table of a rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection<T> {
    enabled: Option<bool>,
    threshold: Option<T>,
    clear: Option<T>,
    lasting: Option<Span>,
}

/// The table of a rule whose value is yes or no.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchSection {
    enabled: Option<bool>,
    lasting: Option<Span>,
}

/// The table of the rule about certificates, which applies to the files that it names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateSection {
    #[serde(default)]
    files: Vec<PathBuf>,
    enabled: Option<bool>,
    threshold: Option<Span>,
    clear: Option<Span>,
    lasting: Option<Span>,
}

impl<T> Default for RuleSection<T> {
    fn default() -> Self {
        Self { enabled: None, threshold: None, clear: None, lasting: None }
    }
}

/// A threshold in the unit of its rule.
trait Amount: Copy {
    fn amount(self) -> f64;
}

impl Amount for u64 {
    fn amount(self) -> f64 {
        self as f64
    }
}

impl Amount for f64 {
    fn amount(self) -> f64 {
        self
    }
}

impl Amount for Span {
    fn amount(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl Amount for Size {
    fn amount(self) -> f64 {
        self.0 as f64
    }
}

impl<T: Amount> RuleSection<T> {
    /// Returns the settings of the rule; `None` if it is disabled.
    fn resolve(&self, rule: AlertRule) -> Result<Option<AlertSettings>, ConfigError> {
        if self.enabled == Some(false) {
            return Ok(None);
        }
        let defaults = rule.defaults();
        let threshold = self.threshold.map_or(defaults.threshold, T::amount);
        let clear = self.clear.map_or_else(|| rule.default_clear(threshold), T::amount);
        let settings =
            AlertSettings { threshold, clear, lasting: self.lasting.map_or(defaults.lasting, |span| span.0) };
        match rule.check(&settings) {
            Ok(()) => Ok(Some(settings)),
            Err(reason) => Err(ConfigError::Setting { setting: setting(rule), reason: reason.to_owned() }),
        }
    }
}

impl CertificateSection {
    /// Returns the settings of the rule; `None` if it is disabled or watches no file.
    fn resolve(&self, rule: AlertRule) -> Result<Option<AlertSettings>, ConfigError> {
        let &Self { ref files, enabled, threshold, clear, lasting } = self;
        let refused = |reason: String| Err(ConfigError::Setting { setting: setting(rule), reason });
        if files.len() > limits::ALERT_CERTIFICATE_FILES_MAX {
            return refused(format!("`files` has more than {} entries", limits::ALERT_CERTIFICATE_FILES_MAX));
        }
        let is_set = enabled == Some(true) || threshold.is_some() || clear.is_some() || lasting.is_some();
        match (files.is_empty(), is_set) {
            (true, true) => refused("`files` names no certificate file to watch".to_owned()),
            (true, false) => Ok(None),
            (false, _) => RuleSection { enabled, threshold, clear, lasting }.resolve(rule),
        }
    }
}

/// Returns the name of a rule's table.
fn setting(rule: AlertRule) -> String {
    format!("alerts.{}", rule.as_str().replace('-', "_"))
}

impl AlertsSection {
    /// Resolves the settings. `roots` are the authorities that the webhook is checked with.
    pub(super) fn resolve(self, roots: RootCerts) -> Result<AlertConfig, ConfigError> {
        let down = RuleSection {
            enabled: self.app_down.enabled,
            lasting: self.app_down.lasting,
            ..RuleSection::<u64>::default()
        };
        let mut rules = BTreeMap::new();
        for rule in AlertRule::ALL {
            let settings = match rule {
                AlertRule::QueueDepth => self.queue_depth.resolve(rule),
                AlertRule::QueueAge => self.queue_age.resolve(rule),
                AlertRule::DrainTime => self.drain_time.resolve(rule),
                AlertRule::ErrorRate => self.error_rate.resolve(rule),
                AlertRule::CrashLoop => self.crash_loop.resolve(rule),
                AlertRule::AppDown => down.resolve(rule),
                AlertRule::FailedPushes => self.failed_pushes.resolve(rule),
                AlertRule::Cpu => self.cpu.resolve(rule),
                AlertRule::Memory => self.memory.resolve(rule),
                AlertRule::DiskSpace => self.disk_space.resolve(rule),
                AlertRule::LogDrops => self.log_drops.resolve(rule),
                AlertRule::CertificateExpiry => self.certificate_expiry.resolve(rule),
            };
            rules.extend(settings?.map(|settings| (rule, settings)));
        }
        let interval = self.interval.map_or(limits::ALERT_INTERVAL, |span| span.0);
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
            return Err(ConfigError::OutOfRange {
                name: "alerts.interval",
                value: format!("{} ms", interval.as_millis()),
                range: "100 milliseconds to 1 hour",
            });
        }
        let webhook = self.webhook.map(|url| {
            WebhookUrl::new(&url).map_err(|reason| ConfigError::Setting {
                setting: "alerts.webhook".to_owned(),
                reason: reason.to_owned(),
            })
        });
        let (certificates, dev_apps) = (self.certificate_expiry.files, self.dev_apps);
        Ok(AlertConfig { rules, interval, dev_apps, certificates, webhook: webhook.transpose()?, roots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str) -> Result<AlertConfig, ConfigError> {
        toml::from_str::<AlertsSection>(text).expect(text).resolve(RootCerts::WebPki)
    }

    #[test]
    fn every_rule_is_enabled_with_its_defaults() {
        assert!(!resolved("").expect("resolves").rules.contains_key(&AlertRule::CertificateExpiry), "it needs a file");
        let config = resolved("certificate_expiry.files = [\"/etc/ssl/shop.pem\"]").expect("resolves");
        assert_eq!(config.rules.len(), AlertRule::ALL.len());
        assert_eq!(config.certificates, [PathBuf::from("/etc/ssl/shop.pem")]);
        assert!(config.rules.iter().all(|(rule, settings)| *settings == rule.defaults()));
        assert_eq!((config.interval, config.webhook.is_none()), (limits::ALERT_INTERVAL, true));
    }

    #[test]
    fn settings_override_the_defaults() {
        let text = "webhook = \"https://x.example/T1\"\ninterval = \"1s\"\ncpu.enabled = false\n\
                    [queue_depth]\nthreshold = 10\n[queue_age]\nthreshold = \"2m\"\nclear = \"30s\"\nlasting = \"5s\"\n\
                    [disk_space]\nthreshold = \"4GiB\"\n[error_rate]\nthreshold = 5\n\
                    [certificate_expiry]\nfiles = [\"a.pem\", \"b.pem\"]\nthreshold = \"7days\"";
        let config = resolved(text).expect("resolves");
        let rule = |rule| config.rules[&rule];
        assert!(config.webhook.is_some() && !config.rules.contains_key(&AlertRule::Cpu));
        assert_eq!((rule(AlertRule::QueueDepth).threshold, rule(AlertRule::QueueDepth).clear), (10.0, 8.0));
        let age = AlertSettings { threshold: 120.0, clear: 30.0, lasting: Duration::from_secs(5) };
        assert_eq!(rule(AlertRule::QueueAge), age);
        assert_eq!(rule(AlertRule::DiskSpace).clear, 5.0 * f64::from(1 << 30));
        assert_eq!(rule(AlertRule::ErrorRate).threshold, 5.0);
        assert_eq!((rule(AlertRule::CertificateExpiry).threshold, config.certificates.len()), (604_800.0, 2));
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        let many_files = format!("certificate_expiry.files = {:?}", vec!["a.pem"; 33]);
        for (text, name) in [
            ("webhook = \"ftp://x\"", "alerts.webhook"),
            ("interval = \"1ms\"", "alerts.interval"),
            ("cpu.threshold = 120", "alerts.cpu"),
            ("queue_depth.threshold = 0", "alerts.queue_depth"),
            ("disk_space = { threshold = \"2GiB\", clear = \"1GiB\" }", "alerts.disk_space"),
            ("log_drops.lasting = \"2days\"", "alerts.log_drops"),
            ("certificate_expiry.threshold = \"2days\"", "alerts.certificate_expiry"),
            (many_files.as_str(), "alerts.certificate_expiry"),
        ] {
            let error = resolved(text).expect_err(text).to_string();
            assert!(error.contains(name), "{error}");
        }
        for text in ["app_down.threshold = 2", "cpu_usage.threshold = 2", "queue_depth.above = 2"] {
            assert!(toml::from_str::<AlertsSection>(text).is_err(), "{text}");
        }
    }
}
