//! Why a formation cannot be changed as asked. Owns the words of every refusal, each with a way out.

use crate::limits::{ARGUMENTS_MAX, TEXT_BYTES_MAX};
use crate::nearest::did_you_mean;
use crate::{Entry, HealthError, NameError, ProcessName, ScheduleError, UnknownWord};

pub(crate) const HEALTH_NEEDS_HTTP: &str = "a health path is asked over HTTP, so it needs entry = \"http\"";
pub(crate) const SCHEDULE_NEEDS_NO_HTTP: &str =
    "a schedule delivers an event or runs a command, so it needs entry = \"events\" or \"command\"";

/// Why a formation cannot be changed as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormationError {
    /// There is no process type of this name.
    #[error("there is no process type \"{process}\"{}", did_you_mean(nearest.as_deref(), known))]
    NoSuchProcess { process: ProcessName, nearest: Option<String>, known: String },
    /// There is one of this name already.
    #[error("there is a process type \"{process}\" already; change it, or choose another name")]
    Exists { process: ProcessName },
    /// More instances at least than at most.
    #[error("{process}.min = {min} is above {process}.max = {max}; set both")]
    MinAboveMax { process: ProcessName, min: u32, max: u32 },
    /// More than the app's limit allows.
    #[error("{process}.{key} = {given} is out of range: choose from 0 to {most}, which is limits.instances_max")]
    AboveLimit { process: ProcessName, key: &'static str, given: u32, most: u32 },
    /// No instance at most.
    #[error("{process}.max = 0 would allow no instance; stop the app or remove the process type instead")]
    MaxZero { process: ProcessName },
    /// No number of instances at all.
    #[error("{key:?} must be a whole number from 0 to {most}, or null for as usual")]
    NotACount { key: String, most: u32 },
    /// A health check of something that serves no HTTP.
    #[error("\"{process}.health\": {HEALTH_NEEDS_HTTP}")]
    HealthNeedsHttp { process: ProcessName },
    /// A health check that cannot be.
    #[error("{key:?}: {source}")]
    Health { key: String, source: HealthError },
    /// A schedule for something that serves HTTP.
    #[error("\"{process}.schedule\": {SCHEDULE_NEEDS_NO_HTTP}")]
    ScheduleOnHttp { process: ProcessName },
    /// A schedule that is none or never comes.
    #[error("{key:?}: {source}")]
    Schedule { key: String, source: ScheduleError },
    /// Too many arguments, or one too long.
    #[error("\"{process}.args\": at most {ARGUMENTS_MAX} arguments of {TEXT_BYTES_MAX} bytes each, without NUL")]
    BadArguments { process: ProcessName },
    /// More process types than an app may have.
    #[error("an app has at most {max} process types; remove one first")]
    TooManyProcesses { max: usize },
    /// The last process type would go.
    #[error("\"{process}\" is the only process type; stop the app instead, or create another process type first")]
    NothingLeft { process: ProcessName },
    /// The component has nothing to call for this entry.
    #[error(
        "\"{process}\" cannot run: the component {}; push one that does, or choose another entry",
        match entry {
            Entry::Http => "serves no HTTP",
            Entry::Events => "handles no events",
            Entry::Command => "is no command",
        }
    )]
    EntryNotExported { process: ProcessName, entry: Entry },
    /// An entry cannot be changed.
    #[error("the entry of \"{process}\" is {entry} and stays so; remove the process type and create it anew")]
    EntryFixed { process: ProcessName, entry: Entry },
    /// No name of a process type.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A key that means nothing here.
    #[error("unknown key {key:?}{}", did_you_mean(nearest.as_deref(), known))]
    UnknownKey { key: String, nearest: Option<String>, known: String },
    /// A key that must be there.
    #[error("{key:?} is missing, as in {example}")]
    Missing { key: String, example: &'static str },
    /// An entry that there is not.
    #[error("{key:?}: {source}")]
    UnknownEntry { key: String, source: UnknownWord },
    /// A value of another kind than expected.
    #[error("{key:?} is {found}, but must be {expected}")]
    WrongType { key: String, expected: &'static str, found: &'static str },
}
