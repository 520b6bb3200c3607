//! The allocator's care: what one thread allocates and another frees stays with the first until it looks.
//!
//! After a burst (a broadcast to many, a hundred messages to each) most of what was allocated is free again, but
//! its pages belong to threads that may allocate nothing for a long time. So each worker looks over its own heap
//! now and then, in the moment when it has nothing else to do; mimalloc recommends this for just this case.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often a thread looks, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

thread_local! {
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Gives back what is free in this thread's heap, and what of the whole program's is free already, if it was not done
/// a moment ago. To be called where the thread is about to wait: it costs time that nobody waits for then.
pub(crate) fn give_back() {
    let now = Instant::now();
    if LOOKED.get().is_some_and(|looked| now - looked < LOOK_EVERY) {
        return;
    }
    LOOKED.set(Some(now));
    #[allow(unsafe_code, reason = "the allocator has no other door for it")]
    // SAFETY: it may be called on any thread at any time, also while another allocator is the global one.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}
