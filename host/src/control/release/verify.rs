//! Owns reading a bundle: its component, its manifest, and whether this host supports it. Never
//! compiles and never stores.

use std::path::Path;

use bytes::Bytes;
use isopod_engine::{ComponentInfo, Entries, inspect};
use isopod_policy::{
    AppKind, AppName, BundleError, BundleKind, Entry, Grants, Limits, Manifest, assets, bundle,
    formation::{self, Exported, Formation},
};
use isopod_store::{Digest, Release, StoreError, StoredAssets};
use std::collections::BTreeMap;

use crate::control::{Failure, Received};

/// The oldest supported SDK version.
const SDK_OLDEST: (&str, [u64; 3]) = ("0.1.0", [0, 1, 0]);

/// A valid bundle.
pub(in crate::control) struct ValidBundle {
    pub(in crate::control) component: Bytes,
    pub(in crate::control) info: ComponentInfo,
    /// The manifest of the release: the bundle's own, or the current release's.
    pub(in crate::control) manifest: Manifest,
    /// The snapshot of the stored release that this was read from.
    pub(in crate::control) snapshot: Option<Digest>,
    /// Whether the manifest came with the bundle.
    pub(in crate::control) has_manifest: bool,
    pub(in crate::control) assets: BundleAssets,
}

/// The assets of a bundle.
pub(in crate::control) enum BundleAssets {
    /// None; a bundle without a manifest keeps those of the current release.
    None,
    /// Packed, not yet stored.
    Packed { pack: Bytes, files: u32, bytes: u64 },
    /// Those of a stored release.
    Stored(StoredAssets),
}

impl BundleAssets {
    /// Packs the files below `static/`. Blocks.
    fn pack(files: &BTreeMap<String, Vec<u8>>) -> Self {
        if files.is_empty() {
            return Self::None;
        }
        Self::Packed {
            pack: assets::pack(files).into(),
            files: u32::try_from(files.len()).unwrap_or(u32::MAX),
            bytes: files.values().map(|content| content.len() as u64).sum(),
        }
    }
}

/// Reads a received bundle.
pub(in crate::control) async fn read(
    upload: &Received,
    kind: BundleKind,
    present: Manifest,
) -> Result<ValidBundle, Failure> {
    let path = upload.path();
    let reading = tokio::task::spawn_blocking(move || verify(kind, read_upload(&path)?, present));
    reading.await.unwrap_or_else(|e| Err(Failure::Internal(e.to_string())))
}

/// Reads the bundle of a plugin, and returns the name in its manifest.
pub(in crate::control) async fn read_plugin_name(upload: &Received, kind: BundleKind) -> Result<AppName, Failure> {
    if kind == BundleKind::Component {
        return Err(Failure::NoPluginManifest);
    }
    let path = upload.path();
    let reading = tokio::task::spawn_blocking(move || {
        let bytes = read_upload(&path)?;
        kind.check(&bytes)?;
        let manifest = bundle::read(kind, &bytes)?.manifest.filter(|manifest| manifest.kind == AppKind::Plugin);
        let manifest = manifest.ok_or(Failure::NoPluginManifest)?;
        let name = manifest.name.clone();
        verify(kind, bytes, manifest)?;
        Ok(name)
    });
    reading.await.unwrap_or_else(|e| Err(Failure::Internal(e.to_string())))
}

fn read_upload(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| StoreError::file(path, &error).into())
}

