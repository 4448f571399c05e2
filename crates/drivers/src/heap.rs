//! The heap of a stage that runs from RAM.
//!
//! # Threat
//! *A fault where something is freed.* One skipped instruction frees the wrong block, or one block twice; two owners are given the same
//! memory then, and what one of them has verified is overwritten by the other. So a stage that decides what runs is given no block a
//! second time: [`Heap::reuse`] is for stages that work for long.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering};

/// An allocator that gives out again what was freed only where that is wanted.
pub struct Heap<A> {
    blocks: A,
    reuses: AtomicBool,
}

impl<A> Heap<A> {
    /// Makes one over an allocator.
    pub const fn new(blocks: A) -> Self {
        Self { blocks, reuses: AtomicBool::new(false) }
    }

    /// Returns the allocator that the blocks come from.
    pub const fn blocks(&self) -> &A {
        &self.blocks
    }

    /// Gives out again what is freed from now on.
    pub fn reuse(&self) {
        self.reuses.store(true, Ordering::Relaxed);
    }
}

// SAFETY: blocks come from `A`, which is a sound allocator, with the layouts that were asked for, and go back to it or nowhere.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Heap<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what `A` asks for.
        unsafe { self.blocks.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.reuses.load(Ordering::Relaxed) {
            // SAFETY: the caller promises that the block came from here, with this layout: from `A`, then.
            unsafe { self.blocks.dealloc(block, layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// One place, which it gives out whenever it is free.
    struct OnePlace {
        place: RefCell<[u8; 8]>,
        free: RefCell<bool>,
    }

    // SAFETY: a block is the whole place, aligned for bytes, and is not given out again before it was freed.
    unsafe impl GlobalAlloc for OnePlace {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            assert!(layout.size() <= 8 && layout.align() == 1);
            if self.free.replace(false) { self.place.as_ptr().cast() } else { core::ptr::null_mut() }
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {
            self.free.replace(true);
        }
    }

    #[test]
    fn what_was_freed_has_no_second_owner_unless_that_is_wanted() {
        let layout = Layout::new::<[u8; 8]>();
        for wanted in [false, true] {
            let heap = Heap::new(OnePlace { place: RefCell::default(), free: RefCell::new(true) });
            if wanted {
                heap.reuse();
            }
            // SAFETY: the layout is not empty, and the block is freed with the one that it was made with.
            let again = unsafe {
                let block = heap.alloc(layout);
                assert!(!block.is_null());
                heap.dealloc(block, layout);
                heap.alloc(layout)
            };
            assert_eq!(!again.is_null(), wanted);
        }
    }
}
