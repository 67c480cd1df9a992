//! The body of a request while middlewares decide about it: unread, or in memory once a middleware
//! has asked for it. Never calls a plugin.

use crate::{
    http::{connections::DrainedBody, field_classes::REAL_IP},
    runtime::{
        limits,
        phase_times::PhaseTimes,
        plugin_call::PluginFailureReason,
        resources::{AppResources, IncomingBody},
        whole_body::{UnreadableBody, WholeBody, receive},
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body;
use isopod_policy::{AppName, BodyLimit, Phase};
use std::{net::IpAddr, time::Duration};
use tokio::time::timeout;

/// The body of a request that passes through middlewares.
pub(crate) struct AskedBody<'a> {
    content: Content,
    /// The largest body that the app accepts.
    limit: BodyLimit,
    resources: &'a AppResources,
    /// The charge for the body in memory.
    held: Option<IncomingBody<'a>>,
    /// Whether a middleware has replaced the client's body.
    is_replaced: bool,
    /// Receives the time of each phase.
    times: &'a PhaseTimes,
}

/// Why a middleware doesn't receive the body that it asked for.
pub(super) enum NoBody {
    Client(UnreadableBody),
    Plugin(PluginFailureReason),
}

impl From<UnreadableBody> for NoBody {
    fn from(unreadable: UnreadableBody) -> Self {
        Self::Client(unreadable)
    }
}

/// A request's body, unread or in memory.
pub(crate) enum Content {
    Unread(DrainedBody),
    Whole(WholeBody),
}

impl<'a> AskedBody<'a> {
    pub(crate) fn new(body: DrainedBody, limit: BodyLimit, resources: &'a AppResources, times: &'a PhaseTimes) -> Self {
        Self { content: Content::Unread(body), limit, resources, held: None, is_replaced: false, times }
    }

    pub(super) fn times(&self) -> &'a PhaseTimes {
        self.times
    }

    /// Returns the body for the app, and releases its charge.
    pub(crate) fn into_content(self) -> Content {
        self.content
    }

    /// Reads the body to its end, for a middleware that accepts this many bytes.
    pub(super) async fn read(
        &mut self,
        headers: &HeaderMap,
        bytes_max: u64,
        plugin: &AppName,
    ) -> Result<Bytes, NoBody> {
        if let (true, Content::Whole(whole)) = (self.is_replaced, &self.content) {
            return replaced(&whole.bytes, bytes_max);
        }
        let limit = self.limit;
        let too_large = || match limit.bytes < bytes_max {
            true => UnreadableBody::TooLarge(limit),
            false => UnreadableBody::TooLargeForPlugin { plugin: plugin.clone(), bytes_max },
        };
        let most = bytes_max.min(limit.bytes);
        let body = match std::mem::replace(&mut self.content, Content::Whole(WholeBody::default())) {
            Content::Unread(body) => body,
            Content::Whole(whole) => {
                let bytes = whole.bytes.clone();
                self.content = Content::Whole(whole);
                return if bytes.len() as u64 > most { Err(too_large().into()) } else { Ok(bytes) };
            }
        };
        let announced = body.size_hint().lower();
        if announced > most {
            return Err(too_large().into());
        }
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let mut held = self.resources.receive(announced).map_err(UnreadableBody::TooMany)?;
        let time = time_for(body.size_hint().exact().unwrap_or(most));
        let received = timeout(time, receive(body, most, &mut held, || client(headers)));
        let received = self.times.measure(Phase::Body, received).await;
        let whole = received.map_err(|_| UnreadableBody::TooSlow { seconds: time.as_secs() })??;
        let whole = whole.ok_or_else(too_large)?;
        let bytes = whole.bytes.clone();
        held.grow_to(bytes.len() as u64, client(headers)).map_err(UnreadableBody::TooMany)?;
        self.held = Some(held);
        self.content = Content::Whole(whole);
        Ok(bytes)
    }

    /// Replaces the body by that of a middleware, which is charged like a received one. Sets
    /// `content-length`. The new body has no trailers.
    pub(super) fn replace(&mut self, bytes: Bytes, headers: &mut HeaderMap) -> Result<(), PluginFailureReason> {
        let (length, bytes_max) = (bytes.len() as u64, self.limit.bytes);
        if length > bytes_max {
            return Err(PluginFailureReason::NewBodyTooLarge { bytes: length, bytes_max });
        }
        let held = match &mut self.held {
            Some(held) => held,
            // The client has sent no body.
            none => none.insert(self.resources.receive(0).map_err(PluginFailureReason::TooManyBodies)?),
        };
        held.grow_to(length, client(headers)).map_err(PluginFailureReason::TooManyBodies)?;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.remove(header::TRAILER);
        self.content = Content::Whole(WholeBody { bytes, trailers: None });
        self.is_replaced = true;
        Ok(())
    }
}

/// Returns the body that an earlier middleware has set. Fails if the next one accepts fewer bytes:
/// that is a failure of the plugin, because the client didn't choose the size.
fn replaced(body: &Bytes, bytes_max: u64) -> Result<Bytes, NoBody> {
    let bytes = body.len() as u64;
    match bytes > bytes_max {
        true => Err(NoBody::Plugin(PluginFailureReason::ReplacedBodyTooLarge { bytes, bytes_max })),
        false => Ok(body.clone()),
    }
}

/// Returns how long a client may take to send a body of this length.
fn time_for(bytes: u64) -> Duration {
    let parts = bytes.div_ceil(limits::TRAFFIC_BODY_PART_BYTES).max(1);
    limits::TRAFFIC_BODY_TIMEOUT.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX))
}

fn client(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get(REAL_IP)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_an_earlier_middleware_has_replaced_may_be_too_large_for_the_next_one() {
        let body = Bytes::from_static(b"four");
        assert!(replaced(&body, 4).is_ok_and(|received| received == body));
        let Err(NoBody::Plugin(reason)) = replaced(&body, 3) else { panic!("the client is not at fault") };
        assert!(reason.is_outside_call(), "the app's log has it");
        let text = reason.to_string();
        assert!(text.contains("4 bytes") && text.contains("at most 3"), "{text}");
    }

    #[test]
    fn each_started_mebibyte_of_a_body_extends_its_timeout() {
        let part = limits::TRAFFIC_BODY_PART_BYTES;
        let seconds = [0, 1, part, part + 1, 4 * part].map(|bytes| time_for(bytes).as_secs());
        assert_eq!(seconds, [20, 20, 20, 40, 80]);
    }
}
