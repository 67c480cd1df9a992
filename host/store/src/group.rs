//! Group commit: all jobs that wait when a commit is due share a transaction. Owns the order of the
//! steps (begin, work, commit, answer), and isolates failed jobs from the rest of their group.
//! Never opens a connection. Shared by the control database and the apps' key-value databases.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::limits::WRITES_PER_COMMIT_MAX;
use crate::sql::{Sql, SqlError};
use crate::workers::caught;

/// Answers the caller once the commit has succeeded or failed.
pub(crate) struct Answer {
    reply: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
    /// The error of the job.
    error: Option<StoreError>,
}

impl Answer {
    /// Calls `note` with the job's error, if it failed, and later with the result of the commit,
    /// unless only the job failed. Each call happens before the reply to the caller.
    pub(crate) fn noting(self, note: impl Fn(Result<(), &StoreError>) + Send + 'static) -> Self {
        self.error.iter().for_each(|error| note(Err(error)));
        let Self { reply, error } = self;
        let has_failed = error.is_some();
        let both = move |committed: Result<(), StoreError>| {
            if committed.is_err() || !has_failed {
                note(committed.as_ref().map(drop));
            }
            reply(committed);
        };
        Self { reply: Box::new(both), error }
    }

    /// Returns an answer that runs `further` after this one.
    pub(crate) fn then(self, further: impl FnOnce() + Send + 'static) -> Self {
        let Self { reply, error } = self;
        let both = move |committed| {
            reply(committed);
            further();
        };
        Self { reply: Box::new(both), error }
    }
}

/// The transaction of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transaction<'c> {
    connection: &'c Connection,
    /// Whether it contains no change of an earlier job.
    is_empty: bool,
}

/// Does the work inside the transaction, or receives the error if there is no transaction.
pub(crate) type Job = Box<dyn FnOnce(Result<Transaction<'_>, StoreError>) -> Answer + Send>;

/// Creates a job on the database at `path`, and the receiver of its outcome after the commit.
pub(crate) fn job<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Connection) -> Sql<T> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, StoreError>>) {
    let (reply, outcome) = oneshot::channel();
    let path = path.to_owned();
    let job: Job = Box::new(move |transaction| {
        let outcome =
            transaction.and_then(|transaction| undoable(transaction, work).map_err(|error| error.explain(&path)));
        let error = outcome.as_ref().err().cloned();
        let reply = move |committed: Result<(), StoreError>| {
            // The caller may have been cancelled.
            let _ = reply.send(outcome.and_then(|value| committed.map(|()| value)));
        };
        Answer { reply: Box::new(reply), error }
    });
    (job, outcome)
}

/// The end of a group's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupEnd {
    /// It was committed, without the changes of failed jobs.
    Committed,
    RolledBack,
    /// The disk failed, so that a sync may have failed.
    DiskFailed,
}

impl GroupEnd {
    fn failed(error: &StoreError) -> Self {
        match error {
            // A failed disk may be read-only by the time the error is converted.
            StoreError::DiskFailed { .. } | StoreError::ReadOnly { .. } => Self::DiskFailed,
            _ => Self::RolledBack,
        }
    }
}

/// Answers a job with an error without running it.
pub(crate) fn refuse(job: Job, why: StoreError) {
    (job(Err(why)).reply)(Ok(()));
}

/// Runs jobs in one transaction: `first`, then those that `next` returns until it returns `None` or
/// the group is full.
pub(crate) fn commit_group(
    connection: &Connection,
    path: &Path,
    first: Job,
    mut next: impl FnMut() -> Option<Job>,
) -> GroupEnd {
    if let Err(error) = execute(connection, "BEGIN IMMEDIATE") {
        let error = StoreError::sqlite(path, &error);
        let end = GroupEnd::failed(&error);
        refuse(first, error);
        return end;
    }
    let mut answers = Vec::new();
    let mut job = Some(first);
    let mut outcome = Ok(());
    while let Some(work) = job.take() {
        let answer = work(Ok(Transaction { connection, is_empty: answers.is_empty() }));
        if connection.is_autocommit() {
            // Some errors, such as a full disk, make SQLite roll back the whole transaction. Every
            // job in it receives the error.
            let lost = || StoreError::Database { detail: format!("{}: a transaction was lost", path.display()) };
            outcome = Err(answer.error.clone().unwrap_or_else(lost));
        }
        answers.push(answer);
        if outcome.is_err() {
            break;
        } else if answers.len() < WRITES_PER_COMMIT_MAX {
            job = next();
        }
    }
    let committed = outcome.and_then(|()| commit(connection, path));
    for answer in answers {
        (answer.reply)(committed.clone());
    }
    committed.as_ref().map_or_else(GroupEnd::failed, |()| GroupEnd::Committed)
}

