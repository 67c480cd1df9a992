//! API permissions: the role and the scope of a token. Owns the comparison. Never sees a token
//! itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppName, UnknownWord};

/// The permissions of a token; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May read.
    Read,
    /// May change apps: deploy, start, stop, configure.
    Deploy,
    /// May do everything, including managing tokens.
    Admin,
}

impl Role {
    /// Every role, from the least to the most permissive.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// Returns whether this role permits an operation that needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }

    /// Returns the role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| UnknownWord {
            what: "role",
            given: text.chars().take(80).collect(),
            expected: "\"read\", \"deploy\" or \"admin\"",
        })
    }
}

/// The apps that a token applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All apps, and resources that belong to no app.
    All,
    /// Only these apps.
    Apps(Vec<AppName>),
}

impl Scope {
    /// Returns whether the scope includes `app`; `None` is a resource that belongs to no app.
    pub fn includes(&self, app: Option<&AppName>) -> bool {
        match (self, app) {
            (Self::All, _) => true,
            (Self::Apps(_), None) => false,
            (Self::Apps(apps), Some(app)) => apps.contains(app),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_includes_itself_and_smaller_ones() {
        for (index, role) in Role::ALL.into_iter().enumerate() {
            for (needed_index, needed) in Role::ALL.into_iter().enumerate() {
                assert_eq!(role.includes(needed), index >= needed_index, "{role} for {needed}");
            }
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }

    #[test]
    fn a_scope_of_some_apps_includes_only_those() {
        let greeter: AppName = "greeter".parse().expect("the name is valid");
        let other: AppName = "other".parse().expect("the name is valid");
        let some = Scope::Apps(vec![greeter.clone()]);
        assert!(some.includes(Some(&greeter)) && !some.includes(Some(&other)) && !some.includes(None));
        assert!(Scope::All.includes(Some(&other)) && Scope::All.includes(None));
    }
}
