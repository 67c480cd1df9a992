//! Caches the host name that a connection last used, with the values derived from it: the next
//! request usually names the same host. Never parses or routes a host itself.

use crate::runtime::App;
use http::{HeaderValue, uri::Authority};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The last host of a connection.
#[derive(Debug, Default)]
pub(super) struct LastHost(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    /// The host as the request named it.
    text: Box<[u8]>,
    authority: Authority,
    /// The authority as a field value.
    value: HeaderValue,
    /// The app whose active release the host selects; `None` until it is looked up.
    app: Option<Found>,
}

#[derive(Debug)]
struct Found {
    app: Weak<App>,
    /// The version of the directory that listed the app.
    version: u64,
}

impl LastHost {
    /// Returns the authority of a host that was named by the same text.
    pub(super) fn authority(&self, text: &[u8]) -> Option<Authority> {
        self.with(|known| (*known.text == *text).then(|| known.authority.clone()))
    }

    /// Returns the field value of an authority.
    pub(super) fn value(&self, authority: &Authority) -> Option<HeaderValue> {
        self.with(|known| (known.authority.as_str() == authority.as_str()).then(|| known.value.clone()))
    }

    /// Returns the app of an authority, if the directory still has the given version.
    pub(super) fn app(&self, authority: &Authority, version: u64) -> Option<Arc<App>> {
        self.with(|known| {
            let found = known.app.as_ref().filter(|found| found.version == version)?;
            if known.authority.as_str() == authority.as_str() { found.app.upgrade() } else { None }
        })
    }

    /// Replaces the host.
    pub(super) fn set(&self, text: &[u8], authority: Authority, value: HeaderValue) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Known { text: text.into(), authority, value, app: None });
    }

    /// Records the app whose active release the authority selects.
    pub(super) fn set_app(&self, authority: &Authority, app: &Arc<App>, version: u64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_mut().filter(|known| known.authority.as_str() == authority.as_str()) {
            known.app = Some(Found { app: Arc::downgrade(app), version });
        }
    }

    fn with<T>(&self, read: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(read)
    }
}
