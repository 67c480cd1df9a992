//! Alerts: samples the values of all rules at an interval, and reports each alert that fires or is
//! resolved: in the activity, to the webhook, and to the API. Reads existing counters only. Never
//! waits for the store, the disk or the webhook, so that it also reports when these hang.

mod alert;
mod certificates;
mod measure;
mod outbox;
mod reports;
mod table;
mod window;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use isopod_engine::Engine;
use isopod_policy::{AlertRule, AlertSettings};
use isopod_store::{AlertRecord, Store};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};
use ureq::tls::RootCerts;

pub(crate) use self::{
    alert::Alert,
    outbox::{WebhookStatus, WebhookUrl},
};
use self::{
    certificates::CertificateFiles,
    measure::{Measures, Sources},
    outbox::{Outbox, Recorder},
    reports::Reports,
    table::{Change, Table},
};
use crate::{
    control::{app_table::AppTable, background::activity_log::ActivityLog},
    observe::{logs::Logs, metrics::Metrics},
};

/// The operator's settings of alerts.
#[derive(Debug, Clone)]
pub(crate) struct AlertConfig {
    /// The rules that are enabled.
    pub(crate) rules: BTreeMap<AlertRule, AlertSettings>,
    /// The interval between two samples.
    pub(crate) interval: Duration,
    /// Whether the rules apply to apps of the type `dev`.
    pub(crate) dev_apps: bool,
    /// The certificate files whose expiry is watched.
    pub(crate) certificates: Vec<PathBuf>,
    pub(crate) webhook: Option<WebhookUrl>,
    /// The authorities that may sign the certificate of the webhook.
    pub(crate) roots: RootCerts,
}

/// The handles that the service needs.
pub(in crate::control) struct Options {
    pub(in crate::control) config: AlertConfig,
    pub(in crate::control) app_table: AppTable,
    pub(in crate::control) activity: ActivityLog,
    pub(in crate::control) store: Store,
    pub(in crate::control) engine: Engine,
    pub(in crate::control) logs: Logs,
    pub(in crate::control) metrics: Metrics,
}

/// The alerts that fire, for the API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Alerts {
    rules: Arc<BTreeMap<AlertRule, AlertSettings>>,
    firing: Arc<ArcSwap<Vec<Alert>>>,
    outbox: Option<Outbox>,
}

/// The service that samples the values.
pub(in crate::control) struct Service {
    alerts: Alerts,
    table: Table,
    measures: Measures,
    reports: Reports,
    app_table: AppTable,
    activity: ActivityLog,
    recorder: Recorder,
    store: Store,
    interval: Duration,
    dev_apps: bool,
    started: Instant,
}

/// The tasks that the service needs beside its own.
pub(in crate::control) struct Helpers {
    /// Stores the changes of alerts.
    pub(in crate::control) storing: outbox::Storing,
    /// Sends the messages to the webhook, if there is one.
    pub(in crate::control) sending: Option<outbox::Sender>,
}

impl Alerts {
    /// Returns the alerts that fire, by app and rule.
    pub(crate) fn firing(&self) -> Arc<Vec<Alert>> {
        self.firing.load_full()
    }

    /// Returns the enabled rules with their settings.
    pub(crate) fn rules(&self) -> &BTreeMap<AlertRule, AlertSettings> {
        &self.rules
    }

    /// Returns the state of the webhook, if there is one.
    pub(crate) fn webhook(&self) -> Option<WebhookStatus> {
        self.outbox.as_ref().map(Outbox::status)
    }
}

