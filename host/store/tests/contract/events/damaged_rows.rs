//! Damaged rows in an intact file: a rescue copies only rows that later calls can use. Never
//! damages a page.

use std::path::Path;

use isopod_store::{EventQueue, Store, StoreError};

use super::damage::{ENTRIES, damage_content, database, events, filled, report, works};
use crate::{at, name};

#[tokio::test]
async fn a_damaged_row_in_an_intact_file_is_left_out() {
    let (folder, store) = filled().await;
    drop(store);
    damage_content(folder.path(), "ready-3");
    let store = Store::open(folder.path()).expect("the store opens");
    let claim = async || store.events().claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
    assert!(matches!(claim().await, Err(StoreError::AppDataDamaged { .. })));
    let (_, rescued) = report(&store).await;
    assert_eq!((rescued.entries, rescued.events, rescued.is_complete), (ENTRIES as u64, 51, false));
    works(&store).await;
    assert!(events(&store).await.iter().all(|event| event.id != "ready-3"));
}

/// Changes a row of the closed database, whose file remains intact.
fn change_row(folder: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(database(folder)).expect("it opens");
    assert_eq!(connection.execute(sql, []), Ok(1), "{sql}");
}

#[tokio::test]
async fn a_row_that_a_claim_cannot_read_is_left_out() {
    for damage in [
        "id = CAST(X'ff' AS TEXT)",
        "type = CAST(X'ff' AS TEXT)",
        "subject = CAST(X'ff' AS TEXT)",
        "error = CAST(X'ff' AS TEXT)",
        "attempt = -1",
        "repeats = 1 << 40",
    ] {
        let (folder, store) = filled().await;
        drop(store);
        change_row(folder.path(), &format!("UPDATE events SET {damage} WHERE id = 'ready-3'"));
        let store = Store::open(folder.path()).expect("the store opens");
        let claimed = store.events().claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
        assert!(matches!(claimed, Err(StoreError::AppDataDamaged { .. })), "{damage}: {claimed:?}");
        let (_, rescued) = report(&store).await;
        assert_eq!((rescued.entries, rescued.events, rescued.is_complete), (ENTRIES as u64, 51, false), "{damage}");
        works(&store).await;
    }
}

#[tokio::test]
async fn a_time_out_of_range_is_not_damage() {
    for time in ["1 << 62", "-1 << 62", "253402207200999"] {
        let (folder, store) = filled().await;
        drop(store);
        let sql = format!("UPDATE events SET accepted_at = {time}, since = {time} WHERE id = 'ready-3'");
        change_row(folder.path(), &sql);
        let sql = format!("UPDATE events SET due_at = {time}, expires_at = {time} WHERE id = 'delayed'");
        change_row(folder.path(), &sql);
        let store = Store::open(folder.path()).expect("the store opens");
        assert!(events(&store).await.iter().any(|event| event.id == "ready-3"), "{time}");
        let claimed = store.events().claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
        let claims = claimed.expect("it is claimed").claims;
        assert!(claims.iter().any(|claim| claim.event.id == "ready-3"), "{time}");
    }
}

/// Each of these values would stop the queue, or its replacement.
#[tokio::test]
async fn a_row_with_an_impossible_value_is_not_copied() {
    for damage in [
        "bytes = 1 << 60",
        "bytes = -1",
        "ordered = 1, subject = NULL, state = 3",
        "ordered = 2",
        "state = 3",
        "seq = 9223372036854775807",
    ] {
        let (folder, store) = filled().await;
        drop(store);
        change_row(folder.path(), &format!("UPDATE events SET {damage} WHERE id = 'ready-3'"));
        damage_content(folder.path(), "ready-1");
        let store = Store::open(folder.path()).expect("the store opens");
        let claimed = store.events().claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
        assert!(matches!(claimed, Err(StoreError::AppDataDamaged { .. })), "{damage}: {claimed:?}");
        let (_, rescued) = report(&store).await;
        assert_eq!((rescued.events, rescued.is_complete), (50, false), "{damage}");
        works(&store).await;
    }
}

#[tokio::test]
async fn the_events_of_a_subject_continue_after_the_loss_of_the_first_one() {
    let (folder, store) = filled().await;
    drop(store);
    damage_content(folder.path(), "line-0");
    let store = Store::open(folder.path()).expect("the store opens");
    let claim = async || store.events().claim(&name("bot"), &super::process("worker"), 100, at(0)).await;
    assert!(matches!(claim().await, Err(StoreError::AppDataDamaged { .. })));
    report(&store).await;
    let claims = claim().await.expect("it is claimed").claims;
    assert!(claims.iter().any(|claim| claim.event.id == "line-1"), "it was blocked by the lost event");
}
