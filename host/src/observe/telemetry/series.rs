//! Follows the series of the host's metrics from one export to the next: when each began to count,
//! and whether it was removed. Divides the values into requests. Never changes a value.

use super::attributes::{host_resource, scope, text};
use crate::observe::limits;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{
        DataPointFlags, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
        Metric, MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
};
use std::collections::{BTreeMap, HashMap};

/// All series of all metrics. Times are nanoseconds since 1970.
pub(super) struct Series {
    started: u64,
    /// The time of the last export.
    exported_at: u64,
    metrics: BTreeMap<String, Followed>,
}

/// The series of one metric.
struct Followed {
    /// The metric without values.
    metric: Metric,
    /// By the names and values of their attributes.
    series: HashMap<Box<str>, Known>,
}

/// One series.
struct Known {
    /// When it began to count.
    start: u64,
    /// Its value; of a histogram, its count.
    value: f64,
    /// When it was exported last.
    seen_at: u64,
    is_removed: bool,
}

impl Series {
    /// Follows series that began to count at this time.
    pub(super) fn since(started: u64) -> Self {
        Self { started, exported_at: started, metrics: BTreeMap::new() }
    }

    /// Returns when the first series began to count.
    pub(super) fn started(&self) -> u64 {
        self.started
    }

    /// Sets the start of each cumulative series. Adds a point without a value for each series that
    /// was removed since the last export.
    pub(super) fn follow(&mut self, data: MetricsData, now: u64) -> Vec<Metric> {
        let before = std::mem::replace(&mut self.exported_at, now);
        let scopes = data.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let mut metrics: BTreeMap<String, Metric> =
            scopes.flat_map(|scope| scope.metrics).map(|metric| (metric.name.clone(), metric)).collect();
        for (name, metric) in &mut metrics {
            let followed = self.metrics.entry(name.clone()).or_insert_with(|| Followed::new(metric));
            followed.follow(metric, before, now);
        }
        for (name, followed) in &mut self.metrics {
            let removed = followed.take_removed(now);
            if !removed.is_empty() {
                let metric = metrics.entry(name.clone()).or_insert_with(|| followed.metric.clone());
                removed.into_iter().for_each(|point| add_removed(metric, point));
            }
        }
        self.forget_removed();
        metrics.into_values().collect()
    }

    /// Forgets all removed series if there are too many.
    fn forget_removed(&mut self) {
        let all = self.metrics.values().flat_map(|followed| followed.series.values());
        if all.filter(|known| known.is_removed).count() > limits::TELEMETRY_SERIES_REMEMBERED {
            self.metrics.values_mut().for_each(|followed| followed.series.retain(|_, known| !known.is_removed));
        }
    }
}

impl Followed {
    fn new(metric: &Metric) -> Self {
        let mut metric = metric.clone();
        drop(split_off(&mut metric, 0));
        Self { metric, series: HashMap::new() }
    }

    /// Sets the start of each series of this metric, and remembers its value.
    fn follow(&mut self, metric: &mut Metric, before: u64, now: u64) {
        match &mut metric.data {
            Some(Data::Gauge(gauge)) => {
                for point in &mut gauge.data_points {
                    self.see(&point.attributes, 0.0, before, now);
                    point.start_time_unix_nano = 0;
                }
            }
            Some(Data::Sum(sum)) => {
                for point in &mut sum.data_points {
                    let value = match point.value {
                        Some(number_data_point::Value::AsInt(value)) => value as f64,
                        Some(number_data_point::Value::AsDouble(value)) => value,
                        None => 0.0,
                    };
                    point.start_time_unix_nano = self.see(&point.attributes, value, before, now);
                }
            }
            Some(Data::Histogram(histogram)) => {
                for point in &mut histogram.data_points {
                    point.start_time_unix_nano = self.see(&point.attributes, point.count as f64, before, now);
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &mut histogram.data_points {
                    point.start_time_unix_nano = self.see(&point.attributes, point.count as f64, before, now);
                }
            }
            _ => {}
        }
    }

    /// Returns the start of a series with this value. A new series, and one that counts again from
    /// zero, began after the last export.
    fn see(&mut self, attributes: &[KeyValue], value: f64, before: u64, now: u64) -> u64 {
        let key = key(attributes);
        let known = self.series.get(key.as_str()).filter(|known| known.value <= value);
        let start = known.map_or(before, |known| known.start);
        self.series.insert(key.into(), Known { start, value, seen_at: now, is_removed: false });
        start
    }

    /// Returns the attributes and the start of each series that this export doesn't have, but the
    /// last one did. Remembers them if they may return with their former value.
    fn take_removed(&mut self, now: u64) -> Vec<Removed> {
        let mut removed = Vec::new();
        let is_gauge = matches!(self.metric.data, Some(Data::Gauge(_)));
        self.series.retain(|key, known| {
            if known.seen_at < now && !known.is_removed {
                known.is_removed = true;
                let start = if is_gauge { 0 } else { known.start };
                removed.push(Removed { attributes: attributes(key), start, time: now });
            }
            !(is_gauge && known.is_removed)
        });
        removed
    }
}

/// A removed series.
struct Removed {
    attributes: Vec<KeyValue>,
    start: u64,
    time: u64,
}

/// Adds a point without a value, which ends a series.
fn add_removed(metric: &mut Metric, series: Removed) {
    let flags = DataPointFlags::NoRecordedValueMask as u32;
    let Removed { attributes, start: start_time_unix_nano, time: time_unix_nano } = series;
    let number = |attributes| NumberDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        flags,
        ..NumberDataPoint::default()
    };
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.push(number(attributes)),
        Some(Data::Sum(sum)) => sum.data_points.push(number(attributes)),
        Some(Data::Histogram(histogram)) => histogram.data_points.push(HistogramDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            flags,
            ..HistogramDataPoint::default()
        }),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.push(ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            flags,
            ..ExponentialHistogramDataPoint::default()
        }),
        _ => {}
    }
}

