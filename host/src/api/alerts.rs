//! Owns the route of alerts: those that fire, and the rules. Never decides whether an alert fires.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};
use isopod_policy::{AlertRule, AlertSettings, AlertSide, AlertUnit, AppName};
use jiff::Timestamp;
use serde::Serialize;

use super::{Api, limits};
use crate::control::alerts::{Alert, WebhookStatus};

/// The alerts that fire, and the rules.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Alerts)]
pub(super) struct AlertsView {
    /// The alerts that fire: first those of the host, then by app, at most 1,000. A token for some
    /// apps sees only their alerts.
    items: Vec<AlertView>,
    /// The number of alerts that fire, including those that are not among the items.
    total: usize,
    /// Always null: the list has one page.
    next: Option<String>,
    /// The enabled rules.
    rules: Vec<RuleView>,
    /// The webhook, for tokens of all apps; null without a webhook.
    webhook: Option<WebhookView>,
}

/// An alert that fires.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Alert)]
struct AlertView {
    rule: AlertRule,
    /// Null for an alert of the host.
    app: Option<AppName>,
    since: Timestamp,
    /// The value of the last sample.
    value: f64,
    threshold: f64,
    unit: AlertUnit,
    text: String,
}

/// The settings of a rule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AlertRuleSettings)]
struct RuleView {
    rule: AlertRule,
    /// Whether the rule applies to each app, and not to the host.
    per_app: bool,
    unit: AlertUnit,
    /// The side of the threshold on which a value is a problem.
    side: AlertSide,
    threshold: f64,
    /// The value at which the alert is resolved.
    clear: f64,
    /// How long the value must stay there, for both.
    lasting_ms: u64,
}

/// The state of the webhook.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = AlertWebhook)]
struct WebhookView {
    /// The messages that the webhook has not accepted yet.
    waiting: usize,
    /// The messages that were dropped since the host's start.
    dropped: u64,
    /// Why the last attempt failed; null if it succeeded.
    error: Option<String>,
}

impl From<&Alert> for AlertView {
    fn from(Alert { rule, app, since, value, threshold, text, .. }: &Alert) -> Self {
        let (unit, app, text) = (rule.unit(), app.clone(), text.clone());
        Self { rule: *rule, app, since: *since, value: *value, threshold: *threshold, unit, text }
    }
}

impl RuleView {
    fn of(rule: AlertRule, settings: &AlertSettings) -> Self {
        let AlertSettings { threshold, clear, lasting } = *settings;
        Self {
            rule,
            per_app: rule.is_of_apps(),
            unit: rule.unit(),
            side: rule.side(),
            threshold,
            clear,
            lasting_ms: u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<WebhookStatus> for WebhookView {
    fn from(WebhookStatus { waiting, dropped, error }: WebhookStatus) -> Self {
        Self { waiting, dropped, error }
    }
}

/// Lists the alerts that fire. Earlier alerts are in the activity.
#[utoipa::path(
    get,
    path = "/v1/alerts",
    operation_id = "list_alerts",
    summary = "Lists the alerts that fire, and the rules",
    responses(
        (status = 200, description = "The alerts", body = AlertsView),
    )
)]
pub(super) async fn list(State(api): State<Arc<Api>>, headers: HeaderMap) -> axum::Json<AlertsView> {
    let (alerts, sees_all) = (&api.control.alerts, api.tokens.may_see_all(&headers));
    let is_seen = |alert: &&Alert| match &alert.app {
        None => sees_all,
        Some(app) => api.control.apps.app(app).is_ok_and(|record| api.tokens.may_see(&headers, &record)),
    };
    let firing = alerts.firing();
    let seen: Vec<&Alert> = firing.iter().filter(is_seen).collect();
    axum::Json(AlertsView {
        items: seen.iter().take(limits::ALERTS_SHOWN_MAX).map(|alert| AlertView::from(*alert)).collect(),
        total: seen.len(),
        next: None,
        rules: alerts.rules().iter().map(|(rule, settings)| RuleView::of(*rule, settings)).collect(),
        webhook: alerts.webhook().filter(|_| sees_all).map(WebhookView::from),
    })
}
