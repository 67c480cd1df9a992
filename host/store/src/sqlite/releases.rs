//! The statements for releases, which are made once and never changed.

use std::collections::HashSet;

use isopod_policy::{AppName, ReleaseNumber};
use rusqlite::{Connection, Row, params};

use super::pushes;
use super::rows::{Sql, all, first, json, parsed, time, to_json};
use crate::limits::RELEASES_KEPT;
use crate::model::{NewRelease, Page, Paged, Release};
use crate::{Digest, StoreError};

const COLUMNS: &str = "app, number, bundle, manifest, size_bytes, created_by, created_at";

fn make(row: &Row<'_>) -> Sql<Release> {
    let number: u32 = row.get("number")?;
    let size: i64 = row.get("size_bytes")?;
    Ok(Release {
        app: parsed(row, "app")?,
        number: ReleaseNumber::new(number).ok_or_else(|| StoreError::damaged("a release has the number 0"))?,
        bundle: parsed(row, "bundle")?,
        manifest: json(row, "manifest")?,
        size_bytes: u64::try_from(size).map_err(StoreError::damaged)?,
        created_by: row.get("created_by")?,
        created_at: time(row, "created_at")?,
    })
}

/// The app's next number. It is never given twice, even after a release was removed.
fn next_number(connection: &Connection, app: &AppName) -> Sql<ReleaseNumber> {
    let sql = "UPDATE apps SET last_release = last_release + 1 WHERE name = ?1 RETURNING last_release";
    let number: Option<i64> = first(connection, sql, [app.as_str()], |row| Ok(row.get(0)?))?;
    let number = number.ok_or_else(|| StoreError::UnknownApp { name: app.clone() })?;
    let number = u32::try_from(number).ok().and_then(ReleaseNumber::new);
    number.ok_or_else(|| StoreError::NoMoreReleases { app: app.clone() }.into())
}

pub(super) fn insert(connection: &Connection, release: &NewRelease) -> Sql<Release> {
    let number = next_number(connection, &release.app)?;
    let size = i64::try_from(release.size_bytes).map_err(StoreError::damaged)?;
    connection
        .prepare_cached(&format!("INSERT INTO releases ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"))?
        .execute(params![
            release.app.as_str(),
            number.get(),
            release.bundle.as_str(),
            to_json(&release.manifest)?,
            size,
            release.created_by,
            release.created_at.to_string()
        ])?;
    make_room(connection, &release.app)?;
    let made = get(connection, &release.app, number)?;
    made.ok_or_else(|| StoreError::UnknownRelease { app: release.app.clone(), number }.into())
}

/// Removes the oldest releases of an app beyond the bound, but never the one that serves.
fn make_room(connection: &Connection, app: &AppName) -> Sql<()> {
    connection
        .prepare_cached(
            "DELETE FROM releases WHERE app = ?1 AND number IS NOT (SELECT release FROM apps WHERE name = ?1) AND
             number <= (SELECT number FROM releases WHERE app = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![app.as_str(), RELEASES_KEPT])?;
    Ok(())
}

/// The digests that releases and pushes that are not done name, each once.
pub(super) fn bundles_in_use(connection: &Connection) -> Sql<HashSet<Digest>> {
    let sql = format!(
        "SELECT bundle FROM releases UNION
         SELECT bundle FROM pushes WHERE bundle IS NOT NULL AND state NOT IN {}",
        pushes::FINAL
    );
    Ok(all(connection, &sql, [], |row| parsed(row, "bundle"))?.into_iter().collect())
}

pub(super) fn get(connection: &Connection, app: &AppName, number: ReleaseNumber) -> Sql<Option<Release>> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number = ?2");
    first(connection, &sql, params![app.as_str(), number.get()], make)
}

pub(super) fn must_exist(connection: &Connection, app: &AppName, number: ReleaseNumber) -> Sql<()> {
    let sql = "SELECT 1 FROM releases WHERE app = ?1 AND number = ?2";
    let found = first(connection, sql, params![app.as_str(), number.get()], |_| Ok(()))?;
    found.ok_or_else(|| StoreError::UnknownRelease { app: app.clone(), number }.into())
}

pub(super) fn list(connection: &Connection, app: &AppName, page: &Page) -> Sql<Paged<Release>> {
    let before = page.number(i64::MAX)?;
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
    let items = all(connection, &sql, params![app.as_str(), before, page.items() + 1], make)?;
    Ok(Paged::from_one_more(items, page, |release| release.number.get().to_string()))
}
