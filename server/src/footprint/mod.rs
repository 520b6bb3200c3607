//! What a session costs on the heap, counted: an allocator that keeps an account for each thread, and the
//! tests that hold what was won.

mod sessions;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ACCOUNT: Cell<Account> = const { Cell::new(Account { live_bytes: 0, live_blocks: 0, allocations: 0 }) };
}

/// What one thread took from the allocator, less what it gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Bytes in use.
    pub(crate) live_bytes: isize,
    /// Blocks in use.
    pub(crate) live_blocks: isize,
    /// Allocations so far, given back or not; growing a block counts as one.
    pub(crate) allocations: isize,
}

impl Account {
    /// This thread's.
    pub(crate) fn of_this_thread() -> Self {
        ACCOUNT.get()
    }

    /// What came since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            live_bytes: self.live_bytes - earlier.live_bytes,
            live_blocks: self.live_blocks - earlier.live_blocks,
            allocations: self.allocations - earlier.allocations,
        }
    }
}

fn note(bytes: isize, blocks: isize, allocations: isize) {
    let Account { live_bytes, live_blocks, allocations: before } = ACCOUNT.get();
    ACCOUNT.set(Account {
        live_bytes: live_bytes + bytes,
        live_blocks: live_blocks + blocks,
        allocations: before + allocations,
    });
}

/// The system's allocator with a ledger.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

#[allow(unsafe_code, reason = "only so can allocations be counted; it passes everything on unchanged")]
// SAFETY: each call goes to the system's allocator with the arguments that it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize, 1, 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as isize), -1, 0);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes as isize - layout.size() as isize, 0, 1);
        unsafe { System.realloc(at, layout, bytes) }
    }
}
