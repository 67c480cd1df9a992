//! The two text formats of metrics: selects one by `Accept`, and converts one to the other. Never
//! depends on a particular metric.

use std::fmt::Write as _;

use axum::http::{HeaderMap, header};
use mime::Mime;

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/openmetrics-text`, in which the metrics are encoded first.
    OpenMetrics,
    /// `text/plain`, which every scraper reads.
    Prometheus,
}

impl Format {
    /// Returns the format that a scraper prefers; Prometheus' own if it names neither.
    pub(crate) fn negotiated(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut open_metrics, mut prometheus) = (0.0_f32, 0.0_f32);
        for media_type in
            accepted.flat_map(|value| value.split(',')).filter_map(|part| part.trim().parse::<Mime>().ok())
        {
            let parameter = |name: &str| media_type.get_param(name).map(|value| value.as_str());
            let quality = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let version = parameter("version");
            match media_type.essence_str() {
                "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                    open_metrics = open_metrics.max(quality);
                }
                "text/plain" if version.is_none_or(|version| version == "0.0.4") => {
                    prometheus = prometheus.max(quality)
                }
                "text/*" | "*/*" => prometheus = prometheus.max(quality),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= prometheus { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts text that is encoded as OpenMetrics to this format.
    pub(crate) fn text(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

/// Writes OpenMetrics as Prometheus' text format 0.0.4, which has no unit and no end, escapes no
/// quotes in a help text, and names a counter's family with its suffix. A family's lines follow
/// each other: its descriptions, then its samples.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help text, held back until the type is known, which determines the family's name.
    let mut help = None;
    for line in open_metrics.lines() {
        let described = line.strip_prefix("# ").and_then(|line| {
            let (keyword, rest) = line.split_once(' ')?;
            let (family, value) = rest.split_once(' ')?;
            Some((keyword, family, value))
        });
        match described {
            Some(("HELP", _, value)) => help = Some(value.replace("\\\"", "\"")),
            Some(("TYPE", family, kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "gauge" | "histogram" | "summary" => ("", kind),
                    "info" => ("_info", "gauge"),
                    _ => ("", "untyped"),
                };
                if let Some(help) = help.take() {
                    writeln!(text, "# HELP {family}{suffix} {help}").ok();
                }
                writeln!(text, "# TYPE {family}{suffix} {kind}").ok();
            }
            _ if line.starts_with('#') => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: &str) -> Format {
        Format::negotiated(&HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("valid header"))]))
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [prometheus_3, "application/openmetrics-text", "text/plain;q=0.5, application/openmetrics-text"] {
            assert_eq!(negotiated(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "*/*",
            "text/plain",
            "application/json",
            "",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain",
        ] {
            assert_eq!(negotiated(accept), Format::Prometheus, "{accept}");
        }
        assert_eq!(Format::negotiated(&HeaderMap::new()), Format::Prometheus);
    }

    #[test]
    fn the_older_format_names_counters_with_their_suffix() {
        let open_metrics = "# HELP a_cpu_seconds CPU \\\"time\\\".\n# TYPE a_cpu_seconds counter\n\
            # UNIT a_cpu_seconds seconds\na_cpu_seconds_total{app=\"# TYPE x counter\"} 1.5\n\
            # HELP a_apps Apps.\n# TYPE a_apps gauge\na_apps 2\n# EOF\n";
        let text = "# HELP a_cpu_seconds_total CPU \"time\".\n# TYPE a_cpu_seconds_total counter\n\
            a_cpu_seconds_total{app=\"# TYPE x counter\"} 1.5\n\
            # HELP a_apps Apps.\n# TYPE a_apps gauge\na_apps 2\n";
        assert_eq!(Format::Prometheus.text(open_metrics.to_owned()), text);
        assert_eq!(Format::OpenMetrics.text(open_metrics.to_owned()), open_metrics);
    }
}
