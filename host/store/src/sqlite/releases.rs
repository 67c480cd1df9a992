//! The statements for releases, and the change of the current release. Never decides a state:
//! `model.rs` does, and the result is written in the same transaction.

use std::collections::HashSet;

use isopod_policy::retention::StoredRelease;
use isopod_policy::{AppName, ReleaseEvent, ReleaseNumber};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::schema::FINAL;
use super::{apps, hooks};
use crate::limits::ROWS_PER_PAGE_MAX;
use crate::model::{
    App, DamagedRelease, InterfaceUse, ListedRelease, NewRelease, PluginUse, Reason, Release, beyond_bound,
    listed_number,
};
use crate::page::{Page, Paged};
use crate::sql::{
    Sql, SqlError, all, first, json, json_if_any, parsed, parsed_if_any, reason, time, time_if_any, to_json,
};
use crate::{Digest, StoreError};

const COLUMNS: &str = "app, number, state, reason_code, reason, cause, bundle, snapshot, assets, manifest, \
                       config, size_bytes, last_current_at, created_by, created_at, updated_at";

/// The states of a release in progress, as in [`isopod_policy::ReleaseState::is_under_way`]. SQLite
/// uses the index of such releases only if a statement contains the exact text of the index.
const UNDER_WAY: &str = "('building', 'deploying', 'booted')";

fn number(row: &Row<'_>) -> Sql<ReleaseNumber> {
    let number: u32 = row.get("number")?;
    ReleaseNumber::new(number).ok_or_else(|| StoreError::damaged("a release has the number 0").into())
}

