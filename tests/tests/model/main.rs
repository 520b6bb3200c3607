//! The machines of `protocol/` themselves under exhaustive search: one session, two and three hubs, the
//! real client, and every trouble that its bounds allow. `tests/README.md` says what is covered.
#![allow(unreachable_pub, reason = "one binary: what its modules share is public among them")]

mod bounds;
mod check;
mod client_side;
mod fate;
mod hub;
mod ledger;
mod mutant;
mod mutants;
mod recovery;
mod steps;
mod wire;
mod work;
mod world;

use bounds::{Budget, Grain, Mutant};
use check::{Scenario, prove};

/// No trouble at all: scenarios add to it.
pub const QUIET: Budget = Budget {
    dials: 0,
    cuts: 0,
    impatience: 0,
    publishes: 0,
    sends: 0,
    doubles: 0,
    crashes: 0,
    orders: 0,
    pushes: 0,
    cancels: 0,
    freeze_limits: 0,
    repeats: 0,
    copy_ends: 0,
    copy_waits: 0,
    claim_limits: 0,
    orphans: 0,
    late_hellos: 0,
    parks: 0,
};

fn scenario(name: &'static str, hubs: usize, grain: Grain, budget: Budget) -> Scenario {
    Scenario { name, hubs, budget, grain, recover_one_in: 4, mutant: Mutant::None }
}

#[test]
fn push_with_thaw_double_and_repeat() {
    let budget = Budget { pushes: 2, freeze_limits: 1, doubles: 1, repeats: 1, ..QUIET };
    prove(scenario("push", 2, Grain::PEERS, budget));
}

#[test]
fn push_with_a_crash() {
    let budget = Budget { pushes: 1, crashes: 1, doubles: 1, dials: 1, repeats: 1, claim_limits: 1, ..QUIET };
    prove(scenario("push and crash", 2, Grain::PEERS, budget));
}

#[test]
fn claim_with_cut_thaw_and_limits() {
    let budget = Budget { orders: 1, dials: 2, cuts: 1, sends: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("claim", 2, Grain::PEERS, budget));
}

#[test]
fn claim_with_doubles() {
    let budget = Budget { orders: 1, dials: 2, doubles: 1, freeze_limits: 1, claim_limits: 1, ..QUIET };
    prove(scenario("claim doubled", 2, Grain::PEERS, budget));
}

#[test]
fn claim_with_a_crash() {
    let budget = Budget { orders: 1, dials: 2, crashes: 1, sends: 1, claim_limits: 1, ..QUIET };
    prove(scenario("claim and crash", 2, Grain::PEERS, budget));
}

#[test]
fn streams_with_bytes_under_way() {
    let budget = Budget { orders: 1, dials: 2, impatience: 1, publishes: 1, ..QUIET };
    prove(scenario("wire", 2, Grain::WIRE, budget));
}

#[test]
fn every_step_on_its_own() {
    let budget = Budget { orders: 1, dials: 1, publishes: 2, sends: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("fine", 2, Grain::FINE, budget));
}

#[test]
fn late_hellos() {
    let budget = Budget { orders: 1, dials: 2, late_hellos: 1, cuts: 1, ..QUIET };
    prove(scenario("late hello", 2, Grain::PEERS, budget));
}

#[test]
fn orphans() {
    let budget = Budget { pushes: 1, dials: 1, orphans: 1, cuts: 1, claim_limits: 1, repeats: 1, ..QUIET };
    prove(scenario("orphan", 2, Grain::PEERS, budget));
}

#[test]
fn copies_that_end() {
    let budget = Budget { pushes: 1, dials: 1, copy_ends: 1, copy_waits: 1, repeats: 1, doubles: 1, ..QUIET };
    prove(scenario("copy ends", 2, Grain::PEERS, budget));
}

#[test]
fn cancel() {
    let budget = Budget { pushes: 1, orders: 1, dials: 1, cancels: 1, publishes: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("cancel", 2, Grain::PEERS, budget));
}

#[test]
fn park_and_crash() {
    let budget = Budget { parks: 1, crashes: 2, dials: 2, publishes: 2, sends: 1, cuts: 1, claim_limits: 1, ..QUIET };
    prove(scenario("park", 1, Grain::WIRE, budget));
}

#[test]
fn park_with_a_peer() {
    let budget = Budget { parks: 1, dials: 1, orders: 1, crashes: 1, publishes: 1, claim_limits: 1, ..QUIET };
    prove(scenario("park with peer", 2, Grain::PEERS, budget));
}

#[test]
fn three_hubs_pushed_about() {
    let budget = Budget { pushes: 2, freeze_limits: 1, ..QUIET };
    prove(scenario("three hubs, push", 3, Grain::PEERS, budget));
}

#[test]
fn three_hubs_with_a_crash() {
    let budget = Budget { pushes: 1, crashes: 1, dials: 1, ..QUIET };
    prove(scenario("three hubs, crash", 3, Grain::PEERS, budget));
}

#[test]
fn three_hubs_claim_and_push() {
    let budget = Budget { orders: 1, pushes: 1, dials: 1, ..QUIET };
    prove(scenario("three hubs, claim", 3, Grain::PEERS, budget));
}
