//! Reports what the store found in the data folder at the start: in the host's log, and in the activity of the apps that
//! it concerns. Never changes the folder.

use isopod_policy::AppName;
use isopod_store::{Control, NewActivity, Store, StoreError};
use jiff::Timestamp;
use serde_json::json;

/// The kind of an activity entry: the app's folder was missing when the host started.
const DATA_MISSING: &str = "data-missing";

/// Writes the findings to the host's log, one line for each folder.
pub(crate) fn log(store: &Store) {
    let report = store.folder_report();
    for moved in &report.moved {
        tracing::warn!(
            from = %moved.from.display(),
            to = %moved.to.display(),
            "a folder that no app owns was moved to lost+found; `isopod doctor` shows how to restore it"
        );
    }
    for error in &report.stuck {
        tracing::warn!(%error, "a folder below apps/ can't be moved or removed");
    }
    for app in &report.missing {
        tracing::warn!(%app, path = %store.app_folder(app).display(), "{}", missing(app));
    }
    for app in &report.removed {
        tracing::info!(%app, "removed the remaining folder of a destroyed app");
    }
    for app in &report.spared {
        tracing::info!(%app, "the host stopped before the app was destroyed; the app is kept");
    }
}

/// Records in the activity of each app without a folder that its data is missing.
pub(crate) async fn record_missing(store: &Store) -> Result<(), StoreError> {
    for app in &store.folder_report().missing {
        let activity = NewActivity {
            app: Some(app.clone()),
            kind: DATA_MISSING.to_owned(),
            text: missing(app),
            data: json!({ "path": store.app_folder(app) }),
            at: Timestamp::now(),
        };
        store.append_activity(activity).await?;
    }
    Ok(())
}

fn missing(app: &AppName) -> String {
    format!(
        "the folder of {app} was missing when the host started, so {app} begins without its key-value data, granted \
         folders and logs; restore it from a backup with the host stopped"
    )
}
