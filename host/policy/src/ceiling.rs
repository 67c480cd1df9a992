//! The ceiling on what a release may ask for, set by operators: grants, memory, instances and the
//! app's type. Owns the comparison with a request. Never decides whose requests are compared.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::address::AddressKind;
use crate::limits::{CEILING_ITEMS_MAX, TEXT_ITEMS_SHOWN};
use crate::units::{parse_bytes, show_bytes};
use crate::{Access, AppName, AppType, Grant, Grants, HttpGrant, Limits, Manifest, MiddlewareUse};

/// What releases may ask for. An absent setting limits nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ceiling {
    /// Hosts that may be granted, as in a manifest. Without a port, every port is included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub http: Option<Patterns>,
    /// Whether private and loopback addresses may be granted that `http` doesn't list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_addresses: Option<bool>,
    /// The access to folders that may be granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FolderCeiling>,
    /// Whether a key-value store may be granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyvalue: Option<bool>,
    /// The apps to which others may send events.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded")]
    pub events: Option<Vec<AppName>>,
    /// The providers whose interfaces may be granted.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded")]
    pub providers: Option<Vec<AppName>>,
    /// The plugins that may be used as middleware.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded")]
    pub middleware: Option<Vec<AppName>>,
    /// The largest `limits.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub memory: Option<Bytes>,
    /// The largest `limits.instances_max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// The types that apps may have.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "bounded")]
    pub types: Option<Vec<AppType>>,
    /// Whether the host builds a push that asks for more, for an administrator to approve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve: Option<bool>,
}

/// The highest access to folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FolderCeiling {
    /// No folder may be granted.
    None,
    /// Listing and reading.
    ReadOnly,
    /// Listing, reading and writing.
    ReadWrite,
}

/// A size with its unit, such as `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub u64);

impl TryFrom<String> for Bytes {
    type Error = crate::units::UnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse_bytes(&text).map(Self)
    }
}

impl From<Bytes> for String {
    fn from(Bytes(bytes): Bytes) -> Self {
        show_bytes(bytes)
    }
}

/// Hosts that a ceiling includes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<HttpGrant>", into = "Vec<HttpGrant>")]
pub struct Patterns(Vec<HttpGrant>);

/// Why a list of hosts can't be a ceiling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternsError {
    /// A metadata service.
    #[error("{0} is a cloud's metadata service, which no ceiling can include; only an administrator can grant it")]
    Metadata(HttpGrant),
    /// Too many hosts.
    #[error("{0} hosts are too many; the limit is {CEILING_ITEMS_MAX}")]
    TooMany(usize),
}

impl TryFrom<Vec<HttpGrant>> for Patterns {
    type Error = PatternsError;

    fn try_from(hosts: Vec<HttpGrant>) -> Result<Self, PatternsError> {
        if hosts.len() > CEILING_ITEMS_MAX {
            return Err(PatternsError::TooMany(hosts.len()));
        }
        match hosts.iter().find(|host| host.kind() == AddressKind::Metadata) {
            Some(host) => Err(PatternsError::Metadata(host.clone())),
            None => Ok(Self(hosts)),
        }
    }
}

impl From<Patterns> for Vec<HttpGrant> {
    fn from(Patterns(hosts): Patterns) -> Self {
        hosts
    }
}

/// Reads a list of up to [`CEILING_ITEMS_MAX`] items.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    let items: Option<Vec<T>> = Option::deserialize(deserializer)?;
    match items.as_ref().map_or(0, Vec::len) {
        count if count > CEILING_ITEMS_MAX => {
            Err(D::Error::custom(format!("{count} items are too many; the limit is {CEILING_ITEMS_MAX}")))
        }
        _ => Ok(items),
    }
}

/// What a release asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its grants.
    pub grants: &'a Grants,
    /// Its middleware. A plugin uses its own grants, with a config of the app.
    pub middleware: &'a [MiddlewareUse],
    /// Its limits.
    pub limits: &'a Limits,
    /// The type of its app.
    pub app_type: AppType,
}

