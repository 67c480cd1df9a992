//! The rules about language: how many vague phrases and technical terms the prose of each part
//! contains, how wide lines are, and how long the cells of tables are. Prose is the comments of
//! Rust and WIT files and the text of Markdown files, without code. Never changes a file.

use std::collections::BTreeMap;

use super::{Finding, SourceFile, code, limits_index, terms};

/// The limit of vague phrases per 1,000 words of a part. Good technical documentation has 1 to 2; a
/// few of the phrases are sometimes the right words.
const PHRASES_PER_THOUSAND_WORDS_MAX: usize = 3;

/// The minimum of technical terms per 1,000 words of a part. Prose with fewer describes mechanisms
/// without naming them.
const TERMS_PER_THOUSAND_WORDS_MIN: usize = 35;

/// The minimum of words for which the number of technical terms is significant.
const WORDS_JUDGED_MIN: usize = 250;

const COLUMNS_MAX: usize = 120;

/// The limit of words in a cell of a table: a cell is a phrase. More belong into a paragraph.
const CELL_WORDS_MAX: usize = 30;

/// The limit for whole-line comments, which rustfmt doesn't wrap.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Parts that still have too many vague phrases. An entry that is clean fails the check, so the
/// list only shrinks.
#[rustfmt::skip]
const NOT_YET_CLEAN: &[&str] = &[
];

/// Parts that still have lines that are too wide. Its entries are checked in the same way.
#[rustfmt::skip]
const NOT_YET_WRAPPED: &[&str] = &[
];

/// Words in place of an actor or a mechanism, and verbs of a story in place of those of a system.
const PHRASES: &[&str] = &[
    "all the same",
    "any more",
    "anybody",
    "are told",
    "as it is",
    "at once",
    "but for",
    "come to",
    "comes to",
    "everybody",
    "for good",
    "give way",
    "gives way",
    "go on",
    "goes on",
    "heard",
    "hear",
    "hears",
    "in line",
    "is none",
    "are none",
    "is so",
    "is told",
    "is well",
    "are well",
    "its turn",
    "let go",
    "lets go",
    "mend",
    "mended",
    "mends",
    "nobody",
    "of it",
    "of them",
    "once more",
    "ones",
    "so many",
    "so much",
    "somebody",
    "stand",
    "standing",
    "stands",
    "stood",
    "tell",
    "tells",
    "that one",
    "the one",
    "there is none",
    "told",
    "unwell",
    "was told",
    "went on",
    "what are",
    "what has",
    "what is",
    "what was",
    "whatever",
    "who",
    "whoever",
    "whom",
    "whose",
];

/// Returns every phrase of the parts that have too many, the parts that have too few terms, every
/// line that is too wide, and the obsolete entries of the two lists.
pub(super) fn broken(files: &[SourceFile]) -> Vec<Finding> {
    let (parts, wide) = (parts(files), too_wide(files));
    let stale = stale(&parts, &wide, NOT_YET_CLEAN, NOT_YET_WRAPPED);
    vague(&parts)
        .chain(plain(&parts))
        .chain(wide.into_iter().filter(|line| !NOT_YET_WRAPPED.contains(&part(&line.path))))
        .chain(files.iter().flat_map(long_cells))
        .chain(stale)
        .collect()
}

