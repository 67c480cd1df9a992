//! Compares the grants of two releases, grant by grant. Never decides whether a difference is
//! allowed.

use std::fmt;

use super::{Access, Grants, HttpGrant, Pattern, USUAL_PORTS};
use crate::address::AddressKind;
use crate::{AppName, InterfaceName};

/// One of an app's grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Outbound requests to a host.
    Http(HttpGrant),
    /// A folder with an access.
    Folder { name: String, access: Access },
    /// A key-value store.
    KeyValue,
    /// Events to another app.
    Events(AppName),
    /// An interface of a provider.
    Interface { interface: InterfaceName, provider: AppName },
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(grant) => write!(f, "http \"{grant}\""),
            Self::Folder { name, access: Access::ReadOnly } => write!(f, "files {name} = \"read-only\""),
            Self::Folder { name, access: Access::ReadWrite } => write!(f, "files {name} = \"read-write\""),
            Self::KeyValue => write!(f, "keyvalue"),
            Self::Events(app) => write!(f, "events \"{app}\""),
            Self::Interface { interface, provider } => write!(f, "interfaces \"{interface}\" of \"{provider}\""),
        }
    }
}

impl Grants {
    /// Returns every grant.
    pub fn each(&self) -> impl Iterator<Item = Grant> {
        let http = self.http.iter().cloned().map(Grant::Http);
        let folder = |(name, access): (&String, &Access)| Grant::Folder { name: name.clone(), access: *access };
        let keyvalue = self.keyvalue.then_some(Grant::KeyValue);
        let events = self.events.iter().cloned().map(Grant::Events);
        let interfaces = self.interfaces.iter().map(|(interface, provider)| Grant::Interface {
            interface: interface.clone(),
            provider: provider.name.clone(),
        });
        http.chain(self.files.iter().map(folder)).chain(keyvalue).chain(events).chain(interfaces)
    }

    /// Returns whether these grants allow everything that `grant` allows. Only single grants are
    /// compared: two grants that allow it only together don't count.
    pub fn covers(&self, grant: &Grant) -> bool {
        match grant {
            Grant::Http(http) => self.http.iter().any(|own| own.covers(http)),
            Grant::Folder { name, access } => {
                self.files.get(name).is_some_and(|own| own == access || *own == Access::ReadWrite)
            }
            Grant::KeyValue => self.keyvalue,
            Grant::Events(app) => self.events.contains(app),
            Grant::Interface { interface, provider } => {
                self.interfaces.get(interface).is_some_and(|own| own.name == *provider)
            }
        }
    }

    /// Returns the grants that `before` doesn't cover: those that a change adds.
    pub fn beyond(&self, before: &Self) -> Vec<Grant> {
        self.each().filter(|grant| !before.covers(grant)).collect()
    }
}

impl HttpGrant {
    /// Returns whether this grant allows every request that `other` allows.
    fn covers(&self, other: &Self) -> bool {
        let covers_port = match (self.port, other.port) {
            (None, None) => true,
            (None, Some(port)) => USUAL_PORTS.contains(&port),
            (Some(own), port) => port == Some(own),
        };
        covers_port && self.covers_host(other)
    }

    /// Returns whether this pattern, in which no port means any port, includes `other`.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        self.port.is_none_or(|port| other.port == Some(port)) && self.covers_host(other)
    }

    fn covers_host(&self, other: &Self) -> bool {
        match (&self.pattern, &other.pattern) {
            (Pattern::Any, Pattern::Any | Pattern::Below(_)) => true,
            // A pattern reaches public addresses only.
            (Pattern::Any, Pattern::Name(_) | Pattern::Address(_)) => other.kind() == AddressKind::Public,
            (Pattern::Below(suffix), Pattern::Below(inner)) => inner.ends_with(suffix.as_str()),
            (Pattern::Below(suffix), Pattern::Name(name)) => {
                name.len() > suffix.len() && name.ends_with(suffix.as_str())
            }
            (Pattern::Name(own), Pattern::Name(name)) => own == name,
            (Pattern::Address(own), Pattern::Address(address)) => own == address,
            (Pattern::Below(_) | Pattern::Name(_) | Pattern::Address(_), _) => false,
        }
    }

    /// Returns the most restricted kind of addresses that the grant reaches. A name without a dot
    /// may be a machine of the local network.
    pub(crate) fn kind(&self) -> AddressKind {
        match &self.pattern {
            Pattern::Any | Pattern::Below(_) => AddressKind::Public,
            Pattern::Name(name) if name.contains('.') => AddressKind::Public,
            Pattern::Name(_) => AddressKind::Private,
            Pattern::Address(address) => AddressKind::of(*address),
        }
    }
}
