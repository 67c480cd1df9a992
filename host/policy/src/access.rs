//! Who may do what through the API: the role and the scope of a token. Owns the comparison. Never sees a token itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppName, UnknownWord};

/// What a token allows; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To look.
    Read,
    /// To change apps: deploy, start, stop, configure.
    Deploy,
    /// Everything, including tokens.
    Admin,
}

impl Role {
    /// Every role, from the smallest.
    pub const ALL: [Self; 3] = [Self::Read, Self::Deploy, Self::Admin];

    /// Whether whoever has this role may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }

    /// The word for the role.
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

/// Which apps a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All apps, and what belongs to no app.
    All,
    /// Only these.
    Apps(Vec<AppName>),
}

impl Scope {
    /// Whether the scope holds `app`; `None` asks about what belongs to no app.
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
    fn a_scope_of_some_apps_holds_only_these() {
        let greeter: AppName = "greeter".parse().expect("the name is valid");
        let other: AppName = "other".parse().expect("the name is valid");
        let some = Scope::Apps(vec![greeter.clone()]);
        assert!(some.includes(Some(&greeter)) && !some.includes(Some(&other)) && !some.includes(None));
        assert!(Scope::All.includes(Some(&other)) && Scope::All.includes(None));
    }
}
