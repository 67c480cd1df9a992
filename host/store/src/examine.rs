//! Examines a data folder without opening the store, for `isopod doctor`: why a host would refuse
//! it, and which data is missing. Never changes anything, and may run while a host uses the folder.

use std::collections::HashSet;
use std::path::Path;

use isopod_policy::AppName;
use rusqlite::Connection;

use crate::app_database::check_format;
use crate::app_folders::AppFolders;
use crate::blobs::missing_blobs;
use crate::control_file::{self, CONTROL};
use crate::data_record;
use crate::lock::is_locked;
use crate::loss::{KEY_VALUE, LostData};
use crate::sql::{Sql, look_into};
use crate::sqlite::{FORMAT, app_names, bundles_in_use, folder_id, format_of};
use crate::store::check;
use crate::{Digest, StoreError};

/// The result of examining a data folder.
#[derive(Debug, Default)]
pub struct Examined {
    /// Why a host refuses to start with the folder, or what happened to the `control.db` of a
    /// running host.
    pub refusal: Option<StoreError>,
    /// Apps without a folder.
    pub missing: Vec<AppName>,
    /// Missing data of apps.
    pub lost: Vec<LostData>,
    /// Apps whose database can't be read or has a newer format, and the reason.
    pub unreadable: Vec<(AppName, StoreError)>,
    /// The number of release bundles without a file in `blobs/`.
    pub missing_bundles: usize,
}

/// Examines a data folder. Blocks.
pub fn examine(folder: &Path) -> Examined {
    let mut examined = Examined::default();
    examined.refusal = look(folder, &mut examined).err();
    examined
}

/// The content of `control.db`.
#[derive(Default)]
struct Content {
    id: Option<String>,
    listed: Vec<AppName>,
    record: data_record::Recorded,
    bundles: HashSet<Digest>,
}

fn look(folder: &Path, examined: &mut Examined) -> Result<(), StoreError> {
    let (database, folders) = (folder.join(CONTROL), AppFolders::of(folder));
    let is_running = is_locked(folder)?;
    let refusal = if is_running { control_file::changed_meanwhile(folder)? } else { None };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let leaves_journal = !is_running && control_file::must_leave_journal(folder, false)?;
    let content = if control_file::is_new(folder)? {
        Content::default()
    } else {
        let is_settled = !is_running && (leaves_journal || !control_file::has_journal(folder)?);
        let connection = look_into(&database, is_settled)?;
        read(&connection).map_err(|error| error.explain(&database))?
    };
    check(folder, &folders, content.id.as_deref(), &content.listed)?;
    if content.id.is_some() {
        examined.missing = folders.survey(&content.listed, false)?.missing().to_vec();
    }
    examined.lost = data_record::lost(&folders, &content.record, &examined.missing);
    examined.unreadable = unreadable(&folders, &content.listed);
    examined.missing_bundles = missing_blobs(folder, &content.bundles);
    Ok(())
}

fn unreadable(folders: &AppFolders, listed: &[AppName]) -> Vec<(AppName, StoreError)> {
    let paths = listed.iter().map(|app| (app, folders.folder(app).join(KEY_VALUE)));
    let existing = paths.filter(|(_, path)| path.try_exists().unwrap_or(true));
    existing.filter_map(|(app, path)| Some((app.clone(), check_format(&path).err()?))).collect()
}

fn read(connection: &Connection) -> Sql<Content> {
    let found = format_of(connection)?;
    if found > FORMAT {
        return Err(StoreError::TooNew { found, known: FORMAT }.into());
    }
    let listed = app_names(connection)?;
    // A table or column of a later format is missing in a database of an earlier version.
    Ok(Content {
        id: folder_id(connection).unwrap_or_default(),
        listed,
        record: data_record::recorded(connection).unwrap_or_default(),
        bundles: bundles_in_use(connection).unwrap_or_default(),
    })
}
