//! The query parameters that select lines of a log. Never reads a log.

use std::str::FromStr;

use isopod_policy::{IdError, InstanceId, RequestId, text::excerpt, units::parse_duration};
use jiff::Timestamp;
use serde::Deserialize;

use super::{limits, request::BadRequest};
use crate::{
    control::events::attributes::is_rfc3339,
    observe::logs::{Level, LineFilter, SearchText, Stream},
};

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogFilterParams {
    /// Selects the lines of one request, or of all attempts of one event.
    #[param(pattern = "^[0-9a-hjkmnp-tv-z]{16}$")]
    request_id: Option<String>,
    /// Selects the lines of one instance.
    #[param(pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*-[0-9a-hjkmnp-tv-z]{5}$", max_length = 26)]
    instance: Option<String>,
    /// Selects the lines of one source.
    #[param(inline)]
    stream: Option<Stream>,
    /// Selects the lines of this level or a higher one. Lines without a level count as `error` if
    /// they are about a failed request, as `warn` on standard error, otherwise as `info`.
    #[param(inline)]
    level: Option<Level>,
    /// Selects the lines since a time: a duration before now, such as `10m`, or an RFC 3339 time.
    #[param(pattern = "^([0-9]{1,4}(ms|s|m|h|d)|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].*)$", example = "10m")]
    since: Option<String>,
    /// Selects the lines until a time, in the form of `since`. With `follow`, the stream ends at
    /// that time.
    #[param(pattern = "^([0-9]{1,4}(ms|s|m|h|d)|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].*)$", example = "5m")]
    until: Option<String>,
    /// Selects the lines whose message contains this text, ignoring case. It is not a pattern.
    #[param(min_length = 1, max_length = 1_024)]
    grep: Option<String>,
}

impl LogFilterParams {
    /// Returns the filter. Durations count back from `now`.
    pub(super) fn filter(&self, now: Timestamp) -> Result<LineFilter, BadRequest> {
        let since = self.since.as_deref().map(|text| moment("since", text, now)).transpose()?;
        let until = self.until.as_deref().map(|text| moment("until", text, now)).transpose()?;
        if let Some((since, until)) = since.zip(until).filter(|(since, until)| since > until) {
            let detail = format!("`since` ({since}) is after `until` ({until}), so no line can match");
            return Err(BadRequest::Query { detail });
        }
        Ok(LineFilter {
            request_id: id::<RequestId>("request_id", self.request_id.as_deref())?,
            instance: id::<InstanceId>("instance", self.instance.as_deref())?,
            stream: self.stream,
            level: self.level,
            since,
            until,
            text: self.grep.as_deref().map(search_text).transpose()?,
        })
    }
}

fn id<T: FromStr<Err = IdError>>(name: &str, text: Option<&str>) -> Result<Option<T>, BadRequest> {
    let bad = |error| BadRequest::Query { detail: format!("`{name}`: {error}") };
    text.map(str::parse).transpose().map_err(bad)
}

/// Parses a duration before now, or an RFC 3339 time.
fn moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, BadRequest> {
    let bad = |why: String| {
        let detail = format!("`{name}` is neither a duration before now, such as 10m, nor an RFC 3339 time: {why}");
        BadRequest::Query { detail }
    };
    if is_rfc3339(text) {
        return text.parse().map_err(|_| bad(format!("`{}` is not a valid time", excerpt(text, SHOWN_BYTES))));
    }
    let ago = parse_duration(text).map_err(|error| bad(error.to_string()))?;
    // Before the earliest timestamp, no line exists.
    Ok(now.checked_sub(ago).unwrap_or(Timestamp::MIN))
}

fn search_text(text: &str) -> Result<SearchText, BadRequest> {
    let (bytes, most) = (text.len(), limits::LOG_SEARCH_TEXT_BYTES_MAX);
    if bytes == 0 {
        return Err(BadRequest::Query { detail: "`grep` is empty; leave it out to select all lines".to_owned() });
    }
    if bytes > most {
        let detail =
            format!("`grep` has {bytes} bytes, but at most {most} are possible; search for a part of the text");
        return Err(BadRequest::Query { detail });
    }
    Ok(SearchText::new(text))
}

/// Bytes of a parameter that an error shows. The rest is cut off.
const SHOWN_BYTES: usize = 80;
