//! Owns the routes of the apps' real-time metrics: for a single app, and for all active apps. Never
//! measures anything itself.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::{body::Body, extract::State, http::Response, response::IntoResponse};
use futures::stream;
use isopod_executor::Class;
use isopod_policy::{AppName, AppState, AppType, Scope};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};

use super::{
    Api,
    auth::Authorised,
    edge::Subscriber,
    error::Error,
    openapi::ServerSentEvent,
    path::AppPath,
    request::{PageParams, Params, Path, app_name},
    sse::{EndReason, StreamEvent, StreamPermit},
};
use crate::{
    api::limits,
    control::AppRecord,
    observe::{machine::Machine, metrics::RequestCounts},
    runtime::{CLASSES, Latency, LiveInstance, STOPPED, StoredEvents},
};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowParams {
    /// Responds with server-sent events, one per second, until the client disconnects.
    #[serde(default)]
    follow: bool,
}

/// The size of the list: it is sorted by current measurements, so it has no pages.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TopParams {
    /// The maximum number of apps.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// The current metrics of an app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AppMetrics {
    measured_at: Timestamp,
    app: AppName,
    #[serde(rename = "type")]
    app_type: AppType,
    state: AppState,
    instances: usize,
    /// Answered requests since the host started.
    requests: u64,
    /// Requests answered with a 5xx status.
    errors: u64,
    /// CPU time of its guests since the host started.
    cpu_ms: u64,
    /// The part of `cpu_ms` that middleware and providers used for the app.
    plugin_cpu_ms: u64,
    /// In percent of one processor, in the last second.
    cpu_percent: f64,
    memory_bytes: usize,
    pull: QueueMetrics,
    push: QueueMetrics,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct QueueMetrics {
    cores: u32,
    active_cores: u32,
    buffered: u32,
    latency_ms: LatencyMs,
    throughput_per_s: f64,
    /// The queue `push` only: the stored events that have not ended, by state, when the host last
    /// read them. Absent if the host has not read them since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stored: Option<StoredCounts>,
    /// In `pull`, the age of the oldest waiting job. In `push`, the age of the oldest stored event
    /// that is ready or being delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    oldest_ms: Option<u64>,
    /// The queue `push` only: the number of dead letters. Absent like `stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    dead_letters: Option<u64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StoredCounts {
    ready: u64,
    delayed: u64,
    leased: u64,
}

