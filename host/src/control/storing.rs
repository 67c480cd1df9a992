//! Stores records that must reach the disk even if the disk is full or fails for a while. Never
//! decides what is stored.

use futures::future::BoxFuture;
use isopod_store::StoreError;

use crate::control::limits;

/// An attempt to store a record.
pub(in crate::control) type Storing = BoxFuture<'static, Result<(), StoreError>>;

/// Retries until the record is stored, or fails for a reason other than an unwritable disk.
pub(in crate::control) async fn retry_until_stored(attempt: &(impl Fn() -> Storing + Sync)) {
    loop {
        tokio::time::sleep(limits::ACTIVITY_RETRY_INTERVAL).await;
        match attempt().await {
            Ok(()) => return,
            Err(error) if error.is_of_unwritable_disk() => {}
            Err(error) => {
                tracing::warn!(%error, "a record that was deferred by the disk could not be stored");
                return;
            }
        }
    }
}
