//! What is done to the fleet in one run, drawn from the seed before it begins: so a run can be cut short
//! after any step, and the shortest cut that still fails is the one to look at.

use crate::chance::Chance;
use serde_json::{Value, json};
use tidegate::store::faulty::Survives;

/// One thing that is done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Drain {
        hub: usize,
        policy: Value,
    },
    Cancel {
        hub: usize,
    },
    /// SIGTERM: hand over or park, then end.
    Terminate {
        hub: usize,
    },
    /// A second SIGTERM.
    Hurry {
        hub: usize,
    },
    /// The process dies; the disk keeps what survives.
    Crash {
        hub: usize,
        survives: Survives,
    },
    /// The disk refuses the change that is the nth from now.
    DiskRefuses {
        hub: usize,
        nth: u64,
    },
    /// The disk has room for so many bytes, or again for all.
    DiskRoom {
        hub: usize,
        bytes: Option<usize>,
    },
    Start {
        hub: usize,
    },
    /// The balancer sends nobody there any more, or again.
    Balance {
        hub: usize,
        is_in: bool,
    },
    /// All messages between two hosts are lost.
    Cut {
        a: String,
        b: String,
    },
    /// They wait.
    Hold {
        a: String,
        b: String,
    },
    /// Both end.
    Mend {
        a: String,
        b: String,
    },
    /// Clients lose their connections.
    DropLines {
        every: usize,
    },
    /// Clients read nothing.
    Rest {
        every: usize,
        ms: u64,
    },
    /// One client is doubled.
    Double {
        client: usize,
    },
    /// Callers publish, so often, at a random hub each.
    Publish {
        times: u64,
    },
    /// Sessions join or leave channels.
    Channels {
        times: u64,
    },
}

/// When, in milliseconds, and what.
pub(crate) type Schedule = Vec<(u64, Step)>;

/// How the fleet is made up.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) hubs: usize,
    pub(crate) clients: usize,
    pub(crate) user_hosts: usize,
}

/// How long things are done to the fleet, in milliseconds.
pub(crate) const TROUBLE_MS: u64 = 40_000;
/// Before that everybody connects.
pub(crate) const CALM_MS: u64 = 4_000;

/// Draws a schedule.
pub(crate) fn draw(shape: &Shape, chance: &mut Chance) -> Schedule {
    let mut steps = Schedule::new();
    for _ in 0..chance.between(2, 7) {
        let at = chance.between(CALM_MS, TROUBLE_MS);
        episode(shape, chance, at, &mut steps);
    }
    for _ in 0..chance.between(4, 14) {
        let at = chance.between(CALM_MS, TROUBLE_MS);
        let step = match chance.below(3) {
            0 => Step::Channels { times: chance.between(1, 6) },
            _ => Step::Publish { times: chance.between(1, 8) },
        };
        steps.push((at, step));
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn episode(shape: &Shape, chance: &mut Chance, at: u64, steps: &mut Schedule) {
    let hub = chance.below(shape.hubs as u64) as usize;
    let later = |chance: &mut Chance, low, high| at + chance.between(low, high);
    match chance.below(12) {
        0..=2 => drain(chance, at, hub, steps),
        3 => {
            // A rolling restart: SIGTERM, and the next process on the same disk.
            steps.push((at, Step::Terminate { hub }));
            if chance.percent(30) {
                steps.push((later(chance, 100, 5_000), Step::Hurry { hub }));
            }
            steps.push((later(chance, 200, 20_000), Step::Start { hub }));
        }
        4 => {
            steps.push((at, Step::Crash { hub, survives: chance.pick(&Survives::EVERY) }));
            steps.push((later(chance, 100, 15_000), Step::Start { hub }));
        }
        5 => {
            let refuses = Step::DiskRefuses { hub, nth: chance.below(6) };
            steps.push((at, refuses));
            steps.push((later(chance, 1, 500), Step::Terminate { hub }));
            steps.push((later(chance, 500, 9_000), Step::Start { hub }));
        }
        6 => {
            steps.push((at, Step::DiskRoom { hub, bytes: Some(chance.between(0, 4_000) as usize) }));
            steps.push((later(chance, 1, 500), Step::Terminate { hub }));
            steps.push((later(chance, 500, 9_000), Step::DiskRoom { hub, bytes: None }));
        }
        7 | 8 => network(shape, chance, at, hub, steps),
        9 => steps.push((at, Step::DropLines { every: chance.between(1, 4) as usize })),
        10 => steps.push((at, Step::Rest { every: chance.between(2, 6) as usize, ms: chance.between(500, 12_000) })),
        _ => steps.push((at, Step::Double { client: chance.below(shape.clients as u64) as usize })),
    }
}

fn drain(chance: &mut Chance, at: u64, hub: usize, steps: &mut Schedule) {
    let deadline = chance.between(1_500, 20_000);
    let part = |chance: &mut Chance, of: u64| chance.below(of + 1);
    let (notice, window, settle) = (part(chance, deadline / 4), part(chance, deadline / 3), part(chance, deadline / 4));
    let on_orphan = chance.pick(&["continue", "recall"]);
    let mut policy = json!({
        "allow_park": true, "notice_ms": notice, "window_ms": window, "settle_ms": settle, "deadline_ms": deadline,
        "on_orphan": on_orphan, "lease_ms": chance.between(1_000, 60_000),
    });
    if chance.percent(30) {
        policy["max_in_flight"] = json!(chance.between(1, 8));
    }
    steps.push((at, Step::Drain { hub, policy }));
    if chance.percent(60) {
        steps.push((at + chance.below(deadline), Step::Balance { hub, is_in: false }));
    }
    match chance.below(4) {
        0 => steps.push((at + chance.below(deadline + 3_000), Step::Cancel { hub })),
        1 => {
            steps.push((at + chance.below(deadline + 3_000), Step::Terminate { hub }));
            steps.push((at + deadline + chance.between(3_000, 12_000), Step::Start { hub }));
        }
        2 => {
            let survives = chance.pick(&Survives::EVERY);
            steps.push((at + chance.below(deadline + 3_000), Step::Crash { hub, survives }));
            steps.push((at + deadline + chance.between(3_000, 12_000), Step::Start { hub }));
        }
        _ => {}
    }
}

fn network(shape: &Shape, chance: &mut Chance, at: u64, hub: usize, steps: &mut Schedule) {
    let a = format!("hub-{hub}");
    let other = (hub + 1 + chance.below(shape.hubs as u64 - 1) as usize) % shape.hubs;
    let b = match chance.below(3) {
        0 => format!("users-{}", chance.below(shape.user_hosts as u64)),
        _ => format!("hub-{other}"),
    };
    let lasts = chance.pick(&[300, 1_500, 4_000, 9_000, 20_000]);
    let step = match chance.percent(50) {
        true => Step::Cut { a: a.clone(), b: b.clone() },
        false => Step::Hold { a: a.clone(), b: b.clone() },
    };
    steps.push((at, step));
    steps.push((at + chance.between(lasts / 2, lasts), Step::Mend { a, b }));
}
