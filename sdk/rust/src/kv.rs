//! Key-value storage, kept by the host for each app. The manifest must grant it: `[grants] keyvalue = true`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, Result, platform};

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

/// A set of keys with their values.
pub struct Bucket(platform::Bucket);

/// One page of a bucket's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys, in no promised order.
    pub keys: Vec<String>,
    /// What [`Bucket::list`] takes for the next page; `None` on the last one.
    pub cursor: Option<String>,
}

impl Bucket {
    /// The value of a key, or `None` where it isn't set.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key).map_err(|error| error.context(format!("reading the key {key}")))
    }

    /// The value of a key as text.
    pub fn get_text(&self, key: &str) -> Result<Option<String>> {
        let bytes = self.get(key)?;
        bytes.map(String::from_utf8).transpose().context(format!("reading the key {key} as text"))
    }

    /// The value of a key, read as JSON.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).context(format!("reading the key {key} as JSON"))
    }

    /// Sets a key.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.set(key, value.as_ref()).map_err(|error| error.context(format!("setting the key {key}")))
    }

    /// Sets a key to a value written as JSON.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.set(key, serde_json::to_vec(value).context(format!("writing the key {key} as JSON"))?)
    }

    /// Deletes a key; deleting one that isn't set is no error.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key).map_err(|error| error.context(format!("deleting the key {key}")))
    }

    /// Whether a key is set.
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key).map_err(|error| error.context(format!("looking for the key {key}")))
    }

    /// Adds to a number in one step, whoever else does so too, and gives the sum. A key that isn't set counts as zero.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.0.increment(key, delta).map_err(|error| error.context(format!("incrementing the key {key}")))
    }

    /// A page of keys: the first one, or the one after a page's cursor.
    pub fn list(&self, cursor: Option<&str>) -> Result<Page> {
        self.0.list(cursor).map_err(|error| error.context("listing keys"))
    }

    /// Every key. A large bucket is better listed page by page.
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
