//! The platform of native builds: a simulated host in memory for each thread, so that concurrent
//! tests are isolated from each other. Never performs I/O. `testing` configures it.

mod counters;
mod emit;
mod log_line;
mod queue;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use crate::http::{Headers, Request, Response};
use crate::kv::Page;
use crate::logging::Level;
use crate::plugin::assets::Asset;
use crate::plugin::counters::{Rate, Taken};
use crate::{Error, Result};
pub(crate) use emit::{ask, emit};
pub use log_line::LogLine;
pub use queue::DeadLetter;
pub(crate) use world::{Crash, World, step, with};

/// Does nothing: no host calls a native build.
pub(crate) fn mark_streaming() {}

pub(crate) fn now() -> SystemTime {
    with(|world| world.now)
}

/// Takes tokens from the bucket with a key.
pub(crate) fn take_tokens(key: &str, tokens: u32, rate: &Rate) -> Result<Taken> {
    with(|world| world.counters.take(world.now, key, tokens, rate))
}

pub(crate) fn config_get(name: &str) -> Option<String> {
    with(|world| world.config.get(name).cloned())
}

/// Finds an asset. The simulated host knows no content types, and its ETags are lengths.
pub(crate) fn find_asset(path: &str) -> Option<Asset> {
    with(|world| {
        let size = world.assets.get(path)?.len() as u64;
        let encodings = [("br", "br"), ("zst", "zstd"), ("gz", "gzip")].into_iter();
        let encodings = encodings.filter(|(extension, _)| world.assets.contains_key(&format!("{path}.{extension}")));
        Some(Asset {
            size,
            content_type: "application/octet-stream".to_owned(),
            etag: format!("\"{size}\""),
            encodings: encodings.map(|(_, encoding)| encoding.to_owned()).collect(),
        })
    })
}

#[cfg_attr(not(feature = "log"), allow(dead_code, reason = "only the `log` crate's target calls it"))]
pub(crate) fn log(level: Level, context: &str, message: &str) {
    with(|world| world.logs.push(LogLine { level, context: context.to_owned(), message: message.to_owned() }));
}

/// Makes the change that conflicts with the next write. During a delivery, makes none, because the
/// delivery's commit conflicts instead.
fn conflict_outside_of_deliveries() {
    if let Some(change) = with(|world| world.queue.conflict_of_write()) {
        change();
    }
}

/// Waits until the simulated clock has advanced by `duration`.
pub(crate) fn sleep(duration: Duration) -> impl Future<Output = ()> {
    Sleep { until: now() + duration, registered: false }
}

struct Sleep {
    until: SystemTime,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if now() >= self.until {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            with(|world| world.timers.push(self.until));
        }
        Poll::Pending
    }
}

/// Advances the clock to the next timer. Returns `false` if there is no timer.
pub(crate) fn advance_to_next_timer() -> bool {
    with(|world| {
        let Some(next) = world.timers.iter().min().copied() else { return false };
        world.timers.retain(|timer| *timer > next);
        world.now = world.now.max(next);
        true
    })
}

pub(crate) async fn fetch(request: Request) -> Result<(Response, BodySource)> {
    let Some(server) = with(|world| world.server.clone()) else {
        return Err(Error::msg("this test defines no responses; define them with TestHost::on_fetch"));
    };
    let answered = server(request);
    step();
    let mut answer = answered?;
    let body = std::mem::take(&mut answer.body);
    let bytes = match body.0 {
        crate::http::Kind::Whole(bytes) => bytes.into_owned(),
        crate::http::Kind::Produced(producer) => crate::http::collect(producer).await?,
    };
    Ok((answer, BodySource::of(bytes)))
}

/// A body that a test passes to a handler.
pub(crate) struct BodySource {
    pieces: std::collections::VecDeque<Vec<u8>>,
}

impl BodySource {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { pieces: [bytes].into_iter().filter(|bytes| !bytes.is_empty()).collect() }
    }

    pub(crate) fn of_pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { pieces: pieces.into_iter().collect() }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.pieces.pop_front())
    }

    pub(crate) async fn trailers(self) -> Result<Headers> {
        Ok(Headers::new())
    }
}

/// The host's end of a body. Uninhabited, since tests collect bodies instead.
pub(crate) enum BodySink {}

impl BodySink {
    pub(crate) async fn write(&mut self, _: &[u8]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn set_trailers(&mut self, _: Headers) {
        match *self {}
    }
}

/// A bucket in memory.
pub(crate) struct Bucket(String);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self> {
        if with(|world| world.keyvalue_granted) {
            Ok(Self(name.to_owned()))
        } else {
            Err(Error::msg("key-value storage is not granted; add `[grants] keyvalue = true` to the manifest"))
        }
    }

    fn with<T>(&self, use_bucket: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        let result = with(|world| use_bucket(world.buckets.entry(self.0.clone()).or_default()));
        step();
        result
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.with(|bucket| bucket.get(key).cloned()))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        conflict_outside_of_deliveries();
        self.with(|bucket| bucket.insert(key.to_owned(), value.to_owned()));
        Ok(())
    }

    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        conflict_outside_of_deliveries();
        self.with(|bucket| bucket.remove(key));
        Ok(())
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.with(|bucket| bucket.contains_key(key)))
    }

    /// Numbers are stored as decimal text, as on the host.
    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        conflict_outside_of_deliveries();
        self.with(|bucket| {
            let present = match bucket.get(key) {
                Some(bytes) => std::str::from_utf8(bytes)?.parse::<i64>()?,
                None => 0,
            };
            let sum = present.checked_add(delta).ok_or("the sum does not fit 64 bits")?;
            bucket.insert(key.to_owned(), sum.to_string().into_bytes());
            Ok(sum)
        })
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas> {
        Ok(Cas { bucket: Self(self.0.clone()), key: key.to_owned(), seen: self.get(key)? })
    }

    /// Pages are small, so that a test with few keys detects a handler that ignores the cursor.
    pub(crate) fn list(&self, cursor: Option<&str>) -> Result<Page> {
        const PAGE_KEYS: usize = 3;
        self.with(|bucket| {
            let after = bucket.keys().filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor));
            let keys: Vec<String> = after.take(PAGE_KEYS + 1).cloned().collect();
            let more = keys.len() > PAGE_KEYS;
            let keys: Vec<String> = keys.into_iter().take(PAGE_KEYS).collect();
            let cursor = more.then(|| keys[PAGE_KEYS - 1].clone());
            Ok(Page { keys, cursor })
        })
    }
}

/// A compare-and-swap handle: replaces a value only if it is unchanged since it was read.
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Vec<u8>>,
}

impl Cas {
    pub(crate) fn current(&mut self) -> Result<Option<Vec<u8>>> {
        self.seen = self.bucket.get(&self.key)?;
        Ok(self.seen.clone())
    }

    /// Sets the value, or returns the handle for another attempt if the value has changed.
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Self>> {
        conflict_outside_of_deliveries();
        if self.bucket.get(&self.key)? != self.seen {
            return Ok(Some(self));
        }
        self.bucket.set(&self.key, value)?;
        Ok(None)
    }
}
