//! Decides which files of a project are not sources: build folders, version control, editors'
//! files, and simple patterns of `.gitignore` (names, `*`, a leading or trailing slash). Never
//! supports negated patterns; it skips them.

use std::path::Path;

use crate::cli::limits;

/// Folders that never contain sources.
const FOLDERS: [&str; 6] = ["target", ".git", ".isopod", "node_modules", ".venv", "__pycache__"];
/// Suffixes of the files that editors and compilers create beside sources.
const ENDINGS: [&str; 6] = ["~", ".swp", ".swx", ".swo", ".tmp", ".orig"];

/// One line of a `.gitignore`.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// The pattern contains a slash, so it matches one path and not a name anywhere.
    anchored: bool,
    folders_only: bool,
}

/// The ignore rules of one project.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

impl Ignore {
    /// Reads the `.gitignore` at the root of a project, if it exists.
    pub(crate) fn read(root: &Path) -> Ignore {
        Ignore::parse(&std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default())
    }

    fn parse(text: &str) -> Ignore {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        Ignore { patterns: lines.map(pattern).take(limits::IGNORE_PATTERNS_MAX).collect() }
    }

    /// Returns whether a folder, given relative to the project, contains no sources.
    pub(crate) fn folder(&self, path: &Path) -> bool {
        self.any(path, true)
    }

    /// Returns whether a file, given relative to the project, is not a source.
    pub(crate) fn file(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Vim checks for write access by creating a file of this name; Emacs locks files with
        // `.#name`.
        let editors = name == "4913" || name.starts_with(".#") || ENDINGS.iter().any(|ending| name.ends_with(ending));
        editors || self.any(path, false)
    }

    /// Returns whether the path or a folder above it is ignored.
    fn any(&self, path: &Path, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        (1..=parts.len()).any(|end| {
            let folder = is_folder || end < parts.len();
            let name = parts[end - 1];
            (folder && FOLDERS.contains(&name))
                || self.patterns.iter().any(|pattern| pattern.matches(&parts[..end], folder))
        })
    }
}

impl Pattern {
    fn matches(&self, parts: &[&str], is_folder: bool) -> bool {
        if self.folders_only && !is_folder {
            return false;
        }
        if self.anchored {
            glob(&self.text, &parts.join("/"))
        } else {
            parts.last().is_some_and(|name| glob(&self.text, name))
        }
    }
}

fn pattern(line: &str) -> Pattern {
    let folders_only = line.ends_with('/');
    let text = line.trim_end_matches('/');
    let anchored = text.contains('/') && !text.starts_with("**/");
    let text = text.trim_start_matches("**/").trim_start_matches('/');
    Pattern { text: text.to_owned(), anchored, folders_only }
}

/// Matches a glob: `*` matches any characters except a slash, `?` matches one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&expected) if expected == text[t] || (expected == '?' && text[t] != '/') => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                // Let the last star match one more character, and continue after it.
                Some((star, taken)) if text[taken] != '/' => {
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &str, path: &str) -> bool {
        Ignore::parse(lines).file(Path::new(path))
    }

    #[test]
    fn build_folders_are_ignored_by_default() {
        assert!(
            file("", "target/release/app.wasm") && file("", "web/node_modules/x/index.js") && file("", ".git/HEAD")
        );
        assert!(!file("", "src/target.rs") && !file("", "src/lib.rs"));
    }

    #[test]
    fn a_name_is_ignored_anywhere_and_a_path_only_at_that_path() {
        assert!(file("*.log\n", "a/b/x.log"));
        assert!(file("/dist\n", "dist/x.js") && !file("/dist\n", "src/dist/x.js"));
        assert!(file("docs/*.html\n", "docs/a.html") && !file("docs/*.html\n", "docs/a/b.html"));
    }

    #[test]
    fn a_trailing_slash_matches_folders_only() {
        assert!(file("out/\n", "out/x") && !file("out/\n", "src/out"));
    }

    #[test]
    fn comments_and_negated_patterns_are_skipped() {
        assert!(!file("# src\n!src\n\n", "src/lib.rs"));
    }

    #[test]
    fn editors_files_are_not_sources() {
        assert!(["src/lib.rs~", "src/.lib.rs.swp", "4913", ".#lib.rs"].iter().all(|path| file("", path)));
    }

    #[test]
    fn stars_match_with_backtracking() {
        assert!(
            glob("a*b*c", "axxbyyc")
                && glob("*.rs", "a.b.rs")
                && glob("*", "")
                && !glob("a*b", "axc")
                && glob("a?c", "abc")
        );
    }
}
