//! One call's access to an app's key-value data: directly, or through the transaction of an event
//! delivery. Never converts a call of a guest.

use crate::{
    account::Account,
    fault::Denied,
    sandbox::{KeyValue, KvError, ValueVersion},
    transaction::{Transaction, TransactionFull, version_of},
    waits::Operation,
};
use std::sync::Arc;

/// A call's failure, before it takes the form of either draft.
pub(crate) enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        match error {
            KvError::NoSuchBucket => Self::NoSuchStore,
            KvError::Other(text) => Self::Other(text),
        }
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::Other(denied.call_error())
    }
}

impl From<TransactionFull> for Failure {
    fn from(full: TransactionFull) -> Self {
        Self::Other(full.0)
    }
}

/// The data of one app as a guest's call sees it.
pub(crate) struct KeyAccess<'a> {
    pub(crate) data: Arc<dyn KeyValue>,
    /// The delivery in progress, if its changes are buffered.
    pub(crate) transaction: Option<&'a mut Transaction>,
    pub(crate) account: &'a mut Account,
    /// The guest waits for the call until this is dropped.
    pub(crate) _waiting: Operation,
}

impl KeyAccess<'_> {
    pub(crate) async fn get(&mut self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self.transaction {
            None => Ok(self.data.get(bucket, key).await?),
            Some(_) => Ok(self.get_versioned(bucket, key).await?.0),
        }
    }

    pub(crate) async fn exists(&mut self, bucket: &str, key: &str) -> Result<bool, Failure> {
        match self.transaction {
            None => Ok(self.data.exists(bucket, key).await?),
            Some(_) => Ok(self.get_versioned(bucket, key).await?.0.is_some()),
        }
    }

    pub(crate) async fn get_versioned(
        &mut self,
        bucket: &str,
        key: &str,
    ) -> Result<(Option<Vec<u8>>, ValueVersion), Failure> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(self.data.get_versioned(bucket, key).await?);
        };
        if let Some(written) = transaction.written(bucket, key) {
            return Ok((written.clone(), version_of(written.as_deref())));
        }
        let (value, version) = self.data.get_versioned(bucket, key).await?;
        transaction.note_read(self.account, bucket, key, version)?;
        Ok((value, version))
    }

    pub(crate) async fn set(&mut self, bucket: &str, key: &str, value: Vec<u8>) -> Result<(), Failure> {
        match &mut self.transaction {
            None => Ok(self.data.set(bucket, key, value).await?),
            Some(transaction) => {
                self.data.check_entry(bucket, key, &value)?;
                Ok(transaction.write(self.account, bucket, key, Some(value))?)
            }
        }
    }

    pub(crate) async fn delete(&mut self, bucket: &str, key: &str) -> Result<(), Failure> {
        match &mut self.transaction {
            None => Ok(self.data.delete(bucket, key).await?),
            Some(transaction) => {
                self.data.check_entry(bucket, key, &[])?;
                Ok(transaction.write(self.account, bucket, key, None)?)
            }
        }
    }

    /// Adds to a number. In a transaction this is a read and a write.
    pub(crate) async fn increment(&mut self, bucket: &str, key: &str, delta: i64) -> Result<i64, Failure> {
        if self.transaction.is_none() {
            return Ok(self.data.increment(bucket, key, delta).await?);
        }
        let number = match self.get(bucket, key).await? {
            None => Some(0),
            Some(value) => std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok()),
        };
        let sum = number.and_then(|number| number.checked_add(delta)).ok_or_else(|| {
            KvError::Other(format!("can't add {delta} to the key's value: it is not a number, or the sum is too large"))
        })?;
        self.set(bucket, key, sum.to_string().into_bytes()).await?;
        Ok(sum)
    }

    /// Sets a key if its value has this version; otherwise returns the current version.
    pub(crate) async fn set_if(
        &mut self,
        bucket: &str,
        key: &str,
        seen: ValueVersion,
        value: Vec<u8>,
    ) -> Result<Result<(), ValueVersion>, Failure> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(self.data.set_if(bucket, key, seen, value).await?);
        };
        let present = match (transaction.written(bucket, key), transaction.version_read(bucket, key)) {
            (Some(written), _) => version_of(written.as_deref()),
            // The commit will fail, so the guest must not retry until its versions agree.
            (None, Some(_)) if transaction.is_torn() => seen,
            (None, Some(version)) => version,
            (None, None) => self.get_versioned(bucket, key).await?.1,
        };
        if present != seen {
            return Ok(Err(present));
        }
        self.set(bucket, key, value).await?;
        Ok(Ok(()))
    }

    /// Returns a page of keys. In a transaction the page contains its changes, but a commit doesn't
    /// check whether other keys were added or removed meanwhile.
    pub(crate) async fn list_keys(
        &mut self,
        bucket: &str,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let (keys, next) = self.data.list_keys(bucket, cursor).await?;
        Ok(match &self.transaction {
            None => (keys, next),
            Some(transaction) => transaction.merge_page(bucket, cursor, keys, next),
        })
    }
}
