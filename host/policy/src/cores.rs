//! Cores: how many instances of an app may run concurrently, separately for its two queues. Owns
//! the operator's allotment for all apps, and the overrides for single apps. Never starts or stops
//! an instance.

use serde::{Deserialize, Serialize};

use crate::limits::CORES;

/// The maximum number of concurrently running jobs of an app, per queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
pub struct Cores {
    /// Pull jobs, whose caller waits: requests, and events whose sender wants the reply.
    pub pull: u32,
    /// Push jobs, without a waiting caller: broadcasts, schedules, events of the push queue.
    pub push: u32,
}

/// The cores set for one app; an absent number follows the operator's allotment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CoresOverride {
    /// Cores for the pull queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<u32>,
    /// Cores for the push queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<u32>,
}

/// A number of cores that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{queue} = {given} is out of range: choose from {} to {}", CORES.start(), CORES.end())]
pub struct CoresError {
    /// The queue with the invalid number.
    pub queue: &'static str,
    /// The invalid number.
    pub given: u32,
}

impl Cores {
    /// Returns the allotment if both numbers are in range.
    pub fn new(pull: u32, push: u32) -> Result<Self, CoresError> {
        let checked = |queue, given| if CORES.contains(&given) { Ok(given) } else { Err(CoresError { queue, given }) };
        Ok(Self { pull: checked("pull", pull)?, push: checked("push", push)? })
    }

    /// Returns the cores of an app with an override.
    pub fn with(self, cores_override: CoresOverride) -> Self {
        Self { pull: cores_override.pull.unwrap_or(self.pull), push: cores_override.push.unwrap_or(self.push) }
    }
}

impl CoresOverride {
    /// Returns the override if every number is in range.
    pub fn checked(self) -> Result<Self, CoresError> {
        Cores::new(self.pull.unwrap_or(*CORES.start()), self.push.unwrap_or(*CORES.start())).map(|_| self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_takes_precedence_over_the_allotment() {
        let all = Cores { pull: 10, push: 2 };
        assert_eq!(all.with(CoresOverride::default()), all);
        assert_eq!(all.with(CoresOverride { pull: None, push: Some(7) }), Cores { pull: 10, push: 7 });
    }

    #[test]
    fn an_app_has_at_least_one_core_in_each_queue() {
        assert_eq!(Cores::new(0, 1), Err(CoresError { queue: "pull", given: 0 }));
        let refused = CoresOverride { pull: None, push: Some(100_000) }.checked().expect_err("is too much");
        assert_eq!(refused.to_string(), "push = 100000 is out of range: choose from 1 to 1000");
        assert!(CoresOverride { pull: Some(1), push: None }.checked().is_ok());
    }
}