/// Returns the names and values of attributes, each followed by a zero. The host's labels contain
/// none.
fn key(attributes: &[KeyValue]) -> String {
    let mut key = String::new();
    for attribute in attributes {
        key.push_str(&attribute.key);
        key.push('\0');
        if let Some(Value::StringValue(value)) = attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            key.push_str(value);
        }
        key.push('\0');
    }
    key
}

/// Returns the attributes of a [`key`].
fn attributes(key: &str) -> Vec<KeyValue> {
    let mut parts = key.split('\0');
    let mut attributes = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        attributes.push(text(name, value));
    }
    attributes
}

/// Divides metrics into the bodies of requests to a collector.
pub(super) fn requests(metrics: Vec<Metric>) -> Vec<MetricsData> {
    let (mut requests, mut request, mut points) = (Vec::new(), Vec::new(), 0);
    for metric in metrics {
        let mut rest = Some(metric);
        while let Some(mut metric) = rest.take() {
            if points == limits::TELEMETRY_POINTS {
                requests.push(body(std::mem::take(&mut request)));
                points = 0;
            }
            rest = split_off(&mut metric, limits::TELEMETRY_POINTS - points);
            points += number_of_points(&metric);
            request.push(metric);
        }
    }
    if !request.is_empty() {
        requests.push(body(request));
    }
    requests
}

fn body(metrics: Vec<Metric>) -> MetricsData {
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let resource = ResourceMetrics { resource: Some(host_resource()), scope_metrics, ..ResourceMetrics::default() };
    MetricsData { resource_metrics: vec![resource] }
}

fn number_of_points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    }
}

