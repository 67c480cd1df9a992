//! The grants of an app: outbound hosts, its own folders, the key-value store, the event handlers
//! of other apps, the interfaces of providers. Owns the syntax of grants and whether they allow a
//! request; everything else is denied. Never resolves a name or opens a folder.

mod compare;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use compare::Grant;

use crate::address::{AddressKind, canonical};
use crate::{AppName, GrantedInterfaces};

/// The grants of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Hosts that outbound HTTP requests may reach.
    pub http: Vec<HttpGrant>,
    /// The app's own folders, by name, with the access granted.
    pub files: BTreeMap<String, Access>,
    /// Whether the app has its own key-value store.
    pub keyvalue: bool,
    /// The other apps that the app may send events to. Its own event handler needs no grant.
    pub events: Vec<AppName>,
    /// The interfaces that the app imports from providers, and the provider of each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub interfaces: GrantedInterfaces,
}

/// Access to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Listing and reading.
    ReadOnly,
    /// Also creating, changing and deleting.
    ReadWrite,
}

impl FromStr for Access {
    type Err = crate::UnknownWord;

    fn from_str(text: &str) -> Result<Self, crate::UnknownWord> {
        match text {
            "read-only" => Ok(Self::ReadOnly),
            "read-write" => Ok(Self::ReadWrite),
            other => Err(crate::UnknownWord {
                what: "folder access",
                given: other.chars().take(80).collect(),
                expected: "\"read-only\" or \"read-write\"",
            }),
        }
    }
}

/// A name that can't be granted as a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid folder name {given:?}: write 1 to 64 letters, digits, '-', '_' or '.', not starting with '.'")]
pub struct FolderError {
    /// The name, shortened if it is very long.
    pub given: String,
}

/// Checks the name of a granted folder: a single folder below the app's own, never a path.
pub(crate) fn check_folder_name(name: &str) -> Result<(), FolderError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain) {
        return Ok(());
    }
    Err(FolderError { given: name.chars().take(80).collect() })
}

/// The kinds of addresses that an allowed request may reach, after its host is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Only public addresses, since the grant names a public host or many hosts.
    PublicOnly,
    /// Also private and loopback addresses, since the grant names exactly such a host.
    Private,
    /// Also a metadata service, since the grant names its exact address.
    ByAddress,
}

impl Reach {
    /// Returns whether a request may reach an address that its host resolved to.
    pub fn admits(self, address: IpAddr) -> bool {
        match AddressKind::of(address) {
            AddressKind::Unusable => false,
            AddressKind::Metadata => self >= Self::ByAddress,
            AddressKind::Private => self >= Self::Private,
            AddressKind::Public => true,
        }
    }
}

/// The hosts that one grant allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pattern {
    /// `*`: every public host.
    Any,
    /// `*.example.org`: every host below, stored as `.example.org`.
    Below(String),
    /// One host by name.
    Name(String),
    /// One host by address.
    Address(IpAddr),
}

/// A grant of outbound HTTP, written as `api.github.com`, `*.example.org:8443`, `127.0.0.1:9000`,
/// `[::1]:80` or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpGrant {
    pattern: Pattern,
    /// The port; `None` allows the two default ports of HTTP.
    port: Option<u16>,
}

/// Why a text is not a valid HTTP grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid host {given:?}: {why}; write one like \"api.github.com\", \"*.example.org:8443\" or \"*\"")]
pub struct HttpGrantError {
    /// The text, shortened if it is very long.
    pub given: String,
    /// The problem.
    pub why: &'static str,
}

/// The ports of a grant without a port: those of `http://` and `https://`.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Why a port can't be granted.
const INVALID_PORT: &str = "the port is not a number from 1 to 65535";

/// The maximum length of a DNS name.
const HOST_NAME_CHARS_MAX: usize = 253;

impl HttpGrant {
    /// Returns the grant of exactly one server, as a manifest writes it, or why no grant can name
    /// the server. The ports of `http://` and `https://` are left out.
    pub fn of_server(host: &str, port: u16) -> Result<Self, &'static str> {
        if port == 0 {
            return Err(INVALID_PORT);
        }
        Ok(Self { pattern: read_host(host)?, port: (!USUAL_PORTS.contains(&port)).then_some(port) })
    }

    fn allows(&self, host: &Pattern, port: u16) -> Option<Reach> {
        let port_allowed = match self.port {
            Some(granted) => granted == port,
            None => USUAL_PORTS.contains(&port),
        };
        if !port_allowed {
            return None;
        }
        match (&self.pattern, host) {
            (Pattern::Any, _) => Some(Reach::PublicOnly),
            (Pattern::Below(suffix), Pattern::Name(name)) => {
                (name.len() > suffix.len() && name.ends_with(suffix.as_str())).then_some(Reach::PublicOnly)
            }
            (Pattern::Name(granted), Pattern::Name(name)) if granted == name => {
                // `localhost` and other names without a dot are machines of the local network. A
                // grant of the exact name means that machine.
                Some(if name.contains('.') { Reach::PublicOnly } else { Reach::Private })
            }
            (Pattern::Address(granted), Pattern::Address(address)) if granted == address => Some(Reach::ByAddress),
            (Pattern::Below(_) | Pattern::Name(_) | Pattern::Address(_), _) => None,
        }
    }
}

