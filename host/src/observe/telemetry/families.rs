//! Converts the host's metrics from OpenMetrics text to OTLP, so that a collector receives exactly
//! the values that a scraper reads. Never handles a metric by name.

use super::attributes::{host_resource, scope, text};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, MetricsData, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value,
    },
};

/// When the values began to count, and when they were read, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// Returns the metrics as the body of a request to a collector.
pub(super) fn metrics(open_metrics: &str, period: Period) -> MetricsData {
    let (mut metrics, mut family) = (Vec::new(), Family::default());
    for line in open_metrics.lines() {
        match described(line) {
            Some(("HELP", name, help)) => {
                metrics.extend(std::mem::take(&mut family).finish());
                family = Family { name: name.to_owned(), help: unescaped(help), ..Family::default() };
            }
            Some(("TYPE", name, kind)) => {
                if family.name != name {
                    metrics.extend(std::mem::take(&mut family).finish());
                    family.name = name.to_owned();
                }
                family.kind = kind.to_owned();
            }
            _ if line.starts_with('#') => {}
            _ => family.add(line, period),
        }
    }
    metrics.extend(family.finish());
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let resource = ResourceMetrics { resource: Some(host_resource()), scope_metrics, ..ResourceMetrics::default() };
    MetricsData { resource_metrics: vec![resource] }
}

/// Splits a line that describes a family: its keyword, the family's name, and the value.
fn described(line: &str) -> Option<(&str, &str, &str)> {
    let (keyword, rest) = line.strip_prefix("# ")?.split_once(' ')?;
    let (name, value) = rest.split_once(' ')?;
    Some((keyword, name, value))
}

/// A family of metrics while its lines are read.
#[derive(Default)]
struct Family {
    name: String,
    help: String,
    kind: String,
    numbers: Vec<NumberDataPoint>,
    /// The histograms, with their buckets as the text has them: each includes the lower buckets.
    histograms: Vec<HistogramDataPoint>,
}

impl Family {
    /// Adds a sample. A line in another form is ignored: the host's own encoder writes none.
    fn add(&mut self, line: &str, period: Period) {
        let Some((name, labels, value)) = sample(line) else { return };
        let Some(suffix) = name.strip_prefix(self.name.as_str()) else { return };
        if self.kind == "histogram" {
            self.add_to_histogram(suffix, labels, value, period);
            return;
        }
        let attributes = labels.into_iter().map(|(name, value)| text(&name, value)).collect();
        let value = match value.parse::<i64>() {
            Ok(integer) => Value::AsInt(integer),
            Err(_) => Value::AsDouble(value.parse().unwrap_or(0.0)),
        };
        self.numbers.push(NumberDataPoint {
            attributes,
            start_time_unix_nano: period.start,
            time_unix_nano: period.now,
            value: Some(value),
            ..NumberDataPoint::default()
        });
    }

    fn add_to_histogram(&mut self, suffix: &str, labels: Vec<(String, String)>, value: &str, period: Period) {
        let bound = labels.iter().find(|(name, _)| name == "le").map(|(_, bound)| bound.clone());
        let labels = labels.into_iter().filter(|(name, _)| name != "le");
        let attributes: Vec<KeyValue> = labels.map(|(name, value)| text(&name, value)).collect();
        // The lines of a series follow each other.
        if self.histograms.last().is_none_or(|point| point.attributes != attributes) {
            self.histograms.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: period.start,
                time_unix_nano: period.now,
                ..HistogramDataPoint::default()
            });
        }
        let Some(point) = self.histograms.last_mut() else { return };
        match (suffix, bound) {
            ("_sum", _) => point.sum = value.parse().ok(),
            ("_count", _) => point.count = value.parse().unwrap_or(0),
            ("_bucket", Some(bound)) => {
                point.bucket_counts.push(value.parse().unwrap_or(0));
                point.explicit_bounds.extend(bound.parse::<f64>().ok().filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }

    /// Returns the metric of a family that has a sample.
    fn finish(mut self) -> Option<Metric> {
        for point in &mut self.histograms {
            let mut former = 0;
            for count in &mut point.bucket_counts {
                let below = std::mem::replace(&mut former, *count);
                *count = count.saturating_sub(below);
            }
        }
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match self.kind.as_str() {
            _ if self.numbers.is_empty() && self.histograms.is_empty() => return None,
            "histogram" => {
                Data::Histogram(Histogram { data_points: self.histograms, aggregation_temporality: temporality })
            }
            "counter" => {
                let data_points = self.numbers;
                Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic: true })
            }
            _ => Data::Gauge(Gauge { data_points: self.numbers }),
        };
        let unit = match self.name.rsplit('_').next() {
            Some("seconds") => "s",
            Some("bytes") => "By",
            Some("percent") => "%",
            // The unit `1` would add `_ratio` to the name of a gauge in Prometheus.
            _ => "",
        };
        let (description, unit) = (self.help, unit.to_owned());
        Some(Metric { name: self.name, description, unit, data: Some(data), ..Metric::default() })
    }
}

