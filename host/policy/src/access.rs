//! API permissions: the role and the scope of a token. Owns the comparison. Never sees a token
//! itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppName, UnknownWord};

/// The permissions of a token.
///
/// ```text
///   read ──┐
///          ├──▶ operate ──▶ deploy ──▶ admin
///   send ──┘
/// ```
///
/// A role includes the roles that lead to it. `read` and `send` include no other role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May read.
    Read,
    /// May only send events, and show an event by its id.
    Send,
    /// May also change the running state of apps, but not their code and settings: start, stop,
    /// restart, scale, and manage stored events and schedules.
    Operate,
    /// May also create apps and releases: push, roll back, configure.
    Deploy,
    /// May do everything, including managing tokens.
    Admin,
}

impl Role {
    /// All roles. No role includes a later one.
    pub const ALL: [Self; 5] = [Self::Read, Self::Send, Self::Operate, Self::Deploy, Self::Admin];

    /// Returns whether this role permits an operation that needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        match self {
            Self::Read | Self::Send => self == needed,
            Self::Operate => matches!(needed, Self::Read | Self::Send | Self::Operate),
            Self::Deploy => needed != Self::Admin,
            Self::Admin => true,
        }
    }

    /// Returns the role's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Operate => "operate",
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
            expected: "\"read\", \"send\", \"operate\", \"deploy\" or \"admin\"",
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
    use proptest::prelude::*;

    use super::*;

    /// The whole table: rows are the roles of tokens, columns the needed roles of `Role::ALL`.
    const TABLE: &str = "\
                read  send  operate  deploy  admin
        read    yes   -     -        -       -
        send    -     yes   -        -       -
        operate yes   yes   yes      -       -
        deploy  yes   yes   yes      yes     -
        admin   yes   yes   yes      yes     yes";

    #[test]
    fn every_pair_of_roles_matches_the_table() {
        let mut lines = TABLE.lines();
        let columns: Vec<&str> = lines.next().expect("the table has a head").split_whitespace().collect();
        assert_eq!(columns, Role::ALL.map(Role::as_str));
        for (role, line) in Role::ALL.into_iter().zip(lines) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(cells[0], role.as_str());
            for (needed, cell) in Role::ALL.into_iter().zip(&cells[1..]) {
                assert_eq!(role.includes(needed), *cell == "yes", "{role} for {needed}");
            }
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }

    fn role() -> impl Strategy<Value = Role> {
        prop::sample::select(Role::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn inclusion_of_roles_is_a_partial_order_below_admin(one in role(), two in role(), three in role()) {
            prop_assert!(one.includes(one) && Role::Admin.includes(one));
            prop_assert!(one == two || !(one.includes(two) && two.includes(one)));
            prop_assert!(!(one.includes(two) && two.includes(three)) || one.includes(three));
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