fn commit(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let error = match execute(connection, "COMMIT") {
        Ok(()) => return Ok(()),
        Err(error) => StoreError::sqlite(path, &error),
    };
    if !connection.is_autocommit() {
        // If the rollback fails too, the next BEGIN reports it.
        let _ = execute(connection, "ROLLBACK");
    }
    Err(error)
}

/// Executes a statement that each group repeats. The statement is cached, so that it is parsed
/// once.
fn execute(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

/// Runs one job of a group. If the job fails, only its own changes are rolled back. The first job
/// runs without a savepoint, which would copy each changed page. If it fails, the transaction is
/// rolled back and begun again.
fn undoable<T>(transaction: Transaction<'_>, work: impl FnOnce(&Connection) -> Sql<T>) -> Sql<T> {
    let Transaction { connection, is_empty } = transaction;
    if !is_empty {
        execute(connection, "SAVEPOINT job")?;
    }
    // A panic fails only this job: the group and the thread continue.
    match caught(|| work(connection)).map_err(SqlError::from).and_then(|outcome| outcome) {
        Ok(value) => {
            if !is_empty {
                execute(connection, "RELEASE job")?;
            }
            Ok(value)
        }
        Err(error) => {
            if !connection.is_autocommit() {
                let undo = if is_empty { "ROLLBACK; BEGIN IMMEDIATE" } else { "ROLLBACK TO job; RELEASE job" };
                match connection.execute_batch(undo) {
                    Err(failed) if !connection.is_autocommit() => return Err(failed.into()),
                    // Without a transaction, the group ends with this job's error.
                    Ok(()) | Err(_) => {}
                }
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::sync::{Mutex, mpsc};

    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("a database in memory opens");
        connection.execute_batch("CREATE TABLE numbers (n INTEGER UNIQUE)").expect("the table is created");
        connection
    }

    fn insert(number: i64) -> (Job, oneshot::Receiver<Result<(), StoreError>>) {
        job(Path::new("numbers.db"), move |connection| {
            connection.execute("INSERT INTO numbers VALUES (?1)", [number])?;
            Ok(())
        })
    }

    fn numbers(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0)).expect("it is counted")
    }

    #[test]
    fn a_failed_job_does_not_affect_the_rest_of_its_group() {
        let connection = database();
        let (jobs, mut outcomes): (VecDeque<_>, Vec<_>) = [1, 2, 1, 3].into_iter().map(insert).unzip();
        let mut jobs = jobs;
        let first = jobs.pop_front().expect("four jobs");
        let end = commit_group(&connection, Path::new("numbers.db"), first, || jobs.pop_front());
        assert_eq!(end, GroupEnd::Committed);
        let succeeded: Vec<bool> =
            outcomes.iter_mut().map(|outcome| outcome.try_recv().expect("an answer").is_ok()).collect();
        assert_eq!(succeeded, [true, true, false, true]);
        assert_eq!(numbers(&connection), 3);
    }

    #[test]
    fn a_failed_first_job_leaves_no_change_and_the_others_are_committed() {
        let path = Path::new("numbers.db");
        let fails = |connection: &Connection| -> Sql<()> {
            connection.execute("INSERT INTO numbers VALUES (1)", [])?;
            Err(StoreError::EventQueueFull.into())
        };
        let panics = |connection: &Connection| -> Sql<()> {
            connection.execute("INSERT INTO numbers VALUES (1)", [])?;
            panic!("injected")
        };
        for (first, mut failed) in [job(path, fails), job(path, panics)] {
            let connection = database();
            let (others, mut outcomes): (VecDeque<_>, Vec<_>) = [2, 3].into_iter().map(insert).unzip();
            let mut others = others;
            assert_eq!(commit_group(&connection, path, first, || others.pop_front()), GroupEnd::Committed);
            assert!(failed.try_recv().expect("an answer").is_err());
            assert!(outcomes.iter_mut().all(|outcome| outcome.try_recv() == Ok(Ok(()))));
            let sum = connection.query_row("SELECT sum(n) FROM numbers", [], |row| row.get::<_, i64>(0));
            assert_eq!((sum, connection.is_autocommit()), (Ok(5), true));
        }
    }

    #[test]
    fn a_job_that_panics_is_rolled_back_and_the_others_are_committed() {
        let connection = database();
        let path = Path::new("numbers.db");
        let (first, mut first_outcome) = insert(1);
        let (panics, mut panicked) = job(path, |connection| -> Sql<()> {
            connection.execute("INSERT INTO numbers VALUES (2)", [])?;
            panic!("injected")
        });
        let (last, mut last_outcome) = insert(3);
        let mut rest = VecDeque::from([panics, last]);
        commit_group(&connection, path, first, || rest.pop_front());
        let injected = StoreError::Panicked { detail: "injected".to_owned() };
        assert_eq!(panicked.try_recv().expect("an answer"), Err(injected));
        for outcome in [&mut first_outcome, &mut last_outcome] {
            assert_eq!(outcome.try_recv().expect("an answer"), Ok(()));
        }
        assert_eq!(numbers(&connection), 2);
    }

    #[test]
    fn callers_are_answered_only_after_the_commit() {
        let connection = database();
        let (first, outcome) = insert(1);
        let outcome = RefCell::new(outcome);
        let waiting = || outcome.borrow_mut().try_recv().is_err();
        let mut polled = false;
        commit_group(&connection, Path::new("numbers.db"), first, || {
            assert!(waiting() && !connection.is_autocommit(), "the first job has run, and its commit is pending");
            polled = true;
            None
        });
        assert!(polled && !waiting());
    }

    const ORPHANS: &str = "
        PRAGMA foreign_keys = ON; CREATE TABLE parents (id INTEGER PRIMARY KEY);
        CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)";

    /// Inserts a row that makes the commit fail.
    fn insert_orphan(connection: &Connection) -> Sql<()> {
        connection.execute("INSERT INTO children VALUES (7)", [])?;
        Ok(())
    }

    #[test]
    fn a_failed_commit_is_the_answer_to_every_caller_of_the_group() {
        let connection = database();
        connection.execute_batch(ORPHANS).expect("the tables are created");
        let (orphan, mut orphans) = job(Path::new("numbers.db"), insert_orphan);
        let (other, mut others) = insert(1);
        let mut other = Some(other);
        let end = commit_group(&connection, Path::new("numbers.db"), orphan, || other.take());
        assert_eq!(end, GroupEnd::RolledBack);
        for outcome in [&mut orphans, &mut others] {
            assert!(matches!(outcome.try_recv(), Ok(Err(StoreError::Database { .. }))));
        }
        assert_eq!(numbers(&connection), 0);
        assert!(connection.is_autocommit(), "the next group can begin");
    }

    #[test]
    fn an_error_is_noted_before_the_reply_to_the_caller() {
        let connection = database();
        let path = Path::new("numbers.db");
        connection.execute_batch(ORPHANS).expect("the tables are created");
        let (fails, failed) = job(path, |_| -> Sql<()> { Err(StoreError::EventQueueFull.into()) });
        let (orphan, orphaned) = job(path, insert_orphan);
        let mut noted = [(fails, failed), (orphan, orphaned)].into_iter().map(|(job, outcome)| {
            let outcome = Mutex::new(outcome);
            let (noted, notes) = mpsc::sync_channel(2);
            let note = move |result: Result<(), &StoreError>| {
                let answer = outcome.lock().map(|mut outcome| outcome.try_recv());
                let _ = noted.send((result.expect_err("it failed").clone(), matches!(answer, Ok(Err(_)))));
            };
            let job: Job = Box::new(move |connection| job(connection).noting(note));
            commit_group(&connection, path, job, || None);
            notes.try_iter().collect::<Vec<_>>()
        });
        assert_eq!(noted.next(), Some(vec![(StoreError::EventQueueFull, true)]));
        let of_commit = noted.next().expect("two jobs");
        assert!(matches!(of_commit[..], [(StoreError::Database { .. }, true)]), "{of_commit:?}");
    }

    #[test]
    fn a_group_is_bounded() {
        let connection = database();
        let (first, _outcome) = insert(0);
        let mut handed_out = 0;
        commit_group(&connection, Path::new("numbers.db"), first, || {
            handed_out += 1;
            Some(insert(handed_out).0)
        });
        assert_eq!(numbers(&connection), i64::try_from(WRITES_PER_COMMIT_MAX).expect("a small number"));
    }
}