fn vague<'a>(parts: &'a BTreeMap<&str, Prose<'_>>) -> impl Iterator<Item = Finding> + 'a {
    let is_checked = |(name, prose): &(&&str, &Prose<'_>)| !NOT_YET_CLEAN.contains(*name) && !prose.is_clean();
    parts.iter().filter(is_checked).flat_map(|(name, prose)| prose.findings(name))
}

/// Returns the parts whose prose has too few technical terms.
fn plain(parts: &BTreeMap<&str, Prose<'_>>) -> Vec<Finding> {
    let is_plain = |(_, prose): &(&&str, &Prose<'_>)| prose.is_plain();
    parts.iter().filter(is_plain).map(|(name, prose)| prose.too_plain(name)).collect()
}

fn stale(
    parts: &BTreeMap<&str, Prose<'_>>,
    wide: &[Finding],
    not_yet_clean: &[&str],
    not_yet_wrapped: &[&str],
) -> Vec<Finding> {
    let is_clean = |name: &&&str| parts.get(**name).is_none_or(Prose::is_clean);
    let is_wrapped = |name: &&&str| !wide.iter().any(|line| part(&line.path) == **name);
    let remove = |name: &&str, list| Finding {
        path: "xtask/src/tidy/language.rs".into(),
        line: 1,
        rule: format!("`{name}` follows the rule now: remove it from {list}"),
    };
    let clean = not_yet_clean.iter().filter(is_clean).map(|name| remove(name, "NOT_YET_CLEAN"));
    let wrapped = not_yet_wrapped.iter().filter(is_wrapped).map(|name| remove(name, "NOT_YET_WRAPPED"));
    clean.chain(wrapped).collect()
}

/// The counts of one part.
#[derive(Default)]
struct Prose<'a> {
    words: usize,
    terms: usize,
    /// Path, line and phrase.
    vague: Vec<(&'a str, usize, &'static str)>,
}

impl<'a> Prose<'a> {
    fn add(&mut self, path: &'a str, paragraph: &Paragraph) {
        let words = paragraph.text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric));
        self.words += words.clone().count();
        self.terms += words.filter(|word| terms::is_term(word)).count();
        self.vague
            .extend(phrases_in(&paragraph.text).into_iter().map(|(at, phrase)| (path, paragraph.line_of(at), phrase)));
    }

    fn is_clean(&self) -> bool {
        self.vague.len() * 1000 <= self.words * PHRASES_PER_THOUSAND_WORDS_MAX
    }

    fn is_plain(&self) -> bool {
        self.words >= WORDS_JUDGED_MIN && self.terms * 1000 < self.words * TERMS_PER_THOUSAND_WORDS_MIN
    }

    fn too_plain(&self, part: &str) -> Finding {
        let (count, words) = (self.terms, self.words);
        let rule = format!(
            "{count} technical terms in {words} words; at least {TERMS_PER_THOUSAND_WORDS_MIN} per 1,000: name each \
             mechanism by its term (xtask/src/tidy/terms.rs)"
        );
        Finding { path: part.to_owned(), line: 1, rule }
    }

    fn findings(&self, part: &str) -> impl Iterator<Item = Finding> {
        let (count, words) = (self.vague.len(), self.words);
        self.vague.iter().map(move |&(path, line, phrase)| Finding {
            path: path.to_owned(),
            line,
            rule: format!(
                "vague phrase `{phrase}`: name the actor and the mechanism ({count} in {words} words of `{part}`; at \
                 most {PHRASES_PER_THOUSAND_WORDS_MAX} per 1,000)"
            ),
        })
    }
}

fn parts(files: &[SourceFile]) -> BTreeMap<&str, Prose<'_>> {
    let mut parts = BTreeMap::<&str, Prose<'_>>::new();
    for file in files {
        for paragraph in paragraphs(file) {
            parts.entry(part(&file.path)).or_default().add(&file.path, &paragraph);
        }
    }
    parts
}

/// Returns the top-level folder of a file; below `host/` also the next folder. A file of the root
/// is a part of its own.
fn part(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(at, _)| at);
    let first = slashes.next();
    let end = if path.starts_with("host/") { slashes.next().or(first) } else { first };
    end.map_or(path, |end| &path[..end])
}

/// Consecutive lines of prose, joined by spaces: a phrase may continue on the next line.
#[derive(Default)]
struct Paragraph {
    text: String,
    /// The offset in `text` and the number in the file of each line.
    starts: Vec<(usize, usize)>,
}

impl Paragraph {
    fn push(&mut self, line: usize, text: &str) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.starts.push((self.text.len(), line));
        self.text.push_str(text);
    }

    fn line_of(&self, at: usize) -> usize {
        let before = self.starts.partition_point(|(start, _)| *start <= at);
        self.starts.get(before.saturating_sub(1)).map_or(1, |(_, line)| *line)
    }

    /// Replaces each `` `code` `` by a word of the same length.
    fn without_code(mut self) -> Paragraph {
        let is_closed = self.text.matches('`').count().is_multiple_of(2);
        let mut within = false;
        let blank = |c: char| {
            within ^= c == '`';
            if is_closed && (within || c == '`') { "x".repeat(c.len_utf8()) } else { c.to_string() }
        };
        self.text = self.text.chars().map(blank).collect();
        self
    }
}

