//! Reports the store's findings about the data folder, at the start and later: in the host's log,
//! and in the activity of the apps concerned. Never changes the folder.

use isopod_policy::AppName;
use isopod_store::{FolderReport, Loss, LostData, MovedFolder, NewActivity, Rescued, Store, StoreError};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The kind of an activity entry: data of the app is missing.
const DATA_MISSING: &str = "data-missing";
/// The kind of an activity entry: data of the app can't be read.
const DATA_DAMAGED: &str = "data-damaged";
/// The kind of an activity entry: the app's database can't be opened, and was not changed.
const DATA_UNREADABLE: &str = "data-unreadable";

/// When a loss was detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detected {
    AtStart,
    WhileRunning,
}

/// Writes the findings to the host's log, one line per folder.
pub(crate) fn log(store: &Store) {
    let report = store.folder_report();
    for moved in &report.moved {
        tracing::warn!(
            from = %moved.from.display(),
            to = %moved.to.display(),
            "a folder that no app owns was moved to lost+found; `isopod doctor` shows how to restore it"
        );
    }
    for MovedFolder { from, to } in &report.journal {
        tracing::warn!(from = %from.display(), to = %to.display(), "the journal of another control.db was moved");
    }
    for error in &report.stuck {
        tracing::warn!(%error, "a folder below apps/ can't be moved or removed");
    }
    for app in &report.missing {
        tracing::warn!(%app, path = %store.app_folder(app).display(), "{}", missing(app));
    }
    for lost in &report.lost {
        log_lost(lost, Detected::AtStart);
    }
    if let Some((finding, remedy)) = missing_bundles(report.missing_bundles) {
        tracing::warn!(path = %store.folder().join("blobs").display(), "{finding}; {remedy}");
    }
    for app in &report.removed {
        tracing::info!(%app, "removed the remaining folder of a destroyed app");
    }
    for app in &report.spared {
        tracing::info!(%app, "the host stopped before the app was destroyed; the app is kept");
    }
}

/// Records missing folders and data in the activity of the apps concerned.
pub(crate) async fn record_missing(store: &Store) -> Result<(), StoreError> {
    let FolderReport { missing: apps, lost, .. } = store.folder_report();
    let folders = apps.iter().map(|app| {
        let data = json!({ "path": store.app_folder(app) });
        (app, DATA_MISSING, missing(app), data)
    });
    let parts = lost.iter().map(|lost| {
        let (kind, text, data) = activity(lost, Detected::AtStart);
        (&lost.app, kind, text, data)
    });
    for (app, kind, text, data) in folders.chain(parts) {
        let activity = NewActivity { app: Some(app.clone()), kind: kind.to_owned(), text, data, at: Timestamp::now() };
        store.append_activity(activity).await?;
    }
    Ok(())
}

/// Writes a loss of data to the host's log.
pub(crate) fn log_lost(lost: &LostData, detected: Detected) {
    tracing::warn!(app = %lost.app, path = %lost.path.display(), "{}", text(lost, detected));
}

/// Returns the activity of a loss: its kind, text and data.
pub(crate) fn activity(lost: &LostData, detected: Detected) -> (&'static str, String, Value) {
    let kind = if matches!(lost.loss, Loss::Damaged { .. }) { DATA_DAMAGED } else { DATA_MISSING };
    let mut data = json!({ "path": lost.path, "saved": lost.saved });
    if let Loss::Damaged { rescued: Some(Rescued { entries, events, is_complete }), .. } = &lost.loss {
        data["rescued"] = json!({ "entries": entries, "events": events, "complete": is_complete });
    }
    (kind, text(lost, detected), data)
}

/// Returns the activity of an app's database that can't be read: its kind, text and data. The error
/// contains the remedy.
pub(crate) fn unreadable(store: &Store, app: &AppName, error: &StoreError) -> (&'static str, String, Value) {
    let path = store.app_folder(app).join("kv.db");
    (DATA_UNREADABLE, unreadable_text(app, error), json!({ "path": path }))
}

/// Returns the finding and the remedy for a database that can't be read, for `isopod doctor`.
pub(crate) fn unreadable_database(app: &AppName, error: &StoreError) -> (String, Option<String>) {
    let text = unreadable_text(app, error);
    match text.rsplit_once("; ") {
        Some((finding, remedy)) => (finding.to_owned(), Some(remedy.to_owned())),
        None => (text, None),
    }
}

/// Describes a database that can't be read in the log and in the activity.
fn unreadable_text(app: &AppName, error: &StoreError) -> String {
    format!("the database of {app} can't be read, so its key-value calls fail and its events wait: {error}")
}

/// Returns the finding and the remedy for bundles without a file.
pub(crate) fn missing_bundles(count: usize) -> Option<(String, &'static str)> {
    let files = match count {
        0 => return None,
        1 => "1 component or pack of static files of a release has".to_owned(),
        count => format!("{count} components or packs of static files of releases have"),
    };
    let finding = format!(
        "{files} no file in blobs/: without its component, such a release starts only while its compiled code is in \
         cache/; without its static files, it can't send them"
    );
    Some((finding, "restore blobs/ from a backup with the host stopped, or deploy the apps again"))
}

/// Describes a missing folder of an app, for `isopod doctor`.
pub(crate) fn missing_folder(app: &AppName) -> String {
    format!("the folder of {app} is missing")
}

