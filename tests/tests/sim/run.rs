//! One seed from its beginning to its verdict.

use crate::chance::Chance;
use crate::fleet::Fleet;
use crate::ledger::{Case, Sums};
use crate::panics;
use crate::schedule::{self, CALM_MS, Schedule, Shape, Step, TROUBLE_MS};
use crate::trace::Trace;
use std::sync::atomic::Ordering;

/// How long a fleet may take to come to rest once all trouble has ended, in simulated milliseconds.
const REST_MS: u64 = 120_000;
/// What is still on its way then gets so long.
const LAST_WORDS_MS: u64 = 3_000;
/// Clients of a fleet that is crowded, and how many of a hundred are: each costs many times the others.
const CROWD: usize = 200;
const CROWDS_PERCENT: u64 = 2;
/// How long an orphan waits, in milliseconds, less a margin.
const ORPHAN_MS: u64 = 25_000;

/// What came of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    /// A number for all that happened, and how many lines of trace it stands for.
    pub(crate) hash: (u64, u64),
    pub(crate) steps: usize,
    pub(crate) simulated_ms: u64,
    /// Processes that were of the release before this one.
    pub(crate) runs_of_before: u64,
    pub(crate) sums: Sums,
    /// What must not be; empty for a good seed.
    pub(crate) wrong: Vec<String>,
}

/// Runs a seed; `steps_max` cuts its schedule short.
pub(crate) fn run(seed: u64, steps_max: usize, loud: bool) -> Outcome {
    let mut chance = Chance::part(seed, "shape");
    let hubs = chance.pick(&[2, 2, 2, 3, 3, 4, 5]);
    let few = chance.pick(&[4, 8, 16, 30, 60]);
    let clients = if Chance::part(seed, "crowd").percent(CROWDS_PERCENT) { CROWD } else { few };
    let shape = Shape { hubs, clients, user_hosts: chance.between(1, 3) as usize };
    let mut schedule = schedule::draw(&shape, &mut chance);
    schedule.truncate(steps_max);
    let trace = Trace::new(loud);
    let panics = panics::watch();
    let mut fleet = Fleet::new(seed, shape.clone(), trace.clone());
    play(&mut fleet, &schedule);
    let rest = come_to_rest(&mut fleet);
    let case = Case {
        accounts: &fleet.accounts,
        book: &fleet.book,
        records: &fleet.records,
        watch: &fleet.watch,
        hubs: shape.hubs,
        long_trouble: trouble_ms(&schedule) > ORPHAN_MS,
    };
    let (sums, judged) = case.judge();
    let mut wrong = trace.faults();
    wrong.extend(rest);
    wrong.extend(judged);
    wrong.extend(panics.seen());
    let simulated_ms = trace.now_ms();
    let runs_of_before = fleet.machines.iter().map(|machine| machine.runs_of_before.load(Ordering::Relaxed)).sum();
    Outcome { seed, shape, hash: trace.hash(), steps: schedule.len(), simulated_ms, runs_of_before, sums, wrong }
}

fn play(fleet: &mut Fleet, schedule: &Schedule) {
    let last = schedule.last().map_or(CALM_MS, |(at, _)| *at).max(TROUBLE_MS.min(CALM_MS * 2));
    let mut next = schedule.iter().peekable();
    while fleet.trace.now_ms() <= last + 1_000 {
        while let Some((_, step)) = next.next_if(|(at, _)| *at <= fleet.trace.now_ms()) {
            fleet.act(step);
        }
        fleet.tick();
    }
}

/// Heals everything and waits until nobody is on the way any more.
fn come_to_rest(fleet: &mut Fleet) -> Option<String> {
    fleet.heal();
    let healed = fleet.trace.now_ms();
    let ticks_to = |fleet: &mut Fleet, at: u64| {
        while fleet.trace.now_ms() < at {
            fleet.tick();
        }
    };
    ticks_to(fleet, healed + 2_000);
    // Who was told to stop has stopped by now, and is started once more.
    let mut patience = 40;
    while patience > 0 && (0..fleet.machines.len()).any(|hub| !fleet.is_running(hub)) {
        fleet.heal();
        let now = fleet.trace.now_ms();
        ticks_to(fleet, now + 500);
        patience -= 1;
    }
    fleet.serve_again();
    fleet.hush();
    loop {
        let now = fleet.trace.now_ms();
        ticks_to(fleet, now + 500);
        if (0..fleet.machines.len()).any(|hub| !fleet.is_running(hub)) {
            fleet.heal();
        }
        match fleet.unsettled() {
            None => break,
            Some(who) if now > healed + REST_MS => return Some(format!("never came to rest: {who}")),
            Some(_) => {}
        }
    }
    let now = fleet.trace.now_ms();
    ticks_to(fleet, now + LAST_WORDS_MS);
    None
}

/// How long lines were cut or held, all together.
fn trouble_ms(schedule: &Schedule) -> u64 {
    let mut total = 0;
    let mut since = Vec::new();
    for (at, step) in schedule {
        match step {
            Step::Cut { a, b } | Step::Hold { a, b } => since.push((*at, a, b)),
            Step::Mend { a, b } => {
                if let Some(place) = since.iter().position(|(_, x, y)| (x, y) == (&a, &b)) {
                    total += at - since.swap_remove(place).0;
                }
            }
            _ => {}
        }
    }
    total + since.iter().map(|(at, ..)| TROUBLE_MS.saturating_sub(*at)).sum::<u64>()
}
