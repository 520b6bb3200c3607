//! From every state: once the troubles are over, everything ends well. The network has just lost all
//! that was under way and every connection; from now on it is reliable and the client patient. Then
//! the client must be served again with every message both ways, or have been told of a reset.

use crate::bounds::Grain;
use crate::wire::{Note, Pipe};
use crate::world::{Step, World};
use tidegate_protocol::claim::Claim;
use tidegate_protocol::session::{State, Timer};

/// So many rounds are enough for every way back; none needs half of it.
const ROUNDS_MAX: usize = 600;

/// After so many visits in vain the client has waited `orphan_after_ms`.
const VISITS_PATIENT: usize = 8;

/// How a recovery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Served, everything delivered.
    Whole,
    /// The client knows that it has a new session.
    Told,
    /// Neither. The text says what is missing.
    Stuck(&'static str),
}

/// Runs the world on until it is whole again.
pub fn recover(world: &World) -> Ending {
    let ledger = &world.ledger;
    let excused = ledger.data_lost || ledger.orphaned || ledger.may_end() || ledger.robbed;
    let mut world = world.clone();
    world.grain = Grain { client_reads_at_once: false, hub_reads_at_once: false, ..world.grain };
    world.net.clear();
    let asleep: Vec<usize> = (0..world.hubs.len()).filter(|hub| world.hubs[*hub].asleep).collect();
    for hub in asleep {
        world.apply(&Step::Wake(hub));
    }
    let open: Vec<u32> = world.pipes.iter().map(|pipe| pipe.id).collect();
    for id in open {
        world.apply(&Step::Cut { id, lose_up: true });
    }
    let mut visits = 0;
    for _ in 0..ROUNDS_MAX {
        if world.ledger.fault.is_some() {
            return Ending::Stuck("a promise was broken on the way back");
        }
        if world.client.over && !world.ledger.died {
            return if excused { Ending::Told } else { Ending::Stuck("a reset, although nothing was lost") };
        }
        if quick(&mut world, visits < VISITS_PATIENT) {
            continue;
        }
        if world.ledger.died {
            // Nobody will come: its time to live ends it, wherever it is.
            match world.hubs.iter().position(|hub| matches!(hub.session.state(), State::Serving { .. })) {
                Some(owner) => world.apply(&Step::Expire(owner)),
                None if !slow(&mut world, &mut visits) => return ended(&world),
                None => {}
            }
            continue;
        }
        if is_whole(&world) {
            return Ending::Whole;
        }
        if !slow(&mut world, &mut visits) {
            return Ending::Stuck("nothing is left to happen");
        }
    }
    Ending::Stuck("it goes round in circles")
}

/// Whether nothing but tombstones is left of a session that nobody comes for.
fn ended(world: &World) -> Ending {
    let kept =
        |state: &State<Note>| matches!(state, State::Serving { .. } | State::Frozen { .. } | State::Parked { .. });
    if world.hubs.iter().any(|hub| kept(hub.session.state())) {
        return Ending::Stuck("a session that nobody comes for is still owned");
    }
    Ending::Whole
}

fn is_whole(world: &World) -> bool {
    let served = world.hubs.iter().any(|hub| {
        let serving = matches!(hub.session.state(), State::Serving { .. });
        let conn = world.client.machine.connection();
        serving && conn.is_some_and(|conn| hub.session.counted().is_some_and(|counted| counted.0 == u64::from(conn.0)))
    });
    let ledger = &world.ledger;
    served && ledger.delivered == ledger.numbered && ledger.counted == ledger.sent && ledger.taken == ledger.counted
}

/// What happens within a round trip. False: all quiet.
fn quick(world: &mut World, patient: bool) -> bool {
    if world.net.len() > 0 {
        world.apply(&Step::Arrive(0));
        return true;
    }
    if let Some(id) = world.pipes.iter().find(|pipe| pipe.client_open && !pipe.down.is_empty()).map(|pipe| pipe.id) {
        world.apply(&Step::ClientReads(id));
        return true;
    }
    let may_read = |pipe: &&Pipe| world.hub_may_read(pipe);
    if let Some(id) = world.pipes.iter().find(may_read).map(|pipe| pipe.id) {
        world.apply(&if patient { Step::HubReads(id) } else { Step::HubReadsOrphan(id) });
        return true;
    }
    for hub in 0..world.hubs.len() {
        let at = &world.hubs[hub];
        let step = if let Some(gone) = at.to_learn.iter().next() {
            Step::Learn(hub, *gone)
        } else if world.app_may_take(hub) {
            Step::Take(hub)
        } else if at.settling && matches!(at.session.state(), State::Frozen { .. }) {
            Step::Settled(hub)
        } else if at.writing {
            Step::Written(hub, true)
        } else if world.has_more_to_write(hub) {
            Step::Pump(hub)
        } else {
            continue;
        };
        world.apply(&step);
        return true;
    }
    false
}

/// What happens when nothing else does: timers, the shorter first. False: none is armed.
fn slow(world: &mut World, visits: &mut usize) -> bool {
    let hubs = world.hubs.len();
    let timer = |wanted: fn(&Timer) -> bool| {
        (0..hubs).find_map(|hub| {
            world.hubs[hub].timers.iter().find(|timer| wanted(timer)).map(|timer| Step::Fire(hub, *timer))
        })
    };
    let claim = (0..hubs).find_map(|hub| world.hubs[hub].claims.first().map(|claim| (hub, claim)));
    let step = timer(|timer| matches!(timer, Timer::Repeat(..)))
        .or_else(|| timer(|timer| matches!(timer, Timer::Freeze(_) | Timer::BulkWait(_))))
        .or_else(|| claim.map(silence_or_limit))
        .or_else(|| timer(|timer| matches!(timer, Timer::CopyWait(_))));
    let step = step.or_else(|| {
        if world.client.over {
            return None;
        }
        if world.client.dialling.is_some() {
            *visits += 1;
            return Some(Step::Connect(*visits % hubs));
        }
        if world.client.machine.poll_timeout().is_some() {
            return Some(Step::ClientTimer);
        }
        None
    });
    // A parked session is taken up in the end: cancel, BeforeAllowTraffic, or the lease is over.
    let parked = (0..hubs)
        .find(|hub| *visits > VISITS_PATIENT && matches!(world.hubs[*hub].session.state(), State::Parked { .. }));
    let step = parked.map(Step::TakeUp).or(step).or_else(|| {
        let parked = (0..hubs).find(|hub| matches!(world.hubs[*hub].session.state(), State::Parked { .. }));
        parked.map(Step::TakeUp).or_else(|| timer(|timer| matches!(timer, Timer::CopyTtl(_) | Timer::BulkReuse(_))))
    });
    match step {
        Some(step) => {
            world.apply(&step);
            true
        }
        None => false,
    }
}

fn silence_or_limit((hub, claim): (usize, &Claim)) -> Step {
    if claim.silent().next().is_some() { Step::Silence(hub, claim.id()) } else { Step::ClaimLimit(hub, claim.id()) }
}