impl Service {
    pub(in crate::control) fn new(options: Options) -> (Alerts, Self, Helpers) {
        let Options { config, app_table, activity, store, engine, logs, metrics } = options;
        let AlertConfig { rules, interval, dev_apps, certificates, webhook, roots } = config;
        let (recorder, storing) = Recorder::new(store.clone());
        let (outbox, sending) = match webhook {
            Some(url) => {
                let (outbox, sender) = Outbox::new(url, roots, recorder.clone());
                (Some(outbox), Some(sender))
            }
            None => (None, None),
        };
        let alerts = Alerts { rules: Arc::new(rules.clone()), firing: Arc::default(), outbox };
        let certificates = match rules.get(&AlertRule::CertificateExpiry) {
            Some(settings) => CertificateFiles::new(certificates, settings.threshold),
            None => CertificateFiles::default(),
        };
        let sources = Sources { metrics, logs, engine, folder: store.folder().to_owned(), certificates };
        let reports = Reports::default();
        let service = Self {
            alerts: alerts.clone(),
            table: Table::new(rules),
            measures: Measures::new(sources, reports.clone()),
            reports,
            app_table,
            activity,
            recorder,
            store,
            interval,
            dev_apps,
            started: Instant::now(),
        };
        (alerts, service, Helpers { storing, sending })
    }

    /// Samples at the interval until the host shuts down.
    pub(in crate::control) async fn run(mut self) {
        let (reports, started) = (self.reports.clone(), self.started);
        self.activity.observe(move |activity| reports.note(activity, started.elapsed()));
        self.restore().await;
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample().await;
        }
    }

    /// Restores the alerts that fired when the host stopped, and the messages that the webhook has
    /// not accepted.
    async fn restore(&mut self) {
        let firing = self.store.alerts().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the alerts of the previous run can't be read");
            Vec::new()
        });
        // Another version of the host may have stored other members.
        let firing = firing.into_iter().filter_map(|alert| serde_json::from_value(alert).ok()).collect();
        let disabled = self.table.restore(firing);
        if let Some(outbox) = &self.alerts.outbox {
            match self.store.alert_messages().await {
                Ok(messages) => outbox.restore(messages),
                Err(error) => tracing::warn!(%error, "the messages about alerts can't be read"),
            }
        }
        self.report(disabled);
    }

    /// Takes one sample of all values, and reports the changes.
    async fn sample(&mut self) {
        let (now, at) = (self.started.elapsed(), Timestamp::now());
        let of_host = self.measures.of_host(now, at).await;
        let mut changes = self.table.step(None, of_host, now, at);
        let apps = self.app_table.all();
        for app in &apps {
            let samples = self.measures.of_app(app, self.dev_apps, now);
            changes.extend(self.table.step(Some(app), samples, now, at));
        }
        changes.extend(self.table.forget_missing(&apps));
        self.measures.forget_missing(&apps);
        self.report(changes);
    }

    /// Publishes changes, and passes them to the activity, the store and the webhook without
    /// waiting.
    fn report(&self, changes: Vec<Change>) {
        self.alerts.firing.store(Arc::new(self.table.firing()));
        for Change { alert, is_resolved } in changes {
            let (kind, text) = match is_resolved {
                false => ("alert", format!("alert {}: {}", alert.rule, alert.text)),
                true => ("alert-resolved", format!("alert {} resolved: {}", alert.rule, alert.text)),
            };
            let of = alert.app.as_ref().map_or("the host", |app| app.as_str());
            match is_resolved {
                false => tracing::warn!(of, "{text}"),
                true => tracing::info!(of, "{text}"),
            }
            let message = self.alerts.outbox.as_ref().map(|outbox| outbox.add(&alert, is_resolved));
            let data = (!is_resolved).then(|| json!(alert));
            self.recorder.record(AlertRecord { key: alert.key(), data, message });
            let data = json!({
                "rule": alert.rule, "value": alert.value, "threshold": alert.threshold, "unit": alert.rule.unit(),
                "since": alert.since,
            });
            match alert.app.as_ref().map(|app| self.app_table.app(app)) {
                None => self.activity.try_record_of_host(kind, text, data),
                Some(Ok(app)) if Some(&app.id) == alert.app_id.as_ref() => {
                    self.activity.try_record(&app, kind, text, data);
                }
                // The app is destroyed, and with it its activity.
                Some(Ok(_) | Err(_)) => {}
            }
        }
    }
}
