//! Checks that ARCHITECTURE.md, which says where each question is answered, names files and folders
//! that exist. Never checks what it says about them.

use super::{Finding, SourceFile};

const PATH: &str = "ARCHITECTURE.md";

/// The crates of the host, whose files the page names without `host/` and `src/`.
const CRATES: [&str; 5] = ["engine", "executor", "policy", "store", "toolchain"];

/// Returns a finding for each name of a file or folder that doesn't exist.
pub(super) fn broken(files: &[SourceFile]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == PATH) else { return Vec::new() };
    let named = page.text.lines().enumerate().flat_map(|(at, line)| names(line).map(move |name| (at + 1, name)));
    let missing = named.filter(|(_, name)| !exists(name, files));
    let finding = |(line, name)| Finding {
        path: PATH.to_owned(),
        line,
        rule: format!("`{name}` doesn't exist: name the file or folder that replaced it"),
    };
    missing.map(finding).collect()
}

/// Returns what a line names as code that ends like a file or a folder of the source.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ['_', '/'].contains(&c);
    let is_name = move |code: &&str| {
        let stem = code.strip_suffix(".rs").or_else(|| code.ends_with('/').then_some(*code));
        stem.is_some_and(|stem| stem.chars().all(is_of_path))
    };
    line.split('`').skip(1).step_by(2).filter(is_name)
}

/// Returns whether a file or folder has this name, which may omit the folders that contain it.
fn exists(name: &str, files: &[SourceFile]) -> bool {
    let of_crate = name.split_once('/').filter(|(first, _)| CRATES.contains(first));
    let whole = of_crate.map(|(name, rest)| format!("host/{name}/src/{rest}"));
    let is_named = |path: &str, name: &str| {
        let is_start = |at: usize| at == 0 || path[..at].ends_with('/');
        let is_end = |at: usize| name.ends_with('/') || at + name.len() == path.len();
        path.match_indices(name).any(|(at, _)| is_start(at) && is_end(at))
    };
    files.iter().any(|file| is_named(&file.path, name) || whole.as_deref().is_some_and(|name| file.path == name))
        || whole.is_some_and(|folder| folder.ends_with('/') && files.iter().any(|file| file.path.starts_with(&folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(page: &str) -> Vec<String> {
        let sources =
            ["host/src/control/app_task.rs", "host/src/control/app_task/commit.rs", "host/store/src/sql/a.rs"];
        let mut files: Vec<_> = sources.iter().map(|path| SourceFile::new(path, "")).collect();
        files.push(SourceFile::new(PATH, page));
        broken(&files).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_file_or_folder_that_does_not_exist_is_found() {
        let found = missing("# Title\n\nSee `control/app_task.rs`, `commit.rs` and `control/turns.rs`, in `gone/`.\n");
        let rule = "doesn't exist: name the file or folder that replaced it";
        assert_eq!(found, ["control/turns.rs", "gone/"].map(|name| format!("ARCHITECTURE.md:3: `{name}` {rule}")));
    }

    #[test]
    fn a_name_may_omit_the_folders_that_contain_it() {
        assert!(
            missing("`app_task/`, `app_task/commit.rs`, `host/src/control/`, `store/sql/`, `store/sql/a.rs`")
                .is_empty()
        );
        // A part of a name doesn't match.
        assert_eq!(missing("`task.rs`, `task/`, `store/sql.rs`").len(), 3);
    }

    #[test]
    fn other_code_is_ignored() {
        assert!(missing("`lost+found/`, `GET /v1/apps/`, `app.rs:12`, a/b.rs and `isopod up`").is_empty());
    }
}
