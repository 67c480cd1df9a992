//! The files of the dashboard, which the program contains. Never serves one.

/// A file of the dashboard.
pub(super) struct File {
    /// The path below the folder `dashboard`.
    pub(super) path: &'static str,
    pub(super) bytes: &'static [u8],
    pub(super) content_type: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! file {
    ($path:literal, $content_type:expr) => {
        File {
            path: $path,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboard/", $path)),
            content_type: $content_type,
        }
    };
}

pub(super) const PAGE: File = file!("index.html", "text/html; charset=utf-8");

pub(super) const FILES: &[File] = &[
    file!("activity.js", SCRIPT),
    file!("alerts.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("app-page.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("audit.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("config.js", SCRIPT),
    file!("counters.js", SCRIPT),
    file!("events.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("formation.js", SCRIPT),
    file!("hooks.js", SCRIPT),
    file!("icon.svg", "image/svg+xml"),
    file!("instances.js", SCRIPT),
    file!("lib.js", SCRIPT),
    file!("load.js", SCRIPT),
    file!("logs.js", SCRIPT),
    file!("overview.js", SCRIPT),
    file!("pushes.js", SCRIPT),
    file!("releases.js", SCRIPT),
    file!("route.js", SCRIPT),
    file!("schedules.js", SCRIPT),
    file!("stream.js", SCRIPT),
    file!("style.css", STYLE),
    file!("ui.js", SCRIPT),
    file!("vendor/LICENSE-htm", TEXT),
    file!("vendor/LICENSE-preact", TEXT),
    file!("vendor/LICENSE-uplot", TEXT),
    file!("vendor/htm.js", SCRIPT),
    file!("vendor/preact-hooks.js", SCRIPT),
    file!("vendor/preact.js", SCRIPT),
    file!("vendor/uplot.css", STYLE),
    file!("vendor/uplot.js", SCRIPT),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use sha2::{Digest, Sha256};

    use super::*;

    fn add_all(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("the folder is read") {
            let entry = entry.expect("the entry is read");
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => add_all(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name)),
            }
        }
    }

    #[test]
    fn the_program_contains_every_file_of_the_dashboard() {
        let mut found = BTreeSet::new();
        add_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard"), "", &mut found);
        found.retain(|path| !path.ends_with(".md"));
        let known: Vec<String> = FILES.iter().chain([&PAGE]).map(|file| file.path.to_owned()).collect();
        assert_eq!(known.iter().cloned().collect::<BTreeSet<_>>(), found);
        assert_eq!(known.len(), found.len(), "a file is contained once");
    }

    #[test]
    fn each_vendored_file_has_the_digest_in_the_table() {
        let table = include_str!("../../../../dashboard/vendor/README.md");
        let row = |name: &str| table.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let vendored = FILES.iter().filter_map(|file| Some((file.path.strip_prefix("vendor/")?, file.bytes)));
        let pinned: Vec<_> = vendored.filter(|(name, _)| !name.starts_with("LICENSE-")).collect();
        assert!(pinned.len() >= 5, "{} files", pinned.len());
        for (name, bytes) in pinned {
            let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let row = row(name).unwrap_or_else(|| panic!("{name} is missing in dashboard/vendor/README.md"));
            assert!(row.ends_with(&format!("| `{digest}` |")), "{name} has the digest {digest}: {row}");
        }
    }
}