fn make(row: &Row<'_>) -> Sql<Release> {
    let size: i64 = row.get("size_bytes")?;
    Ok(Release {
        app: parsed(row, "app")?,
        number: number(row)?,
        state: parsed(row, "state")?,
        reason: reason(row)?,
        cause: row.get("cause")?,
        bundle: parsed(row, "bundle")?,
        snapshot: parsed_if_any(row, "snapshot")?,
        assets: json_if_any(row, "assets")?,
        manifest: json(row, "manifest")?,
        config: json(row, "config")?,
        size_bytes: u64::try_from(size).map_err(StoreError::damaged)?,
        last_current_at: time_if_any(row, "last_current_at")?,
        created_by: row.get("created_by")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// Returns the middleware of all apps' current releases, or only the uses of one plugin, sorted by
/// app.
pub(crate) fn plugin_uses(connection: &Connection, plugin: Option<&AppName>) -> Sql<Vec<PluginUse>> {
    // SQLite parses no manifest without the key, and a damaged manifest uses no plugin.
    let sql = "SELECT apps.name AS app, used.value AS used
               FROM apps JOIN releases ON releases.app = apps.name AND releases.number = apps.release,
                    json_each(iif(instr(releases.manifest, '\"middleware\"') AND json_valid(releases.manifest),
                                  releases.manifest, '{}'), '$.middleware') AS used
               WHERE (?1 IS NULL OR json_extract(used.value, '$.use') = ?1
                      OR substr(json_extract(used.value, '$.use'), 1, length(?1) + 1) = ?1 || '@')
               ORDER BY apps.name, used.key";
    let make = |row: &Row<'_>| Ok(PluginUse { app: parsed(row, "app")?, used: json(row, "used")? });
    all(connection, sql, [plugin.map(AppName::as_str)], make)
}

/// Returns the granted interfaces of all apps' current releases, or only those of one provider,
/// sorted by app.
pub(crate) fn interface_uses(connection: &Connection, provider: Option<&AppName>) -> Sql<Vec<InterfaceUse>> {
    // As above. The value is the provider with an optional range of versions.
    let sql = "SELECT apps.name AS app, granted.key AS interface, granted.value AS provider
               FROM apps JOIN releases ON releases.app = apps.name AND releases.number = apps.release,
                    json_each(iif(instr(releases.manifest, '\"interfaces\"') AND json_valid(releases.manifest),
                                  releases.manifest, '{}'), '$.grants.interfaces') AS granted
               WHERE (?1 IS NULL OR granted.value = ?1
                      OR substr(granted.value, 1, length(?1) + 1) = ?1 || '@')
               ORDER BY apps.name, granted.key";
    let make = |row: &Row<'_>| {
        let (interface, provider) = (parsed(row, "interface")?, parsed(row, "provider")?);
        Ok(InterfaceUse { app: parsed(row, "app")?, interface, provider })
    };
    all(connection, sql, [provider.map(AppName::as_str)], make)
}

/// Returns the app's next number. A number is never reused, even after its release was removed.
fn next_number(connection: &Connection, app: &AppName) -> Sql<ReleaseNumber> {
    let sql = "UPDATE apps SET last_release = last_release + 1 WHERE name = ?1 RETURNING last_release";
    let number: Option<i64> = first(connection, sql, [app.as_str()], |row| Ok(row.get(0)?))?;
    let number = number.ok_or_else(|| StoreError::UnknownApp { name: app.clone() })?;
    let number = u32::try_from(number).ok().and_then(ReleaseNumber::new);
    number.ok_or_else(|| StoreError::NoMoreReleases { app: app.clone() }.into())
}

pub(crate) fn insert(connection: &Connection, release: NewRelease) -> Sql<Release> {
    let number = next_number(connection, &release.app)?;
    let made = Release::created(release, number);
    let size = i64::try_from(made.size_bytes).map_err(StoreError::damaged)?;
    connection
        .prepare_cached(
            "INSERT INTO releases (app, number, state, cause, bundle, snapshot, assets, manifest, config, size_bytes,
             created_by, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            made.app.as_str(),
            number.get(),
            made.state.as_str(),
            made.cause,
            made.bundle.as_str(),
            made.snapshot.as_ref().map(Digest::as_str),
            made.assets.as_ref().map(to_json).transpose()?,
            to_json(&made.manifest)?,
            to_json(&made.config)?,
            size,
            made.created_by,
            made.created_at.to_string(),
            made.updated_at.to_string()
        ])?;
    make_room(connection, &made.app)?;
    Ok(made)
}

/// Removes an app's releases beyond the limit.
fn make_room(connection: &Connection, app: &AppName) -> Sql<()> {
    let current = apps::existing(connection, app)?.release;
    remove(connection, app, &beyond_bound(stamps(connection, app)?, current))?;
    Ok(())
}

fn remove(connection: &Connection, app: &AppName, numbers: &[ReleaseNumber]) -> Sql<usize> {
    let mut statement = connection.prepare_cached("DELETE FROM releases WHERE app = ?1 AND number = ?2")?;
    let mut removed = 0;
    for number in numbers {
        removed += statement.execute(params![app.as_str(), number.get()])?;
    }
    Ok(removed)
}

pub(crate) fn delete(connection: &Connection, app: &AppName, numbers: &[ReleaseNumber]) -> Sql<usize> {
    let current = apps::existing(connection, app)?.release;
    if let Some(number) = current.filter(|current| numbers.contains(current)) {
        return Err(StoreError::ReleaseServes { app: app.clone(), number }.into());
    }
    remove(connection, app, numbers)
}

/// Returns the distinct digests that releases and unfinished pushes name: bundles, snapshots, and
/// packs of assets.
pub(crate) fn bundles_in_use(connection: &Connection) -> Sql<HashSet<Digest>> {
    let sql = format!(
        "SELECT bundle FROM releases UNION
         SELECT snapshot FROM releases WHERE snapshot IS NOT NULL UNION
         SELECT json_extract(assets, '$.digest') FROM releases WHERE assets IS NOT NULL UNION
         SELECT bundle FROM pushes WHERE bundle IS NOT NULL AND state NOT IN {}",
        FINAL
    );
    Ok(all(connection, &sql, [], |row| parsed(row, "bundle"))?.into_iter().collect())
}

pub(crate) fn get(connection: &Connection, app: &AppName, number: ReleaseNumber) -> Sql<Option<Release>> {
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number = ?2");
    first(connection, &sql, params![app.as_str(), number.get()], make)
}

fn existing(connection: &Connection, app: &AppName, number: ReleaseNumber) -> Sql<Release> {
    let found = get(connection, app, number)?;
    found.ok_or_else(|| StoreError::UnknownRelease { app: app.clone(), number }.into())
}

/// Reads a release for a list. A damaged row must not prevent reading the others.
fn listed(row: &Row<'_>) -> Sql<ListedRelease> {
    match make(row) {
        Ok(release) => Ok(Ok(release)),
        Err(SqlError::Store(StoreError::Damaged { detail })) => {
            Ok(Err(DamagedRelease { number: number(row)?, detail }))
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn list(connection: &Connection, app: &AppName, page: &Page) -> Sql<Paged<ListedRelease>> {
    let before = page.number(i64::MAX)?;
    let sql = format!("SELECT {COLUMNS} FROM releases WHERE app = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
    let items = all(connection, &sql, params![app.as_str(), before, page.items() + 1], listed)?;
    Ok(Paged::from_one_more(items, page, |listed| listed_number(listed).get().to_string()))
}

pub(super) const STAMPS: &str = "SELECT number, state, last_current_at FROM releases WHERE app = ?1 ORDER BY number";

pub(crate) fn stamps(connection: &Connection, app: &AppName) -> Sql<Vec<StoredRelease>> {
    all(connection, STAMPS, [app.as_str()], |row| {
        let last_current_at = time_if_any(row, "last_current_at")?;
        Ok(StoredRelease { number: number(row)?, state: parsed(row, "state")?, last_current_at })
    })
}

pub(crate) fn interrupted_sql() -> String {
    format!("SELECT {COLUMNS} FROM releases WHERE state IN {UNDER_WAY} ORDER BY app, number LIMIT ?1")
}

pub(crate) fn interrupted(connection: &Connection) -> Sql<Vec<Release>> {
    all(connection, &interrupted_sql(), [ROWS_PER_PAGE_MAX], make)
}

/// Writes the fields of a release that can change.
fn save(connection: &Connection, release: &Release) -> Sql<()> {
    connection
        .prepare_cached(
            "UPDATE releases SET state = ?3, reason_code = ?4, reason = ?5, last_current_at = ?6, updated_at = ?7
             WHERE app = ?1 AND number = ?2",
        )?
        .execute(params![
            release.app.as_str(),
            release.number.get(),
            release.state.as_str(),
            release.reason.as_ref().map(|reason| &reason.code),
            release.reason.as_ref().map(|reason| &reason.detail),
            release.last_current_at.map(|at| at.to_string()),
            release.updated_at.to_string()
        ])?;
    Ok(())
}

pub(crate) fn step(
    connection: &Connection,
    app: &AppName,
    number: ReleaseNumber,
    event: ReleaseEvent,
    reason: Option<Reason>,
    at: Timestamp,
) -> Sql<Release> {
    let current = apps::existing(connection, app)?.release;
    let release = existing(connection, app, number)?.stepped_in_place(event, reason, at, current)?;
    save(connection, &release)?;
    Ok(release)
}

/// Makes a release current, and retires the previous release.
pub(crate) fn put_in_service(
    connection: &Connection,
    app: &AppName,
    number: ReleaseNumber,
    at: Timestamp,
) -> Sql<Release> {
    let before = apps::existing(connection, app)?.release;
    let serving = existing(connection, app, number)?.put_in_service(at).map_err(StoreError::from)?;
    save(connection, &serving)?;
    if let Some(before) = before.filter(|before| *before != number) {
        save(connection, &existing(connection, app, before)?.superseded(at))?;
    }
    apps::set_release(connection, app, number, at)?;
    hooks::follow(connection, &serving)?;
    Ok(serving)
}

pub(crate) fn make_current(connection: &Connection, app: &AppName, number: ReleaseNumber, at: Timestamp) -> Sql<App> {
    let serving = put_in_service(connection, app, number, at)?;
    apps::set_config(connection, app, &serving.config, at)
}

pub(crate) fn return_to(
    connection: &Connection,
    app: &AppName,
    bad: ReleaseNumber,
    good: ReleaseNumber,
    reason: Reason,
    at: Timestamp,
) -> Sql<App> {
    if apps::existing(connection, app)?.release != Some(bad) {
        return Err(StoreError::NotCurrent { app: app.clone(), number: bad }.into());
    }
    let rolled_back = existing(connection, app, bad)?.rolled_back(reason, at).map_err(StoreError::from)?;
    save(connection, &rolled_back)?;
    let serving = existing(connection, app, good)?.put_in_service(at).map_err(StoreError::from)?;
    save(connection, &serving)?;
    apps::set_release(connection, app, good, at)?;
    hooks::follow(connection, &serving)?;
    apps::set_config(connection, app, &serving.config, at)
}

#[cfg(test)]
mod tests {
    use isopod_policy::ReleaseState;

    use super::*;

    #[test]
    fn the_states_in_progress_match_the_policy() {
        for state in ReleaseState::ALL {
            assert_eq!(UNDER_WAY.contains(&format!("'{state}'")), state.is_under_way(), "{state}");
        }
    }
}
