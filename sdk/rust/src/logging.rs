//! Forwards records of the `log` crate to the host's log. Never formats or allocates a message
//! below the maximum level.
//!
//! Only the app's records use `wasi:logging`. The SDK's own errors go to stderr, which every host
//! has. So an app that logs nothing is built, with link-time optimisation, without that import, and
//! runs on hosts that don't provide it.

/// Installs the host's log as the logger of the `log` crate, unless the app has installed another.
/// Cheap after the first call.
pub(crate) fn install() {
    #[cfg(feature = "log")]
    {
        use std::sync::atomic::{AtomicBool, Ordering};
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        if !INSTALLED.swap(true, Ordering::Relaxed) && log::set_logger(&HostLog).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
    }
}

/// Reports an error in the SDK's own part of a call.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only the component's exports report errors"))]
pub(crate) fn report(what: &str, reason: impl std::fmt::Display) {
    eprintln!("isopod-sdk: {what}: {reason}");
}

/// The severity of a message, in the order of `wasi:logging`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    dead_code,
    reason = "the names are self-explanatory, and without the feature `log` only one is used"
)]
pub enum Level {
    Trace = 0,
    Debug = 1,
    Info = 2,
    Warn = 3,
    Error = 4,
}

#[cfg(feature = "log")]
struct HostLog;

#[cfg(feature = "log")]
impl log::Log for HostLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => Level::Trace,
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        let message = record.args();
        match message.as_str() {
            Some(message) => crate::platform::log(level, record.target(), message),
            None => crate::platform::log(level, record.target(), &message.to_string()),
        }
    }

    fn flush(&self) {}
}
