//! How an app uses middleware: the plugin, its config, the paths, and the reaction to a failure.
//! Owns the settings and the matching of paths. Never calls a plugin.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use semver::{Version, VersionReq};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::limits::{MIDDLEWARE_CONFIG_BYTES_MAX, TEXT_BYTES_MAX, TEXT_NAME_BYTES_SHOWN};
use crate::setting_word::setting_word;
use crate::text::excerpt;
use crate::{AppName, NameError};

/// One `[[middleware]]` table: a plugin that receives requests before the app does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiddlewareUse {
    /// The plugin, and the range of versions that the app accepts.
    pub plugin: PluginReference,
    /// The plugin's config for this app.
    pub config: MiddlewareConfig,
    /// What happens to a request if the plugin fails.
    pub on_failure: OnFailure,
    /// The paths whose requests the plugin sees; if empty, all.
    pub paths: Vec<PathPattern>,
}

setting_word! {
    /// What happens to a request if a middleware fails.
    OnFailure, "reaction to a failure", "\"refuse\" or \"pass\"" {
        /// The request gets an error response.
        Refuse = "refuse",
        /// The request continues as if the middleware were absent.
        Pass = "pass",
    }
}

impl MiddlewareUse {
    /// The keys of the table.
    pub const KEYS: &[&str] = &["use", "config", "on_failure", "paths"];

    /// Returns a use of the plugin with default settings.
    pub fn new(plugin: PluginReference) -> Self {
        Self { plugin, config: MiddlewareConfig::default(), on_failure: OnFailure::default(), paths: Vec::new() }
    }

    /// Returns whether the plugin sees requests for this path, without its query.
    pub fn applies_to(&self, path: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|pattern| pattern.matches(path))
    }
}

impl Serialize for MiddlewareUse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_struct("MiddlewareUse", 4)?;
        table.serialize_field("use", &self.plugin)?;
        table.serialize_field("on_failure", &self.on_failure)?;
        if self.paths.is_empty() {
            table.skip_field("paths")?;
        } else {
            table.serialize_field("paths", &self.paths)?;
        }
        table.serialize_field("config", &self.config)?;
        table.end()
    }
}

/// A plugin, and the range of accepted versions: `require-jwt`, or `require-jwt@^1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginReference {
    /// The plugin's name.
    pub name: AppName,
    /// The accepted versions; `None` accepts all.
    pub version: Option<VersionReq>,
}

/// Why a text is not a valid plugin reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginReferenceError {
    /// The name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The range of versions is invalid.
    #[error("{given:?} is not a range of versions ({why}); write one such as \"{name}@^1.2\" or \"{name}@>=1.2, <3\"")]
    Version { name: AppName, given: String, why: String },
}

impl PluginReference {
    /// Returns whether this version of the plugin is accepted.
    pub fn accepts(&self, version: &Version) -> bool {
        self.version.as_ref().is_none_or(|range| range.matches(version))
    }
}

impl FromStr for PluginReference {
    type Err = PluginReferenceError;

    fn from_str(text: &str) -> Result<Self, PluginReferenceError> {
        let Some((name, range)) = text.split_once('@') else {
            return Ok(Self { name: text.parse()?, version: None });
        };
        let name: AppName = name.parse()?;
        match VersionReq::parse(range) {
            Ok(version) => Ok(Self { name, version: Some(version) }),
            Err(error) => Err(PluginReferenceError::Version {
                name,
                given: excerpt(range, TEXT_NAME_BYTES_SHOWN).into_owned(),
                why: error.to_string(),
            }),
        }
    }
}

impl From<AppName> for PluginReference {
    fn from(name: AppName) -> Self {
        Self { name, version: None }
    }
}

impl fmt::Display for PluginReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => write!(f, "{}", self.name),
            Some(range) => write!(f, "{}@{range}", self.name),
        }
    }
}

impl Serialize for PluginReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PluginReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The config of a middleware, as the JSON text that the plugin receives.
#[derive(Clone, PartialEq, Eq)]
pub struct MiddlewareConfig(Arc<str>);