/// Returns the prose of a file without blocks of code.
fn paragraphs(file: &SourceFile) -> Vec<Paragraph> {
    let (text, prefixes): (_, &[&str]) = match () {
        () if file.is_rust() => (code::comments(&file.text), &["///", "//!", "//", "/*"]),
        () if file.path.ends_with(".wit") => (wit_comments(&file.text), &["///", "//"]),
        () if file.path.ends_with(".md") => (file.text.clone(), &[]),
        () => return Vec::new(),
    };
    let mut paragraphs = vec![Paragraph::default()];
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        let comment = prefixes.iter().find_map(|prefix| line.trim().strip_prefix(prefix));
        // A block of code in a comment ends with the comment.
        in_code &= prefixes.is_empty() || comment.is_some();
        let prose = comment.unwrap_or(line).trim();
        let is_fence = prose.starts_with("```");
        in_code ^= is_fence;
        if in_code || is_fence || prose.is_empty() {
            paragraphs.push(Paragraph::default());
        } else if let Some(paragraph) = paragraphs.last_mut() {
            paragraph.push(at + 1, prose);
        }
    }
    paragraphs.retain(|paragraph| !paragraph.text.is_empty());
    paragraphs.into_iter().map(Paragraph::without_code).collect()
}

/// Returns the comments of WIT, which has no strings. Other lines become empty.
fn wit_comments(text: &str) -> String {
    let comment = |line: &str| line.find("//").map_or(String::new(), |at| line[at..].to_owned());
    text.lines().map(comment).collect::<Vec<_>>().join("\n")
}

/// Returns the phrases of a text with their offsets. Of two at the same word the longer one counts.
fn phrases_in(text: &str) -> Vec<(usize, &'static str)> {
    let text = text.to_ascii_lowercase();
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(of_word) {
        rest = &rest[start..];
        let is_here = |phrase: &&&str| rest.strip_prefix(**phrase).is_some_and(|after| !after.starts_with(of_word));
        if let Some(phrase) = PHRASES.iter().filter(is_here).max_by_key(|phrase| phrase.len()) {
            found.push((text.len() - rest.len(), *phrase));
            rest = &rest[phrase.len()..];
        } else {
            rest = rest.trim_start_matches(of_word);
        }
    }
    found
}

/// Returns the lines of Rust, Markdown and WIT that are too wide. Rows of tables and lines with
/// links can't be wrapped.
fn too_wide(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().flat_map(too_wide_in).collect()
}

fn too_wide_in(file: &SourceFile) -> Vec<Finding> {
    let is_markdown = file.path.ends_with(".md");
    if !(file.is_rust() || is_markdown || file.path.ends_with(".wit")) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (at, (line, code)) in file.text.lines().zip(file.code.lines().chain(std::iter::repeat(""))).enumerate() {
        let is_comment = file.is_rust() && code.trim().is_empty() && line.trim_start().starts_with("//");
        let text = line.trim_start().trim_start_matches(['/', '!']).trim_start();
        let is_exempt = (is_markdown || is_comment) && (text.starts_with('|') || text.contains("://"))
            || is_markdown && text.contains("](");
        let max = if is_comment { COMMENT_COLUMNS_MAX } else { COLUMNS_MAX };
        let columns = line.chars().count();
        if columns > max && !is_exempt {
            let rule = format!("the line has {columns} columns; at most {max}");
            findings.push(Finding { path: file.path.clone(), line: at + 1, rule });
        }
    }
    findings
}

