//! The log drains of apps.

use isopod_policy::Sealed;
use isopod_store::{Drain, StoreError};

use super::create;
use crate::{at, name, new_activity};

fn drain(app: &str, id: &str) -> Drain {
    let (url, created_by) = (Sealed::new("c2VhbGVk".to_owned()), "ci".to_owned());
    Drain { app: name(app), id: id.to_owned(), url, created_by, created_at: at(1) }
}

#[tokio::test]
async fn a_drain_is_stored_until_it_or_its_app_is_removed() {
    let backend = crate::on_disk();
    let store = &backend.store;
    let shop = create(store, "shop").await;
    create(store, "wiki").await;
    for new in [drain("shop", "d-1"), drain("shop", "d-2"), drain("wiki", "d-3")] {
        store.insert_drain(new).await.expect("it is stored");
    }
    store.delete_drain(&name("wiki"), "d-1").await.expect("the drain of another app is left");
    store.delete_drain(&shop, "d-1").await.expect("it is removed");
    assert_eq!(store.drains().await, Ok(vec![drain("shop", "d-2"), drain("wiki", "d-3")]));
    store.delete_app(&shop, new_activity(Some("shop"), "destroyed")).await.expect("it is deleted");
    assert_eq!(store.drains().await, Ok(vec![drain("wiki", "d-3")]));
    let refused = store.insert_drain(drain("shop", "d-4")).await;
    assert!(matches!(refused, Err(StoreError::UnknownApp { .. })), "{refused:?}");
}