impl MiddlewareConfig {
    /// Returns the config with this value. Refuses a value whose text is too long.
    pub fn new(value: &Value) -> Result<Self, MiddlewareConfigError> {
        let text = value.to_string();
        match text.len() {
            bytes if bytes > MIDDLEWARE_CONFIG_BYTES_MAX => Err(MiddlewareConfigError { bytes }),
            _ => Ok(Self(text.into())),
        }
    }

    /// Returns the JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the JSON text, shared.
    pub fn text(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl Default for MiddlewareConfig {
    /// Returns an empty object.
    fn default() -> Self {
        Self("{}".into())
    }
}

impl fmt::Debug for MiddlewareConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MiddlewareConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: Value = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

/// A config that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the config has {bytes} bytes as JSON; the maximum is {MIDDLEWARE_CONFIG_BYTES_MAX}")]
pub struct MiddlewareConfigError {
    /// Its length.
    pub bytes: usize,
}

/// A pattern of request paths: one path, or the start of paths, followed by `*`.
///
/// A pattern is written in decoded form. A request matches if its path matches as it was sent, or
/// after decoding and without redundant segments. An app may treat `/%61dmin`, `//admin` or
/// `/x/../admin` as `/admin`, so none of these may bypass a middleware for `/admin`. For the same
/// reason, `/admin` also matches `/admin/`, and `/admin/*` also matches `/admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// The path or its start, without the `*`.
    path: String,
    is_prefix: bool,
}

/// Why a text is not a valid path pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// It doesn't start with a slash.
    #[error("the pattern must start with '/', such as \"/api/*\"")]
    NoSlash,
    /// It is too long.
    #[error("the pattern is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// A `*` before the end.
    #[error("'*' is only allowed at the end of a pattern, such as \"/api/*\"")]
    StarInside,
    /// A query or a fragment.
    #[error("a pattern applies to the path only; remove '?' or '#' and everything after it")]
    NotAPath,
    /// A percent sign.
    #[error("write the pattern in decoded form, without '%'")]
    Encoded,
    /// A control character or a backslash.
    #[error("the pattern contains a control character or '\\'")]
    BadCharacter,
    /// A segment that decoding a path removes.
    #[error("the pattern contains an empty segment, \".\" or \"..\"")]
    Redundant,
}

impl PathPattern {
    /// Returns whether the pattern matches a request's path, without its query.
    pub fn matches(&self, path: &str) -> bool {
        self.matches_exactly(path.as_bytes()) || is_redundant(path) && self.matches_exactly(&canonical_path(path))
    }

    fn matches_exactly(&self, path: &[u8]) -> bool {
        let pattern = self.path.as_bytes();
        if !self.is_prefix {
            return without_slash(path) == without_slash(pattern);
        }
        path.starts_with(pattern) || pattern.strip_suffix(b"/") == Some(path)
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Returns whether a path may have another form that an app treats as equal.
fn is_redundant(path: &str) -> bool {
    path.contains(['%', '\\']) || path.contains("//") || path.contains("/.")
}

/// Returns the path decoded, with `/` as the only separator, and without empty segments, `.` and
/// `..`. A slash at the end is kept.
fn canonical_path(path: &str) -> Cow<'_, [u8]> {
    let mut decoded = decode(path.as_bytes());
    for byte in &mut decoded {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_with_slash = false;
    for segment in decoded.split(|byte| *byte == b'/') {
        ends_with_slash = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut canonical = Vec::with_capacity(decoded.len());
    for segment in &segments {
        canonical.push(b'/');
        canonical.extend_from_slice(segment);
    }
    if ends_with_slash || segments.is_empty() {
        canonical.push(b'/');
    }
    Cow::Owned(canonical)
}

/// Decodes percent-encoded bytes; an invalid sequence is unchanged.
fn decode(encoded: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let [first, tail @ ..] = rest {
        if let (b'%', [high, low, after @ ..]) = (*first, tail)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
            continue;
        }
        decoded.push(*first);
        rest = tail;
    }
    decoded
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let (path, is_prefix) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        if !path.starts_with('/') {
            return Err(PathPatternError::NoSlash);
        }
        if path.len() > TEXT_BYTES_MAX {
            return Err(PathPatternError::TooLong);
        }
        for (found, error) in [
            (path.contains('*'), PathPatternError::StarInside),
            (path.contains(['?', '#']), PathPatternError::NotAPath),
            (path.contains('%'), PathPatternError::Encoded),
            (path.contains(|c: char| c.is_control() || c == '\\'), PathPatternError::BadCharacter),
            (is_redundant(path) && *canonical_path(path) != *path.as_bytes(), PathPatternError::Redundant),
        ] {
            if found {
                return Err(error);
            }
        }
        Ok(Self { path: path.to_owned(), is_prefix })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path, if self.is_prefix { "*" } else { "" })
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().expect(text)
    }

