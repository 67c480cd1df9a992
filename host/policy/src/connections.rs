//! Decides which new connections a listener admits, and when an open one is closed for being idle,
//! slow or old. Never reads a clock and never touches a socket.

use crate::limits::UNREAD_STREAM_RESET;
use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// How occupied a listener is at the moment a new connection arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections that are open now.
    pub open: usize,
    /// Connections that may be open at one time.
    pub cap: usize,
    /// Open connections of the new connection's client, by [`client_of`].
    pub of_client: usize,
}

/// Whether a new connection is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Admitted,
    /// The listener is crowded, and this client already holds its share of the connections.
    OverShare,
    /// Every connection permit is taken.
    Full,
}

impl Occupancy {
    /// Admits connections up to the cap. While the listener is crowded, one client may hold a
    /// quarter of the cap at most, so that a single client can never take the last quarter.
    pub fn admission(self) -> Admission {
        if self.open >= self.cap {
            Admission::Full
        } else if is_crowded(self.open, self.cap) && self.of_client >= (self.cap / 4).max(1) {
            Admission::OverShare
        } else {
            Admission::Admitted
        }
    }
}

/// Whether at least three quarters of the connection permits are taken.
pub fn is_crowded(open: usize, cap: usize) -> bool {
    open >= cap - cap / 4
}

/// Returns the client to which an address belongs: an IPv4 address, including its IPv6-mapped form,
/// or a /64 network, since one IPv6 client usually owns a whole one.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The limits on a connection's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTimes {
    /// How long a connection may be idle after a response.
    pub idle: Duration,
    /// How long a request head may take from its first byte, and a new connection until its first
    /// request.
    pub head: Duration,
    /// The age at which GOAWAY is sent on an HTTP/2 connection.
    pub age: Duration,
    /// How long bytes of a response may wait for a client that doesn't read. On an HTTP/2
    /// connection, GOAWAY is then sent, and the connection is reset after five times as long.
    pub write: Duration,
}

/// The state of a connection and its durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    pub is_http2: bool,
    /// Since the connection was accepted.
    pub age: Duration,
    /// Whether the connection has ever carried a request.
    pub has_asked: bool,
    /// Whether a request is being read, handled or answered.
    pub is_busy: bool,
    /// Since the first byte of an HTTP/1 request head that is still incomplete.
    pub in_head: Option<Duration>,
    /// Since the last request ended and its response was written.
    pub quiet: Duration,
    /// Since the kernel accepted no further bytes of a response, because the client doesn't read.
    pub write_blocked: Option<Duration>,
    /// Time since the client of an HTTP/2 connection last permitted bytes of a response: the
    /// longest one of several unread responses.
    pub unread: Option<Duration>,
}

/// What a connection's timer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing has expired. Check again after this time.
    LookAgain(Duration),
    /// An HTTP/1 connection is idle for too long.
    Idle,
    /// An HTTP/1 request head takes too long.
    SlowHead,
    /// The client has read nothing of a response for too long.
    Unread,
    /// An HTTP/2 connection is idle for too long or too old, or has a response that its client
    /// doesn't read: it takes no new requests.
    Retire,
}

