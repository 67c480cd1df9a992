//! Recommends an app type from the app's measured usage. Owns the thresholds and the wording. Never
//! measures usage and never changes a type.

use serde::Serialize;

use crate::AppType;
use crate::limits::{LOW_EVENTS_PER_USER_MAX, LOW_MONTHLY_USERS_MAX};

/// An app's measured usage in one month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Number of distinct users (the `subject` of an event).
    pub monthly_users: u64,
    /// Number of events, with or without a user.
    pub events: u64,
}

/// A recommended app type, with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Advice {
    /// The recommended type, unless too little was measured.
    pub advice: Option<AppType>,
    /// The reason, as a sentence with numbers.
    pub reason: String,
    /// Number of distinct users.
    pub monthly_users: u64,
    /// Number of events per user, if there was a user.
    pub events_per_user: Option<f64>,
}

impl Usage {
    /// Returns the number of events per user.
    pub fn events_per_user(&self) -> Option<f64> {
        (self.monthly_users > 0).then(|| self.events as f64 / self.monthly_users as f64)
    }
}

/// Recommends a type for an app of the type `present`. `dev` and `staging` fit the same
/// usage and differ only in how code is deployed, so an app of either type keeps it.
pub fn advise(present: AppType, usage: Option<Usage>) -> Advice {
    let usage = usage.unwrap_or_default();
    let Usage { monthly_users: users, events } = usage;
    let Some(per_user) = usage.events_per_user() else {
        let reason = if events == 0 {
            "no events were measured this month, so no type can be recommended".to_owned()
        } else {
            format!(
                "{events} events were measured this month, but none has a \"subject\" that names its user, so no type \
                 can be recommended"
            )
        };
        return Advice { advice: None, reason, monthly_users: users, events_per_user: None };
    };
    let low = match present {
        AppType::Dev => AppType::Dev,
        AppType::Staging | AppType::Production => AppType::Staging,
    };
    let high_use = users > LOW_MONTHLY_USERS_MAX || per_user > LOW_EVENTS_PER_USER_MAX as f64;
    let (advice, because) = if high_use {
        (AppType::Production, "exceeds what dev and staging are meant for; production scales with its load")
    } else if present == AppType::Production {
        (low, "is within what staging is meant for; choose production only if you need a warm instance")
    } else {
        (low, "is within what dev and staging are meant for")
    };
    let reason = format!(
        "{users} monthly {} with {:.1} events each {because} (up to {LOW_MONTHLY_USERS_MAX} users and \
         {LOW_EVENTS_PER_USER_MAX} events for each)",
        if users == 1 { "user" } else { "users" },
        // Rounds up, so that a value above the threshold never reads as within it.
        (per_user * 10.0).ceil() / 10.0,
    );
    Advice { advice: Some(advice), reason, monthly_users: users, events_per_user: Some(per_user) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advised(present: AppType, monthly_users: u64, events: u64) -> Option<AppType> {
        advise(present, Some(Usage { monthly_users, events })).advice
    }

    #[test]
    fn the_recommendation_follows_the_thresholds() {
        for present in AppType::ALL {
            let low = if present == AppType::Dev { AppType::Dev } else { AppType::Staging };
            assert_eq!(advised(present, 12, 42), Some(low));
            assert_eq!(advised(present, 5_000, 1_000_000), Some(low), "200 events for each of 5,000");
            assert_eq!(advised(present, 5_000, 1_000_001), Some(AppType::Production));
            assert_eq!(advised(present, 5_001, 5_001), Some(AppType::Production));
            assert_eq!(advised(present, 1, 201), Some(AppType::Production));
            assert_eq!(advised(present, u64::MAX, u64::MAX), Some(AppType::Production));
        }
    }

    #[test]
    fn the_reason_has_the_numbers() {
        let advice = advise(AppType::Staging, Some(Usage { monthly_users: 12, events: 42 }));
        assert_eq!(
            serde_json::to_string(&advice).expect("it serialises"),
            "{\"advice\":\"staging\",\"reason\":\"12 monthly users with 3.5 events each is within what dev and staging \
             are meant for (up to 5000 users and 200 events for each)\",\"monthly_users\":12,\"events_per_user\":3.5}"
        );
        let high = advise(AppType::Dev, Some(Usage { monthly_users: 5_000, events: 1_000_001 })).reason;
        assert!(high.starts_with("5000 monthly users with 200.1 events each exceeds"), "{high}");
        let down = advise(AppType::Production, Some(Usage { monthly_users: 1, events: 1 })).reason;
        assert!(down.starts_with("1 monthly user with 1.0 events each is within what staging"), "{down}");
    }

    #[test]
    fn without_measurements_no_type_is_recommended() {
        for usage in [None, Some(Usage::default())] {
            let advice = advise(AppType::Production, usage);
            assert_eq!((advice.advice, advice.events_per_user), (None, None));
            assert!(advice.reason.starts_with("no events were measured"), "{}", advice.reason);
        }
        let nameless = advise(AppType::Dev, Some(Usage { monthly_users: 0, events: 7 }));
        assert_eq!(nameless.advice, None);
        assert!(nameless.reason.starts_with("7 events were measured"), "{}", nameless.reason);
    }

    proptest! {
        #[test]
        fn more_usage_never_lowers_the_recommendation(
            present in 0..3usize, users in 1..10_000u64, events in 0..3_000_000u64, more in 0..3_000_000u64,
        ) {
            let present = AppType::ALL[present];
            prop_assert!(advised(present, users, events) <= advised(present, users, events + more));
        }
    }
}
