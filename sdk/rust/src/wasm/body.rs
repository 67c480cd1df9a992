//! Bodies over either version of `wasi:http`. Never reads or writes them itself.

use crate::Result;
use crate::http::{Headers, Request};

/// Returns the `content-length` of a request; 0 if it has none.
pub(crate) fn announced_bytes(head: &Request) -> usize {
    head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
}

/// An incoming body.
pub(crate) enum BodySource {
    V2(super::http::Source),
    #[cfg(feature = "wasi-03")]
    V3(super::http03::Source),
}

impl BodySource {
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::V2(source) => source.next().await,
            #[cfg(feature = "wasi-03")]
            Self::V3(source) => source.next().await,
        }
    }

    pub(crate) async fn trailers(self) -> Result<Headers> {
        match self {
            Self::V2(source) => source.trailers().await,
            #[cfg(feature = "wasi-03")]
            Self::V3(source) => source.trailers().await,
        }
    }
}

/// An outgoing body.
pub(crate) enum BodySink {
    V2(super::http::SinkStream),
    #[cfg(feature = "wasi-03")]
    V3(super::http03::SinkStream),
}

impl BodySink {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::V2(sink) => sink.write(bytes).await,
            #[cfg(feature = "wasi-03")]
            Self::V3(sink) => sink.write(bytes).await,
        }
    }

    pub(crate) fn set_trailers(&mut self, trailers: Headers) {
        match self {
            Self::V2(sink) => sink.set_trailers(trailers),
            #[cfg(feature = "wasi-03")]
            Self::V3(sink) => sink.set_trailers(trailers),
        }
    }
}

impl From<super::http::SinkStream> for BodySink {
    fn from(sink: super::http::SinkStream) -> Self {
        Self::V2(sink)
    }
}

#[cfg(feature = "wasi-03")]
impl From<super::http03::SinkStream> for BodySink {
    fn from(sink: super::http03::SinkStream) -> Self {
        Self::V3(sink)
    }
}
