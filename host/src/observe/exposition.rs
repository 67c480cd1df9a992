//! The formats of metrics, of which the header `Accept` selects one. Never handles a metric by
//! name.

use axum::http::{HeaderMap, header};
use mime::Mime;

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `application/vnd.google.protobuf`: messages, the only format with native histograms.
    Protobuf,
    /// `application/openmetrics-text`.
    OpenMetrics,
    /// `text/plain`, which every scraper reads.
    Prometheus,
}

impl Format {
    /// All formats, those with more details first.
    const ALL: [Self; 3] = [Self::Protobuf, Self::OpenMetrics, Self::Prometheus];

    /// Returns the format that a scraper prefers, and of several equal ones that with more details.
    /// Returns Prometheus' text format if the scraper names none.
    pub(crate) fn negotiated(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<Mime> =
            values.flat_map(|value| value.split(',')).filter_map(|part| part.trim().parse().ok()).collect();
        let (mut preferred, mut highest) = (Self::Prometheus, 0.0);
        for format in Self::ALL {
            let qualities = accepted.iter().filter(|media_type| format.is_named_by(media_type)).map(quality);
            let quality = qualities.fold(0.0, f32::max);
            if quality > highest {
                (preferred, highest) = (format, quality);
            }
        }
        preferred
    }

    fn is_named_by(self, media_type: &Mime) -> bool {
        let has = |name, value: &str| media_type.get_param(name).is_none_or(|found| found.as_str() == value);
        match (self, media_type.essence_str()) {
            (Self::Protobuf, "application/vnd.google.protobuf") => {
                has("proto", "io.prometheus.client.MetricFamily") && has("encoding", "delimited")
            }
            (Self::OpenMetrics, "application/openmetrics-text") => has("version", "1.0.0"),
            (Self::Prometheus, "text/plain") => has("version", "0.0.4"),
            (Self::Prometheus, "text/*" | "*/*") => true,
            _ => false,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

fn quality(media_type: &Mime) -> f32 {
    media_type.get_param("q").map_or(1.0, |q| q.as_str().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

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
            format!("{PROTOBUF}, {prometheus_3}"),
            format!("text/plain, application/openmetrics-text, {PROTOBUF}"),
            "application/vnd.google.protobuf, */*;q=0.1".to_owned(),
        ] {
            assert_eq!(negotiated(&accept), Format::Protobuf, "{accept}");
        }
        for accept in [
            "*/*",
            "text/plain",
            "application/json",
            "",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.2, text/plain",
            "application/vnd.google.protobuf;encoding=text",
            "application/vnd.google.protobuf;proto=other.Family",
            "application/vnd.google.protobuf;q=x, text/plain;q=0.1",
        ] {
            assert_eq!(negotiated(accept), Format::Prometheus, "{accept}");
        }
        assert_eq!(Format::negotiated(&HeaderMap::new()), Format::Prometheus);
    }

    #[test]
    fn a_format_is_named_by_its_own_content_type() {
        for format in Format::ALL {
            assert_eq!(negotiated(format.content_type()), format);
        }
    }
}
