//! Owns the adapter from the store's key-value data to the engine's `KeyValue` interface. Never
//! decides which app may use it: an app without the grant gets no adapter.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use async_trait::async_trait;
use isopod_engine::{KeyValue, KvError, ValueVersion};
use isopod_policy::AppName;
use isopod_store::{KvStore, StoreError};

use crate::control::data_gate::{AccessGuard, DataGate};

/// The key-value data of one app.
pub(crate) struct AppKeyValue {
    store: KvStore,
    app: AppName,
    data_gate: DataGate,
    is_failure_logged: AtomicBool,
}

impl AppKeyValue {
    pub(crate) fn shared(store: &KvStore, app: &AppName, data_gate: &DataGate) -> Arc<dyn KeyValue> {
        let is_failure_logged = AtomicBool::new(false);
        Arc::new(Self { store: store.clone(), app: app.clone(), data_gate: data_gate.clone(), is_failure_logged })
    }

    /// Returns a guard for one access. Without it, a guest of a destroyed app could reach the data
    /// of a new app of the same name, since the store finds data by name.
    fn guard(&self) -> Result<AccessGuard, KvError> {
        self.data_gate.guard().ok_or_else(|| KvError::Other("the app was destroyed with its data".to_owned()))
    }

    /// Converts an error for the guest, without the paths of the host.
    fn failed(&self, error: StoreError) -> KvError {
        let text = match &error {
            StoreError::DiskFull { .. } => "the disk of the host is full".to_owned(),
            StoreError::ReadOnly { .. } => "the disk of the host is read-only".to_owned(),
            StoreError::BadKey { .. }
            | StoreError::BadBucket { .. }
            | StoreError::ValueTooLarge { .. }
            | StoreError::KeyValueFull
            | StoreError::NotANumber { .. } => error.to_string(),
            _ => {
                // Once, since a guest can repeat its call without end.
                if !self.is_failure_logged.swap(true, Relaxed) {
                    tracing::warn!(app = %self.app, %error, "the app's key-value data can't be used");
                }
                "the key-value store of the host failed".to_owned()
            }
        };
        KvError::Other(text)
    }
}

#[async_trait]
impl KeyValue for AppKeyValue {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        let _guard = self.guard()?;
        self.store.get(&self.app, bucket, key).await.map_err(|error| self.failed(error))
    }

    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        let _guard = self.guard()?;
        self.store.set(&self.app, bucket, key, &value).await.map_err(|error| self.failed(error))
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<(), KvError> {
        let _guard = self.guard()?;
        self.store.delete(&self.app, bucket, key).await.map_err(|error| self.failed(error))
    }

    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, KvError> {
        let _guard = self.guard()?;
        self.store.exists(&self.app, bucket, key).await.map_err(|error| self.failed(error))
    }

    async fn list_keys(&self, bucket: &str, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), KvError> {
        let _guard = self.guard()?;
        self.store.list_keys(&self.app, bucket, cursor).await.map_err(|error| self.failed(error))
    }

    async fn increment(&self, bucket: &str, key: &str, delta: i64) -> Result<i64, KvError> {
        let _guard = self.guard()?;
        self.store.increment(&self.app, bucket, key, delta).await.map_err(|error| self.failed(error))
    }

    async fn get_versioned(&self, bucket: &str, key: &str) -> Result<(Option<Vec<u8>>, ValueVersion), KvError> {
        let _guard = self.guard()?;
        let (value, version) =
            self.store.get_versioned(&self.app, bucket, key).await.map_err(|error| self.failed(error))?;
        Ok((value, ValueVersion(version.0)))
    }

    async fn set_if(
        &self,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: Vec<u8>,
    ) -> Result<Result<(), ValueVersion>, KvError> {
        let _guard = self.guard()?;
        let seen = isopod_store::ValueVersion(seen.0);
        let set = self.store.set_if(&self.app, bucket, key, seen, &value).await.map_err(|error| self.failed(error))?;
        Ok(set.map_err(|present| ValueVersion(present.0)))
    }

    fn check_entry(&self, bucket: &str, key: &str, value: &[u8]) -> Result<(), KvError> {
        KvStore::check_entry(bucket, key, value).map_err(|error| self.failed(error))
    }
}
