//! The program's memory allocator: mimalloc, called by its plain functions wherever their alignment
//! suffices. Never counts or limits memory.
//!
//! The crate `mimalloc` passes an explicit alignment in every call, which costs several times as
//! many instructions: an aligned call of more than a kilobyte doesn't use the per-thread lists.

use libmimalloc_sys::{mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};

/// Instances and requests are numerous and short-lived. mimalloc keeps their memory per thread,
/// which avoids a shared lock.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

unsafe extern "C" {
    // `libmimalloc-sys` declares it only with a feature that adds a dependency.
    safe fn mi_collect(force: bool);
}

/// Returns memory that has been free for a while to the system. mimalloc returns free memory only
/// while threads allocate, so an idle host would keep the memory of its last burst.
pub(crate) fn return_free_memory() {
    mi_collect(false);
}

/// Returns whether mimalloc aligns a block of this layout by default. It aligns each block to a
/// word.
const fn is_plain(layout: &Layout) -> bool {
    layout.align() <= align_of::<usize>()
}

// SAFETY: both kinds of call use one heap of mimalloc, whose `mi_free` and `mi_realloc` take blocks
// of either kind. A layout of `is_plain` needs no more than the alignment of a word, which every
// block has.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_plain(&layout) {
            // SAFETY: any size is valid.
            unsafe { mi_malloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's layout is valid.
            unsafe { MiMalloc.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_plain(&layout) {
            // SAFETY: any size is valid.
            unsafe { mi_zalloc(layout.size()).cast() }
        } else {
            // SAFETY: the caller's layout is valid.
            unsafe { MiMalloc.alloc_zeroed(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller passes a block of this allocator.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_plain(&layout) {
            // SAFETY: the caller passes a block of this allocator.
            unsafe { mi_realloc(block.cast(), size).cast() }
        } else {
            // SAFETY: the caller's layout is valid, and the block is of this allocator.
            unsafe { MiMalloc.realloc(block, layout, size) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_aligned_and_keep_their_bytes(
            size in 1..5_000_usize,
            align in (0..8_u32).prop_map(|power| 1_usize << power),
            other in 1..5_000_usize,
        ) {
            let layout = Layout::from_size_align(size, align).expect("a valid layout");
            // SAFETY: the layouts are valid, every block is used within its size and freed once.
            unsafe {
                let zeroed = ALLOCATOR.alloc_zeroed(layout);
                prop_assert!(zeroed.addr().is_multiple_of(align));
                prop_assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|&byte| byte == 0));
                ALLOCATOR.dealloc(zeroed, layout);
                let block = ALLOCATOR.alloc(layout);
                prop_assert!(block.addr().is_multiple_of(align));
                block.write_bytes(7, size);
                let block = ALLOCATOR.realloc(block, layout, other);
                prop_assert!(block.addr().is_multiple_of(align));
                prop_assert!(std::slice::from_raw_parts(block, size.min(other)).iter().all(|&byte| byte == 7));
                ALLOCATOR.dealloc(block, Layout::from_size_align(other, align).expect("a valid layout"));
            }
        }
    }
}
