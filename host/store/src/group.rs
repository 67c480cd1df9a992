//! Group commit: what waits when a commit is due goes into the same transaction. Owns the order begin, work, commit,
//! answer, and what a failure in the middle means for the others of the group. Shared by the control database and the
//! key-value databases of apps.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::limits::WRITES_PER_COMMIT_MAX;
use crate::sqlite::Sql;

/// Answers whoever asked, once it is known whether the commit went well.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Does the work inside the transaction, or takes note of why there is none.
pub(crate) type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Answer + Send>;

/// Makes a job of some work on the database at `path`, and where its outcome will arrive after the commit.
pub(crate) fn job<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (reply, outcome) = oneshot::channel();
    let path = path.to_owned();
    let job: Job = Box::new(move |transaction| {
        let outcome =
            transaction.and_then(|connection| in_savepoint(connection, work).map_err(|error| error.explain(&path)));
        Box::new(move |committed| {
            // Whoever has gone away no longer wants the answer.
            let _ = reply.send(outcome.and_then(|value| committed.map(|()| value)));
        })
    });
    (job, outcome)
}

/// Answers a job for which no transaction can be had.
pub(crate) fn refuse(job: Job, why: StoreError) {
    job(Err(why))(Ok(()));
}

/// Does the jobs in one transaction: `first`, then what `next` hands out until it has no more or the group is full.
pub(crate) fn commit_group(connection: &Connection, path: &Path, first: Job, mut next: impl FnMut() -> Option<Job>) {
    if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
        return refuse(first, StoreError::sqlite(path, &error));
    }
    let mut answers = Vec::new();
    let mut job = Some(first);
    let mut outcome = Ok(());
    while let Some(work) = job.take() {
        answers.push(work(Ok(connection)));
        if connection.is_autocommit() {
            // Some errors, a full disk first of all, make SQLite undo the whole transaction. All that are in it must know.
            outcome = Err(StoreError::DiskFull { folder: path.parent().unwrap_or(path).to_owned() });
        } else if answers.len() < WRITES_PER_COMMIT_MAX {
            job = next();
        }
    }
    let committed = outcome.and_then(|()| commit(connection, path));
    for answer in answers {
        answer(committed.clone());
    }
}

fn commit(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let error = match connection.execute_batch("COMMIT") {
        Ok(()) => return Ok(()),
        Err(error) => StoreError::sqlite(path, &error),
    };
    if !connection.is_autocommit() {
        // Should undoing fail as well, the next BEGIN reports it.
        let _ = connection.execute_batch("ROLLBACK");
    }
    Err(error)
}

/// Runs one job of a group so that its failure undoes its own changes and no other's.
fn in_savepoint<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Sql<T>) -> Sql<T> {
    connection.execute_batch("SAVEPOINT job")?;
    match work(connection) {
        Ok(value) => {
            connection.execute_batch("RELEASE job")?;
            Ok(value)
        }
        Err(error) => {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK TO job; RELEASE job")?;
            }
            Err(error)
        }
    }
}
