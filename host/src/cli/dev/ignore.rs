//! Which files of a project are no sources: build folders, version control, editors' own files, and the simple lines of
//! `.gitignore` (names, `*`, a leading or trailing slash). Lines that take back others are not understood and skipped.

use std::path::Path;

use crate::cli::limits;

/// Folders that no project keeps sources in.
const FOLDERS: [&str; 6] = ["target", ".git", ".isopod", "node_modules", ".venv", "__pycache__"];
/// Endings of the files that editors and compilers leave beside sources.
const ENDINGS: [&str; 6] = ["~", ".swp", ".swx", ".swo", ".tmp", ".orig"];

/// One line of a `.gitignore`.
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// It holds a slash, so it means one place and not a name anywhere.
    anchored: bool,
    folders_only: bool,
}

/// What is to be ignored in one project.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

impl Ignore {
    /// Reads the `.gitignore` at the root of a project, if there is one.
    pub(crate) fn read(root: &Path) -> Ignore {
        Ignore::parse(&std::fs::read_to_string(root.join(".gitignore")).unwrap_or_default())
    }

    fn parse(text: &str) -> Ignore {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        Ignore { patterns: lines.map(pattern).take(limits::IGNORE_PATTERNS_MAX).collect() }
    }

    /// Whether a folder, given relative to the project, holds no sources.
    pub(crate) fn folder(&self, path: &Path) -> bool {
        self.any(path, true)
    }

    /// Whether a file, given relative to the project, is no source.
    pub(crate) fn file(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Vim tries whether it can write by making a file of this name; Emacs locks files with `.#name`.
        let editors = name == "4913" || name.starts_with(".#") || ENDINGS.iter().any(|ending| name.ends_with(ending));
        editors || self.any(path, false)
    }

    /// A path is ignored with every folder it lies in.
    fn any(&self, path: &Path, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        (1..=parts.len()).any(|end| {
            let folder = is_folder || end < parts.len();
            let name = parts[end - 1];
            (folder && FOLDERS.contains(&name))
                || self.patterns.iter().any(|pattern| pattern.fits(&parts[..end], folder))
        })
    }
}

impl Pattern {
    fn fits(&self, parts: &[&str], is_folder: bool) -> bool {
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

/// `*` stands for any run of characters but a slash, `?` for one.
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
                // Let the last star take one character more, and go on behind it.
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
    fn build_folders_are_ignored_without_being_told() {
        assert!(
            file("", "target/release/app.wasm") && file("", "web/node_modules/x/index.js") && file("", ".git/HEAD")
        );
        assert!(!file("", "src/target.rs") && !file("", "src/lib.rs"));
    }

    #[test]
    fn a_name_is_ignored_anywhere_and_a_place_only_there() {
        assert!(file("*.log\n", "a/b/x.log"));
        assert!(file("/dist\n", "dist/x.js") && !file("/dist\n", "src/dist/x.js"));
        assert!(file("docs/*.html\n", "docs/a.html") && !file("docs/*.html\n", "docs/a/b.html"));
    }

    #[test]
    fn a_trailing_slash_means_folders() {
        assert!(file("out/\n", "out/x") && !file("out/\n", "src/out"));
    }

    #[test]
    fn comments_and_lines_that_take_back_are_skipped() {
        assert!(!file("# src\n!src\n\n", "src/lib.rs"));
    }

    #[test]
    fn editors_files_are_no_sources() {
        assert!(["src/lib.rs~", "src/.lib.rs.swp", "4913", ".#lib.rs"].iter().all(|path| file("", path)));
    }

    #[test]
    fn stars_match_greedily_and_give_back() {
        assert!(
            glob("a*b*c", "axxbyyc")
                && glob("*.rs", "a.b.rs")
                && glob("*", "")
                && !glob("a*b", "axc")
                && glob("a?c", "abc")
        );
    }
}
