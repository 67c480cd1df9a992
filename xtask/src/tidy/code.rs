//! Splits Rust source into code and comments: everything else becomes blanks, so that lines and
//! columns stay. Never parses: it only recognises where comments and literals start and end.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Returns the code of `source` without comments, strings and characters.
pub(super) fn only(source: &str) -> String {
    keep(source, Kind::Code)
}

/// Returns the comments of `source` with their `//`.
pub(super) fn comments(source: &str) -> String {
    keep(source, Kind::Comment)
}

fn keep(source: &str, kept: Kind) -> String {
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while let Some((kind, length)) = piece(source, at) {
        let piece = &source[at..at + length];
        let blank = |c: char| if kind == kept || c == '\n' { c } else { ' ' };
        out.extend(piece.chars().map(blank));
        at += length;
    }
    out
}

/// Returns the kind and length of the next piece. A piece of code is a single character.
fn piece(source: &str, at: usize) -> Option<(Kind, usize)> {
    let rest = &source[at..];
    let first = rest.chars().next()?;
    if let Some(length) = comment(rest) {
        return Some((Kind::Comment, length));
    }
    let literal = raw_text(rest, &source[..at]).or_else(|| text(rest)).or_else(|| character(rest));
    Some(literal.map_or((Kind::Code, first.len_utf8()), |length| (Kind::Literal, length)))
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// Recognises `r"…"`, `r#"…"#` and the same after `b` or `c`. `before` is the source so far: after
/// a letter, `r` is the end of a name.
fn raw_text(rest: &str, before: &str) -> Option<usize> {
    if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let opened = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = opened.len() - opened.trim_start_matches('#').len();
    let body = opened[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + length)
}

fn text(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 2),
            _ => {}
        }
    }
    Some(rest.len())
}

/// Recognises `'x'` and `'\n'`. A lifetime has no closing quote.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if let Some(escape) = body.strip_prefix('\\') {
        let mut after = escape.char_indices().skip(1);
        return after.find(|(_, c)| *c == '\'').map(|(at, _)| at + 3);
    }
    let first = body.chars().next()?;
    body[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

#[cfg(test)]
mod tests {
    use super::{comments, only};

    #[test]
    fn comments_and_strings_become_blanks_and_lines_stay() {
        assert_eq!(only("a // b\nc"), "a     \nc");
        assert_eq!(only("a /* b /* c */ d\n */ e"), "a               \n    e");
        assert_eq!(only(r#"say("a \" b", c)"#), r"say(        , c)");
        assert_eq!(only("r#\"a \" b\"# + raw(r\"\\\")"), "           + raw(    )");
    }

    #[test]
    fn characters_are_distinguished_from_lifetimes() {
        assert_eq!(only("f::<'a>('\"', x)"), "f::<'a>(   , x)");
        assert_eq!(only(r"('\'', '\u{7f}', y)"), "(    ,         , y)");
    }

    #[test]
    fn a_url_in_a_string_is_not_a_comment() {
        assert_eq!(comments("get(\"http://a\"); // b"), "                 // b");
        assert_eq!(comments("/// a\nlet r = 'b';"), "/// a\n            ");
    }
}