/// The labels of a sample, each with its name and value.
type Labels = Vec<(String, String)>;

/// Splits a sample: its name, its labels and its value.
fn sample(line: &str) -> Option<(&str, Labels, &str)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.strip_prefix(',').unwrap_or(rest).split_once("=\"")?;
            let end = closing_quote(after)?;
            labels.push((label.to_owned(), unescaped(&after[..end])));
            rest = &after[end + 1..];
        }
        rest = &rest[1..];
    }
    let value = rest.trim_start().split(' ').next().filter(|value| !value.is_empty())?;
    Some((name, labels, value))
}

/// Returns the position of the first quote that isn't escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut symbols = text.chars();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '\\' => plain.extend(symbols.next().map(|escaped| if escaped == 'n' { '\n' } else { escaped })),
            symbol => plain.push(symbol),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP a_requests Requests \"ok\".
# TYPE a_requests counter
a_requests_total{app="x",class="2xx"} 3
a_requests_total{app="a\"b\\,c=\"d",class="5xx"} 1
# HELP a_cpu_seconds CPU.
# TYPE a_cpu_seconds counter
# UNIT a_cpu_seconds seconds
a_cpu_seconds_total 1.5
# HELP a_empty Nothing.
# TYPE a_empty gauge
# HELP a_memory_bytes Memory.
# TYPE a_memory_bytes gauge
a_memory_bytes{app="x"} -7
# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_sum{app="x"} 0.75
a_seconds_count{app="x"} 4
a_seconds_bucket{le="0.1",app="x"} 1
a_seconds_bucket{le="0.5",app="x"} 3
a_seconds_bucket{le="+Inf",app="x"} 4
# EOF
"#;

    fn converted() -> Vec<Metric> {
        let data = metrics(TEXT, Period { start: 1, now: 2 });
        data.resource_metrics[0].scope_metrics[0].metrics.clone()
    }

    #[test]
    fn counters_and_gauges_keep_their_values_and_labels() {
        let all = converted();
        let names: Vec<_> = all.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
        assert_eq!(names, [("a_requests", ""), ("a_cpu_seconds", "s"), ("a_memory_bytes", "By"), ("a_seconds", "s")]);
        let Some(Data::Sum(requests)) = &all[0].data else { panic!("it is a counter: {all:?}") };
        assert!(requests.is_monotonic && all[0].description == "Requests \"ok\".");
        assert_eq!(requests.data_points[0].value, Some(Value::AsInt(3)));
        assert_eq!(requests.data_points[1].attributes, [text("app", "a\"b\\,c=\"d"), text("class", "5xx")]);
        let Some(Data::Sum(cpu)) = &all[1].data else { panic!("it is a counter: {all:?}") };
        assert_eq!(
            (cpu.data_points[0].value, cpu.data_points[0].start_time_unix_nano),
            (Some(Value::AsDouble(1.5)), 1)
        );
        let Some(Data::Gauge(memory)) = &all[2].data else { panic!("it is a gauge: {all:?}") };
        assert_eq!(memory.data_points[0].value, Some(Value::AsInt(-7)));
    }

    #[test]
    fn histogram_buckets_are_not_cumulative() {
        let all = converted();
        let Some(Data::Histogram(seconds)) = &all[3].data else { panic!("it is a histogram: {all:?}") };
        let [point] = seconds.data_points.as_slice() else { panic!("there is one series: {seconds:?}") };
        assert_eq!((point.count, point.sum), (4, Some(0.75)));
        assert_eq!((&*point.bucket_counts, &*point.explicit_bounds), (&[1, 2, 1][..], &[0.1, 0.5][..]));
        assert_eq!(point.attributes, [text("app", "x")]);
    }

    #[test]
    fn the_time_of_a_conversion_is_linear() {
        use std::fmt::Write;
        let mut text = String::from("# HELP a_seconds Time.\n# TYPE a_seconds histogram\n");
        let apps = 10_000;
        for app in 0..apps {
            for bucket in 0..15 {
                writeln!(text, "a_seconds_bucket{{le=\"{bucket}.5\",app=\"app-{app}\"}} {bucket}").expect("fits");
            }
        }
        let started = std::time::Instant::now();
        let data = metrics(&text, Period { start: 1, now: 2 });
        // With a search of all earlier series, it takes minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
        let Some(Data::Histogram(seconds)) = &data.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("it is a histogram")
        };
        assert_eq!(seconds.data_points.len(), apps);
    }

    #[test]
    fn a_malformed_line_is_ignored() {
        for line in ["x", "x{", "x{a", "x{a=\"b", "x{a=\"b\"", "x{a=\"b\"}", "x{a=\"b\"} ", "x ", ""] {
            assert!(sample(line).is_none(), "{line:?}");
        }
    }
}
