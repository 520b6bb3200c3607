//! What a plan costs, counted: processor time of this thread alone and memory, never the clock on the wall.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tidegate_protocol::control::DrainRequest;
use tidegate_protocol::drain::{Facts, Plan};
use tidegate_protocol::id::SessionId;

const SESSIONS: u64 = 1_000_000;

thread_local! {
    static ASKED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// Counts what each thread asks for.
struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came; the counters are plain cells.
#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends may have lost its counter already.
        _ = ASKED.try_with(|asked| asked.set((asked.get().0 + 1, asked.get().1 + layout.size() as u64)));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nanoseconds that this thread has run on a processor.
fn ran_ns() -> Option<u64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_plan_for_a_million_sessions_costs_under_a_second_of_processor_and_a_hundred_bytes_a_session() {
    let looked = Cell::new(0u64);
    let population = (0..SESSIONS).map(|n| {
        looked.set(looked.get() + 1);
        let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let facts = Facts { connected: spread % 10 > 0, idle_ms: spread % 20_000, ..Facts::default() };
        (SessionId(u128::from(spread) << 32 | u128::from(n)), facts)
    });
    let policy = DrainRequest::default().resolve().expect("the default policy");
    let (asked, ran) = (ASKED.get(), ran_ns());
    let plan = Plan::new(policy, population, &[], 5);
    let cost_ns = ran_ns().zip(ran).map(|(after, before)| after - before);
    let (calls, bytes) = (ASKED.get().0 - asked.0, ASKED.get().1 - asked.1);
    assert_eq!(plan.sessions(), SESSIONS);
    assert_eq!(looked.get(), SESSIONS, "everybody is looked at once");
    assert!(calls < 100, "{calls} allocations: none per session");
    assert!(bytes < 100 * SESSIONS, "{bytes} bytes for {SESSIONS} sessions");
    // Where the system does not count a thread's time there is nothing to judge by; the counts above hold all the same.
    if let Some(cost_ns) = cost_ns {
        println!(
            "a plan for {SESSIONS} sessions: {} ms of processor, {bytes} bytes in {calls} allocations",
            cost_ns / 1_000_000
        );
        assert!(cost_ns < 1_000_000_000, "{cost_ns} ns of processor time");
    }
}
