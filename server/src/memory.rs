//! The allocator's care: what one thread allocates and another frees stays with the first until it looks.
//!
//! After a burst (a broadcast to many, a hundred messages to each) most of what was allocated is free again, but
//! its pages belong to threads that may allocate nothing for a long time. So each worker looks over its own heap
//! now and then, in the moment when it has nothing else to do; mimalloc recommends this for just this case. A worker
//! that sleeps is woken for it by the one that looked before it. Of more than two a round may not reach all, for the
//! runtime wakes whoever fell asleep last; the others look when they have something to do.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A round of looks begins so often, at most.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds are counted from here, for all threads alike: then all are due at the same time, and a round that one
/// begins goes through all.
static FIRST_ROUND: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static LOOKED_IN: Cell<Option<u128>> = const { Cell::new(None) };
}

/// Gives back what is free in this thread's heap, and what of the whole program's is free already, if it was not done
/// in this round; whether it was done. To be called where a worker is about to wait: it costs time that nobody waits
/// for then.
pub(crate) fn give_back() -> bool {
    let round = FIRST_ROUND.elapsed().as_millis() / ROUND.as_millis();
    if LOOKED_IN.replace(Some(round)) == Some(round) {
        return false;
    }
    #[allow(unsafe_code, reason = "the allocator has no other door for it")]
    // SAFETY: it may be called on any thread at any time, also while another allocator is the global one.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
    // Others may sleep since before the burst. A task wakes one of them; it finds nothing more to do, and comes here.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async {});
    }
    true
}

/// Lets a round begin in time although nothing happens: what a burst left is given back a second after it.
pub(crate) async fn begin_rounds() {
    let mut round = tokio::time::interval(ROUND);
    loop {
        round.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::thread::ThreadId;

    const WORKERS: usize = 2;
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn each_worker_looks_again_and_again_although_only_one_has_anything_to_do() {
        let looks: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
        let noted = looks.clone();
        let note = move || {
            if give_back() {
                let name = |id: ThreadId| format!("{id:?}");
                *noted.lock().expect("whole").entry(name(std::thread::current().id())).or_default() += 1;
            }
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(WORKERS).enable_all().on_thread_park(note).build().expect("a runtime");
        let began = Instant::now();
        let all_looked = || looks.lock().expect("whole").values().filter(|looks| **looks >= 3).count() == WORKERS;
        let rounds = runtime.spawn(begin_rounds());
        while !all_looked() {
            assert!(began.elapsed() < PATIENCE, "looks by thread after {PATIENCE:?}: {looks:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        rounds.abort();
    }
}
