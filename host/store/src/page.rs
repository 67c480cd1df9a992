//! Pagination of lists. Owns the page size and the parsing of cursors. Never reads a list.

use std::str::FromStr;

use serde::Serialize;

use crate::StoreError;
use crate::error::shown;
use crate::limits::{ROWS_PER_PAGE_DEFAULT, ROWS_PER_PAGE_MAX};

/// The most digits of a cursor. Every such number fits into the database's integers.
const CURSOR_DIGITS_MAX: usize = 18;

/// The requested page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the previous page; `None` for the first page.
    pub cursor: Option<String>,
    /// The most items; `None` for the default number.
    pub limit: Option<u32>,
}

impl Page {
    /// Returns the requested number of items, within the limits.
    pub(crate) fn items(&self) -> u32 {
        self.limit.unwrap_or(ROWS_PER_PAGE_DEFAULT).clamp(1, ROWS_PER_PAGE_MAX)
    }

    /// Returns the cursor of a list with numeric cursors. Without a cursor the list begins at
    /// `start`.
    pub(crate) fn number<T: FromStr>(&self, start: T) -> Result<T, StoreError> {
        self.check_number()?;
        match &self.cursor {
            None => Ok(start),
            Some(text) => text.parse().map_err(|_| StoreError::BadCursor { cursor: shown(text) }),
        }
    }

    /// Refuses a cursor that is not a number in the form that lists return.
    pub fn check_number(&self) -> Result<(), StoreError> {
        let is_number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits && (1..=CURSOR_DIGITS_MAX).contains(&text.len()) && !text.starts_with('0')
        };
        match &self.cursor {
            Some(text) if !is_number(text) => Err(StoreError::BadCursor { cursor: shown(text) }),
            Some(_) | None => Ok(()),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paged<T> {
    pub items: Vec<T>,
    /// The cursor of the next page, if there is one.
    pub next: Option<String>,
}

impl<T> Paged<T> {
    /// Creates a page from rows that include one more than requested, which shows whether a next
    /// page exists.
    pub(crate) fn from_one_more(mut items: Vec<T>, page: &Page, cursor: impl Fn(&T) -> String) -> Self {
        let wanted = page.items() as usize;
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}