impl<'a> Asked<'a> {
    /// Returns what a release with this manifest asks for.
    pub fn by(manifest: &'a Manifest, app_type: AppType) -> Self {
        Self { grants: &manifest.grants, middleware: &manifest.middleware, limits: &manifest.limits, app_type }
    }
}

/// One thing that a release asks for beyond a ceiling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// A grant, and the reason.
    Grant { grant: Grant, why: String },
    /// A plugin used as middleware, and the reason.
    Middleware { plugin: AppName, why: String },
    /// More memory per instance.
    Memory { asked_bytes: u64, most_bytes: u64 },
    /// More instances.
    Instances { asked: u32, most: u32 },
    /// Another type.
    Type { asked: AppType, allowed: Vec<AppType> },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant { grant, why } => write!(f, "{grant} ({why})"),
            Self::Middleware { plugin, why } => write!(f, "middleware \"{plugin}\" ({why})"),
            Self::Memory { asked_bytes, most_bytes } => {
                write!(f, "memory {} (at most {})", show_bytes(*asked_bytes), show_bytes(*most_bytes))
            }
            Self::Instances { asked, most } => write!(f, "instances_max {asked} (at most {most})"),
            Self::Type { asked, allowed } => {
                let allowed: Vec<&str> = allowed.iter().map(|allowed| allowed.as_str()).collect();
                write!(f, "type {asked} (allowed: {})", some_of(&allowed))
            }
        }
    }
}

