//! Alerts that fire, and their messages that no webhook has accepted yet.

use isopod_store::{AlertMessage, AlertRecord, Store, limits};
use serde_json::json;

use crate::at;

fn message(number: i64) -> AlertMessage {
    AlertMessage { id: format!("m-{number}"), body: format!("{{\"number\":{number}}}"), at: at(number) }
}

fn fired(key: &str, message: Option<AlertMessage>) -> AlertRecord {
    AlertRecord { key: key.to_owned(), data: Some(json!({ "key": key })), message }
}

async fn put(store: &Store, change: AlertRecord) {
    store.put_alert(change).await.expect("it is stored");
}

#[tokio::test]
async fn an_alert_is_stored_until_it_is_resolved() {
    let backend = crate::on_disk();
    let store = &backend.store;
    put(store, fired("cpu", None)).await;
    put(store, fired("queue-depth/shop", Some(message(1)))).await;
    put(store, AlertRecord { data: Some(json!({ "key": "cpu", "value": 2 })), ..fired("cpu", None) }).await;
    let firing = [json!({ "key": "cpu", "value": 2 }), json!({ "key": "queue-depth/shop" })];
    assert_eq!(store.alerts().await.expect("they are read"), firing);
    put(store, AlertRecord { data: None, ..fired("queue-depth/shop", Some(message(2))) }).await;
    assert_eq!(store.alerts().await.expect("they are read"), firing[..1]);
    assert_eq!(store.alert_messages().await, Ok(vec![message(1), message(2)]));
    store.remove_alert_message("m-1".to_owned()).await.expect("it is removed");
    store.remove_alert_message("unknown".to_owned()).await.expect("it is ignored");
    assert_eq!(store.alert_messages().await, Ok(vec![message(2)]));
}

#[tokio::test]
async fn a_new_alert_message_evicts_the_oldest() {
    let backend = crate::on_disk();
    let store = &backend.store;
    for number in 0..=limits::ALERT_MESSAGES_MAX {
        put(store, fired("cpu", Some(message(number)))).await;
    }
    let left = store.alert_messages().await.expect("they are read");
    assert_eq!(left.len(), usize::try_from(limits::ALERT_MESSAGES_MAX).expect("few"));
    assert_eq!(left.first(), Some(&message(1)));
}
