//! Group commit: what waits when a commit is due goes into the same transaction. Owns the order begin, work, commit,
//! answer, and what a failure in the middle means for the others of the group. Shared by the control database and the
//! key-value databases of apps.

use std::path::Path;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::StoreError;
use crate::limits::WRITES_PER_COMMIT_MAX;
use crate::sqlite::{Sql, SqlError};
use crate::workers::caught;

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
    // A panic fails only this job: the group and the thread continue.
    match caught(|| work(connection)).map_err(SqlError::from).and_then(|outcome| outcome) {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().expect("a database in memory opens");
        connection.execute_batch("CREATE TABLE numbers (n INTEGER UNIQUE)").expect("the table is made");
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
    fn a_job_that_fails_takes_no_other_of_its_group_along() {
        let connection = database();
        let (jobs, mut outcomes): (VecDeque<_>, Vec<_>) = [1, 2, 1, 3].into_iter().map(insert).unzip();
        let mut jobs = jobs;
        let first = jobs.pop_front().expect("there are four");
        commit_group(&connection, Path::new("numbers.db"), first, || jobs.pop_front());
        let succeeded: Vec<bool> =
            outcomes.iter_mut().map(|outcome| outcome.try_recv().expect("it is answered").is_ok()).collect();
        assert_eq!(succeeded, [true, true, false, true]);
        assert_eq!(numbers(&connection), 3);
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
        assert_eq!(panicked.try_recv().expect("it is answered"), Err(injected));
        for outcome in [&mut first_outcome, &mut last_outcome] {
            assert_eq!(outcome.try_recv().expect("it is answered"), Ok(()));
        }
        assert_eq!(numbers(&connection), 2);
    }

    #[test]
    fn nobody_is_answered_before_the_commit() {
        let connection = database();
        let (first, outcome) = insert(1);
        let outcome = RefCell::new(outcome);
        let waiting = || outcome.borrow_mut().try_recv().is_err();
        let mut asked = false;
        commit_group(&connection, Path::new("numbers.db"), first, || {
            assert!(waiting() && !connection.is_autocommit(), "the first job is done, and waits for its commit");
            asked = true;
            None
        });
        assert!(asked && !waiting());
    }

    #[test]
    fn a_commit_that_fails_is_the_answer_of_everybody_in_the_group() {
        let connection = database();
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON; CREATE TABLE parents (id INTEGER PRIMARY KEY);
                 CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
            )
            .expect("the tables are made");
        let (orphan, mut orphans) = job(Path::new("numbers.db"), |connection| {
            connection.execute("INSERT INTO children VALUES (7)", [])?;
            Ok(())
        });
        let (other, mut others) = insert(1);
        let mut other = Some(other);
        commit_group(&connection, Path::new("numbers.db"), orphan, || other.take());
        for outcome in [&mut orphans, &mut others] {
            assert!(matches!(outcome.try_recv(), Ok(Err(StoreError::Database { .. }))));
        }
        assert_eq!(numbers(&connection), 0);
        assert!(connection.is_autocommit(), "the next group can begin");
    }

    #[test]
    fn a_group_has_an_end() {
        let connection = database();
        let (first, _outcome) = insert(0);
        let mut handed_out = 0;
        commit_group(&connection, Path::new("numbers.db"), first, || {
            handed_out += 1;
            Some(insert(handed_out).0)
        });
        assert_eq!(numbers(&connection), i64::try_from(WRITES_PER_COMMIT_MAX).expect("it is small"));
    }
}
