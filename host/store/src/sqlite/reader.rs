//! The connections that read `control.db`. Owns a few of them, opened when first needed. They see every commit that was
//! acknowledged before, and never wait for the writer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::rows::{Sql, connect};
use crate::StoreError;
use crate::limits::READERS_MAX;

/// A bounded set of connections.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    free: Arc<Mutex<Vec<Connection>>>,
    slots: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), free: Arc::default(), slots: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Runs the job on a thread that may block, with a connection of its own.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (path, free) = (self.path.clone(), self.free.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match taken {
                Some(connection) => connection,
                None => open(&path)?,
            };
            let outcome = job(&connection).map_err(|error| error.explain(&path));
            free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            outcome
        });
        done.await.map_err(|_| StoreError::Closed)?
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, None)?;
    connection.pragma_update(None, "query_only", "ON").map_err(|error| StoreError::sqlite(path, &error))?;
    Ok(connection)
}
