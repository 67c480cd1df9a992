//! Why a change of a formation is refused. Owns the texts of the errors, each with a remedy. Never
//! decides anything.

use crate::limits::{ARGUMENTS_MAX, TEXT_BYTES_MAX};
use crate::nearest::did_you_mean;
use crate::{
    Entry, HealthError, Inapplicable, NameError, ProcessName, RetryError, ScheduleError, TimeZoneError, UnknownWord,
};

/// Why a change of a formation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormationError {
    /// No process type has this name.
    #[error("unknown process type \"{process}\"{}", did_you_mean(nearest.as_deref(), known))]
    NoSuchProcess { process: ProcessName, nearest: Option<String>, known: String },
    /// A process type of this name exists.
    #[error("process type \"{process}\" already exists; change it, or choose another name")]
    Exists { process: ProcessName },
    /// The minimum is above the maximum.
    #[error("{process}.min = {min} exceeds {process}.max = {max}; set both")]
    MinAboveMax { process: ProcessName, min: u32, max: u32 },
    /// The number exceeds the app's limit.
    #[error("{process}.{key} = {given} is out of range: choose from 0 to {most}, which is limits.instances_max")]
    AboveLimit { process: ProcessName, key: &'static str, given: u32, most: u32 },
    /// The maximum is zero.
    #[error("{process}.max = 0 would allow no instance; stop the app or remove the process type instead")]
    MaxZero { process: ProcessName },
    /// The value isn't a valid number of instances.
    #[error("{key:?} must be a whole number from 0 to {most}, or null for the default")]
    NotACount { key: String, most: u32 },
    /// A setting that the entry or the other settings don't allow.
    #[error("\"{process}.{}\": {}", setting.key, setting.why)]
    Inapplicable { process: ProcessName, setting: Inapplicable },
    /// The health check is invalid.
    #[error("{key:?}: {source}")]
    Health { key: String, source: HealthError },
    /// The schedule is invalid or never due.
    #[error("{key:?}: {source}")]
    Schedule { key: String, source: ScheduleError },
    /// The time zone is unknown.
    #[error("{key:?}: {source}")]
    TimeZone { key: String, source: TimeZoneError },
    /// The retry policy is invalid.
    #[error("{key:?}: {source}")]
    Retry { key: String, source: Box<RetryError> },
    /// Too many arguments, or one is too long.
    #[error("\"{process}.args\": at most {ARGUMENTS_MAX} arguments of {TEXT_BYTES_MAX} bytes each, without NUL")]
    BadArguments { process: ProcessName },
    /// The app has the maximum number of process types.
    #[error("an app has at most {max} process types; remove one first")]
    TooManyProcesses { max: usize },
    /// The last process type can't be removed.
    #[error("\"{process}\" is the only process type; stop the app instead, or create another process type first")]
    NothingLeft { process: ProcessName },
    /// The component doesn't export this entry.
    #[error(
        "\"{process}\" cannot run: the component {}; push one that does, or choose another entry",
        match entry {
            Entry::Http => "serves no HTTP",
            Entry::Events => "handles no events",
            Entry::Command => "is not a command",
            Entry::Middleware => "is not a middleware",
            Entry::Gate => "is not a gate",
            Entry::Provider => "is not a provider",
            Entry::Hook => "is not a hook",
        }
    )]
    EntryNotExported { process: ProcessName, entry: Entry },
    /// The entry can't be changed.
    #[error("the entry of \"{process}\" is {entry} and can't be changed; remove the process type and create it again")]
    EntryFixed { process: ProcessName, entry: Entry },
    /// The name isn't valid for a process type.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An unknown key.
    #[error("unknown key {key:?}{}", did_you_mean(nearest.as_deref(), known))]
    UnknownKey { key: String, nearest: Option<String>, known: String },
    /// A required key is missing.
    #[error("{key:?} is missing, as in {example}")]
    Missing { key: String, example: &'static str },
    /// An unknown word, such as an unknown entry.
    #[error("{key:?}: {source}")]
    UnknownWord { key: String, source: UnknownWord },
    /// The value has the wrong JSON type.
    #[error("{key:?} is {found}, but must be {expected}")]
    WrongType { key: String, expected: &'static str, found: &'static str },
}
