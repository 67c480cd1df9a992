//! The imports `wasi:keyvalue/store` and `wasi:keyvalue/atomics`. Never retries a call.

use super::abi::{Area, Slice, free_list};
use crate::kv::Page;
use crate::{Error, Result};

#[link(wasm_import_module = "wasi:keyvalue/store@0.2.0-draft2")]
unsafe extern "C" {
    #[link_name = "open"]
    fn raw_open(name: *const u8, name_length: usize, result: *mut u8);
    #[link_name = "[resource-drop]bucket"]
    fn raw_drop(bucket: i32);
    #[link_name = "[method]bucket.get"]
    fn raw_get(bucket: i32, key: *const u8, key_length: usize, result: *mut u8);
    #[link_name = "[method]bucket.set"]
    fn raw_set(bucket: i32, key: *const u8, key_len: usize, value: *const u8, value_len: usize, result: *mut u8);
    #[link_name = "[method]bucket.delete"]
    fn raw_delete(bucket: i32, key: *const u8, key_length: usize, result: *mut u8);
    #[link_name = "[method]bucket.exists"]
    fn raw_exists(bucket: i32, key: *const u8, key_length: usize, result: *mut u8);
    #[link_name = "[method]bucket.list-keys"]
    fn raw_list_keys(bucket: i32, has_cursor: i32, cursor: *const u8, cursor_length: usize, result: *mut u8);
}

#[link(wasm_import_module = "wasi:keyvalue/atomics@0.2.0-draft2")]
unsafe extern "C" {
    #[link_name = "increment"]
    fn raw_increment(bucket: i32, key: *const u8, key_length: usize, delta: i64, result: *mut u8);
    #[link_name = "[static]cas.new"]
    fn raw_cas_new(bucket: i32, key: *const u8, key_length: usize, result: *mut u8);
    #[link_name = "[method]cas.current"]
    fn raw_cas_current(cas: i32, result: *mut u8);
    #[link_name = "[resource-drop]cas"]
    fn raw_cas_drop(cas: i32);
    #[link_name = "swap"]
    fn raw_swap(cas: i32, value: *const u8, value_length: usize, result: *mut u8);
}

/// A bucket at the host.
pub(crate) struct Bucket(i32);

impl Drop for Bucket {
    fn drop(&mut self) {
        // SAFETY: this value owns the handle and drops it once.
        unsafe { raw_drop(self.0) }
    }
}

/// Reads the variant `error` at a word: the case, then the text of the last case.
///
/// # Safety
/// The host has written an error there.
unsafe fn error<const WORDS: usize>(area: &Area<WORDS>, word: usize) -> Error {
    match area.tag(word) {
        0 => Error::msg("the host has no such bucket"),
        1 => Error::msg("key-value storage is not granted; add `[grants] keyvalue = true` to the manifest"),
        // SAFETY: the caller's promise.
        _ => unsafe { super::abi::host_error(area.slice(word + 1)) },
    }
}

/// Reads the result of a call that returns a value.
///
/// The host has written a result of that type, and the caller owns its bytes.
unsafe fn value(area: &Area<4>) -> Result<Option<Vec<u8>>> {
    // SAFETY: the caller's promise.
    unsafe {
        match (area.tag(0), area.tag(1)) {
            (0, 0) => Ok(None),
            (0, _) => Ok(Some(area.slice(2).into_vec())),
            _ => Err(error(area, 1)),
        }
    }
}

