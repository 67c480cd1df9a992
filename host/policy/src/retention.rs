//! Which releases are kept, and which may be deleted. Owns the rule. Never deletes one, and never has a clock.

use jiff::{SignedDuration, Timestamp};

use crate::limits::{RELEASES_KEPT, RELEASES_KEPT_FOR};
use crate::{ReleaseNumber, ReleaseState};

/// A release of an app, as far as it matters for keeping it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRelease {
    /// Which.
    pub number: ReleaseNumber,
    /// Its state.
    pub state: ReleaseState,
    /// When it was last the app's current one, if it ever was.
    pub last_current_at: Option<Timestamp>,
}

/// The releases of an app that may be deleted, the oldest first. Kept are the last twenty, all that were current within
/// thirty days, the current one, and any that serve or are under way.
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
    // A time that seems to come yet is that of a clock that went back, and no reason to delete anything.
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
        ReleaseNumber::new(number).expect("numbers begin with 1")
    }

    fn now() -> Timestamp {
        "2026-11-22T08:00:00Z".parse().expect("it is a time")
    }

    fn retired(release: u32, days_ago: Option<i32>) -> StoredRelease {
        let last_current_at = days_ago.map(|days| now() - DAY * days);
        StoredRelease { number: number(release), state: ReleaseState::Retired, last_current_at }
    }

    #[test]
    fn the_last_twenty_are_kept_and_older_ones_go() {
        let releases: Vec<_> = (1..=23).map(|release| retired(release, Some(90))).collect();
        assert_eq!(expired(&releases, Some(number(23)), now()), [1, 2, 3].map(number));
        assert_eq!(expired(&releases[..20], None, now()), []);
    }

    #[test]
    fn what_was_current_lately_is_kept() {
        let mut releases: Vec<_> = (5..=24).map(|release| retired(release, None)).collect();
        releases.extend([retired(1, Some(31)), retired(2, Some(30)), retired(3, Some(-5)), retired(4, None)]);
        assert_eq!(expired(&releases, Some(number(24)), now()), [1, 4].map(number));
    }

    #[test]
    fn the_current_one_is_kept_however_old_it_is() {
        let releases: Vec<_> = (1..=40).map(|release| retired(release, Some(400))).collect();
        let gone = expired(&releases, Some(number(7)), now());
        assert!(!gone.contains(&number(7)) && gone.len() == 19);
    }

    fn release() -> impl Strategy<Value = StoredRelease> {
        (1..80u32, 0..8usize, proptest::option::of(0..60i32)).prop_map(|(release, state, days)| StoredRelease {
            state: ReleaseState::ALL[state],
            ..retired(release, days)
        })
    }

    proptest! {
        #[test]
        fn nothing_that_is_needed_goes_and_everything_else_does(
            releases in proptest::collection::vec(release(), 0..70), current in proptest::option::of(1..80u32),
        ) {
            let mut releases = releases;
            releases.sort_by_key(|release| release.number);
            releases.dedup_by_key(|release| release.number);
            let current = current.map(number);
            let gone = expired(&releases, current, now());
            prop_assert!(gone.is_sorted());
            for (index, release) in releases.iter().enumerate() {
                let among_the_last = releases.len() - index <= RELEASES_KEPT;
                let lately = release.last_current_at.is_some_and(|at| at >= now() - DAY * 30);
                let serves = matches!(release.state, ReleaseState::Ready | ReleaseState::Frozen);
                let kept =
                    among_the_last || lately || serves || release.state.is_under_way() || current == Some(release.number);
                prop_assert_eq!(gone.contains(&release.number), !kept, "{:?}", release);
            }
        }

        #[test]
        fn deleting_twice_deletes_nothing_more(releases in proptest::collection::vec(release(), 0..70)) {
            let mut releases = releases;
            releases.sort_by_key(|release| release.number);
            releases.dedup_by_key(|release| release.number);
            let gone = expired(&releases, None, now());
            releases.retain(|release| !gone.contains(&release.number));
            prop_assert_eq!(expired(&releases, None, now()), []);
        }
    }
}
