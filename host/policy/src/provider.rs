//! The interfaces that an app imports from providers, which are plugins: the names of interfaces
//! and the grant of each. Never checks whether a provider exists or offers an interface.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PluginReference;
use crate::limits::{INTERFACE_NAME_BYTES_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::text::excerpt;

/// The granted interfaces of an app, each with the provider that offers it.
pub type GrantedInterfaces = BTreeMap<InterfaceName, PluginReference>;

/// The name of an interface as a component imports it: `acme:text/shout@1.0.0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// A text that isn't the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not the name of an interface: {why}; write one like \"acme:text/shout@1.0.0\"")]
pub struct InterfaceNameError {
    /// The text, shortened if it is very long.
    pub given: String,
    /// The problem.
    pub why: &'static str,
}

impl InterfaceName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, InterfaceNameError> {
        match check(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(why) => Err(InterfaceNameError { given: excerpt(text, TEXT_NAME_BYTES_SHOWN).into_owned(), why }),
        }
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > INTERFACE_NAME_BYTES_MAX {
        return Err("it is too long");
    }
    let (path, version) = text.split_once('@').map_or((text, None), |(path, version)| (path, Some(version)));
    let (package, interface) = path.split_once('/').ok_or("a '/' between package and interface is missing")?;
    let (namespace, package) = package.split_once(':').ok_or("a ':' between namespace and package is missing")?;
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if ![namespace, package, interface].into_iter().all(is_word) {
        return Err("each part consists of letters, digits and '-', and starts with a letter");
    }
    if version.is_some_and(|version| semver::Version::parse(version).is_err()) {
        return Err("the text after '@' is not a semantic version");
    }
    if namespace == "isopod" { Err("the namespace isopod is reserved for interfaces of the host") } else { Ok(()) }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceNameError;

    fn try_from(text: String) -> Result<Self, InterfaceNameError> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(InterfaceName(text): InterfaceName) -> Self {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_namespace_package_name_and_an_optional_version() {
        for name in ["acme:text/shout@1.0.0", "acme:text/shout", "wasi:blobstore/container@0.2.0-draft"] {
            assert_eq!(name.parse::<InterfaceName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        let long = format!("acme:text/{}", "x".repeat(INTERFACE_NAME_BYTES_MAX));
        for name in [
            "",
            "shout",
            "acme/shout",
            "acme:text",
            "acme:/shout",
            "acme:text/shout@1",
            "acme:text/a/b",
            "acme:text/\u{1b}[2J",
            "acme:text/1shout",
            "isopod:app/emit@0.1.0",
            &long,
        ] {
            assert!(name.parse::<InterfaceName>().is_err(), "{name}");
        }
    }
}
