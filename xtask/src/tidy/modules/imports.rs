//! Reads which paths the code of a file names. Never decides which module a path belongs to.

use proc_macro2::{Delimiter, Ident, Spacing, TokenStream, TokenTree};
use std::collections::BTreeSet;

/// A path in the code, starting with `crate`, `self`, `super` or a child module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathUse {
    /// The module that contains the path.
    pub(super) module: Vec<String>,
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Whether the path is only re-exported.
    pub(super) is_reexport: bool,
}

/// The paths of a file, and the names that it imports.
#[derive(Default)]
pub(super) struct Imports {
    pub(super) paths: Vec<PathUse>,
    /// Modules that exist only for tests.
    pub(super) test_modules: Vec<Vec<String>>,
    /// Modules whose code is in this file.
    pub(super) inline: BTreeSet<Vec<String>>,
    /// The names that `use` declarations introduce.
    bindings: Vec<(String, PathUse)>,
    /// The identifiers outside `use` declarations.
    names: BTreeSet<String>,
}

impl Imports {
    /// `module` is the path of the file's module, `children` are its submodules.
    pub(super) fn read(text: &str, module: &[String], children: &BTreeSet<String>) -> Self {
        let mut found = Self::default();
        // Every file that compiles consists of tokens.
        let tokens: TokenStream = text.parse().unwrap_or_default();
        found.scan(tokens, module, children);
        found.mark_used_reexports();
        found
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.paths.extend(other.paths);
        self.test_modules.extend(other.test_modules);
        self.inline.extend(other.inline);
        self.bindings.extend(other.bindings);
    }

    /// Returns what a name of `module` was imported from.
    pub(super) fn binding(&self, module: &[String], name: &str) -> Option<&PathUse> {
        self.bindings.iter().find(|(bound, from)| bound == name && from.module == module).map(|(_, from)| from)
    }

    /// A file that uses what it re-exports depends on it.
    fn mark_used_reexports(&mut self) {
        for (name, from) in &self.bindings {
            let is_used = from.is_reexport && self.names.contains(name);
            self.paths.iter_mut().filter(|path| is_used && *path == from).for_each(|path| path.is_reexport = false);
        }
    }

    fn scan(&mut self, tokens: TokenStream, module: &[String], children: &BTreeSet<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_for_tests(tokens.get(at + 1)) => {
                    self.skip_item(&tokens[at..], module)
                }
                TokenTree::Group(group) => {
                    self.scan(group.stream(), module, children);
                    1
                }
                // `pub(in crate::pool)` names a module, but needs nothing of it.
                TokenTree::Ident(word) if word == "pub" => {
                    1 + usize::from(tokens.get(at + 1).is_some_and(is_parentheses))
                }
                // `impl Future + use<'_>` is a bound, not a declaration.
                TokenTree::Ident(word) if word == "use" && !is_angle(tokens.get(at + 1)) => {
                    let is_public = at.checked_sub(1).is_some_and(|before| ends_visibility(&tokens[before]));
                    1 + self.read_use(&tokens[at + 1..], (module, children), is_public)
                }
                TokenTree::Ident(word) if word == "mod" => match (tokens.get(at + 1), tokens.get(at + 2)) {
                    (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                        let inner = [module, &[name.to_string()]].concat();
                        self.scan(body.stream(), &inner, &BTreeSet::new());
                        self.inline.insert(inner);
                        3
                    }
                    _ => 2,
                },
                TokenTree::Ident(word) => self.read_path(word, &tokens[at..], (module, children)),
                TokenTree::Punct(_) if is_separator(&tokens[at..]) => {
                    // What follows continues a path.
                    2 + usize::from(matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))))
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
        }
    }

    /// Skips an item for tests. Returns its number of tokens.
    fn skip_item(&mut self, tokens: &[TokenTree], module: &[String]) -> usize {
        let is_end = |token: &TokenTree| match token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        let length = tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1);
        let declares = |pair: &&[TokenTree]| matches!(&pair[0], TokenTree::Ident(word) if word == "mod");
        if let Some([_, TokenTree::Ident(name)]) = tokens[..length].windows(2).find(declares) {
            self.test_modules.push([module, &[name.to_string()]].concat());
        }
        length
    }

    /// Reads a path outside a `use` declaration. Returns its number of tokens.
    fn read_path(
        &mut self,
        first: &Ident,
        tokens: &[TokenTree],
        (module, children): (&[String], &BTreeSet<String>),
    ) -> usize {
        self.names.insert(first.to_string());
        let mut segments = vec![first.to_string()];
        let mut length = 1;
        while is_separator(&tokens[length..])
            && let Some(TokenTree::Ident(segment)) = tokens.get(length + 2)
        {
            segments.push(segment.to_string());
            length += 3;
        }
        if segments.len() > 1 && is_internal(&segments[0], children) {
            let line = first.span().start().line;
            self.paths.push(PathUse { module: module.to_vec(), segments, line, is_reexport: false });
        }
        length
    }

    /// Reads a `use` declaration after its `use`. Returns its number of tokens.
    fn read_use(
        &mut self,
        tokens: &[TokenTree],
        (module, children): (&[String], &BTreeSet<String>),
        is_reexport: bool,
    ) -> usize {
        let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
        let length = tokens.iter().position(is_end).unwrap_or(tokens.len());
        let mut leaves = Vec::new();
        read_tree(&tokens[..length], &[], &mut leaves);
        for (segments, name, line) in leaves {
            let from = PathUse { module: module.to_vec(), segments, line, is_reexport };
            if from.segments.first().is_some_and(|first| is_internal(first, children)) {
                self.paths.push(from.clone());
            }
            self.bindings.push((name, from));
        }
        length
    }
}

