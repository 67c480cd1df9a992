//! The database of one app: one connection that reads and one that writes, each opened when first needed. Owns who works
//! with them: a call that finds the writer busy leaves its work with it, to be committed with the next group.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::tables;
use crate::StoreError;
use crate::files::private_folder;
use crate::group::{self, Job};
use crate::limits::CALLS_WAITING_MAX;
use crate::sqlite::{Sql, connect};

#[derive(Debug)]
pub(super) struct AppDatabase {
    folder: PathBuf,
    path: PathBuf,
    pages_max: Option<u32>,
    /// Bounds the calls of this app that wait or work, so that it cannot take all threads that may block.
    calls: Arc<Semaphore>,
    reader: Mutex<Option<Connection>>,
    writer: Mutex<Option<Connection>>,
    waiting: Mutex<Waiting>,
    /// Whether it is never opened again.
    closed: AtomicBool,
}

/// Writes that wait for a commit.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    /// Whether somebody is at work and will take what is put here.
    draining: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("jobs", &self.jobs.len()).field("draining", &self.draining).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AppDatabase {
    pub(super) fn new(folder: PathBuf, pages_max: Option<u32>) -> Self {
        let path = folder.join("kv.db");
        let calls = Arc::new(Semaphore::new(CALLS_WAITING_MAX));
        Self {
            folder,
            path,
            pages_max,
            calls,
            reader: Mutex::default(),
            writer: Mutex::default(),
            waiting: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Runs the work with the reading connection.
    pub(super) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = self.calls.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let _call = call;
            let mut reader = locked(&self.reader);
            let connection = self.opened(&mut reader)?;
            work(connection).map_err(|error| error.explain(&self.path))
        });
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Has the work done, and returns once it is committed.
    pub(super) async fn write<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _call = self.calls.acquire().await.map_err(|_| StoreError::Closed)?;
        let (job, outcome) = group::job(&self.path, work);
        let must_drain = {
            let mut waiting = locked(&self.waiting);
            waiting.jobs.push_back(job);
            !std::mem::replace(&mut waiting.draining, true)
        };
        if must_drain {
            let database = self.clone();
            tokio::task::spawn_blocking(move || database.drain());
        }
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// Commits what waits, group after group, until nothing does.
    fn drain(&self) {
        let mut writer = locked(&self.writer);
        while let Some(first) = self.take() {
            match self.opened(&mut writer) {
                Ok(connection) => group::commit_group(connection, &self.path, first, || self.take_more()),
                Err(error) => group::refuse(first, error),
            }
        }
    }

    /// Closes it for good, once those are done who work with it: what is still asked of it is refused. Blocks.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for connection in [&self.reader, &self.writer] {
            drop(locked(connection).take());
        }
    }

    /// The next job; without one, whoever comes next begins to drain again.
    fn take(&self) -> Option<Job> {
        let mut waiting = locked(&self.waiting);
        let job = waiting.jobs.pop_front();
        waiting.draining = job.is_some();
        job
    }

    fn take_more(&self) -> Option<Job> {
        locked(&self.waiting).jobs.pop_front()
    }

    fn opened<'c>(&self, slot: &'c mut Option<Connection>) -> Result<&'c Connection, StoreError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(StoreError::Closed);
        }
        if slot.is_none() {
            private_folder(&self.folder)?;
            let connection = connect(&self.path, self.pages_max)?;
            tables::make(&connection).map_err(|error| error.explain(&self.path))?;
            *slot = Some(connection);
        }
        Ok(slot.as_ref().expect("it was filled above"))
    }
}