/// Makes a call that returns only success or an error.
fn done(call: impl FnOnce(*mut u8)) -> Result<()> {
    let mut area = Area::<4>::new();
    call(area.pointer());
    // SAFETY: the call has written its result.
    if area.tag(0) == 0 { Ok(()) } else { Err(unsafe { error(&area, 1) }) }
}

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self> {
        super::worlds::link();
        let mut area = Area::<4>::new();
        // SAFETY: the area has room for the result.
        unsafe {
            raw_open(name.as_ptr(), name.len(), area.pointer());
            if area.tag(0) == 0 { Ok(Self(area.0[1] as i32)) } else { Err(error(&area, 1)) }
        }
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut area = Area::<4>::new();
        // SAFETY: the area has room for the result, and the bytes in it are ours.
        unsafe {
            raw_get(self.0, key.as_ptr(), key.len(), area.pointer());
            value(&area)
        }
    }

    pub(crate) fn cas(&self, key: &str) -> Result<Cas> {
        let mut area = Area::<4>::new();
        // SAFETY: the area has room for the result.
        unsafe {
            raw_cas_new(self.0, key.as_ptr(), key.len(), area.pointer());
            if area.tag(0) == 0 { Ok(Cas(area.0[1] as i32)) } else { Err(error(&area, 1)) }
        }
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        // SAFETY: the host reads key and value during the call.
        done(|area| unsafe { raw_set(self.0, key.as_ptr(), key.len(), value.as_ptr(), value.len(), area) })
    }

    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        // SAFETY: the host reads the key during the call.
        done(|area| unsafe { raw_delete(self.0, key.as_ptr(), key.len(), area) })
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        let mut area = Area::<4>::new();
        // SAFETY: the area has room for the result.
        unsafe {
            raw_exists(self.0, key.as_ptr(), key.len(), area.pointer());
            if area.tag(0) == 0 { Ok(area.tag(1) != 0) } else { Err(error(&area, 1)) }
        }
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        // The sum has eight bytes, so its offset is the second double word.
        let mut area = Area::<6>::new();
        // SAFETY: the area has room for the result.
        unsafe {
            raw_increment(self.0, key.as_ptr(), key.len(), delta, area.pointer());
            if area.tag(0) == 0 {
                Ok((area.0[2] as u32 as u64 | ((area.0[3] as u32 as u64) << 32)) as i64)
            } else {
                Err(error(&area, 2))
            }
        }
    }

    pub(crate) fn list(&self, cursor: Option<&str>) -> Result<Page> {
        let mut area = Area::<6>::new();
        let (has_cursor, text) = (i32::from(cursor.is_some()), cursor.unwrap_or_default());
        // SAFETY: the area has room for the result, and the lists in it are ours.
        unsafe {
            raw_list_keys(self.0, has_cursor, text.as_ptr(), text.len(), area.pointer());
            if area.tag(0) != 0 {
                return Err(error(&area, 1));
            }
            let (list, count) = (area.0[1] as *mut Slice, area.0[2]);
            let keys = (0..count).map(|index| list.add(index).read().into_string()).collect();
            free_list(list, count);
            let cursor = (area.tag(3) != 0).then(|| area.slice(4).into_string());
            Ok(Page { keys, cursor })
        }
    }
}

/// A compare-and-swap handle of the host: replaces a value only if it is unchanged since it was
/// read.
pub(crate) struct Cas(i32);

impl Drop for Cas {
    fn drop(&mut self) {
        // SAFETY: this value owns the handle and drops it once.
        unsafe { raw_cas_drop(self.0) }
    }
}

impl Cas {
    pub(crate) fn current(&mut self) -> Result<Option<Vec<u8>>> {
        let mut area = Area::<4>::new();
        // SAFETY: the area has room for the result, and the bytes in it are ours.
        unsafe {
            raw_cas_current(self.0, area.pointer());
            value(&area)
        }
    }

    /// Sets the value, or returns a handle for another attempt if the value has changed.
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Self>> {
        let mut area = Area::<6>::new();
        // The call takes ownership of the handle.
        let handle = std::mem::ManuallyDrop::new(self).0;
        // SAFETY: the area has room for the result: two discriminants, and the error or the new
        // handle.
        unsafe {
            raw_swap(handle, value.as_ptr(), value.len(), area.pointer());
            match (area.tag(0), area.tag(1)) {
                (0, _) => Ok(None),
                (_, 0) => Err(error(&area, 2)),
                _ => Ok(Some(Self(area.0[2] as i32))),
            }
        }
    }
}