impl ConnectionTimes {
    /// Returns what has expired. On a crowded listener, the head timeout also applies to idle
    /// connections and to unread responses.
    pub fn expiry(&self, activity: &Activity, is_crowded: bool) -> Expiry {
        let Activity { is_http2, age, has_asked, is_busy, in_head, quiet, write_blocked, unread } = *activity;
        // A connection's state changes without its timer being set again, so the timer fires at
        // least this often.
        let mut soon = self.head.max(Duration::from_millis(1));
        let write = if is_crowded { self.write.min(self.head) } else { self.write };
        for (since, limit) in [(write_blocked, write), (unread, write.saturating_mul(UNREAD_STREAM_RESET))] {
            match since.map(|since| limit.saturating_sub(since)) {
                Some(left) if left.is_zero() => return Expiry::Unread,
                Some(left) => soon = soon.min(left),
                None => {}
            }
        }
        if is_http2 && (age >= self.age || unread.is_some_and(|unread| unread >= write)) {
            return Expiry::Retire;
        }
        if is_busy {
            return Expiry::LookAgain(soon);
        }
        if let (Some(in_head), false) = (in_head, is_http2) {
            return match self.head.checked_sub(in_head) {
                Some(left) if !left.is_zero() => Expiry::LookAgain(left),
                _ => Expiry::SlowHead,
            };
        }
        let limit = if has_asked && !is_crowded { self.idle } else { self.idle.min(self.head) };
        match limit.checked_sub(quiet) {
            Some(left) if !left.is_zero() => Expiry::LookAgain(left.min(soon)),
            _ if is_http2 => Expiry::Retire,
            _ => Expiry::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMES: ConnectionTimes = ConnectionTimes { idle: secs(75), head: secs(10), age: secs(3600), write: secs(60) };
    const IDLE: Activity = Activity {
        is_http2: false,
        age: secs(0),
        has_asked: true,
        is_busy: false,
        in_head: None,
        quiet: secs(0),
        write_blocked: None,
        unread: None,
    };

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_client_cannot_take_the_last_quarter() {
        let admission = |open, of_client| Occupancy { open, cap: 128, of_client }.admission();
        assert_eq!(admission(95, 95), Admission::Admitted);
        assert_eq!(admission(96, 96), Admission::OverShare);
        assert_eq!(admission(96, 32), Admission::OverShare);
        assert_eq!(admission(96, 31), Admission::Admitted);
        assert_eq!(admission(127, 0), Admission::Admitted);
        assert_eq!(admission(128, 0), Admission::Full);
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
        let client = |text: &str| client_of(text.parse().expect("an address"));
        assert_eq!(client("::ffff:192.0.2.7"), client("192.0.2.7"));
        assert_ne!(client("192.0.2.7"), client("192.0.2.8"));
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
    }

    #[test]
    fn an_idle_connection_and_a_slow_head_have_a_timer_each() {
        let idle = |quiet| TIMES.expiry(&Activity { quiet, ..IDLE }, false);
        assert_eq!(idle(secs(74)), Expiry::LookAgain(secs(1)));
        assert_eq!(idle(secs(75)), Expiry::Idle);
        let head = |since| TIMES.expiry(&Activity { in_head: Some(since), quiet: secs(70), ..IDLE }, false);
        assert_eq!(head(secs(0)), Expiry::LookAgain(secs(10)));
        assert_eq!(head(secs(10)), Expiry::SlowHead);
    }

    #[test]
    fn a_connection_without_a_request_has_the_time_of_a_head() {
        let silent = Activity { has_asked: false, quiet: secs(10), ..IDLE };
        assert_eq!(TIMES.expiry(&silent, false), Expiry::Idle);
        assert_eq!(TIMES.expiry(&Activity { is_http2: true, ..silent }, false), Expiry::Retire);
    }

    #[test]
    fn a_crowded_listener_closes_idle_connections_early() {
        let idle = Activity { quiet: secs(10), ..IDLE };
        assert_eq!(TIMES.expiry(&idle, true), Expiry::Idle);
        assert_eq!(TIMES.expiry(&Activity { is_http2: true, ..idle }, true), Expiry::Retire);
        assert!(matches!(TIMES.expiry(&idle, false), Expiry::LookAgain(_)));
    }

    #[test]
    fn an_unread_response_ends_its_connection_sooner_on_a_crowded_listener() {
        let blocked = |since, crowded, is_busy| {
            TIMES.expiry(&Activity { is_busy, write_blocked: Some(secs(since)), quiet: secs(since), ..IDLE }, crowded)
        };
        for is_busy in [false, true] {
            assert_eq!(blocked(59, false, is_busy), Expiry::LookAgain(secs(1)));
            assert_eq!(blocked(60, false, is_busy), Expiry::Unread);
            assert_eq!(blocked(9, true, true), Expiry::LookAgain(secs(1)));
            assert_eq!(blocked(10, true, is_busy), Expiry::Unread);
        }
    }

    /// Other responses on the connection have the time after GOAWAY to complete.
    #[test]
    fn an_unread_response_retires_its_http2_connection_and_ends_it_later() {
        let unread = |since, crowded| {
            let busy = Activity { is_http2: true, is_busy: true, unread: Some(secs(since)), ..IDLE };
            TIMES.expiry(&busy, crowded)
        };
        assert_eq!(unread(59, false), Expiry::LookAgain(secs(10)));
        assert_eq!((unread(60, false), unread(299, false)), (Expiry::Retire, Expiry::Retire));
        assert_eq!(unread(300, false), Expiry::Unread);
        assert_eq!((unread(10, true), unread(50, true)), (Expiry::Retire, Expiry::Unread));
    }

    #[test]
    fn an_old_http2_connection_retires_even_when_busy() {
        let old = Activity { age: secs(3600), is_busy: true, ..IDLE };
        assert_eq!(TIMES.expiry(&Activity { is_http2: true, ..old }, false), Expiry::Retire);
        assert!(matches!(TIMES.expiry(&old, true), Expiry::LookAgain(_)));
    }

    proptest! {
        #[test]
        fn clients_that_share_a_crowded_listener_never_pass_the_cap(
            asking in prop::collection::vec(0_usize..6, 0..200),
        ) {
            let (cap, mut held) = (32, [0_usize; 6]);
            for client in asking {
                let open = held.iter().sum();
                let admission = Occupancy { open, cap, of_client: held[client] }.admission();
                if admission == Admission::Admitted {
                    held[client] += 1;
                }
            }
            prop_assert!(held.iter().sum::<usize>() <= cap);
            prop_assert!(held.iter().all(|held| *held <= cap - cap / 4));
        }

        #[test]
        fn a_busy_http1_connection_whose_client_reads_never_expires(
            age in 0_u64..10_000,
            quiet in 0_u64..10_000,
            crowded: bool,
        ) {
            let busy = Activity { is_busy: true, age: secs(age), quiet: secs(quiet), ..IDLE };
            prop_assert!(matches!(TIMES.expiry(&busy, crowded), Expiry::LookAgain(_)));
        }
    }
}
