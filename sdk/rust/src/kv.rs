//! Key-value storage, which the host provides for each app. Never caches values. The manifest must
//! grant it: `[grants] keyvalue = true`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::UPDATE_TRIES_MAX;
use crate::{Context, Error, Result, platform};

/// Opens one of the app's buckets; every app has `default`.
///
/// ```
/// # use isopod_sdk::prelude::*;
/// # fn example() -> Result<()> {
/// let visits = kv::open("default")?.increment("visits", 1)?;
/// # assert_eq!(visits, 1);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
pub fn open(name: &str) -> Result<Bucket> {
    platform::Bucket::open(name).map(Bucket).map_err(|error| error.context(format!("opening the bucket {name}")))
}

/// A set of keys and their values.
pub struct Bucket(platform::Bucket);

/// One page of a bucket's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys, in no particular order.
    pub keys: Vec<String>,
    /// The cursor of the next page for [`Bucket::list`]; `None` on the last page.
    pub cursor: Option<String>,
}

impl Bucket {
    /// Returns the value of a key, or `None` if it isn't set.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key).map_err(|error| error.context(format!("reading the key {key}")))
    }

    /// Returns the value of a key as text.
    pub fn get_text(&self, key: &str) -> Result<Option<String>> {
        let bytes = self.get(key)?;
        bytes.map(String::from_utf8).transpose().context(format!("reading the key {key} as text"))
    }

    /// Returns the value of a key, deserialised from JSON.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).context(format!("reading the key {key} as JSON"))
    }

    /// Sets a key and overwrites its current value. A value that depends on the current one is
    /// changed with [`update`](Self::update).
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.set(key, value.as_ref()).map_err(|error| error.context(format!("setting the key {key}")))
    }

    /// Sets a key to a value serialised as JSON.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.set(key, serde_json::to_vec(value).context(format!("writing the key {key} as JSON"))?)
    }

    /// Replaces the value of a key by the result of `change`, without losing writes of other
    /// instances. Returns the new value. A key that isn't set is passed as `None`.
    ///
    /// An app has several instances, and requests run concurrently. If a request reads a value,
    /// changes it and writes it back with [`get`](Self::get) and [`set`](Self::set), another
    /// request may have written in between, and that update is lost. This method uses
    /// compare-and-swap: the new value is written only if the value passed to `change` is still
    /// current; otherwise `change` is called again with the current value. Therefore `change` must
    /// have no other effects. After 1,000 conflicting attempts, the result is an error with status
    /// 503.
    ///
    /// ```
    /// # use isopod_sdk::prelude::*;
    /// # fn example() -> Result<()> {
    /// let bucket = kv::open("default")?;
    /// let log = bucket.update("log", |old| {
    ///     let mut log = old.unwrap_or_default();
    ///     log.extend_from_slice(b"another line\n");
    ///     log
    /// })?;
    /// # assert_eq!(log, b"another line\n");
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    ///
    /// Numbers are faster with [`increment`](Self::increment); JSON values are changed with
    /// [`update_json`](Self::update_json).
    pub fn update<V: AsRef<[u8]>>(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> V) -> Result<V> {
        self.try_update(key, |old| Ok(change(old)))
    }

    /// Does the same as [`update`](Self::update), with a change that may fail. On error the value
    /// is unchanged.
    pub fn try_update<V: AsRef<[u8]>>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<Vec<u8>>) -> Result<V>,
    ) -> Result<V> {
        let failed = |error: Error| error.context(format!("updating the key {key}"));
        let mut cas = self.0.cas(key).map_err(failed)?;
        for _ in 0..UPDATE_TRIES_MAX {
            let new = change(cas.current().map_err(failed)?)?;
            match cas.swap(new.as_ref()).map_err(failed)? {
                None => return Ok(new),
                Some(changed) => cas = changed,
            }
        }
        Err(failed(Error::status(503, "too many concurrent updates of the value; try again later")))
    }

    /// Does the same as [`update`](Self::update) for JSON values.
    ///
    /// ```
    /// # use isopod_sdk::prelude::*;
    /// # fn example() -> Result<()> {
    /// let notes = kv::open("default")?.update_json("notes", |old: Option<Vec<String>>| {
    ///     let mut notes = old.unwrap_or_default();
    ///     notes.push("buy milk".to_owned());
    ///     notes
    /// })?;
    /// # assert_eq!(notes, ["buy milk"]);
    /// # Ok(())
    /// # }
    /// # example().unwrap();
    /// ```
    pub fn update_json<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        let mut newest = None;
        self.try_update(key, |old| {
            let old = old.map(|bytes| serde_json::from_slice(&bytes)).transpose();
            let new = change(old.context(format!("reading the key {key} as JSON"))?);
            let bytes = serde_json::to_vec(&new).context(format!("writing the key {key} as JSON"))?;
            newest = Some(new);
            Ok(bytes)
        })?;
        newest.context("an update that succeeds has a value")
    }

    /// Deletes a key. Deleting a key that isn't set succeeds.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).map_err(|error| error.context(format!("deleting the key {key}")))
    }

    /// Returns whether a key is set.
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key).map_err(|error| error.context(format!("looking for the key {key}")))
    }

    /// Adds `delta` to a number in one atomic step and returns the sum. A key that isn't set counts
    /// as zero.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.0.increment(key, delta).map_err(|error| error.context(format!("incrementing the key {key}")))
    }

    /// Returns a page of keys: the first page, or the page at a cursor.
    pub fn list(&self, cursor: Option<&str>) -> Result<Page> {
        self.0.list(cursor).map_err(|error| error.context("listing keys"))
    }

    /// Returns every key. For a large bucket, prefer [`list`](Self::list).
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.list(cursor.as_deref())?;
            all.extend(page.keys);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(all),
            }
        }
    }
}
