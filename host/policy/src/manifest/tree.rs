//! Walks the TOML tree of a manifest with the position of every key and value, so that each error
//! names its position and the valid alternatives. Owns positions and value types; never interprets
//! the keys.

use std::fmt::Display;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ManifestError, ManifestProblem};
use crate::app_limits::{SetError, WrittenLimit};
use crate::json::explain_data;
use crate::limits::{TEXT_BYTES_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::nearest::nearest;
use crate::text::excerpt;

type Value<'t> = Spanned<DeValue<'t>>;
pub(super) type Outcome<T> = Result<T, ManifestError>;

/// The text of the file, to compute lines and columns.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
}

impl Reader<'_> {
    pub(super) fn error(&self, offset: Option<usize>, problem: ManifestProblem) -> ManifestError {
        let before = offset.and_then(|offset| self.text.get(..offset));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let column = before.map(|before| before.rsplit('\n').next().unwrap_or("").chars().count() + 1);
        ManifestError { line, column, problem }
    }
}

/// Parses TOML text and interprets its tree.
pub(super) fn read_text<T>(text: &str, read: impl FnOnce(&Table<'_, '_>) -> Outcome<T>) -> Outcome<T> {
    let reader = Reader { text };
    let tree = DeTable::parse(text).map_err(|error| {
        let message = explain(text, &error);
        reader.error(error.span().map(|span| span.start), ManifestProblem::Syntax { message })
    })?;
    read(&Table { reader: &reader, path: "", at: 0, entries: tree.get_ref() })
}

/// Explains an error of the TOML library in plain words, without its position.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    match (error.message(), error.span().and_then(|span| text.get(span))) {
        ("duplicate key", Some(key)) => {
            format!("the key `{}` appears more than once", excerpt(key, TEXT_NAME_BYTES_SHOWN))
        }
        (message, _) => explain_data(message).replacen("member", "key", 1),
    }
}

/// A table of the file, with the path of keys that leads to it.
pub(super) struct Table<'r, 't> {
    pub(super) reader: &'r Reader<'r>,
    pub(super) path: &'r str,
    pub(super) at: usize,
    pub(super) entries: &'r DeTable<'t>,
}

/// The value of a key.
pub(super) struct Found<'r, 't> {
    pub(super) reader: &'r Reader<'r>,
    pub(super) key: String,
    pub(super) value: &'r Value<'t>,
}

impl<'r, 't> Table<'r, 't> {
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Refuses unknown keys, and names the nearest known one.
    pub(super) fn only(&self, known: &[&str]) -> Outcome<()> {
        for name in self.entries.keys() {
            if known.contains(&name.get_ref().as_ref()) {
                continue;
            }
            let given: String = name.get_ref().chars().take(80).collect();
            let nearest = nearest(&given, known.iter().copied()).map(|near| self.key(near));
            let known = known.join(", ");
            let problem = ManifestProblem::UnknownKey { key: self.key(&given), nearest, known };
            return Err(self.reader.error(Some(name.span().start), problem));
        }
        Ok(())
    }

    pub(super) fn at_most(&self, max: usize) -> Outcome<()> {
        let count = self.entries.len();
        if count <= max {
            return Ok(());
        }
        let problem = ManifestProblem::TooMany { key: self.path.to_owned(), count, max };
        Err(self.reader.error(Some(self.at), problem))
    }

    pub(super) fn find(&self, name: &str) -> Option<Found<'r, 't>> {
        let (_, value) = self.entries.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(Found { reader: self.reader, key: self.key(name), value })
    }

    pub(super) fn missing(&self, name: &str, example: &'static str) -> ManifestError {
        self.reader.error(Some(self.at), ManifestProblem::Missing { key: self.key(name), example })
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'r Spanned<toml::de::DeString<'t>>, Found<'r, 't>)> {
        self.entries.iter().map(|(name, value)| {
            let shown: String = name.get_ref().chars().take(80).collect();
            (name, Found { reader: self.reader, key: self.key(&shown), value })
        })
    }

    /// Parses the text of a key.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Outcome<Option<T>> {
        self.find(name).map(|found| found.parsed()).transpose()
    }
}

impl<'r, 't> Found<'r, 't> {
    pub(super) fn error(&self, problem: ManifestProblem) -> ManifestError {
        self.reader.error(Some(self.value.span().start), problem)
    }

    pub(super) fn invalid(&self, why: impl Display) -> ManifestError {
        self.error(ManifestProblem::Invalid { key: self.key.clone(), why: why.to_string() })
    }

    pub(super) fn wrong_type(&self, expected: &'static str) -> ManifestError {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(ManifestProblem::WrongType { key: self.key.clone(), expected, found })
    }

    pub(super) fn text(&self) -> Outcome<&'r str> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong_type("text in quotes"))
    }

    pub(super) fn bounded_text(&self) -> Outcome<String> {
        let text = self.text()?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(self.invalid(format_args!("the text is longer than {TEXT_BYTES_MAX} bytes")));
        }
        if text.contains('\0') {
            return Err(self.invalid("the text contains a NUL character"));
        }
        Ok(text.to_owned())
    }

    pub(super) fn parsed<T: FromStr<Err: Display>>(&self) -> Outcome<T> {
        self.text()?.parse().map_err(|error| self.invalid(error))
    }

    pub(super) fn bool(&self) -> Outcome<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    pub(super) fn whole_number(&self) -> Outcome<u64> {
        let integer = self.value.get_ref().as_integer().ok_or_else(|| self.wrong_type("a whole number"))?;
        u64::from_str_radix(integer.as_str(), integer.radix())
            .map_err(|_| self.invalid("the number is negative or too large"))
    }

    /// Returns a size, a duration or a count, as limits and health checks use them.
    pub(super) fn limit(&self) -> Outcome<WrittenLimit<'r>> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(WrittenLimit::Text(text)),
            DeValue::Integer(_) => Ok(WrittenLimit::Count(self.whole_number()?)),
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                Err(self.wrong_type("a size, a duration or a whole number"))
            }
        }
    }

    pub(super) fn not_set(&self, error: SetError) -> ManifestError {
        match error {
            SetError::WrongKind { expected } => self.wrong_type(expected),
            SetError::UnknownLimit | SetError::Value(_) => self.invalid(error),
        }
    }

    pub(super) fn table<'p>(&'p self) -> Outcome<Table<'p, 't>> {
        let entries = self.value.get_ref().as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Table { reader: self.reader, path: &self.key, at: self.value.span().start, entries })
    }

    pub(super) fn list(&self, max: usize) -> Outcome<Vec<Found<'r, 't>>> {
        let items = self.value.get_ref().as_array().ok_or_else(|| self.wrong_type("a list"))?;
        if items.len() > max {
            let problem = ManifestProblem::TooMany { key: self.key.clone(), count: items.len(), max };
            return Err(self.error(problem));
        }
        let item = |(index, value)| Found { reader: self.reader, key: format!("{}[{index}]", self.key), value };
        Ok(items.iter().enumerate().map(item).collect())
    }
}
