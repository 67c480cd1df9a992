//! The key-value stores of apps, in each app's database. Owns the limits of keys and values. Never
//! opens a database.

mod rescue;
pub(crate) mod tables;
mod version;

use std::path::Path;

use isopod_policy::AppName;

pub(crate) use self::rescue::rescue_entries;
pub use self::version::ValueVersion;

use crate::app_database::{AppDatabases, CopyRows};
use crate::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::loss::Rescued;
use crate::sql::Sql;
use crate::{Options, StoreError};

/// The key-value stores at `apps/<app>/kv.db`. Cheap to clone.
///
/// A write is on disk when its future is ready. Concurrent writes of one app share a commit.
#[derive(Debug, Clone)]
pub struct KvStore {
    databases: AppDatabases,
}

impl KvStore {
    /// Opens the key-value stores below a data folder.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(folder, &Options::default())
    }

    /// Opens the key-value stores like [`KvStore::open`], with options.
    pub fn open_with(folder: impl AsRef<Path>, options: &Options) -> Result<Self, StoreError> {
        let copy_rows: CopyRows = |from, to, _| {
            let mut rescued = Rescued { is_complete: true, ..Rescued::default() };
            rescue_entries(from, to, &mut rescued).map(|()| rescued)
        };
        Ok(Self::of(AppDatabases::open(folder.as_ref(), options, copy_rows)?))
    }

    pub(crate) fn of(databases: AppDatabases) -> Self {
        Self { databases }
    }

    /// Returns the value of a key, if it has one.
    pub async fn get(&self, app: &AppName, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.read(app, move |connection| tables::get(connection, &bucket, &key)).await
    }

    /// Returns whether a key has a value.
    pub async fn exists(&self, app: &AppName, bucket: &str, key: &str) -> Result<bool, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.read(app, move |connection| tables::exists(connection, &bucket, &key)).await
    }

    /// Returns the keys of a bucket after the cursor, in order, and the cursor for the next page.
    pub async fn list_keys(
        &self,
        app: &AppName,
        bucket: &str,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), StoreError> {
        check_bucket(bucket)?;
        let (bucket, after) = (bucket.to_owned(), cursor.map(str::to_owned));
        self.read(app, move |connection| tables::keys(connection, &bucket, after.as_deref())).await
    }

    /// Reads from the app's database. Without one, returns the result for a database without keys:
    /// a read creates no file, so that it also succeeds on a full disk.
    async fn read<T: Default + Send + 'static>(
        &self,
        app: &AppName,
        work: impl FnOnce(&rusqlite::Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.databases.readable(app).await? {
            Some(database) => database.read(work).await,
            None => Ok(T::default()),
        }
    }

    /// Checks the sizes of an entry. The total size of an app's data is checked when it is set.
    pub fn check_entry(bucket: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check(bucket, key)?;
        check_value(value)
    }

    /// Sets the value of a key.
    pub async fn set(&self, app: &AppName, bucket: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        check(bucket, key)?;
        check_value(value)?;
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_owned());
        self.databases
            .database(app)
            .await?
            .write(move |connection| tables::set(connection, &bucket, &key, &value))
            .await
    }

    /// Removes a key. A key without a value is not an error.
    pub async fn delete(&self, app: &AppName, bucket: &str, key: &str) -> Result<(), StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.databases.database(app).await?.write(move |connection| tables::delete(connection, &bucket, &key)).await
    }

    /// Adds to a number, stored as decimal text, and returns the sum. A key without a value counts
    /// as 0.
    pub async fn increment(&self, app: &AppName, bucket: &str, key: &str, delta: i64) -> Result<i64, StoreError> {
        check(bucket, key)?;
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        self.databases
            .database(app)
            .await?
            .write(move |connection| tables::increment(connection, &bucket, &key, delta))
            .await
    }

    /// Returns the value of a key, if it has one, and the version to pass to [`KvStore::set_if`].
    pub async fn get_versioned(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
    ) -> Result<(Option<Vec<u8>>, ValueVersion), StoreError> {
        let value = self.get(app, bucket, key).await?;
        let version = ValueVersion::of(value.as_deref());
        Ok((value, version))
    }

    /// Sets a key (compare-and-swap) if its value still has this version. Otherwise returns the
    /// version of the current value, and writes nothing.
    pub async fn set_if(
        &self,
        app: &AppName,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: &[u8],
    ) -> Result<Result<(), ValueVersion>, StoreError> {
        check(bucket, key)?;
        check_value(value)?;
        let (bucket, key, value) = (bucket.to_owned(), key.to_owned(), value.to_owned());
        self.databases
            .database(app)
            .await?
            .write(move |connection| tables::set_if(connection, &bucket, &key, seen, &value))
            .await
    }
}

pub(crate) fn check(bucket: &str, key: &str) -> Result<(), StoreError> {
    check_bucket(bucket)?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(StoreError::BadKey { bytes: key.len() });
    }
    Ok(())
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::ValueTooLarge { bytes: value.len() });
    }
    Ok(())
}

fn check_bucket(bucket: &str) -> Result<(), StoreError> {
    if bucket.len() > BUCKET_BYTES_MAX {
        return Err(StoreError::BadBucket { bytes: bucket.len() });
    }
    Ok(())
}
