//! Chooses the faults of a torture by its seed. Never injects one.

use isopod_faults::{DiskError, Loss, next_random};
use std::{fmt, str::FromStr};

/// The faults of a torture run besides the kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hazards {
    /// None: the kernel keeps all writes of a killed host.
    None,
    /// Each kill is a power failure: all unsynced writes, or a random part, are lost.
    Power,
    /// Some writes and syncs fail before each kill.
    Errors,
    /// The disk is full for a time before each kill.
    Full,
    /// A random mixture of these for each kill.
    All,
}

impl Hazards {
    const ALL: [Self; 5] = [Self::None, Self::Power, Self::Errors, Self::Full, Self::All];

    /// Returns whether calls of the host fail.
    pub fn has_errors(self) -> bool {
        matches!(self, Self::Errors | Self::Full | Self::All)
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Power => "power",
            Self::Errors => "errors",
            Self::Full => "full",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Hazards {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Hazards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|hazards| hazards.name() == text);
        found.ok_or_else(|| format!("no such faults: {text}"))
    }
}

/// The events and faults before and at one kill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// The number of events that are acknowledged before the errors.
    pub(crate) acknowledged: u64,
    pub(crate) disk: Option<FailingDisk>,
    /// The unsynced writes that are lost; `None` without a power failure.
    pub(crate) loss: Option<Loss>,
}

/// Disk errors before a kill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FailingDisk {
    pub(crate) error: DiskError,
    pub(crate) per_million: u32,
    pub(crate) seed: u64,
    /// The number of calls that fail before the errors may end.
    pub(crate) failures: u64,
    /// The number of events that are acknowledged after the end of the errors. `None` if the host
    /// is killed during the errors.
    pub(crate) then_acknowledged: Option<u64>,
}

impl Round {
    /// Chooses a round. `pause` is the largest number of acknowledged events.
    pub(crate) fn choose(hazards: Hazards, random: &mut u64, pause: u64) -> Self {
        let mut below = |limit: u64| next_random(random) % limit;
        let acknowledged = below(pause + 1);
        let error = match hazards {
            Hazards::Errors => Some(DiskError::Io),
            Hazards::Full => Some(DiskError::Full),
            Hazards::All => [None, None, Some(DiskError::Io), Some(DiskError::Full)][below(4) as usize],
            Hazards::None | Hazards::Power => None,
        };
        let disk = error.map(|error| {
            let (per_million, failures) = match error {
                // From a few failed calls to almost every commit.
                DiskError::Io => [(2_000, 1), (20_000, 1 + below(10)), (200_000, 1 + below(20))][below(3) as usize],
                _ => (1_000_000, 1 + below(60)),
            };
            let then_acknowledged = (below(2) == 0).then(|| 1 + below(pause + 1));
            FailingDisk { error, per_million, seed: below(u64::MAX), failures, then_acknowledged }
        });
        let is_power_failure = match hazards {
            Hazards::Power => true,
            Hazards::All => below(3) > 0,
            Hazards::None | Hazards::Errors | Hazards::Full => false,
        };
        let loss = match below(2) {
            _ if !is_power_failure => None,
            0 => Some(Loss::All),
            _ => Some(Loss::Some { seed: below(u64::MAX) }),
        };
        Self { acknowledged, disk, loss }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(disk) = &self.disk {
            let during = if disk.then_acknowledged.is_some() { "after" } else { "during" };
            match disk.error {
                DiskError::Io => write!(out, "{during} I/O errors of {} calls per million, ", disk.per_million)?,
                DiskError::Full => write!(out, "{during} a full disk, ")?,
                DiskError::ReadOnly => write!(out, "{during} a read-only disk, ")?,
                DiskError::Sync | DiskError::SyncOfDatabase => write!(out, "{during} failed syncs, ")?,
                DiskError::Read | DiskError::ReadOfApps | DiskError::ReadOfBlobs => {
                    write!(out, "{during} failed reads, ")?
                }
                DiskError::LogsFull | DiskError::LogsReadOnly => write!(out, "{during} failed writes of logs, ")?,
            }
        }
        out.write_str(match self.loss {
            None => "the process only",
            Some(Loss::All) => "all unsynced writes lost",
            Some(Loss::Some { .. }) => "some unsynced writes lost",
        })
    }
}