/// Names the excesses for an error.
pub fn named(excesses: &[Excess]) -> String {
    let shown = excesses.iter().take(TEXT_ITEMS_SHOWN).map(ToString::to_string);
    let more = excesses.len().saturating_sub(TEXT_ITEMS_SHOWN);
    let more = (more > 0).then(|| format!("{more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

impl Excess {
    /// Returns whether a release already has what this excess asks for.
    fn is_of(&self, current: &Asked<'_>) -> bool {
        match self {
            Self::Grant { grant, .. } => current.grants.covers(grant),
            Self::Middleware { plugin, .. } => current.middleware.iter().any(|used| used.plugin.name == *plugin),
            Self::Memory { asked_bytes, .. } => current.limits.memory_bytes >= *asked_bytes,
            Self::Instances { asked, .. } => current.limits.instances_max >= *asked,
            Self::Type { asked, .. } => current.app_type == *asked,
        }
    }
}

impl Ceiling {
    /// Returns the ceiling of a host whose operator has set none: grants of private addresses need
    /// an administrator.
    pub fn usual() -> Self {
        Self { private_addresses: Some(false), ..Self::default() }
    }

    /// Returns this ceiling with the settings of `own`, which take precedence.
    #[must_use]
    pub fn with(&self, own: &Self) -> Self {
        Self {
            http: own.http.clone().or_else(|| self.http.clone()),
            private_addresses: own.private_addresses.or(self.private_addresses),
            files: own.files.or(self.files),
            keyvalue: own.keyvalue.or(self.keyvalue),
            events: own.events.clone().or_else(|| self.events.clone()),
            providers: own.providers.clone().or_else(|| self.providers.clone()),
            middleware: own.middleware.clone().or_else(|| self.middleware.clone()),
            memory: own.memory.or(self.memory),
            instances: own.instances.or(self.instances),
            types: own.types.clone().or_else(|| self.types.clone()),
            approve: own.approve.or(self.approve),
        }
    }

    /// Returns everything that is asked for beyond this ceiling.
    pub fn check(&self, asked: &Asked<'_>) -> Vec<Excess> {
        let grants = asked.grants.each();
        let mut excesses: Vec<Excess> =
            grants.filter_map(|grant| Some(Excess::Grant { why: self.why_not(&grant)?, grant })).collect();
        for MiddlewareUse { plugin, .. } in asked.middleware {
            let why = why_not_named(self.middleware.as_ref(), &plugin.name);
            let Some(excess) = why.map(|why| Excess::Middleware { plugin: plugin.name.clone(), why }) else { continue };
            // An app may use one plugin several times.
            if !excesses.contains(&excess) {
                excesses.push(excess);
            }
        }
        let (memory, instances) = (asked.limits.memory_bytes, asked.limits.instances_max);
        if let Some(Bytes(most_bytes)) = self.memory.filter(|Bytes(most)| memory > *most) {
            excesses.push(Excess::Memory { asked_bytes: memory, most_bytes });
        }
        if let Some(most) = self.instances.filter(|most| instances > *most) {
            excesses.push(Excess::Instances { asked: instances, most });
        }
        excesses.extend(self.check_type(asked.app_type));
        excesses
    }

    /// Returns everything that is asked for beyond this ceiling, except what the current release
    /// already has.
    pub fn check_change(&self, asked: &Asked<'_>, current: Option<&Asked<'_>>) -> Vec<Excess> {
        let is_new = |excess: &Excess| current.is_none_or(|current| !excess.is_of(current));
        self.check(asked).into_iter().filter(is_new).collect()
    }

    /// Returns the excess of a type, if it isn't allowed.
    pub fn check_type(&self, asked: AppType) -> Option<Excess> {
        let allowed = self.types.as_ref().filter(|allowed| !allowed.contains(&asked))?;
        Some(Excess::Type { asked, allowed: allowed.clone() })
    }

    /// Returns why a grant is beyond this ceiling, if it is.
    fn why_not(&self, grant: &Grant) -> Option<String> {
        match grant {
            Grant::Http(http) => self.why_not_http(http),
            Grant::Folder { access, .. } => match (self.files?, access) {
                (FolderCeiling::ReadWrite, _) | (FolderCeiling::ReadOnly, Access::ReadOnly) => None,
                (FolderCeiling::ReadOnly, Access::ReadWrite) => Some("folders are read-only".to_owned()),
                (FolderCeiling::None, _) => Some("no folders".to_owned()),
            },
            Grant::KeyValue => (self.keyvalue == Some(false)).then(|| "no key-value data".to_owned()),
            Grant::Events(app) => why_not_named(self.events.as_ref(), app),
            Grant::Interface { provider, .. } => why_not_named(self.providers.as_ref(), provider),
        }
    }

    fn why_not_http(&self, asked: &HttpGrant) -> Option<String> {
        let is_listed = self.http.as_ref().map(|Patterns(hosts)| hosts.iter().any(|host| host.includes(asked)));
        match (asked.kind(), is_listed, self.private_addresses) {
            (AddressKind::Metadata, ..) => Some("a metadata service".to_owned()),
            (AddressKind::Private | AddressKind::Unusable, None, Some(false)) => Some("a private address".to_owned()),
            (AddressKind::Private | AddressKind::Unusable, _, Some(true)) | (_, None | Some(true), _) => None,
            (_, Some(false), _) => {
                let hosts: Vec<String> =
                    self.http.iter().flat_map(|Patterns(hosts)| hosts).map(ToString::to_string).collect();
                Some(format!("allowed: {}", some_of(&hosts)))
            }
        }
    }
}

/// Returns why a name is beyond a list of allowed names, if it is.
fn why_not_named(allowed: Option<&Vec<AppName>>, name: &AppName) -> Option<String> {
    let allowed = allowed.filter(|allowed| !allowed.contains(name))?;
    Some(format!("allowed: {}", some_of(allowed)))
}

fn some_of<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        items => {
            let shown: Vec<&str> = items.iter().take(TEXT_ITEMS_SHOWN).map(AsRef::as_ref).collect();
            let rest = if items.len() > TEXT_ITEMS_SHOWN { " …" } else { "" };
            format!("{}{rest}", shown.join(", "))
        }
    }
}