/// Reads a bundle. Blocks. A bare component takes `present`, the manifest of the current release.
fn verify(kind: BundleKind, bytes: Vec<u8>, present: Manifest) -> Result<ValidBundle, Failure> {
    if bytes.is_empty() {
        return Err(BundleError::Empty.into());
    }
    kind.check(&bytes)?;
    let (component, given, assets) = match kind {
        // Used as is: reading it as a bundle would copy it.
        BundleKind::Component => (bytes, None, BundleAssets::None),
        BundleKind::TarGz => {
            let bundle = bundle::read(kind, &bytes)?;
            drop(bytes);
            (bundle.component, bundle.manifest, BundleAssets::pack(&bundle.assets))
        }
    };
    let info = inspect(&component)?;
    check_sdk(info.sdk_version.as_deref())?;
    let has_manifest = given.is_some();
    let mut manifest = match given {
        Some(mut given) => {
            check_kind(&given, &present)?;
            given.processes = formation::inherit(&given.processes, &present.processes, &given.limits);
            given
        }
        None => present,
    };
    info.check_interfaces(&manifest.grants, true)?;
    set_plugin_entry(&mut manifest, &info.entries);
    let formation = formation_of(&manifest, &info.entries)?;
    if manifest.kind == AppKind::Plugin {
        let Some(settings) = &manifest.plugin else { return Err(Failure::NoPluginManifest) };
        let is_hook = formation.values().any(|process| process.entry == Entry::Hook);
        if !is_hook && !settings.subscribe.is_all() {
            return Err(Failure::SubscriptionWithoutHook);
        }
        // Stored with the release, so that the kind of the plugin is known without its component.
        manifest.processes = formation;
    }
    Ok(ValidBundle { component: component.into(), info, manifest, snapshot: None, has_manifest, assets })
}

/// Sets the entry of a plugin's process type to the kind of the plugin. A manifest only specifies
/// its scale.
fn set_plugin_entry(manifest: &mut Manifest, entries: &Entries) {
    let exported = exported(entries, AppKind::Plugin);
    let entry = Entry::ALL.into_iter().find(|entry| exported.has(*entry));
    if let (AppKind::Plugin, Some(entry)) = (manifest.kind, entry) {
        manifest.processes.values_mut().for_each(|process| process.entry = entry);
    }
}

/// Checks that a bundle for an app is an app, and that one for a plugin is a plugin.
fn check_kind(given: &Manifest, present: &Manifest) -> Result<(), Failure> {
    match (given.kind, present.kind) {
        (AppKind::Plugin, AppKind::App) => Err(Failure::PluginToApp { app: present.name.clone() }),
        (AppKind::App, AppKind::Plugin) => Err(Failure::AppToPlugin { plugin: present.name.clone() }),
        (AppKind::App, AppKind::App) | (AppKind::Plugin, AppKind::Plugin) => Ok(()),
    }
}

/// Reads a component, like [`verify`], that was stored with a release.
pub(in crate::control) fn stored(component: Vec<u8>, release: Release) -> Result<ValidBundle, Failure> {
    let Release { manifest, snapshot, assets, .. } = release;
    let assets = assets.map_or(BundleAssets::None, BundleAssets::Stored);
    Ok(ValidBundle { snapshot, assets, ..verify(BundleKind::Component, component, manifest)? })
}

/// Returns the process types of a release: those of its manifest, or `web` and `worker` by the
/// component's exports.
pub(in crate::control) fn formation_of(manifest: &Manifest, entries: &Entries) -> Result<Formation, Failure> {
    let exported = exported(entries, manifest.kind);
    match (manifest.kind, all_exported(entries).plugin_kind()) {
        (AppKind::Plugin, None) => return Err(Failure::NoPluginExport),
        (AppKind::App, Some(_)) if exported == Exported::default() => return Err(Failure::PluginWithoutKind),
        (AppKind::Plugin, Some(_)) | (AppKind::App, _) => {}
    }
    if !manifest.processes.is_empty() {
        formation::check(&manifest.processes, &manifest.limits, exported)?;
        return Ok(manifest.processes.clone());
    }
    let usual = formation::default_for(exported);
    if usual.is_empty() { Err(Failure::OnlyACommand) } else { Ok(usual) }
}

/// Notes an import without its grant. The component may work without the import, so the bundle is
/// not refused.
pub(in crate::control) fn grant_note(info: &ComponentInfo, grants: &Grants) -> Option<&'static str> {
    let imports_keyvalue = info.imports.iter().any(|name| name.starts_with("wasi:keyvalue/"));
    (imports_keyvalue && !grants.keyvalue).then_some(
        "note: it imports wasi:keyvalue without the grant: set `keyvalue = true` under [grants] in \
         isopod.toml, or run `isopod grants set --keyvalue true`",
    )
}