    #[test]
    fn a_pattern_is_a_path_or_the_start_of_paths() {
        let exact = pattern("/login");
        assert!(exact.matches("/login") && exact.matches("/login/") && pattern("/login/").matches("/login"));
        for other in ["/", "/login//x", "/login/x", "/logins", "/Login", "/x/login", ""] {
            assert!(!exact.matches(other), "{other}");
        }
        let prefix = pattern("/api/*");
        for path in ["/api/", "/api/x", "/api/x/y", "/api"] {
            assert!(prefix.matches(path), "{path}");
        }
        for other in ["/", "/apis", "/ap", "/x/api/", "*", ""] {
            assert!(!prefix.matches(other), "{other}");
        }
        assert!(pattern("/v*").matches("/v1/x") && pattern("/v*").matches("/v"));
        assert!(pattern("/*").matches("/") && pattern("/*").matches("/any/path"));
        assert!(pattern("/größe").matches("/gr%C3%B6%c3%9fe"));
    }

    #[test]
    fn no_other_form_of_a_path_bypasses_a_pattern() {
        let forms =
            ["/%61dmin/x", "//admin/x", "/./admin/x", "/a/../admin/x", "/admin%2Fx", "\\admin\\x", "/..//admin/x"];
        for path in forms.into_iter().chain(["/b/%2e%2E/admin/x", "/admin/./x", "/admin/y/../x", "/x//../admin/x"]) {
            assert!(pattern("/admin/*").matches(path), "{path}");
            assert!(pattern("/admin/x").matches(path), "{path}");
        }
        // The path as sent matches although an app that resolves dots treats it as another.
        assert!(pattern("/admin/*").matches("/admin/../x"));
        assert!(!pattern("/admin/*").matches("/%zzadmin/x") && !pattern("/admin/*").matches("/administrator%2f"));
    }

    #[test]
    fn an_invalid_pattern_is_refused_with_a_remedy() {
        for (text, error) in [
            ("", PathPatternError::NoSlash),
            ("*", PathPatternError::NoSlash),
            ("api/*", PathPatternError::NoSlash),
            ("/*/x", PathPatternError::StarInside),
            ("/a**", PathPatternError::StarInside),
            ("/a?b", PathPatternError::NotAPath),
            ("/a#b", PathPatternError::NotAPath),
            ("/%61", PathPatternError::Encoded),
            ("/a\\b", PathPatternError::BadCharacter),
            ("/a\nb", PathPatternError::BadCharacter),
            ("//a", PathPatternError::Redundant),
            ("/a/../b", PathPatternError::Redundant),
            ("/a/./b*", PathPatternError::Redundant),
        ] {
            assert_eq!(text.parse::<PathPattern>(), Err(error), "{text:?}");
        }
        assert_eq!(format!("/{}", "a".repeat(TEXT_BYTES_MAX)).parse::<PathPattern>(), Err(PathPatternError::TooLong));
        assert!(pattern("/.well-known/*").matches("/.well-known/x"));
    }

