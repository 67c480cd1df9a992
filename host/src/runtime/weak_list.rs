//! A list of weak references: it doesn't keep its objects alive. Never uses the objects itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Objects in the order of their registration, each until it is dropped.
pub(crate) struct WeakList<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Default for WeakList<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: ?Sized> WeakList<T> {
    pub(crate) fn register(&self, object: Weak<T>) {
        let mut objects = self.lock();
        // Dropped objects are removed only before the list would grow, so that the cost per object
        // doesn't depend on their number.
        if objects.len() == objects.capacity() {
            objects.retain(|object| object.strong_count() > 0);
        }
        objects.push(object);
    }

    /// Registers an object unless it is registered already.
    pub(crate) fn register_once(&self, object: &Arc<T>) {
        let new = Arc::downgrade(object);
        if !self.lock().iter().any(|known| known.ptr_eq(&new)) {
            self.register(new);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let objects = self.lock().clone();
        objects.iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns the objects one by one, from position `from` on and then from the beginning. Locks
    /// the list for one object at a time, so that others don't wait while the caller uses one.
    pub(crate) fn each_from(&self, from: usize) -> impl Iterator<Item = Arc<T>> {
        let count = self.lock().len();
        (0..count).filter_map(move |step| self.lock().get((from + step) % count).and_then(Weak::upgrade))
    }

    /// Removes the dropped objects, whose memory is freed only then.
    pub(crate) fn remove_dropped(&self) {
        let mut objects = self.lock();
        objects.retain(|object| object.strong_count() > 0);
        objects.shrink_to_fit();
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.lock().iter().any(|object| object.strong_count() > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_listed_once_until_it_is_dropped() {
        let (list, one, two) = (WeakList::default(), Arc::new(1), Arc::new(2));
        assert!(list.is_empty());
        list.register_once(&one);
        list.register_once(&one);
        list.register_once(&two);
        assert_eq!(list.all().iter().map(|object| **object).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(list.each_from(3).map(|object| *object).collect::<Vec<_>>(), [2, 1]);
        drop(one);
        assert_eq!(list.each_from(0).map(|object| *object).collect::<Vec<_>>(), [2]);
        drop(two);
        assert!(list.is_empty() && list.all().is_empty());
    }

    #[test]
    fn dropped_objects_do_not_make_the_list_grow() {
        let list = WeakList::default();
        (0..1_000).for_each(|number| list.register_once(&Arc::new(number)));
        assert!(list.lock().len() <= 4);
    }

    #[test]
    fn a_list_without_its_dropped_objects_takes_no_memory() {
        let (list, kept) = (WeakList::default(), Arc::new(1));
        list.register_once(&kept);
        list.register_once(&Arc::new(2));
        list.remove_dropped();
        assert_eq!(list.lock().len(), 1);
        drop(kept);
        list.remove_dropped();
        assert_eq!(list.lock().capacity(), 0);
    }
}
