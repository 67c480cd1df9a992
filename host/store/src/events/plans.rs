//! Tests of the query plans: no statement of a queue reads or sorts more rows than it needs,
//! however many rows the tables have. Never tests a result.

use rusqlite::Connection;

use super::list::{Order, Scan};
use super::model::EventFilter;
use super::row::RowState;
use super::{accept, claim, ended, line, list, maintenance};
use crate::app_database::AppDatabases;
use crate::options::Options;
use crate::rescue::copy_rows;
use crate::sql::Sql;

const SORT: &str = "USE TEMP B-TREE FOR ORDER BY";

/// Runs the test on an app's database with one queue.
async fn with_queue(test: fn(&Connection) -> Sql<()>) {
    let folder = tempfile::tempdir().expect("the folder is created");
    let databases = AppDatabases::open(folder.path(), &Options::default(), copy_rows).expect("the databases open");
    let database = databases.database(&"bot".parse().expect("the name is valid")).await.expect("it opens");
    let tested = database.write(move |connection| {
        connection.execute("INSERT INTO queues (name) VALUES ('worker')", [])?;
        test(connection)
    });
    tested.await.expect("the plans are as expected");
}

fn plan(connection: &Connection, sql: &str) -> Sql<Vec<String>> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let (mut rows, mut steps) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next()? {
        steps.push(row.get("detail")?);
    }
    Ok(steps)
}

/// Checks that a statement searches with these columns of an index, and scans and sorts nothing.
fn check(connection: &Connection, sql: &str, index: &str) -> Sql<()> {
    let steps = plan(connection, sql)?;
    assert!(steps.iter().any(|step| step.starts_with("SEARCH events") && step.contains(index)), "{sql}: {steps:?}");
    assert!(!steps.iter().any(|step| step.starts_with("SCAN") || step == SORT), "{sql}: {steps:?}");
    Ok(())
}

#[tokio::test]
async fn deliveries_read_rows_in_the_order_of_an_index() {
    let test = |connection: &Connection| {
        for (sql, index) in [
            (claim::READY, "INDEX events_kept (process=? AND state=? AND due_at=?)"),
            (claim::DUE, "INDEX events_kept (process=? AND state=? AND due_at<?)"),
            (list::NEXT_DUE, "INDEX events_kept (process=? AND state=?)"),
            (list::OLDEST, "INDEX events_kept (process=? AND state=? AND due_at=?)"),
            (maintenance::LEASED, "INDEX events_kept (process=? AND state=?)"),
            (maintenance::DELAYED, "INDEX events_kept (process=? AND state=? AND due_at>?)"),
            (ended::ENDED, "INDEX events_ended (since<?)"),
            (line::ANY_IN_LINE, "INDEX events_in_line (process=? AND subject=?)"),
            (line::FIRST_IN_LINE, "INDEX events_in_line (process=? AND subject=?)"),
            (accept::DUPLICATE_OF, "INDEX events_by_id (id=? AND source=?)"),
        ] {
            check(connection, sql, index)?;
        }
        Ok(())
    };
    with_queue(test).await;
}

#[tokio::test]
async fn lists_read_rows_in_the_order_of_an_index() {
    let test = |connection: &Connection| {
        let filter = EventFilter::default();
        for (order, seq) in [(Order::Newest, "rowid<?"), (Order::Oldest, "rowid>?")] {
            let scan = Scan { filter: &filter, order, from: 0, wanted: 1, void: false };
            let lists = list::by_state_sql(connection, &scan, &RowState::ALL)?;
            assert_eq!(lists.len(), RowState::ALL.len(), "there is one queue");
            for sql in lists {
                check(connection, &sql, &format!("=? AND {seq})"))?;
            }
            check(connection, &list::by_position_sql(order), &format!("INTEGER PRIMARY KEY ({seq})"))?;
            let index = format!("COVERING INDEX events_by_id (id=? AND source=? AND {seq})");
            check(connection, &list::by_id_sql(order, true), &index)?;
            // Only the positions of events with one id are sorted, and at most as many as the limit
            // are kept.
            let steps = plan(connection, &list::by_id_sql(order, false))?;
            let sorted = ["SEARCH events USING COVERING INDEX events_by_id (id=?)", SORT];
            assert!(steps.windows(2).any(|steps| steps == sorted), "{steps:?}");
            assert_eq!(steps.iter().filter(|step| *step == SORT).count(), 1, "{steps:?}");
        }
        // Only ids of the wanted source are sorted again.
        let steps = plan(connection, &list::id_range_sql())?;
        let range = "SEARCH events USING COVERING INDEX events_by_id (id>? AND id<?)";
        assert!(steps.iter().any(|step| step == range), "{steps:?}");
        assert!(steps.iter().filter(|step| *step == SORT).count() <= 1, "{steps:?}");
        Ok(())
    };
    with_queue(test).await;
}