    #[test]
    fn a_use_without_paths_applies_to_all() {
        let mut used = MiddlewareUse::new("cors".parse().expect("a valid reference"));
        assert!(used.applies_to("/any") && used.applies_to("*"));
        used.paths = vec![pattern("/a"), pattern("/b/*")];
        assert!(used.applies_to("/a") && used.applies_to("/b/c") && !used.applies_to("/c"));
    }

    #[test]
    fn a_reference_accepts_the_versions_of_its_range() {
        let accepts = |text: &str, version: &str| {
            let reference: PluginReference = text.parse().expect(text);
            reference.accepts(&Version::parse(version).expect(version))
        };
        assert!(accepts("jwt", "0.0.1") && accepts("jwt", "9.0.0-beta"));
        assert!(accepts("jwt@^1.2", "1.9.0") && !accepts("jwt@^1.2", "1.1.9") && !accepts("jwt@^1.2", "2.0.0"));
        assert!(accepts("jwt@1.2", "1.3.0") && accepts("jwt@=1.2.3", "1.2.3") && !accepts("jwt@=1.2.3", "1.2.4"));
        assert!(accepts("jwt@>=1.2, <3", "2.9.9") && !accepts("jwt@>=1.2, <3", "3.0.0"));
        for text in ["", "Jwt", "jwt@", "jwt@one", "jwt@1@2", "jwt @1"] {
            assert!(text.parse::<PluginReference>().is_err(), "{text}");
        }
        let error = "jwt@one".parse::<PluginReference>().expect_err("one is not a range").to_string();
        assert!(error.contains("\"jwt@^1.2\""), "{error}");
    }

    #[test]
    fn a_config_is_json_text_of_bounded_length() {
        assert_eq!(MiddlewareConfig::default().as_str(), "{}");
        let config = MiddlewareConfig::new(&json!({"b": [1, true], "a": "ü"})).expect("it is short");
        assert_eq!(config.as_str(), r#"{"a":"ü","b":[1,true]}"#);
        let long = MiddlewareConfig::new(&json!("x".repeat(MIDDLEWARE_CONFIG_BYTES_MAX)));
        assert_eq!(long, Err(MiddlewareConfigError { bytes: MIDDLEWARE_CONFIG_BYTES_MAX + 2 }));
    }

    proptest! {
        #[test]
        fn a_printed_pattern_or_reference_reads_back(
            path in "/[a-zäö.-]{0,8}(/[a-z-]{1,8}){0,3}", star in any::<bool>(),
            name in "[a-z]{1,8}",
            range in proptest::sample::select(&["", "@^1.2", "@>=1, <2", "@*", "@~1.2.3"][..]),
        ) {
            let text = if star { format!("{path}*") } else { path };
            if let Ok(pattern) = text.parse::<PathPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
            let reference: PluginReference = format!("{name}{range}").parse().expect("a valid reference");
            prop_assert_eq!(reference.to_string().parse::<PluginReference>(), Ok(reference));
        }

        #[test]
        fn matching_any_path_never_panics(path in any::<String>(), prefix in "/[a-z]{0,3}") {
            let pattern: PathPattern = format!("{prefix}*").parse().expect("a valid pattern");
            let _ = pattern.matches(&path);
        }

        #[test]
        fn encoding_a_path_never_bypasses_a_pattern(
            path in "(/[a-z]{1,3}){1,4}", encoded in proptest::collection::vec(any::<bool>(), 20), length in 1..8usize,
        ) {
            let start = &path[..length.min(path.len())];
            let Ok(pattern) = format!("{start}*").parse::<PathPattern>() else { return Ok(()) };
            let sent: String = path
                .bytes()
                .zip(encoded)
                .enumerate()
                .map(|(index, (byte, encode))| match encode && index > 0 {
                    true => format!("%{byte:02X}"),
                    false => char::from(byte).to_string(),
                })
                .collect();
            prop_assert!(pattern.matches(&path));
            prop_assert_eq!(pattern.matches(&sent), true, "{}", sent);
        }
    }
}
