//! Decides which releases are kept, and which can be deleted. Owns the retention rule. Never
//! deletes a release and never reads a clock.

use jiff::{SignedDuration, Timestamp};

use crate::limits::{RELEASES_KEPT, RELEASES_KEPT_FOR};
use crate::{ReleaseNumber, ReleaseState};

/// A release, as far as its retention depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRelease {
    /// The release's number.
    pub number: ReleaseNumber,
    /// The release's state.
    pub state: ReleaseState,
    /// When it was last the app's current release, if ever.
    pub last_current_at: Option<Timestamp>,
}

/// Returns an app's releases that can be deleted, oldest first. Keeps the newest twenty, all that
/// were current within thirty days, the current one, and any that serve or are being deployed.
pub fn expired(releases: &[StoredRelease], current: Option<ReleaseNumber>, now: Timestamp) -> Vec<ReleaseNumber> {
    let mut newest_first = releases.to_vec();
    newest_first.sort_by_key(|release| std::cmp::Reverse(release.number));
    let mut expired: Vec<ReleaseNumber> = newest_first
        .into_iter()
        .skip(RELEASES_KEPT)
        .filter(|release| !is_needed(release, current, now))
        .map(|release| release.number)
        .collect();
    expired.reverse();
    expired
}

fn is_needed(release: &StoredRelease, current: Option<ReleaseNumber>, now: Timestamp) -> bool {
    let in_use = match release.state {
        ReleaseState::Building
        | ReleaseState::Deploying
        | ReleaseState::Booted
        | ReleaseState::Ready
        | ReleaseState::Frozen => true,
        ReleaseState::Retired | ReleaseState::BuildError | ReleaseState::DeploymentError => false,
    };
    // A time in the future comes from a clock that was set back since. The release is then recent.
    let recent = release.last_current_at.is_some_and(|at| now.duration_since(at) <= kept_for());
    in_use || recent || current == Some(release.number)
}

fn kept_for() -> SignedDuration {
    SignedDuration::try_from(RELEASES_KEPT_FOR).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn number(number: u32) -> ReleaseNumber {
        ReleaseNumber::new(number).expect("numbers start at 1")
    }

    fn now() -> Timestamp {
        "2026-11-22T08:00:00Z".parse().expect("it is a time")
    }

    fn retired(release: u32, days_ago: Option<i32>) -> StoredRelease {
        let last_current_at = days_ago.map(|days| now() - DAY * days);
        StoredRelease { number: number(release), state: ReleaseState::Retired, last_current_at }
    }

    #[test]
    fn the_newest_twenty_are_kept_and_older_ones_expire() {
        let releases: Vec<_> = (1..=23).map(|release| retired(release, Some(90))).collect();
        assert_eq!(expired(&releases, Some(number(23)), now()), [1, 2, 3].map(number));
        assert_eq!(expired(&releases[..20], None, now()), []);
    }

    #[test]
    fn a_recently_current_release_is_kept() {
        let mut releases: Vec<_> = (5..=24).map(|release| retired(release, None)).collect();
        releases.extend([retired(1, Some(31)), retired(2, Some(30)), retired(3, Some(-5)), retired(4, None)]);
        assert_eq!(expired(&releases, Some(number(24)), now()), [1, 4].map(number));
    }

    #[test]
    fn the_current_release_is_kept_at_any_age() {
        let releases: Vec<_> = (1..=40).map(|release| retired(release, Some(400))).collect();
        let deleted = expired(&releases, Some(number(7)), now());
        assert!(!deleted.contains(&number(7)) && deleted.len() == 19);
    }

    fn release() -> impl Strategy<Value = StoredRelease> {
        (1..80u32, 0..8usize, proptest::option::of(0..60i32)).prop_map(|(release, state, days)| StoredRelease {
            state: ReleaseState::ALL[state],
            ..retired(release, days)
        })
    }

    proptest! {
        #[test]
        fn exactly_the_releases_that_are_not_needed_expire(
            releases in proptest::collection::vec(release(), 0..70), current in proptest::option::of(1..80u32),
        ) {
            let mut releases = releases;
            releases.sort_by_key(|release| release.number);
            releases.dedup_by_key(|release| release.number);
            let current = current.map(number);
            let deleted = expired(&releases, current, now());
            prop_assert!(deleted.is_sorted());
            for (index, release) in releases.iter().enumerate() {
                let among_the_last = releases.len() - index <= RELEASES_KEPT;
                let lately = release.last_current_at.is_some_and(|at| at >= now() - DAY * 30);
                let serves = matches!(release.state, ReleaseState::Ready | ReleaseState::Frozen);
                let is_current = current == Some(release.number);
                let kept = among_the_last || lately || serves || release.state.is_under_way() || is_current;
                prop_assert_eq!(deleted.contains(&release.number), !kept, "{:?}", release);
            }
        }

        #[test]
        fn a_second_deletion_deletes_no_more(releases in proptest::collection::vec(release(), 0..70)) {
            let mut releases = releases;
            releases.sort_by_key(|release| release.number);
            releases.dedup_by_key(|release| release.number);
            let deleted = expired(&releases, None, now());
            releases.retain(|release| !deleted.contains(&release.number));
            prop_assert_eq!(expired(&releases, None, now()), []);
        }
    }
}
