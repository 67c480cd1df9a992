//! Checks rules about the source that no compiler checks: dependencies between parts, import
//! cycles, file lengths, forbidden words, language, the code map, the index of limits. `cargo xtask
//! tidy` prints the violations, and a test of this package fails on them. Never changes a source
//! file.

mod code;
mod code_map;
mod language;
mod limits_index;
mod modules;
mod rules;
mod terms;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::step;

/// A file of the repository.
pub(crate) struct SourceFile {
    /// The path from the repository's root, with `/`.
    path: String,
    text: String,
    /// The text without comments and literals; empty unless the file is Rust.
    code: String,
}

impl SourceFile {
    fn new(path: &str, text: &str) -> SourceFile {
        let code = if path.ends_with(".rs") { code::only(text) } else { String::new() };
        SourceFile { path: path.to_owned(), text: text.to_owned(), code }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Returns whether the file is in the folder, or the file of the module with this folder.
    fn is_below(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    }
}

/// A line that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

pub(crate) fn run() -> Result<()> {
    step::announce("tidiness");
    let findings = findings(&read_repository(&step::root())?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} lines break a rule of xtask/src/tidy", findings.len());
    }
    Ok(())
}

/// Writes the index of all limits.
pub(crate) fn write_limits() -> Result<()> {
    let root = step::root();
    let text = limits_index::index(&read_repository(&root)?);
    fs::write(root.join(limits_index::PATH), text).with_context(|| format!("cannot write {}", limits_index::PATH))
}

/// A rule: returns where the files break it.
type Check = fn(&[SourceFile]) -> Vec<Finding>;

fn findings(files: &[SourceFile]) -> Vec<Finding> {
    let checks: [Check; 5] = [rules::broken, language::broken, code_map::broken, limits_index::broken, modules::broken];
    checks.iter().flat_map(|broken| broken(files)).collect()
}

/// Folders of build outputs, downloads and tools.
const IGNORED: [&str; 8] = [".git", ".isopod", "artifacts", "corpus", "deps", "dist", "node_modules", "target"];

fn read_repository(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    read_folder(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), files)?;
        } else if [".rs", ".toml", ".md", ".js", ".ts", ".wit", ".css", ".html", "/run"]
            .iter()
            .any(|end| path.ends_with(end))
        {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push(SourceFile::new(&path, &text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_follows_its_rules() {
        let files = read_repository(&step::root()).expect("the repository can be read");
        assert!(files.iter().any(|file| file.path == "xtask/src/tidy.rs"), "the search misses files");
        let findings: Vec<String> = findings(&files).iter().map(Finding::to_string).collect();
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }
}
