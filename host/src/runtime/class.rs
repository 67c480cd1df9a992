//! The two classes of jobs, as array indexes and as names. Never decides which class a job has.

use isopod_executor::Class;

/// Both classes, the more urgent first.
pub(crate) const CLASSES: [Class; 2] = [Class::Pull, Class::Push];

/// Returns the index of a class in arrays with one value per class.
pub(crate) fn class_index(class: Class) -> usize {
    match class {
        Class::Pull => 0,
        Class::Push => 1,
    }
}

/// Returns the name of a class's queue, as shown to users.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Pull => "pull",
        Class::Push => "push",
    }
}