/// Describes missing data of an app, for `isopod doctor`.
pub(crate) fn missing_part(lost: &LostData) -> String {
    let what = if lost.is_key_value() { "the key-value database" } else { "a granted folder" };
    let is = if lost.loss == Loss::Emptied { "empty" } else { "missing" };
    format!("{what} of {} is {is}: {}", lost.app, lost.path.display())
}

/// Describes a missing folder of an app in the log and in the activity.
fn missing(app: &AppName) -> String {
    format!(
        "the folder of {app} was missing when the host started, so {app} begins without its key-value data, granted \
         folders and logs; restore it from a backup with the host stopped"
    )
}

/// Describes a loss in the log and in the activity.
fn text(lost: &LostData, detected: Detected) -> String {
    let (app, is_key_value) = (&lost.app, lost.is_key_value());
    let what = if is_key_value { "the key-value database" } else { "a granted folder" };
    let data = if is_key_value { "its key-value data" } else { "the files in it" };
    let saved = lost.saved.as_ref().map(|path| format!(" (its content was saved as {})", path.display()));
    let saved = saved.unwrap_or_default();
    let (was, when) = match (&lost.loss, detected) {
        (Loss::Damaged { detail, rescued: Some(rescued) }, _) => return replaced(lost, detail, *rescued),
        (Loss::Damaged { detail, rescued: None }, _) => {
            return format!(
                "{what} of {app} is damaged, so its key-value calls and its events fail: {detail}; restore it from a \
                 backup with the host stopped"
            );
        }
        (Loss::Missing, Detected::AtStart) => ("missing", "when the host started"),
        (Loss::Emptied, Detected::AtStart) => ("empty", "when the host started"),
        (Loss::Missing, Detected::WhileRunning) => ("removed", "while the host runs"),
        (Loss::Emptied, Detected::WhileRunning) => ("emptied", "while the host runs"),
        (Loss::Replaced, _) => {
            return format!(
                "{what} of {app} was replaced while the host runs{saved}, so {app} continues with the data in the new \
                 file; restore backups with the host stopped"
            );
        }
    };
    let verb = if detected == Detected::AtStart { "begins" } else { "continues" };
    format!(
        "{what} of {app} was {was} {when}{saved}, so {app} {verb} without {data}; restore it from a backup with \
         the host stopped"
    )
}

/// Describes a damaged database that a new one replaced.
fn replaced(lost: &LostData, detail: &str, rescued: Rescued) -> String {
    let (app, Rescued { entries, events, is_complete }) = (&lost.app, rescued);
    let file = lost.saved.as_deref().unwrap_or(&lost.path).display();
    let kept = format!("{entries} key-value entries and {events} waiting events");
    let result = if is_complete {
        format!("all of its data could be read: {app} continues with {kept}")
    } else {
        format!(
            "data is lost: {app} continues with the {kept} that could be read. To look for the rest, run `sqlite3 \
             '{file}' .recover`, with the sqlite3 of sqlite.org; to go back to a backup, restore it with the host \
             stopped"
        )
    };
    format!("the database of {app} was damaged, and was moved to {file}; {result} (found: {detail})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_names_the_data_its_app_and_the_remedy() {
        for (path, loss, words) in [
            (
                "apps/shop/kv.db",
                Loss::Missing,
                ["key-value database of shop", "was missing", "begins without its key-value"],
            ),
            (
                "apps/shop/files/data",
                Loss::Missing,
                ["granted folder of shop", "was missing", "begins without the files"],
            ),
            ("apps/shop/kv.db", Loss::Emptied, ["key-value database of shop", "was empty", "backup"]),
            (
                "apps/shop/kv.db",
                Loss::Damaged { detail: "malformed".into(), rescued: None },
                ["of shop is damaged", "malformed", "backup"],
            ),
        ] {
            let app = "shop".parse().unwrap();
            let text = text(&LostData { app, path: path.into(), loss, saved: None }, Detected::AtStart);
            assert!(words.iter().all(|word| text.contains(word)) && text.contains("host stopped"), "{text}");
        }
    }

    #[test]
    fn an_unreadable_database_names_its_app_and_the_remedy() {
        let text = unreadable_text(&"shop".parse().unwrap(), &StoreError::TooNew { found: 3, known: 2 });
        for words in ["database of shop can't be read", "its events wait", "format 3", "run the newer isopod again"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_replaced_database_names_the_rescued_rows_and_whether_data_is_lost() {
        for (is_complete, words) in [
            (true, ["lost+found/shop/kv.db", "all of its data", "7 key-value entries and 3 waiting events"]),
            (false, ["data is lost", ".recover", "7 key-value entries and 3 waiting events"]),
        ] {
            let rescued = Some(Rescued { entries: 7, events: 3, is_complete });
            let loss = Loss::Damaged { detail: "malformed".into(), rescued };
            let saved = Some("lost+found/shop/kv.db".into());
            let lost = LostData { app: "shop".parse().unwrap(), path: "apps/shop/kv.db".into(), loss, saved };
            let (kind, text, data) = activity(&lost, Detected::WhileRunning);
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert_eq!((kind, &data["rescued"]["complete"]), (DATA_DAMAGED, &json!(is_complete)));
        }
    }
}