impl Grants {
    /// Returns whether a request to `host` is allowed, and how far it may reach. `host` comes from
    /// the URL, in any case, an IPv6 address with or without brackets. The scheme makes no
    /// difference: the server decides which protocol a port speaks.
    pub fn allows_http(&self, host: &str, port: u16, _tls: bool) -> Option<Reach> {
        let host = read_host(host).ok()?;
        self.http.iter().filter_map(|grant| grant.allows(&host, port)).max()
    }

    /// Returns whether events may be sent to another app of this name.
    pub fn allows_events_to(&self, app: &str) -> bool {
        self.events.iter().any(|granted| granted.as_str() == app)
    }
}

/// Parses a host, a name or an address, into the form in which grants are compared.
fn read_host(text: &str) -> Result<Pattern, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']');
        let address = inner.unwrap_or("").parse().map_err(|_| "the text in brackets is not an IPv6 address")?;
        return Ok(Pattern::Address(canonical(IpAddr::V6(address))));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Pattern::Address(canonical(address)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    check_host_name(&name)?;
    Ok(Pattern::Name(name))
}

fn check_host_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the host is empty");
    }
    if name.len() > HOST_NAME_CHARS_MAX {
        return Err("a host name has at most 253 characters");
    }
    for label in name.split('.') {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if label.is_empty() || label.len() > 63 {
            return Err("every part between dots has 1 to 63 characters");
        }
        if !label.chars().all(allowed) {
            return Err("a host name has only letters, digits, '-', '_' and '.', without scheme and path");
        }
    }
    // Resolvers parse "127.1", "0x7f.1" and "2130706433" as addresses, so such a "name" would
    // conceal one.
    let last = name.rsplit('.').next().unwrap_or(name);
    let number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if number { Err("a name can't end in a number; write an address in full, as in 127.0.0.1") } else { Ok(()) }
}

/// Splits `host:port`. An IPv6 address with a port is in brackets.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let after_host = match text.rfind(']') {
        Some(bracket) => bracket + 1,
        None if text.starts_with('[') => return Err("the bracket '[' is not closed"),
        None if text.parse::<IpAddr>().is_ok() => text.len(),
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(after_host);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok((host, None)),
        None => Err("only ':' and a port may follow ']'"),
        Some(port) => match port.parse() {
            Ok(port) if port != 0 && !rest.starts_with(":+") => Ok((host, Some(port))),
            _ => Err(INVALID_PORT),
        },
    }
}

impl FromStr for HttpGrant {
    type Err = HttpGrantError;

    fn from_str(text: &str) -> Result<Self, HttpGrantError> {
        read_grant(text).map_err(|why| HttpGrantError { given: text.chars().take(80).collect(), why })
    }
}

fn read_grant(text: &str) -> Result<HttpGrant, &'static str> {
    if text.contains('/') {
        return Err("only a host with an optional port can be granted, without scheme and path");
    }
    let (host, port) = split_port(text)?;
    let pattern = if host == "*" {
        Pattern::Any
    } else if let Some(below) = host.strip_prefix("*.") {
        match read_host(below)? {
            Pattern::Name(name) => Pattern::Below(format!(".{name}")),
            Pattern::Any | Pattern::Below(_) | Pattern::Address(_) => {
                return Err("'*.' must precede a name, not an address");
            }
        }
    } else if host.contains('*') {
        return Err("'*' must be alone or the first part, as in \"*.example.org\"");
    } else {
        read_host(host)?
    };
    Ok(HttpGrant { pattern, port })
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Any => write!(f, "*")?,
            Pattern::Below(suffix) => write!(f, "*{suffix}")?,
            Pattern::Name(name) => write!(f, "{name}")?,
            Pattern::Address(IpAddr::V4(address)) => write!(f, "{address}")?,
            Pattern::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for HttpGrant {
    type Error = HttpGrantError;

    fn try_from(text: String) -> Result<Self, HttpGrantError> {
        text.parse()
    }
}

impl From<HttpGrant> for String {
    fn from(grant: HttpGrant) -> String {
        grant.to_string()
    }
}
