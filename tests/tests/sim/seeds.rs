//! Running seeds: one with its trace, or many, two at a time, with the shortest failing part of each bad one.

use crate::run::{self, Outcome};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Simulations are single-threaded; so many run side by side.
const SIDE_BY_SIDE: usize = 2;
/// Runs that looking for the shortest failing part of one seed may cost.
const CUTS_MAX: usize = 8;

/// A simulation that takes longer, in real time, hangs.
const HANGS_AFTER: Duration = Duration::from_secs(240);

/// A number from the environment.
pub(crate) fn wanted(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: expected a number, but {error}")))
}

/// So many seeds that begin by the time of day, or where `TIDEGATE_SIM_BASE` says.
pub(crate) fn random(count: u64) -> Range<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let first = wanted("TIDEGATE_SIM_BASE").unwrap_or(now.as_millis() as u64 % 1_000_000_000);
    first..first + count
}

/// Runs a seed on a thread of its own, for what a thread keeps (its panics) must not be shared. A simulation
/// that hangs is left behind; what it was doing last is told by `make sim SEED=n`.
pub(crate) fn on_a_thread(seed: u64, steps_max: usize, loud: bool) -> Outcome {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20);
    // Nobody may listen any more, if it took too long.
    let run = move || drop(tell.send(run::run(seed, steps_max, loud)));
    thread.spawn(run).expect("a thread");
    told.recv_timeout(HANGS_AFTER).unwrap_or_else(|why| panic!("seed {seed}: no outcome within {HANGS_AFTER:?}: {why}"))
}

/// Runs one seed aloud.
pub(crate) fn one(seed: u64) {
    let steps_max = wanted("TIDEGATE_SIM_STEPS").map_or(usize::MAX, |steps| steps as usize);
    let outcome = on_a_thread(seed, steps_max, true);
    println!("{}", told(&outcome));
    assert!(outcome.wrong.is_empty(), "seed {seed} failed");
}

/// Runs many seeds; fails after all if any failed.
pub(crate) fn many(seeds: Range<u64>) {
    let (first, count) = (seeds.start, seeds.end - seeds.start);
    println!("simulation: seeds {first} to {}", seeds.end - 1);
    let (next, began) = (AtomicU64::new(first), Instant::now());
    let failed: Mutex<Vec<u64>> = Mutex::default();
    let (simulated_ms, runs_of_before) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = on_a_thread(seed, usize::MAX, false);
                    simulated_ms.fetch_add(outcome.simulated_ms, Ordering::Relaxed);
                    runs_of_before.fetch_add(outcome.runs_of_before, Ordering::Relaxed);
                    if !outcome.wrong.is_empty() {
                        let shortest = shortest(&outcome);
                        println!("{}\n  replay: make sim SEED={seed} STEPS={}", told(&shortest), shortest.steps);
                        failed.lock().expect("nobody panics with it").push(seed);
                    }
                }
            });
        }
    });
    let (failed, mixed) = (failed.into_inner().expect("all are done"), runs_of_before.into_inner());
    println!(
        "simulation: {count} seeds, {} failed {failed:?}, {} hubs were of the release before, {} simulated hours in {} s",
        failed.len(),
        mixed,
        simulated_ms.into_inner() / 3_600_000,
        began.elapsed().as_secs()
    );
    assert!(mixed > 0 || count < 10, "no hub of the release before took part");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

/// The shortest part of a bad seed's schedule that is found to fail, by halving.
fn shortest(outcome: &Outcome) -> Outcome {
    let (mut good, mut bad) = (0, outcome.clone());
    for _ in 0..CUTS_MAX {
        if bad.steps <= good + 1 {
            break;
        }
        let middle = good + (bad.steps - good) / 2;
        let half = on_a_thread(outcome.seed, middle, false);
        if half.wrong.is_empty() {
            good = middle;
        } else {
            bad = half;
        }
    }
    bad
}

fn told(outcome: &Outcome) -> String {
    let Outcome { seed, shape, hash, steps, simulated_ms, runs_of_before, sums, wrong } = outcome;
    let state = if wrong.is_empty() { "good" } else { "FAILED" };
    let mut told = format!(
        "seed {seed} {state}: {} hubs, {} clients, {steps} steps, {simulated_ms} ms, {runs_of_before} of the release before, {sums:?}, trace {:016x} of {} lines",
        shape.hubs, shape.clients, hash.0, hash.1
    );
    for what in wrong.iter().take(12) {
        told.push_str(&format!("\n  {what}"));
    }
    if wrong.len() > 12 {
        told.push_str(&format!("\n  … and {} more", wrong.len() - 12));
    }
    told
}