/// Reads a tree of a `use` declaration into its leaves: path, bound name and line.
fn read_tree(tokens: &[TokenTree], prefix: &[String], leaves: &mut Vec<(Vec<String>, String, usize)>) {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    for tree in tokens.split(is_comma) {
        let mut path = prefix.to_vec();
        let mut line = None;
        let mut alias = None;
        for (at, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    alias = tree.get(at + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(segment) => {
                    line.get_or_insert(segment.span().start().line);
                    path.push(segment.to_string());
                }
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    read_tree(&inner, &path, leaves);
                    line = None;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
        let (Some(line), Some(last)) = (line, path.iter().rfind(|segment| *segment != "self")) else { continue };
        let name = alias.unwrap_or_else(|| last.clone());
        leaves.push((path, name, line));
    }
}

fn is_internal(first: &str, children: &BTreeSet<String>) -> bool {
    ["crate", "self", "super"].contains(&first) || children.contains(first)
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: Option<&TokenTree>, joint: bool| match token {
        Some(TokenTree::Punct(punct)) => punct.as_char() == ':' && (!joint || punct.spacing() == Spacing::Joint),
        _ => false,
    };
    is_colon(tokens.first(), true) && is_colon(tokens.get(1), false)
}

/// Returns whether a token ends `pub`, `pub(crate)` and the like.
fn ends_visibility(token: &TokenTree) -> bool {
    match token {
        TokenTree::Ident(word) => word == "pub",
        token => is_parentheses(token),
    }
}

fn is_angle(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == '<')
}

fn is_parentheses(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// Returns whether the attribute in brackets is a `cfg` that requires `test`.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = attribute else { return false };
    let mut tokens = group.stream().into_iter();
    let is_cfg = matches!(tokens.next(), Some(TokenTree::Ident(word)) if word == "cfg");
    is_cfg && matches!(tokens.next(), Some(TokenTree::Group(condition)) if requires_test(condition.stream()))
}

fn requires_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(word), TokenTree::Group(inner), ..] if word == "all" => requires_test(inner.stream()),
        [TokenTree::Ident(word), TokenTree::Group(_), ..] if word == "not" || word == "any" => false,
        tokens => tokens.iter().any(|token| matches!(token, TokenTree::Ident(word) if word == "test")),
    }
}
