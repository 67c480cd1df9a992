//! Bodies of requests and responses: whole, written while they are sent, or read in chunks. Never
//! knows HTTP's framing.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;

use super::Headers;
use crate::{Result, platform};

/// The body of a response or of an outgoing request.
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
    /// Creates an empty body.
    pub const fn empty() -> Self {
        Self(Kind::Whole(Cow::Borrowed(&[])))
    }

    /// Creates a body that is written while it is sent.
    ///
    /// The host calls an app that uses this only over `wasi:http`, even with
    /// [`http!`](crate::http!), so that each chunk is sent immediately.
    pub fn produce<F, Fut>(producer: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        platform::mark_streaming();
        Self::written_by(producer)
    }

    /// Does the same as [`Body::produce`] for a body that isn't part of the app's responses, so the
    /// app remains callable over the flat interface.
    pub(crate) fn written_by<F, Fut>(producer: F) -> Self
    where
        F: FnOnce(BodyWriter) -> Fut + 'static,
        Fut: Future<Output = Result<()>> + 'static,
    {
        Self(Kind::Produced(Box::new(move |writer| Box::pin(producer(writer)))))
    }

    /// Returns the bytes of a whole body; `None` for a body that is written while it is sent.
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

/// Writes a body while it is sent. Dropping it ends the body.
pub struct BodyWriter(pub(crate) Sink);

pub(crate) enum Sink {
    /// Collects the chunks, since the caller needs the whole body.
    Collect(std::rc::Rc<std::cell::RefCell<Vec<u8>>>),
    /// Sends each chunk immediately.
    #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "a test collects every body"))]
    Send(platform::BodySink),
}

impl BodyWriter {
    /// Writes a chunk and waits until the host has accepted it.
    ///
    /// Fails if the client has disconnected.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        match &mut self.0 {
            Sink::Collect(all) => {
                all.borrow_mut().extend_from_slice(bytes.as_ref());
                Ok(())
            }
            Sink::Send(sink) => sink.write(bytes.as_ref()).await,
        }
    }

    /// Sets the trailers, which follow the body. They are lost if the body is collected.
    ///
    /// Over HTTP/1.1 a client receives only the trailers that the response lists in its `trailer`
    /// header, and only if the client sent `te: trailers`. Over HTTP/2 it receives all trailers.
    pub fn set_trailers(&mut self, trailers: Headers) {
        match &mut self.0 {
            Sink::Collect(_) => {}
            Sink::Send(sink) => sink.set_trailers(trailers),
        }
    }
}

/// A body that is read in chunks.
pub struct IncomingBody(pub(crate) platform::BodySource);

impl IncomingBody {
    /// Returns the next chunk; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        self.0.next().await
    }

    /// Returns the rest of the body. Fails with 413 if that is more than `bytes_max`.
    pub async fn read_to_end(&mut self, bytes_max: usize) -> Result<Vec<u8>> {
        self.read_announced(bytes_max, 0).await
    }

    /// Does the same as [`read_to_end`](Self::read_to_end) for a body with a known length: its
    /// whole buffer is allocated in one step, if possible. Other bodies are joined at their end,
    /// since a growing vector uses up to three times the memory.
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

    /// Returns the trailers after the body has been read to its end; empty if the sender set no
    /// trailers.
    pub async fn trailers(self) -> Result<Headers> {
        self.0.trailers().await
    }
}

/// Runs a producer to its end and returns the bytes that it wrote.
pub(crate) async fn collect(producer: Producer) -> Result<Vec<u8>> {
    let all = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    producer(BodyWriter(Sink::Collect(all.clone()))).await?;
    Ok(all.take())
}