/// Returns the lines of Markdown with a cell of a table that is too long. The cells of the index of
/// limits are comments of the source.
fn long_cells(file: &SourceFile) -> Vec<Finding> {
    let mut in_code = false;
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        let is_row = file.path.ends_with(".md") && file.path != limits_index::PATH && line.starts_with('|');
        let words = |cell: &str| cell.split_whitespace().count();
        let longest = line.replace("\\|", "").split('|').map(words).max().unwrap_or_default();
        if is_row && !in_code && longest > CELL_WORDS_MAX {
            let rule = format!("a cell of the table has {longest} words; at most {CELL_WORDS_MAX}");
            findings.push(Finding { path: file.path.clone(), line: at + 1, rule });
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, String)> {
        let files = [SourceFile::new(path, text)];
        vague(&parts(&files)).chain(too_wide(&files)).map(|finding| (finding.line, finding.rule)).collect()
    }

    fn vague_lines(path: &str, text: &str) -> Vec<usize> {
        found(path, text).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_vague_phrase_in_a_clean_part_is_found() {
        let findings = found("clean/a.rs", "//! Plain.\n\n/// Whoever waits is told.\nfn f() {}\n");
        assert_eq!(findings.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 3]);
        assert!(findings[0].1.starts_with("vague phrase `whoever`"), "{findings:?}");
        assert!(findings[1].1.starts_with("vague phrase `is told`"), "{findings:?}");
        assert_eq!(vague_lines("clean/README.md", "# Title\n\nA lot of it.\n"), [3]);
    }

    #[test]
    fn a_few_phrases_in_a_long_text_are_allowed() {
        let text = |phrases: usize| format!("//! {}{}\n", "word\n//! ".repeat(1000), "nobody\n//! ".repeat(phrases));
        assert!(found("clean/a.rs", &text(3)).is_empty());
        assert_eq!(found("clean/a.rs", &text(4)).len(), 4);
    }

    #[test]
    fn a_part_with_too_few_technical_terms_is_found() {
        let text = |terms: usize, words: usize| format!("{}{}\n", "a queue ".repeat(terms), "word ".repeat(words));
        let plain = |text: &str| plain(&parts(&[SourceFile::new("clean/README.md", text)]));
        assert!(plain(&text(35, 930)).is_empty());
        let found = plain(&text(34, 932));
        assert_eq!(
            found.iter().map(|finding| (finding.path.as_str(), finding.line)).collect::<Vec<_>>(),
            [("clean", 1)]
        );
        assert!(found[0].rule.starts_with("34 technical terms in 1000 words"), "{found:?}");
        assert!(plain(&text(0, WORDS_JUDGED_MIN - 1)).is_empty());
    }

    #[test]
    fn only_prose_is_counted() {
        for text in [
            "let whoever = \"nobody // nobody\";",
            "/// Returns `of it`, `a lot\n/// of it` and the stance.",
            "/// # Examples\n/// ```\n/// // Nobody.\n/// ```",
        ] {
            assert!(found("clean/a.rs", text).is_empty(), "{text}");
        }
        assert!(found("clean/README.md", "```sh\n# nobody\n```\n").is_empty());
        assert_eq!(vague_lines("clean/a.rs", "/// ```\n/// // Nobody.\nfn f() {}\n// Nobody.\n"), [4]);
        assert_eq!(vague_lines("clean/a.wit", "/// Nobody.\nnobody: func();\nf: func(); // Nobody.\n"), [1, 3]);
    }

    #[test]
    fn a_phrase_may_continue_on_the_next_line() {
        assert_eq!(vague_lines("clean/a.rs", "// A lot of\n// it.\n"), [1]);
        assert!(found("clean/a.rs", "// A lot of\n\n// it.\n").is_empty());
    }

    #[test]
    fn parts_are_the_top_level_folders_and_those_of_the_host() {
        let paths = ["host/src/main.rs", "host/engine/wit/a.wit", "host/build.rs", "sdk/rust/src/lib.rs", "README.md"];
        assert_eq!(paths.map(part), ["host/src", "host/engine", "host", "sdk", "README.md"]);
    }

    #[test]
    fn an_entry_for_a_clean_part_is_found() {
        let vague = SourceFile::new("vague/a.rs", "// Nobody.\n");
        let clean = SourceFile::new("clean/a.rs", "// A comment.\n");
        let files = [vague, clean];
        let stale = stale(&parts(&files), &too_wide(&files), &["vague", "clean"], &["vague"]);
        let rules: Vec<&str> = stale.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(
            rules,
            [
                "`clean` follows the rule now: remove it from NOT_YET_CLEAN",
                "`vague` follows the rule now: remove it from NOT_YET_WRAPPED"
            ]
        );
    }

    #[test]
    fn long_cells_of_tables_are_found() {
        let row = |words: usize| format!("| word | {}|\n", "word ".repeat(words));
        let lines = |path: &str, text: &str| long_cells(&SourceFile::new(path, text)).len();
        assert_eq!((lines("clean/README.md", &row(30)), lines("clean/README.md", &row(31))), (0, 1));
        assert_eq!(lines("clean/README.md", &format!("```\n{}```\n", row(31))), 0);
        assert_eq!((lines(limits_index::PATH, &row(31)), lines("clean/a.rs", &row(31))), (0, 0));
    }

    #[test]
    fn wide_lines_are_found() {
        let line = |start: &str, columns: usize| format!("{start}{}\n", "ä".repeat(columns - start.chars().count()));
        assert!(found("clean/a.rs", &line("/// ", 100)).is_empty());
        assert_eq!(found("clean/a.rs", &line("    // ", 101)).len(), 1);
        assert_eq!(found("clean/a.rs", &line("let x = ", 121)).len(), 1);
        assert!(found("clean/a.rs", &line("let x = ", 120)).is_empty());
        assert_eq!(found("clean/README.md", &line("- ", 121)).len(), 1);
        assert!(found("clean/README.md", &line("| ", 121)).is_empty());
        assert!(found("clean/README.md", &line("[a](b) ", 121)).is_empty());
    }
}
