//! The allocator of a component: lists of free small blocks in front of the system's allocator.
//! Owns the bound of each list. Never keeps a large block.
//!
//! A handler allocates and frees a few small blocks per request. The system's allocator merges each
//! freed block with its neighbours, which costs more than the rest of the call.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};

/// Classes of block sizes: multiples of [`STEP`].
const CLASSES: usize = 32;

/// Bytes between the sizes of two classes.
const STEP: usize = 16;

/// The alignment of all classes, which every block of the system's allocator has.
const ALIGN: usize = 2 * size_of::<usize>();

/// Bytes of free blocks that one class keeps. Further blocks return to the system's allocator,
/// which can merge them to larger ones.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A free block. Each class has at least the size of this struct.
struct Free {
    next: Option<NonNull<Free>>,
}

#[derive(Clone, Copy)]
struct List {
    first: Option<NonNull<Free>>,
    /// The number of further blocks that the list may keep.
    room: usize,
}

/// An allocator for a program with one thread.
pub(crate) struct Allocator<S> {
    system: S,
    lists: UnsafeCell<[List; CLASSES]>,
}

// SAFETY: a component's instance has one thread, and the crate uses the allocator only there. Each
// test uses its allocator on one thread.
unsafe impl<S: Sync> Sync for Allocator<S> {}

impl<S> Allocator<S> {
    pub(crate) const fn new(system: S) -> Self {
        let mut lists = [List { first: None, room: 0 }; CLASSES];
        let mut class = 0;
        while class < CLASSES {
            lists[class].room = KEPT_BYTES_MAX / ((class + 1) * STEP);
            class += 1;
        }
        Self { system, lists: UnsafeCell::new(lists) }
    }

    /// Removes a free block of a class.
    fn pop(&self, class: usize) -> Option<NonNull<Free>> {
        // SAFETY: there is one thread, and the reference ends with this call.
        let list = unsafe { &mut (*self.lists.get())[class] };
        let block = list.first?;
        // SAFETY: `push` wrote the block, which had no user since then.
        list.first = unsafe { block.read() }.next;
        list.room += 1;
        Some(block)
    }

    /// Keeps a free block of a class. Returns whether the list had room.
    ///
    /// # Safety
    /// The block has the layout of the class, and no user.
    unsafe fn push(&self, class: usize, block: NonNull<Free>) -> bool {
        // SAFETY: there is one thread, and the reference ends with this call.
        let list = unsafe { &mut (*self.lists.get())[class] };
        if list.room == 0 {
            return false;
        }
        list.room -= 1;
        // SAFETY: the caller's promise.
        unsafe { block.write(Free { next: list.first }) };
        list.first = Some(block);
        true
    }
}

/// Returns the class whose blocks fit a layout; `None` for large blocks and large alignments.
fn class_of(layout: Layout) -> Option<usize> {
    let class = layout.size().wrapping_sub(1) / STEP;
    (class < CLASSES && layout.align() <= ALIGN).then_some(class)
}

/// Returns the layout of every block of a class.
fn layout_of(class: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and the size is small.
    unsafe { Layout::from_size_align_unchecked((class + 1) * STEP, ALIGN) }
}

