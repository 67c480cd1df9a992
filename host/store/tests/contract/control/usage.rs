//! Schedules and usage: the last record is stored, and the oldest is removed beyond the limit.

use isopod_policy::AppName;
use isopod_store::{MonthUsage, ScheduleFired, StoreError, limits};
use jiff::SignedDuration;

use super::{create, month, process, usage};
use crate::at;

#[tokio::test]
async fn a_schedule_stores_when_it_last_fired() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let other = create(store, "another").await;
    assert_eq!(store.schedules().await, Ok(vec![]));
    for (app, name, second) in [(&app, "nightly", 1), (&app, "hourly", 2), (&app, "nightly", 3), (&other, "nightly", 4)]
    {
        store.schedule_fired(app, &process(name), at(second)).await.expect("it is recorded");
    }
    let fired = |app: &AppName, name: &str, second: i64| ScheduleFired {
        app: app.clone(),
        process: process(name),
        last_fired_at: at(second),
    };
    let expected = vec![fired(&other, "nightly", 4), fired(&app, "hourly", 2), fired(&app, "nightly", 3)];
    assert_eq!(store.schedules().await, Ok(expected));
}

#[tokio::test]
async fn the_schedule_that_fired_the_longest_ago_is_removed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let many = i64::from(limits::SCHEDULES_PER_APP_MAX);
    // As texts, timestamps with a fraction of a second sort differently.
    for fired in (0..many).rev() {
        let at = at(0) + SignedDuration::from_millis(500 * fired);
        store.schedule_fired(&app, &process(&format!("fired-{fired}")), at).await.expect("it is recorded");
    }
    store.schedule_fired(&app, &process("newest"), at(many)).await.expect("it is recorded");
    let left = store.schedules().await.expect("they are read");
    assert_eq!(left.len(), limits::SCHEDULES_PER_APP_MAX as usize);
    assert!(left.iter().all(|schedule| schedule.process != process("fired-0")), "{left:?}");
}

#[tokio::test]
async fn usage_is_stored_per_app_and_month() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let other = create(store, "other").await;
    store.put_usage(&app, month("2026-11"), usage(1)).await.expect("it is recorded");
    store.put_usage(&app, month("2026-12"), usage(2)).await.expect("it is recorded");
    store.put_usage(&app, month("2026-11"), usage(u64::from(u32::MAX))).await.expect("it is recorded");
    assert_eq!(store.usage(&app, month("2026-11")).await, Ok(Some(usage(u64::from(u32::MAX)))));
    assert_eq!(store.usage(&app, month("2026-12")).await, Ok(Some(usage(2))));
    assert_eq!(store.usage(&app, month("2027-01")).await, Ok(None));
    assert_eq!(store.usage(&other, month("2026-11")).await, Ok(None));
}

#[tokio::test]
async fn old_months_are_removed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let other = create(store, "other").await;
    store.put_usage(&other, month("2020-01"), usage(1)).await.expect("it is recorded");
    for of in (1..=12).map(|of| format!("2026-{of:02}")).chain(["2025-12".to_owned()]) {
        store.put_usage(&app, month(&of), usage(1)).await.expect("it is recorded");
    }
    assert_eq!(store.usage(&app, month("2025-12")).await, Ok(Some(usage(1))), "the thirteenth month is kept");
    store.put_usage(&app, month("2027-01"), usage(1)).await.expect("it is recorded");
    assert_eq!(store.usage(&app, month("2025-12")).await, Ok(None));
    assert_eq!(store.usage(&app, month("2026-01")).await, Ok(Some(usage(1))));
    assert_eq!(store.usage(&other, month("2020-01")).await, Ok(Some(usage(1))), "each app has its own months");
}

#[tokio::test]
async fn a_sketch_of_users_is_bounded() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let app = create(store, "greeter").await;
    let bytes = limits::USAGE_SKETCH_BYTES_MAX;
    let sketch = |bytes| MonthUsage { users: vec![7; bytes], events: 1 };
    store.put_usage(&app, month("2026-11"), sketch(bytes)).await.expect("the largest is stored");
    let refused = store.put_usage(&app, month("2026-11"), sketch(bytes + 1)).await;
    assert_eq!(refused, Err(StoreError::SketchTooLarge { bytes: bytes + 1 }));
    assert_eq!(store.usage(&app, month("2026-11")).await, Ok(Some(sketch(bytes))));
}
