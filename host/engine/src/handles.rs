//! The handles of providers' resources that a guest holds during its current call, and the leased
//! provider instances that own these resources. A handle is valid until that call ends. Never calls
//! a provider.

use crate::{limits, provider_call::ProviderSession};
use std::{collections::HashMap, sync::Arc};

/// The handles of one guest.
#[derive(Default)]
pub(crate) struct Handles {
    by_rep: HashMap<u32, Handle>,
    sessions: HashMap<Arc<str>, Box<dyn ProviderSession>>,
    /// The representation of the next handle. Never reused, so a handle of an earlier call is not
    /// mistaken for another.
    next_rep: u32,
}

struct Handle {
    provider: Arc<str>,
    /// The number of the resource in the provider's instance.
    remote: u32,
}

/// Why a handle can't be passed to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHandle {
    #[error("a handle of a provider's resource is valid only during the call of the app in which it was returned")]
    Ended,
    #[error("the resource belongs to another provider")]
    OtherProvider,
    #[error(
        "the app holds more than {} resources of providers at one time: drop those that it no longer needs",
        limits::PROVIDER_HANDLES_MAX
    )]
    TooMany,
}

impl Handles {
    /// Returns the number of a resource that is passed to a provider. An owned handle ends.
    pub(crate) fn pass(&mut self, rep: u32, is_owned: bool, provider: &str) -> Result<u32, BadHandle> {
        let handle = self.by_rep.get(&rep).ok_or(BadHandle::Ended)?;
        if *handle.provider != *provider {
            return Err(BadHandle::OtherProvider);
        }
        let remote = handle.remote;
        if is_owned {
            self.by_rep.remove(&rep);
        }
        Ok(remote)
    }

    /// Adds a resource that a provider returned. Returns the representation of its handle.
    pub(crate) fn add(&mut self, provider: &Arc<str>, remote: u32) -> Result<u32, BadHandle> {
        if self.by_rep.len() >= limits::PROVIDER_HANDLES_MAX {
            return Err(BadHandle::TooMany);
        }
        let rep = self.next_rep;
        self.next_rep = rep.checked_add(1).ok_or(BadHandle::TooMany)?;
        self.by_rep.insert(rep, Handle { provider: Arc::clone(provider), remote });
        Ok(rep)
    }

    /// Removes a handle that the guest dropped. Returns its provider and the number of its
    /// resource; `None` for a handle of an earlier call.
    pub(crate) fn remove(&mut self, rep: u32) -> Option<(Arc<str>, u32)> {
        self.by_rep.remove(&rep).map(|handle| (handle.provider, handle.remote))
    }

    /// Takes the session with a provider, for the time of a call.
    pub(crate) fn take_session(&mut self, provider: &str) -> Option<Box<dyn ProviderSession>> {
        self.sessions.remove(provider)
    }

    /// Returns whether an instance of the provider still has resources of the guest.
    pub(crate) fn has_session(&self, provider: &str) -> bool {
        self.sessions.get(provider).is_some_and(|session| !session.is_ended())
    }

    pub(crate) fn put_session(&mut self, provider: Arc<str>, session: Box<dyn ProviderSession>) {
        self.sessions.insert(provider, session);
    }

    /// Ends all handles and sessions.
    pub(crate) fn end(&mut self) {
        if !self.sessions.is_empty() || !self.by_rep.is_empty() {
            self.by_rep.clear();
            self.sessions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_handle_ends_when_it_is_passed_and_a_borrowed_one_does_not() {
        let (mut handles, store) = (Handles::default(), Arc::<str>::from("store"));
        let rep = handles.add(&store, 7).unwrap();
        assert_eq!(handles.pass(rep, false, "store"), Ok(7));
        assert_eq!(handles.pass(rep, false, "other"), Err(BadHandle::OtherProvider));
        assert_eq!(handles.pass(rep, true, "store"), Ok(7));
        assert_eq!(handles.pass(rep, true, "store"), Err(BadHandle::Ended));
        assert!(handles.remove(rep).is_none());
    }

    #[test]
    fn a_handle_of_an_earlier_call_is_not_that_of_a_later_one() {
        let (mut handles, store) = (Handles::default(), Arc::<str>::from("store"));
        let earlier = handles.add(&store, 1).unwrap();
        handles.end();
        let later = handles.add(&store, 2).unwrap();
        assert_eq!((handles.pass(earlier, false, "store"), handles.remove(earlier)), (Err(BadHandle::Ended), None));
        assert_eq!(handles.remove(later), Some((store, 2)));
    }

    #[test]
    fn the_number_of_handles_is_limited() {
        let (mut handles, store) = (Handles::default(), Arc::<str>::from("store"));
        for _ in 0..limits::PROVIDER_HANDLES_MAX {
            handles.add(&store, 0).unwrap();
        }
        assert_eq!(handles.add(&store, 0), Err(BadHandle::TooMany));
        handles.remove(0);
        assert!(handles.add(&store, 0).is_ok());
    }
}