/// Null if no job completed in the last minute.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
struct LatencyMs {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HostMetrics {
    measured_at: Timestamp,
    #[serde(flatten)]
    machine: Machine,
    apps: usize,
    apps_awake: usize,
    instances: usize,
    buffered: u32,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Top {
    items: Vec<AppMetrics>,
    next: Option<String>,
    host: HostMetrics,
}

/// Returns the number of instances, without the stopped ids that wait for the next instance.
fn count(instances: &[LiveInstance]) -> usize {
    instances.iter().filter(|instance| instance.status.state != STOPPED).count()
}

impl AppMetrics {
    pub(super) fn of(api: &Api, record: &AppRecord) -> Self {
        let RequestCounts { requests, failures } = api.metrics.request_counts(&record.name);
        let (instances, resources) = (record.traffic.instances(), record.traffic.resources());
        let fields = record.fields();
        let (app_type, state) = (fields.app_type, fields.state);
        let queue = |class| {
            let load = resources.load(class);
            let measured = resources.queue_metrics(class);
            let events = if class == Class::Push { resources.stored_events() } else { None };
            QueueMetrics {
                cores: load.cores,
                active_cores: load.active,
                buffered: load.waiting,
                latency_ms: measured.latency.map(LatencyMs::from).unwrap_or_default(),
                throughput_per_s: measured.throughput_per_s,
                stored: events.map(|StoredEvents { ready, delayed, leased, .. }| StoredCounts {
                    ready,
                    delayed,
                    leased,
                }),
                oldest_ms: match class {
                    Class::Push => events.and_then(|events| events.oldest_ms(Timestamp::now())),
                    Class::Pull => resources.waiting_since(class).map(|since| millis(since.elapsed())),
                },
                dead_letters: events.map(|events| events.dead),
            }
        };
        Self {
            measured_at: Timestamp::now(),
            app: record.name.clone(),
            app_type,
            state,
            requests,
            errors: failures,
            cpu_ms: millis(resources.cpu()),
            plugin_cpu_ms: millis(resources.plugin_cpu()),
            cpu_percent: resources.cpu_percent(),
            memory_bytes: instances.iter().map(|instance| instance.status.memory_bytes).sum(),
            instances: count(&instances),
            pull: queue(Class::Pull),
            push: queue(Class::Push),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<Latency> for LatencyMs {
    fn from(Latency { p50, p95, p99 }: Latency) -> Self {
        let ms = |time: Duration| Some((time.as_secs_f64() * 1e6).round() / 1e3);
        Self { p50: ms(p50), p95: ms(p95), p99: ms(p99) }
    }
}

/// Returns the metrics of an app; with `follow` once per second.
#[utoipa::path(
    get,
    path = "/v1/apps/{app}/metrics",
    operation_id = "show_metrics",
    summary = "Shows the current metrics of an app; with `?follow=true` once per second",
    params(AppPath, FollowParams),
    responses(
        (
            status = 200,
            description = "The metrics; each server-sent event is one sample",
            content(
                (AppMetrics = "application/json"),
                (ServerSentEvent = "text/event-stream")
            )
        ),
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    subscriber: Subscriber,
    Path(app): Path<String>,
    Params(params): Params<FollowParams>,
) -> Result<Response<Body>, Error> {
    let record = api.control.apps.app(&app_name(&app)?)?;
    if !params.follow {
        // If the queue can't be read in time, the response has the last known numbers. The same
        // applies to an app that sleeps, since its database is closed.
        if record.traffic.is_resident() {
            let _ = tokio::time::timeout(limits::METRICS_QUEUE_TIME, api.control.events.stats(&record)).await;
        }
        return Ok(axum::Json(AppMetrics::of(&api, &record)).into_response());
    }
    let mut every = tokio::time::interval(limits::METRICS_INTERVAL);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let permit = StreamPermit::take(&api, &subscriber)?;
    Ok(permit.stream(stream::unfold(Some((api, record, every)), next_sample)))
}

type Sampled = (Arc<Api>, Arc<AppRecord>, Interval);

async fn next_sample(sampled: Option<Sampled>) -> Option<(StreamEvent<AppMetrics>, Option<Sampled>)> {
    let (api, record, mut every) = sampled?;
    tokio::select! {
        _ = every.tick() => {}
        () = record.destroyed() => return Some((StreamEvent::End(EndReason::AppDestroyed), None)),
    }
    Some((StreamEvent::Item(AppMetrics::of(&api, &record)), Some((api, record, every))))
}

/// Returns the metrics of all active apps, sorted by CPU usage in descending order.
#[utoipa::path(
    get,
    path = "/v1/metrics",
    operation_id = "list_metrics",
    summary = "Shows the current metrics of all active apps, the busiest first",
    params(TopParams),
    responses(
        (status = 200, description = "Metrics of the apps and of the host", body = Top),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Subscriber(token): Subscriber,
    Params(params): Params<TopParams>,
) -> Result<axum::Json<Top>, Error> {
    let limit = PageParams { limit: params.limit, cursor: None }.limit()? as usize;
    Ok(axum::Json(Top::of(&api, limit, &token)))
}

/// Returns the apps that a token may see. Looks up the apps of its scope, which are few, instead of
/// all apps.
fn seen(api: &Api, token: &Authorised) -> Vec<Arc<AppRecord>> {
    let Scope::Apps(names) = &token.row.scope else { return api.control.apps.with_plugins() };
    let ids: HashSet<&String> = token.row.app_ids.iter().collect();
    let named = names.iter().filter_map(|name| api.control.apps.app(name).ok());
    named.filter(|record| ids.contains(&record.id)).collect()
}

impl Top {
    /// Returns the metrics of the busiest active apps that a token may see.
    pub(super) fn of(api: &Api, limit: usize, token: &Authorised) -> Self {
        let seen = seen(api, token);
        let mut awake: Vec<_> = seen
            .iter()
            .filter(|record| record.traffic.is_resident())
            .map(|record| (record.traffic.resources().cpu_percent(), record))
            .collect();
        awake.sort_by(|(a, app), (b, other)| b.total_cmp(a).then_with(|| app.name.cmp(&other.name)));
        let buffered = |record: &AppRecord| {
            CLASSES.map(|class| record.traffic.resources().load(class).waiting).iter().sum::<u32>()
        };
        let host = HostMetrics {
            measured_at: Timestamp::now(),
            machine: api.machine.latest(),
            apps: seen.len(),
            apps_awake: awake.len(),
            instances: awake.iter().map(|(_, record)| count(&record.traffic.instances())).sum(),
            buffered: awake.iter().map(|(_, record)| buffered(record)).sum(),
        };
        // The other metrics of an app cost more, so only the listed apps are measured.
        let items = awake.into_iter().take(limit).map(|(_, record)| AppMetrics::of(api, record)).collect();
        Self { items, next: None, host }
    }
}
