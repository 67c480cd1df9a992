//! Owns the stripping of Rust source to what the compiler acts on: comments, texts and characters become blanks, lines
//! stay. No parser: it only knows where such things begin and end.

/// The code alone, line by line as in `source`.
pub(super) fn only(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| raw_text(rest, &out)).or_else(|| text(rest)).or_else(|| character(rest));
        match skipped {
            Some(length) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
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

/// `r"…"`, `r#"…"#` and the same with `b` or `c` before; `before` is the code so far, since `r` may end a name.
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

/// `'x'` or `'\n'`; a lifetime has no closing quote.
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
    use super::only;

    #[test]
    fn comments_and_texts_are_blanked_and_lines_stay() {
        assert_eq!(only("a // b\nc"), "a     \nc");
        assert_eq!(only("a /* b /* c */ d\n */ e"), "a               \n    e");
        assert_eq!(only(r#"say("a \" b", c)"#), r"say(        , c)");
        assert_eq!(only("r#\"a \" b\"# + raw(r\"\\\")"), "           + raw(    )");
    }

    #[test]
    fn characters_are_told_from_lifetimes() {
        assert_eq!(only("f::<'a>('\"', x)"), "f::<'a>(   , x)");
        assert_eq!(only(r"('\'', '\u{7f}', y)"), "(    ,         , y)");
    }
}
