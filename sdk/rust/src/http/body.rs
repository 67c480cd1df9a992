//! Bodies: whole ones, those that are produced piece by piece, and those that are read piece by piece.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use super::Headers;
use crate::{Result, platform};

/// The body of an answer or of an outgoing request.
#[derive(Default)]
pub struct Body(pub(crate) Kind);

pub(crate) enum Kind {
    Whole(Cow<'static, [u8]>),
    Produced(Producer),
}

pub(crate) type Producer = Box<dyn FnOnce(BodyWriter) -> Pin<Box<dyn Future<Output = Result<()>>>>>;

impl Default for Kind {
    fn default() -> Self {
        Self::Whole(Cow::Borrowed(&[]))
    }
}

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self(Kind::Whole(Cow::Borrowed(&[])))
    }

    /// A body that is written while it is sent.
    ///
    /// An app that has one is called over `wasi:http` alone, also with [`http!`](crate::http!), so that each piece is sent
    /// when it is written.
    pub fn produce<F, Fut>(producer: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        platform::mark_streaming();
        Self::written_by(producer)
    }

    /// As [`Body::produce`], for a body that is not part of the app's responses, so the app stays callable over the flat
    /// interface.
    pub(crate) fn written_by<F, Fut>(producer: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        Self(Kind::Produced(Box::new(move |writer| Box::pin(producer(writer)))))
    }

    /// The bytes of a whole body; `None` for one that is produced while it is sent.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes),
            Kind::Produced(_) => None,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Whole(bytes) => write!(formatter, "Body({:?})", String::from_utf8_lossy(bytes)),
            Kind::Produced(_) => formatter.write_str("Body(produced while it is sent)"),
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self(Kind::Whole(Cow::Borrowed(text.as_bytes())))
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Kind::Whole(Cow::Borrowed(bytes)))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Kind::Whole(Cow::Owned(text.into_bytes())))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kind::Whole(Cow::Owned(bytes)))
    }
}

impl From<Cow<'static, [u8]>> for Body {
    fn from(bytes: Cow<'static, [u8]>) -> Self {
        Self(Kind::Whole(bytes))
    }
}

/// Where a body is written while it is sent. Dropping it ends the body.
pub struct BodyWriter(pub(crate) Sink);

pub(crate) enum Sink {
    /// The whole is wanted: pieces are collected.
    Collect(std::rc::Rc<std::cell::RefCell<Vec<u8>>>),
    /// Pieces leave at once.
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "a test collects every body"))]
    Send(platform::BodySink),
}

impl BodyWriter {
    /// Writes a piece and waits until the host has taken it.
    ///
    /// It fails when the client has gone away.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        match &mut self.0 {
            Sink::Collect(all) => {
                all.borrow_mut().extend_from_slice(bytes.as_ref());
                Ok(())
            }
            Sink::Send(sink) => sink.write(bytes.as_ref()).await,
        }
    }

    /// Sets the fields that follow the body. They are lost where the body is collected.
    ///
    /// Over HTTP/1.1 a client gets those that the answer has named in its header `trailer`, and only if it sent
    /// `te: trailers`; over HTTP/2 it gets all.
    pub fn set_trailers(&mut self, trailers: Headers) {
        match &mut self.0 {
            Sink::Collect(_) => {}
            Sink::Send(sink) => sink.set_trailers(trailers),
        }
    }
}

/// A body that is read piece by piece.
pub struct IncomingBody(pub(crate) platform::BodySource);

impl IncomingBody {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.0.next().await
    }

    /// The whole rest. It fails where that is more than `bytes_max`.
    pub async fn read_to_end(&mut self, bytes_max: usize) -> Result<Vec<u8>> {
        self.read_announced(bytes_max, 0).await
    }

    /// As above, for a body with a known length: its whole buffer is allocated at once, if
    /// possible. Other bodies are joined at their end, since a growing vector uses up to three
    /// times the memory.
    pub(crate) async fn read_announced(&mut self, bytes_max: usize, announced: usize) -> Result<Vec<u8>> {
        let (mut all, mut pieces, mut bytes) = (Vec::new(), Vec::new(), 0);
        let has_room = announced > 0 && all.try_reserve_exact(announced.min(bytes_max)).is_ok();
        while let Some(piece) = self.next().await? {
            bytes += piece.len();
            if bytes > bytes_max {
                return Err(crate::Error::status(413, format!("the body is larger than {bytes_max} bytes")));
            }
            if has_room {
                all.extend_from_slice(&piece);
            } else {
                pieces.push(piece);
            }
        }
        Ok(match pieces.pop() {
            None => all,
            Some(only) if pieces.is_empty() => only,
            Some(last) => {
                pieces.push(last);
                pieces.concat()
            }
        })
    }

    /// The fields after the body, once it has been read to its end; empty where there were none.
    pub async fn trailers(self) -> Result<Headers> {
        self.0.trailers().await
    }
}

/// Runs a producer to its end and gives what it wrote.
pub(crate) async fn collect(producer: Producer) -> Result<Vec<u8>> {
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    producer(BodyWriter(Sink::Collect(all.clone()))).await?;
    Ok(all.take())
}
