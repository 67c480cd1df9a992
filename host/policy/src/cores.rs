//! Cores: how many instances of an app may run at one time, for each of its two queues. Owns the allotment that the
//! operator makes for all apps, and what may be said otherwise for one. Never runs or stops anything.

use serde::{Deserialize, Serialize};

use crate::limits::CORES;

/// How many jobs of an app run at one time, in each queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
pub struct Cores {
    /// Jobs that somebody waits for: requests, and events whose sender wants the reply.
    pub pull: u32,
    /// Jobs that nobody waits for: broadcasts, schedules, events for the push queue.
    pub push: u32,
}

/// What is said of one app's cores; what is left out follows the operator's allotment.
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

/// Why an app can't have so many cores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{queue} = {given} is out of range: choose from {} to {}", CORES.start(), CORES.end())]
pub struct CoresError {
    /// Which queue it was said of.
    pub queue: &'static str,
    /// What was said.
    pub given: u32,
}

impl Cores {
    /// The allotment, if both numbers are in their range.
    pub fn new(pull: u32, push: u32) -> Result<Self, CoresError> {
        let checked = |queue, given| if CORES.contains(&given) { Ok(given) } else { Err(CoresError { queue, given }) };
        Ok(Self { pull: checked("pull", pull)?, push: checked("push", push)? })
    }

    /// What an app has of which something else was said.
    pub fn with(self, said: CoresOverride) -> Self {
        Self { pull: said.pull.unwrap_or(self.pull), push: said.push.unwrap_or(self.push) }
    }
}

impl CoresOverride {
    /// The same, if every number is in its range.
    pub fn checked(self) -> Result<Self, CoresError> {
        Cores::new(self.pull.unwrap_or(*CORES.start()), self.push.unwrap_or(*CORES.start())).map(|_| self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_an_app_goes_before_the_allotment() {
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