/// Moves the points from this number on into another metric. `None` without such points.
fn split_off(metric: &mut Metric, at: usize) -> Option<Metric> {
    fn rest<T>(points: &mut Vec<T>, at: usize) -> Option<Vec<T>> {
        (points.len() > at).then(|| points.split_off(at))
    }
    let data = match metric.data.as_mut()? {
        Data::Gauge(gauge) => Data::Gauge(Gauge { data_points: rest(&mut gauge.data_points, at)? }),
        Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }) => Data::Sum(Sum {
            data_points: rest(data_points, at)?,
            aggregation_temporality: *aggregation_temporality,
            is_monotonic: *is_monotonic,
        }),
        Data::Histogram(Histogram { data_points, aggregation_temporality }) => Data::Histogram(Histogram {
            data_points: rest(data_points, at)?,
            aggregation_temporality: *aggregation_temporality,
        }),
        Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality }) => {
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: rest(data_points, at)?,
                aggregation_temporality: *aggregation_temporality,
            })
        }
        Data::Summary(_) => return None,
    };
    let (name, description, unit) = (metric.name.clone(), metric.description.clone(), metric.unit.clone());
    Some(Metric { name, description, unit, data: Some(data), ..Metric::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality::Cumulative;

    /// Returns an export of these counters, each with the name of its app, and of a gauge.
    fn export(counters: &[(&str, i64)], gauge: &[&str]) -> MetricsData {
        let point = |app: &str, value| NumberDataPoint {
            attributes: vec![text("app", app), text("class", "2xx")],
            start_time_unix_nano: 1,
            value: Some(number_data_point::Value::AsInt(value)),
            ..NumberDataPoint::default()
        };
        let data_points = counters.iter().map(|(app, value)| point(app, *value)).collect();
        let sum = Sum { data_points, aggregation_temporality: Cumulative.into(), is_monotonic: true };
        let gauge = Gauge { data_points: gauge.iter().map(|app| point(app, 1)).collect() };
        let metric = |name: &str, data| Metric { name: name.to_owned(), data: Some(data), ..Metric::default() };
        let mut metrics = vec![metric("requests", Data::Sum(sum)), metric("memory", Data::Gauge(gauge))];
        metrics.retain(|metric| number_of_points(metric) > 0);
        body(metrics)
    }

    /// Returns the app, the start and whether it has a value of each point of a metric, sorted.
    fn points(metrics: &[Metric], name: &str) -> Vec<(String, u64, bool)> {
        let Some(metric) = metrics.iter().find(|metric| metric.name == name) else { return Vec::new() };
        let points = match &metric.data {
            Some(Data::Sum(sum)) => &sum.data_points,
            Some(Data::Gauge(gauge)) => &gauge.data_points,
            other => panic!("not a number: {other:?}"),
        };
        let point = |point: &NumberDataPoint| {
            assert_eq!(point.attributes[1], text("class", "2xx"));
            let key = key(&point.attributes);
            let app = key.split('\0').nth(1).expect("it has an app").to_owned();
            (app, point.start_time_unix_nano, point.flags == 0 && point.value.is_some())
        };
        let mut points: Vec<_> = points.iter().map(point).collect();
        points.sort();
        points
    }

    fn of(app: &str, start: u64, has_value: bool) -> (String, u64, bool) {
        (app.to_owned(), start, has_value)
    }

    #[test]
    fn a_series_that_restarts_has_a_new_start() {
        let mut series = Series::since(10);
        let first = series.follow(export(&[("a", 5), ("b", 5)], &[]), 20);
        assert_eq!(points(&first, "requests"), [of("a", 10, true), of("b", 10, true)]);
        // `b` was destroyed and created again, and `c` is new.
        let second = series.follow(export(&[("a", 6), ("b", 2), ("c", 9)], &[]), 30);
        assert_eq!(points(&second, "requests"), [of("a", 10, true), of("b", 20, true), of("c", 20, true)]);
        let third = series.follow(export(&[("a", 6), ("b", 7), ("c", 9)], &[]), 40);
        assert_eq!(points(&third, "requests"), points(&second, "requests"));
    }

    #[test]
    fn a_removed_series_ends_once() {
        let mut series = Series::since(10);
        series.follow(export(&[("a", 5), ("b", 5)], &["a"]), 20);
        let second = series.follow(export(&[("a", 5)], &[]), 30);
        assert_eq!(points(&second, "requests"), [of("a", 10, true), of("b", 10, false)]);
        assert_eq!(points(&second, "memory"), [of("a", 0, false)]);
        let third = series.follow(export(&[("a", 5)], &[]), 40);
        assert_eq!((points(&third, "requests"), points(&third, "memory")), (vec![of("a", 10, true)], Vec::new()));
    }

    #[test]
    fn a_series_that_returns_keeps_its_start() {
        let mut series = Series::since(10);
        // A frozen app has no series. When it thaws, its counters continue.
        for (now, counters) in [(20, &[("a", 5)][..]), (30, &[]), (40, &[("a", 7)])] {
            let exported = series.follow(export(counters, &[]), now);
            assert_eq!(points(&exported, "requests"), [of("a", 10, !counters.is_empty())]);
        }
    }

    #[test]
    fn removed_series_are_forgotten_if_there_are_too_many() {
        let mut series = Series::since(10);
        let apps: Vec<_> = (0..=limits::TELEMETRY_SERIES_REMEMBERED).map(|app| app.to_string()).collect();
        let counters: Vec<_> = apps.iter().map(|app| (app.as_str(), 5)).collect();
        series.follow(export(&counters, &[]), 20);
        series.follow(export(&counters[1..], &[]), 30);
        assert_eq!(series.metrics["requests"].series.len(), apps.len());
        series.follow(export(&[], &[]), 40);
        assert_eq!(series.metrics["requests"].series.len(), 0);
    }

    #[test]
    fn a_request_has_a_limited_number_of_values() {
        let apps: Vec<_> = (0..12_000).map(|app| app.to_string()).collect();
        let counters: Vec<_> = apps.iter().map(|app| (app.as_str(), 5)).collect();
        let metrics = Series::since(10).follow(export(&counters, &["a"]), 20);
        let requests = requests(metrics);
        let sizes: Vec<usize> = requests
            .iter()
            .map(|request| {
                let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
                assert!(metrics.iter().all(|metric| number_of_points(metric) > 0), "{metrics:?}");
                metrics.iter().map(number_of_points).sum()
            })
            .collect();
        assert_eq!(sizes, [5_000, 5_000, 2_001]);
    }
}
