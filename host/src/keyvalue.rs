//! Owns the bridge between the store's key-value data and what the engine offers to guests. Never decides who may use
//! it: an app without the grant is given none.

use std::sync::Arc;

use async_trait::async_trait;
use isopod_engine::{KeyValue, KvError};
use isopod_policy::AppName;
use isopod_store::KvStore;

/// The key-value data of one app.
pub(crate) struct AppKeyValue {
    store: KvStore,
    app: AppName,
}

impl AppKeyValue {
    pub(crate) fn shared(store: &KvStore, app: &AppName) -> Arc<dyn KeyValue> {
        Arc::new(Self { store: store.clone(), app: app.clone() })
    }
}

fn failed(error: impl std::fmt::Display) -> KvError {
    KvError::Other(error.to_string())
}

#[async_trait]
impl KeyValue for AppKeyValue {
    async fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        self.store.get(&self.app, bucket, key).await.map_err(failed)
    }

    async fn set(&self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        self.store.set(&self.app, bucket, key, &value).await.map_err(failed)
    }

    async fn delete(&self, bucket: &str, key: &str) -> Result<(), KvError> {
        self.store.delete(&self.app, bucket, key).await.map_err(failed)
    }

    async fn exists(&self, bucket: &str, key: &str) -> Result<bool, KvError> {
        self.store.exists(&self.app, bucket, key).await.map_err(failed)
    }

    async fn list_keys(&self, bucket: &str, cursor: Option<&str>) -> Result<(Vec<String>, Option<String>), KvError> {
        self.store.list_keys(&self.app, bucket, cursor).await.map_err(failed)
    }

    async fn increment(&self, bucket: &str, key: &str, delta: i64) -> Result<i64, KvError> {
        self.store.increment(&self.app, bucket, key, delta).await.map_err(failed)
    }
}
