//! A client of the host's API, as far as the benchmarks need it. Never measures.

use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::client::{NUMBER, Request};
use super::flood::StoredEvents;

/// The timeout of a start or a stop of an app.
const SWITCHED_WITHIN: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(super) struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    pub(super) fn new(address: SocketAddr, token: &str) -> Api {
        Api { address, token: token.trim().to_owned() }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn create(&self, app: &str, kind: &str) -> Result<()> {
        let body = json!({ "name": app, "type": kind }).to_string();
        self.post("/v1/apps", "application/json", body.as_bytes())
    }

    /// Pushes a component and waits until it serves. Creates a missing app with the type `dev`.
    pub(super) fn push(&self, app: &str, component: &[u8]) -> Result<()> {
        self.post(&format!("/v1/apps/{app}/pushes?wait=true"), "application/wasm", component)
    }

    /// Starts or stops an app, and waits until it has the state.
    pub(super) fn switch(&self, app: &str, action: &str, state: &str) -> Result<()> {
        self.post(&format!("/v1/apps/{app}/{action}"), "application/json", b"")?;
        let asked = Instant::now();
        while self.get(&format!("/v1/apps/{app}"))?["state"] != state {
            if asked.elapsed() > SWITCHED_WITHIN {
                bail!("{app} is not {state} within {SWITCHED_WITHIN:?}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Sets a config var of an app.
    pub(super) fn set_config(&self, app: &str, key: &str, value: &str) -> Result<()> {
        let path = format!("/v1/apps/{app}/config");
        let request = ureq::patch(self.url(&path))
            .header("authorization", self.authorization())
            .header("content-type", "application/json");
        request.send(json!({ key: value }).to_string()).with_context(|| format!("PATCH {path} failed"))?;
        Ok(())
    }

    /// Returns one page of a route, as JSON.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.text(path)?).with_context(|| format!("GET {path} returned invalid JSON"))
    }

    pub(super) fn text(&self, path: &str) -> Result<String> {
        let request = ureq::get(self.url(path)).header("authorization", self.authorization());
        let mut answer = request.call().with_context(|| format!("GET {path} failed"))?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// Adds a log drain to an app.
    pub(super) fn add_drain(&self, app: &str, url: &str) -> Result<()> {
        self.post(&format!("/v1/apps/{app}/drains"), "application/json", json!({ "url": url }).to_string().as_bytes())
    }

    /// Scrapes the metrics, as Prometheus with native histograms does.
    fn scrape(&self) -> Result<()> {
        let request = ureq::get(self.url("/metrics")).header("authorization", self.authorization()).header(
            "accept",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        );
        request.call().context("the scrape failed")?.body_mut().read_to_vec().context("the scrape broke off")?;
        Ok(())
    }

    /// Returns the number of log lines, spans and other telemetry that the host has dropped.
    pub(super) fn dropped(&self) -> Result<u64> {
        let metrics = self.text("/metrics")?;
        Ok(sum_of(&metrics, "isopod_log_lines_dropped_total") + sum_of(&metrics, "isopod_telemetry_dropped_total"))
    }

    /// Returns the number of lines that an app's drains have dropped.
    pub(super) fn drain_lines_dropped(&self, app: &str) -> Result<u64> {
        let drains = self.get(&format!("/v1/apps/{app}/drains"))?;
        let drains = drains["items"].as_array().context("the drains have no items")?;
        Ok(drains.iter().filter_map(|drain| drain["dropped"].as_u64()).sum())
    }

    /// Returns the state of the app's newest release.
    pub(super) fn release_state(&self, app: &str) -> Result<String> {
        let releases = self.get(&format!("/v1/apps/{app}/releases?limit=1"))?;
        Ok(releases["items"][0]["state"].as_str().with_context(|| format!("{app} has no release"))?.to_owned())
    }

    /// Returns the number of instances of all apps, in any state.
    pub(super) fn instances(&self) -> Result<u64> {
        Ok(sum_of(&self.text("/metrics")?, "isopod_instances"))
    }

    /// Creates the request for an event of this type with this JSON, for a kept connection.
    pub(super) fn event(&self, app: &str, query: &str, kind: &str, data: &str) -> Request {
        let headers = [
            ("authorization", self.authorization()),
            ("content-type", "application/json".to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", NUMBER.to_owned()),
            ("ce-source", "/bench".to_owned()),
            ("ce-type", kind.to_owned()),
        ];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Request::post(&self.address.to_string(), &format!("/v1/apps/{app}/events{query}"), &headers, data)
    }

    /// Returns how to see an app's stored events.
    pub(super) fn stored_events(&self, app: &str) -> StoredEvents {
        let (host, path) = (self.address.to_string(), format!("/v1/apps/{app}/events"));
        StoredEvents { host, path, authorization: self.authorization() }
    }

    fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Result<()> {
        let request = ureq::post(self.url(path))
            .header("authorization", self.authorization())
            .header("content-type", media_type)
            .config()
            // The body contains the host's reason.
            .http_status_as_error(false)
            .build();
        let mut answer = request.send(body).with_context(|| format!("POST {path} failed"))?;
        if !answer.status().is_success() {
            let said = answer.body_mut().read_to_string().unwrap_or_default();
            bail!("POST {path} returned {}: {said}", answer.status());
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

/// A thread that scrapes the metrics at an interval.
pub(super) struct Scraping {
    stop: mpsc::SyncSender<()>,
    thread: JoinHandle<Result<u64>>,
}

impl Scraping {
    pub(super) fn start(api: Api, interval: Duration) -> Scraping {
        let (stop, stopped) = mpsc::sync_channel(0);
        let thread = std::thread::spawn(move || {
            let mut scrapes = 0;
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                api.scrape()?;
                scrapes += 1;
            }
            Ok(scrapes)
        });
        Scraping { stop, thread }
    }

    /// Stops the thread, and returns the number of scrapes.
    pub(super) fn stop(self) -> Result<u64> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the scraping thread panicked"))?
    }
}

/// Sums a metric over all its labels, in Prometheus' text format.
fn sum_of(metrics: &str, name: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let metrics = "# TYPE isopod_instances gauge\n\
                       isopod_instances{state=\"idle\"} 3\nisopod_instances{state=\"busy\"} 4\n\
                       isopod_instances_max 1000\nisopod_apps{state=\"running\"} 7\n";
        assert_eq!(sum_of(metrics, "isopod_instances"), 7);
        assert_eq!(sum_of("isopod_instances 5\n", "isopod_instances"), 5);
        assert_eq!(sum_of(metrics, "isopod_pushes"), 0);
    }
}
