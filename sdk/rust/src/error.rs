//! The SDK's error type, which `?` converts any other error into. Never decides how an error is
//! answered; the exports do.

use std::error::Error as StdError;
use std::fmt;

/// The result type of handlers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// An error of a handler, with the HTTP status that the client receives.
///
/// Every type that converts into a boxed standard error converts into it: errors of the standard
/// library and of other crates, `anyhow::Error`, `String` and `&str`. The host logs such an error
/// and responds with 500; the client never receives its text. An error created by [`Error::status`]
/// is meant for the client: its text is the response's body.
///
/// ```
/// use isopod_sdk::prelude::*;
///
/// async fn double(request: Request) -> Result<Response> {
///     let number = request.query_param("n").or_status(400, "the query needs n=NUMBER")?;
///     let number: u32 = number.parse()?;
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
    /// Creates an error for the client: the response has this status, and the message as its body.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { status: Some(status), context: Vec::new(), source: message.into().into() }))
    }

    /// Creates an error that is logged and answered with 500.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::from(message.into())
    }

    /// Returns the response's status: 500 unless [`Error::status`] set another.
    pub fn http_status(&self) -> u16 {
        self.0.status.unwrap_or(500)
    }

    /// Returns whether [`Error::status`] created the error, so that the client receives its text.
    pub fn is_for_client(&self) -> bool {
        self.0.status.is_some()
    }

    /// Prepends a description of the operation that failed.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// Returns the wrapped error, if it is a `T`.
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

/// Adds context to the error of a `Result`, or converts a `None` into an error.
pub trait Context<T> {
    /// Prepends a description of the operation that failed.
    fn context(self, context: impl Into<String>) -> Result<T>;

    /// Replaces the error by one for the client, with this status and message.
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
    fn errors_of_other_types_are_converted() {
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