// SAFETY: a block of a list has the size and alignment of its class, comes from `system`, and has
// no user. Other blocks are passed through.
unsafe impl<S: GlobalAlloc> GlobalAlloc for Allocator<S> {
    // Not inlined, since the compiler would copy it to each place that allocates.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.system.alloc(layout) };
        };
        match self.pop(class) {
            Some(block) => block.as_ptr().cast(),
            // SAFETY: the layout's size isn't zero.
            None => unsafe { self.system.alloc(layout_of(class)) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.system.dealloc(pointer, layout) };
        };
        // SAFETY: `alloc` got the block with the layout of this class, and its user has freed it.
        let is_kept = NonNull::new(pointer.cast()).is_some_and(|block| unsafe { self.push(class, block) });
        if !is_kept {
            // SAFETY: as above.
            unsafe { self.system.dealloc(pointer, layout_of(class)) };
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout).is_none() {
            // Memory that the system's allocator gets from the host is zero already.
            // SAFETY: the caller's promise.
            return unsafe { self.system.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; the block has at least this size.
        unsafe {
            let pointer = self.alloc(layout);
            if !pointer.is_null() {
                pointer.write_bytes(0, layout.size());
            }
            pointer
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size doesn't overflow with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(new)) {
            (None, None) => {
                // SAFETY: the caller's promise.
                unsafe { self.system.realloc(pointer, layout, size) }
            }
            (class, new_class) if class == new_class => pointer,
            _ => {
                // SAFETY: the caller's promise; both blocks have at least `copied` bytes and don't
                // overlap.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        let copied = layout.size().min(size);
                        ptr::copy_nonoverlapping(pointer, moved, copied);
                        self.dealloc(pointer, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;
    use std::cell::Cell;

    /// Counts the bytes that the system's allocator has given out.
    #[derive(Default)]
    struct Counting(Cell<usize>);

    // SAFETY: each test has its own allocator on one thread.
    unsafe impl Sync for Counting {}

    // SAFETY: passes each call to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.0.set(self.0.get() + layout.size());
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            self.0.set(self.0.get() - layout.size());
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    struct Block {
        pointer: *mut u8,
        layout: Layout,
        byte: u8,
    }

    impl Block {
        fn new(allocator: &Allocator<Counting>, layout: Layout, byte: u8) -> Self {
            // SAFETY: the size isn't zero.
            let pointer = unsafe { allocator.alloc(layout) };
            assert_eq!(pointer.align_offset(layout.align()), 0);
            let block = Self { pointer, layout, byte };
            block.fill();
            block
        }

        fn fill(&self) {
            // SAFETY: the block has this size.
            unsafe { self.pointer.write_bytes(self.byte, self.layout.size()) };
        }

        fn has_its_bytes(&self, length: usize) -> bool {
            // SAFETY: the block has at least this length, and was filled.
            unsafe { std::slice::from_raw_parts(self.pointer, length) }.iter().all(|byte| *byte == self.byte)
        }

        fn resize(&mut self, allocator: &Allocator<Counting>, size: usize) {
            let kept = self.layout.size().min(size);
            // SAFETY: the block comes from this allocator, and the size isn't zero.
            self.pointer = unsafe { allocator.realloc(self.pointer, self.layout, size) };
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            assert!(self.has_its_bytes(kept), "{:?}", self.layout);
            self.fill();
        }

        fn free(self, allocator: &Allocator<Counting>) {
            assert!(self.has_its_bytes(self.layout.size()), "another block overlaps {:?}", self.layout);
            // SAFETY: the block comes from this allocator.
            unsafe { allocator.dealloc(self.pointer, self.layout) };
        }
    }

    /// A sequence of numbers that looks random and is the same in each run.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 1_u64;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    }

    #[test]
    fn blocks_never_overlap_and_keep_their_bytes() {
        let (allocator, mut number) = (Allocator::new(Counting::default()), numbers());
        let mut blocks: Vec<Block> = Vec::new();
        for step in 0..20_000 {
            let most = if number(8) == 0 { 4_000 } else { 600 };
            let size = 1 + number(most);
            match number(5) {
                0 | 1 => {
                    let layout = Layout::from_size_align(size, 1 << number(7)).unwrap();
                    blocks.push(Block::new(&allocator, layout, step as u8));
                }
                2 if !blocks.is_empty() => {
                    let index = number(blocks.len());
                    blocks[index].resize(&allocator, size);
                }
                _ if !blocks.is_empty() => blocks.swap_remove(number(blocks.len())).free(&allocator),
                _ => {}
            }
        }
        blocks.into_iter().for_each(|block| block.free(&allocator));
        assert!(allocator.system.0.get() <= CLASSES * KEPT_BYTES_MAX, "{}", allocator.system.0.get());
    }

    #[test]
    fn a_freed_block_is_reused_and_further_ones_return_to_the_system() {
        let allocator = Allocator::new(Counting::default());
        let layout = Layout::from_size_align(100, 1).unwrap();
        let first = Block::new(&allocator, layout, 1);
        let pointer = first.pointer;
        first.free(&allocator);
        let again = Block::new(&allocator, layout, 2);
        assert_eq!(again.pointer, pointer);
        let many: Vec<_> = (0..10_000).map(|_| Block::new(&allocator, layout, 3)).collect();
        many.into_iter().for_each(|block| block.free(&allocator));
        again.free(&allocator);
        assert!(allocator.system.0.get() <= KEPT_BYTES_MAX, "{}", allocator.system.0.get());
    }
}
