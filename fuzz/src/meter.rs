//! How much memory a target holds at its worst, counted per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that are held, and the most that were.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, counting. A program that wants to count makes it its global allocator.
#[derive(Clone, Copy, Debug)]
pub struct Meter;

fn count(bytes: i64) {
    // A thread that ends may have lost its counter already.
    _ = HELD.try_with(|held| {
        let now = held.get().0 + bytes;
        held.set((now, held.get().1.max(now)));
    });
}

// SAFETY: everything is passed on to the system's allocator as it came; the counter is a plain cell.
#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
}

/// Runs this, and says how many bytes more than before were held at the worst moment, by this thread.
pub fn peak_bytes(run: impl FnOnce()) -> i64 {
    let before = HELD.get().0;
    HELD.set((before, before));
    run();
    HELD.get().1 - before
}
