//! The only thread that writes `control.db`. Owns its connection and the bounded channel to it.
//! Never answers a caller before its work is on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::mpsc;

use crate::StoreError;
use crate::control_file::ControlFile;
use crate::error::Change;
use crate::group::{self, Job};
use crate::limits::WRITES_WAITING_MAX;
use crate::sql::{Sql, disable_checkpoints};
use crate::workers::spawn;

/// The handle to the writer thread.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(path: PathBuf, connection: Connection, file: Arc<ControlFile>) -> Result<Self, StoreError> {
        let (jobs, waiting) = mpsc::channel(WRITES_WAITING_MAX);
        let service = Service { path: path.clone(), connection, file, waiting };
        let thread = spawn("isopod-store", move || service.run()).map_err(|error| StoreError::file(&path, &error))?;
        Ok(Self { path, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs the work in a transaction, and returns once it is committed.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, outcome) = group::job(&self.path, work);
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes like [`Writer::write`], on a thread outside of a runtime.
    pub(crate) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, outcome) = group::job(&self.path, work);
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.blocking_send(job).map_err(|_| StoreError::Closed)?;
        outcome.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    /// Waits until the thread has completed all queued jobs, so that no write follows the release
    /// of the folder's lock.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Service {
    path: PathBuf,
    connection: Connection,
    file: Arc<ControlFile>,
    waiting: mpsc::Receiver<Job>,
}

impl Service {
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            self.protect_other_database();
            group::commit_group(&self.connection, &self.path, first, || self.waiting.try_recv().ok());
        }
        self.protect_other_database();
    }

    /// Keeps changes out of a file that was overwritten with another database, since that would mix
    /// the two. The changes stay in the journal, and the next start refuses the pair.
    fn protect_other_database(&self) {
        if self.file.change() == Ok(Some(Change::Overwritten)) {
            disable_checkpoints(&self.connection);
        }
    }
}
