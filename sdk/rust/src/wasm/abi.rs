//! Strings, bytes and results in the canonical ABI, for the hand-written bindings. Never knows an
//! interface.

use crate::Error;

/// A string or a list of bytes in linear memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Slice {
    pub(super) pointer: *mut u8,
    pub(super) length: usize,
}

impl Slice {
    /// Returns a view of bytes, which the caller keeps alive.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { pointer: bytes.as_ptr().cast_mut(), length: bytes.len() }
    }

    /// Takes ownership of bytes that the host has written.
    ///
    /// The host has allocated them with this module's `cabi_realloc`, and they have no other owner.
    pub(super) unsafe fn into_vec(self) -> Vec<u8> {
        if self.length == 0 {
            return Vec::new();
        }
        // SAFETY: `cabi_realloc` allocates with Rust's global allocator, alignment 1 and exactly
        // this length.
        unsafe { Vec::from_raw_parts(self.pointer, self.length, self.length) }
    }

    /// Takes ownership of a string that the host has written.
    ///
    /// As for [`Slice::into_vec`]. The host guarantees UTF-8.
    pub(super) unsafe fn into_string(self) -> String {
        // SAFETY: the canonical ABI passes only well-formed strings.
        unsafe { String::from_utf8_unchecked(self.into_vec()) }
    }
}

/// `option<string>` or `option<list<u8>>`.
#[repr(C)]
pub(super) struct RawOption {
    is_some: u8,
    value: Slice,
}

impl RawOption {
    /// The host wrote the value for this call, and the caller takes it only once.
    pub(super) unsafe fn into_vec(self) -> Option<Vec<u8>> {
        // SAFETY: the caller's promise.
        (self.is_some != 0).then(|| unsafe { self.value.into_vec() })
    }

    /// # Safety
    /// As above, for a string.
    pub(super) unsafe fn into_string(self) -> Option<String> {
        // SAFETY: the caller's promise.
        (self.is_some != 0).then(|| unsafe { self.value.into_string() })
    }
}

/// Frees a list whose elements have been moved out.
///
/// # Safety
/// The host has allocated it with `cabi_realloc` for `length` elements of `T`.
pub(super) unsafe fn free_list<T>(pointer: *mut T, length: usize) {
    if length > 0 {
        // SAFETY: the caller's promise; `T` has the size and alignment that the ABI gives the
        // element.
        drop(unsafe { Vec::from_raw_parts(pointer.cast::<std::mem::MaybeUninit<T>>(), length, length) });
    }
}

/// Memory for one call's result.
#[repr(C, align(8))]
pub(super) struct Area<const WORDS: usize>(pub(super) [usize; WORDS]);

impl<const WORDS: usize> Area<WORDS> {
    pub(super) const fn new() -> Self {
        Self([0; WORDS])
    }

    pub(super) fn pointer(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// Returns the discriminant at a word: one byte; the rest of the word is padding.
    pub(super) fn tag(&self, word: usize) -> u8 {
        self.0[word].to_le_bytes()[0]
    }

    pub(super) fn slice(&self, word: usize) -> Slice {
        Slice { pointer: self.0[word] as *mut u8, length: self.0[word + 1] }
    }
}

/// Converts an error text of the host.
///
/// # Safety
/// As for [`Slice::into_vec`].
pub(super) unsafe fn host_error(text: Slice) -> Error {
    // SAFETY: the caller's promise.
    Error::msg(unsafe { text.into_string() })
}
