//! The SDK's error: what `?` makes of any error in a handler. It never decides how an error is answered; the entry
//! points do.

use std::error::Error as StdError;
use std::fmt;

/// What handlers return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// Any error, and how HTTP answers it.
///
/// Every type that can become a boxed standard error converts into it: errors of the standard library and of other
/// crates, `anyhow::Error`, `String` and `&str`. Such an error is logged and answered with 500; the client never sees
/// its text. An error made with [`Error::status`] is meant for the client: its text is the answer's body.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// async fn double(request: Request) -> Result<Response> {
///     let number: u32 = request.query_param("n").ok_or(Error::status(400, "the query needs n=NUMBER"))?.parse()?;
///     Ok(Response::text((number * 2).to_string()))
/// }
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    status: Option<u16>,
    context: Vec<String>,
    source: Source,
}

impl Error {
    /// An error for the client: HTTP answers with this status and the message as text.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { status: Some(status), context: Vec::new(), source: message.into().into() }))
    }

    /// An error that is logged and answered with 500.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::from(message.into())
    }

    /// The status that HTTP answers with: 500 unless the error was made for the client.
    pub fn http_status(&self) -> u16 {
        self.0.status.unwrap_or(500)
    }

    /// Whether the error was made with [`Error::status`], so that its text is shown to the client.
    pub fn is_for_client(&self) -> bool {
        self.0.status.is_some()
    }

    /// Puts a sentence before the error's own, to say what was being done.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// The error inside, if it is a `T`.
    pub fn downcast_ref<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.source.downcast_ref()
    }
}

impl<E: Into<Source>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(Inner { status: None, context: Vec::new(), source: error.into() }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(formatter, "{context}: ")?;
        }
        write!(formatter, "{}", self.0.source)?;
        let mut cause = self.0.source.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Adds to the error of a `Result`, or makes one of a `None`.
pub trait Context<T> {
    /// Says what was being done when it failed.
    fn context(self, context: impl Into<String>) -> Result<T>;

    /// Answers the client with this status and message instead of 500.
    fn or_status(self, status: u16, message: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.map_err(|error| error.into().context(context))
    }

    fn or_status(self, status: u16, message: impl Into<String>) -> Result<T> {
        self.map_err(|_| Error::status(status, message))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, context: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::msg(context))
    }

    fn or_status(self, status: u16, message: impl Into<String>) -> Result<T> {
        self.ok_or_else(|| Error::status(status, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_context_and_every_cause() {
        let error = Error::from("abc".parse::<u8>().unwrap_err()).context("reading the age").context("saving the form");
        assert_eq!(error.to_string(), "saving the form: reading the age: invalid digit found in string");
        assert_eq!(error.http_status(), 500);
        assert!(!error.is_for_client());
        assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    }

    #[test]
    fn errors_of_other_kinds_become_ours() {
        fn through(error: anyhow::Error) -> Result<()> {
            Err(error)?
        }
        assert_eq!(through(anyhow::anyhow!("inner").context("outer")).unwrap_err().to_string(), "outer: inner");
        assert_eq!(Error::from("text").to_string(), "text");
    }

    #[test]
    fn an_error_made_for_the_client_has_its_status() {
        let missing: Option<u8> = None;
        let error = missing.or_status(404, "no such note").unwrap_err();
        assert_eq!((error.http_status(), error.is_for_client()), (404, true));
        let busy = Error::status(503, "try again later");
        assert_eq!((busy.http_status(), busy.is_for_client()), (503, true));
    }
}
