//! The settings of the ingress. Never holds behaviour.

use super::trusted::TrustedProxies;
use isopod_policy::connections::ConnectionTimes;
use std::time::Duration;

/// The settings of the ingress.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The domain of the apps: `hello.localhost` is the app `hello` of `localhost`.
    pub(crate) domain: String,
    /// Threads that serve traffic.
    pub(crate) threads: usize,
    /// The time that requests in progress have to complete after a stop signal.
    pub(crate) drain: Duration,
    /// The app that gets every request, regardless of the host name: `isopod serve` serves one
    /// component.
    pub(crate) only_app: Option<String>,
    /// The limit of open connections. Further connections wait in the kernel's backlog.
    pub(crate) connections_max: usize,
    pub(crate) times: ConnectionTimes,
    /// Proxies that are trusted to set the fields about their clients.
    pub(crate) trusted_proxies: TrustedProxies,
}