/// Notes a memory limit above the host-wide memory budget, which applies first.
pub(in crate::control) fn memory_note(limits: &Limits, most: u64) -> Option<String> {
    let mib = |bytes| bytes / (1024 * 1024);
    (limits.memory_bytes > most).then(|| {
        format!(
            "note: its `memory` of {} MiB exceeds the {} MiB that this host has for all such apps, so an \
             instance can't use more than that; the operator can raise memory_max",
            mib(limits.memory_bytes),
            mib(most)
        )
    })
}

/// Returns the exports of a component that an app or a plugin may run.
pub(in crate::control) fn exported(entries: &Entries, kind: AppKind) -> Exported {
    all_exported(entries).usable_by(kind)
}

fn all_exported(entries: &Entries) -> Exported {
    Exported {
        http: entries.http.is_some(),
        events: entries.events,
        command: entries.command,
        middleware: entries.middleware,
        gate: entries.gate,
        provider: entries.provider,
        hook: entries.hook,
    }
}

/// Refuses a component of an unsupported SDK version. A component without a known SDK version is
/// accepted as a standard component.
fn check_sdk(found: Option<&str>) -> Result<(), Failure> {
    let Some(found) = found else { return Ok(()) };
    let version = found.rsplit('/').next().unwrap_or(found);
    let core = version.split(['-', '+']).next().unwrap_or(version);
    let numbers: Vec<u64> = core.split('.').filter_map(|part| part.trim().parse().ok()).collect();
    let (oldest, least) = SDK_OLDEST;
    match <[u64; 3]>::try_from(numbers) {
        Ok(numbers) if numbers < least => Err(Failure::SdkTooOld { found: version.trim().to_owned(), oldest }),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_upload_is_not_reported_as_an_invalid_bundle() {
        let refused = read_upload(Path::new("/")).expect_err("a folder can't be read");
        assert!(refused.is_passing() && !refused.is_build_failure(), "{refused}");
    }

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text).expect("valid manifest")
    }

    const HTTP: Entries = Entries {
        http: Some(isopod_engine::HttpAbi::Flat),
        events: false,
        command: false,
        health: false,
        middleware: false,
        gate: false,
        provider: false,
        hook: false,
    };
    const COMMAND: Entries = Entries { http: None, command: true, ..HTTP };

    #[test]
    fn an_sdk_older_than_supported_is_refused_by_its_version() {
        assert!(check_sdk(None).is_ok());
        assert!(check_sdk(Some("rust/0.1.0")).is_ok());
        assert!(check_sdk(Some("rust/1.0.0-rc.1")).is_ok());
        assert!(check_sdk(Some("something else")).is_ok());
        let refused = check_sdk(Some("rust/0.0.9")).expect_err("too old");
        assert_eq!(refused.code(), "sdk-too-old");
        assert!(refused.to_string().contains("0.0.9"), "{refused}");
    }

    #[test]
    fn the_default_formation_follows_what_the_component_can_do() {
        let names = |entries: Entries| -> Vec<String> {
            let processes = formation_of(&manifest("name = \"a\""), &entries).expect("processes");
            processes.into_keys().map(|name| name.to_string()).collect()
        };
        assert_eq!(names(HTTP), ["web"]);
        assert_eq!(names(Entries { events: true, ..HTTP }), ["web", "worker"]);
        assert_eq!(names(Entries { events: true, ..COMMAND }), ["worker"]);
        let refused = formation_of(&manifest("name = \"a\""), &COMMAND).expect_err("no process to run");
        assert!(refused.to_string().contains("isopod run"), "{refused}");
    }

    #[test]
    fn a_process_that_the_component_cannot_run_is_named() {
        let written = manifest("name = \"a\"\n[processes.jobs]\nentry = \"events\"\n");
        let refused = formation_of(&written, &HTTP).expect_err("no events handler");
        assert!(refused.to_string().contains("\"jobs\""), "{refused}");
    }

    #[test]
    fn an_upload_without_bytes_is_reported_as_empty() {
        let refused = verify(BundleKind::Component, Vec::new(), manifest("name = \"a\"")).err();
        assert!(refused.is_some_and(|refused| refused.to_string().contains("empty")));
    }

    #[test]
    fn text_is_refused_as_an_invalid_component() {
        let refused = verify(BundleKind::Component, b"hello".to_vec(), manifest("name = \"a\"")).err();
        assert_eq!(refused.map(|failure| failure.code()), Some("invalid-component"));
    }
}
