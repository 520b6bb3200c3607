//! The machines of `protocol/` themselves under exhaustive search: one session, two and three hubs, the
//! real client, and every trouble that its bounds allow. `tests/README.md` says what is covered.
#![allow(unreachable_pub, reason = "one binary: what its modules share is public among them")]

mod answers;
mod bounds;
mod check;
mod client_side;
mod fate;
mod hub;
mod ledger;
mod mutant;
mod mutants;
mod outside;
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
    ends: 0,
    orders: 0,
    pushes: 0,
    cancels: 0,
    freeze_limits: 0,
    repeats: 0,
    copy_ends: 0,
    copy_waits: 0,
    bulk_waits: 0,
    bulk_ends: 0,
    kept_ends: 0,
    claim_limits: 0,
    orphans: 0,
    late_hellos: 0,
    parks: 0,
    evicts: 0,
    deaths: 0,
    thieves: 0,
    calls: 0,
    sleeps: 0,
};

fn scenario(name: &'static str, hubs: usize, grain: Grain, budget: Budget) -> Scenario {
    Scenario { name, hubs, budget, grain, recover_one_in: 4, mutant: Mutant::None }
}

#[test]
fn a_push_survives_thaw_doubled_messages_and_repeated_commits() {
    let budget = Budget { pushes: 2, freeze_limits: 1, doubles: 1, repeats: 1, ..QUIET };
    prove(scenario("push", 2, Grain::PEERS, budget));
}

#[test]
fn a_push_survives_a_crash_of_either_hub() {
    let budget = Budget { pushes: 1, crashes: 1, doubles: 1, dials: 1, repeats: 1, claim_limits: 1, ..QUIET };
    prove(scenario("push and crash", 2, Grain::PEERS, budget));
}

#[test]
fn a_claim_survives_a_cut_and_a_thaw() {
    let budget = Budget { orders: 1, dials: 2, cuts: 1, sends: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("claim", 2, Grain::PEERS, budget));
}

#[test]
fn a_claim_survives_doubled_messages_and_impatient_hubs() {
    let budget = Budget { orders: 1, dials: 2, doubles: 1, freeze_limits: 1, claim_limits: 1, ..QUIET };
    prove(scenario("claim doubled", 2, Grain::PEERS, budget));
}

#[test]
fn a_claim_survives_a_crash_of_either_hub() {
    let budget = Budget { orders: 1, dials: 2, crashes: 1, sends: 1, claim_limits: 1, ..QUIET };
    prove(scenario("claim and crash", 2, Grain::PEERS, budget));
}

#[test]
fn a_hub_that_ends_in_good_order_while_sessions_come_and_go_loses_none() {
    let budget = Budget { pushes: 2, ends: 1, dials: 1, repeats: 1, ..QUIET };
    prove(scenario("push and end", 2, Grain::PEERS, budget));
    let budget = Budget { orders: 1, dials: 2, ends: 1, sends: 1, publishes: 1, claim_limits: 1, ..QUIET };
    prove(scenario("claim and end", 2, Grain::PEERS, budget));
}

#[test]
fn a_hub_that_hands_a_session_on_once_more_and_ends_loses_it_not() {
    let budget = Budget { pushes: 2, ends: 1, ..QUIET };
    prove(scenario("three hubs, end", 3, Grain::PEERS, budget));
}

#[test]
fn an_impatient_client_with_bytes_under_way_both_ways_loses_nothing() {
    let budget = Budget { orders: 1, dials: 2, impatience: 1, publishes: 1, ..QUIET };
    prove(scenario("wire", 2, Grain::WIRE, budget));
}

#[test]
fn an_app_that_takes_and_settles_at_its_own_pace_loses_nothing() {
    let budget = Budget { orders: 1, dials: 1, publishes: 2, sends: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("fine", 2, Grain::FINE, budget));
}

#[test]
fn a_late_hello_steals_nothing() {
    let budget = Budget { orders: 1, dials: 2, late_hellos: 1, cuts: 1, ..QUIET };
    prove(scenario("late hello", 2, Grain::PEERS, budget));
}

#[test]
fn a_client_that_waited_is_reset_and_told() {
    let budget = Budget { pushes: 1, dials: 1, orphans: 1, cuts: 1, claim_limits: 1, repeats: 1, ..QUIET };
    prove(scenario("orphan", 2, Grain::PEERS, budget));
}

#[test]
fn a_copy_that_runs_out_never_makes_a_second_owner() {
    let budget = Budget { pushes: 1, dials: 1, copy_ends: 1, copy_waits: 1, repeats: 1, doubles: 1, ..QUIET };
    prove(scenario("copy ends", 2, Grain::PEERS, budget));
}

#[test]
fn three_messages_each_way_survive_a_move() {
    let budget = Budget { orders: 1, dials: 1, publishes: 3, sends: 3, ..QUIET };
    prove(scenario("three each way", 2, Grain::PEERS, budget));
}

#[test]
fn three_messages_each_way_survive_a_push_on_open_streams() {
    let budget = Budget { pushes: 1, dials: 1, publishes: 3, sends: 3, ..QUIET };
    prove(scenario("three each way, pushed", 2, Grain::WIRE, budget));
}

#[test]
fn a_client_that_dies_leaves_a_session_that_ends_wherever_it_is() {
    let budget = Budget { orders: 1, pushes: 1, dials: 1, deaths: 1, sends: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("client dies", 2, Grain::PEERS, budget));
}

#[test]
fn a_client_that_dies_beside_a_hub_that_crashes_leaves_no_session_behind() {
    let budget = Budget { orders: 1, dials: 1, deaths: 1, crashes: 1, claim_limits: 1, ..QUIET };
    prove(scenario("client and hub die", 2, Grain::PEERS, budget));
}

#[test]
fn two_clients_with_one_token_never_have_two_owners_and_each_hears_in_order() {
    let budget = Budget { orders: 1, dials: 1, thieves: 1, publishes: 2, freeze_limits: 1, ..QUIET };
    prove(scenario("thief", 2, Grain::PEERS, budget));
}

#[test]
fn an_evicted_session_is_over_at_every_hub_at_whatever_moment_it_is_evicted() {
    let budget = Budget { orders: 1, pushes: 1, dials: 1, evicts: 1, doubles: 1, ..QUIET };
    prove(scenario("evict", 2, Grain::PEERS, budget));
}

#[test]
fn a_call_that_comes_at_a_bad_moment_is_numbered_once_or_answered_and_never_forgotten() {
    let budget = Budget { pushes: 2, calls: 2, freeze_limits: 1, copy_ends: 1, repeats: 1, ..QUIET };
    prove(scenario("calls", 2, Grain::PEERS, budget));
}

#[test]
fn a_call_for_a_session_that_is_parked_or_whose_hub_crashes_is_never_forgotten() {
    let budget = Budget { parks: 1, pushes: 1, calls: 1, crashes: 1, ..QUIET };
    prove(scenario("calls and crash", 2, Grain::PEERS, budget));
}

#[test]
fn a_bulk_that_is_lost_doubled_or_late_costs_no_message() {
    let budget = Budget { pushes: 1, publishes: 2, doubles: 1, bulk_waits: 1, ..QUIET };
    prove(scenario("bulk", 2, Grain::PEERS_LAZY.heavy(), budget));
}

#[test]
fn a_bulk_is_counted_on_again_after_a_thaw_unless_it_was_dropped() {
    let budget = Budget { pushes: 2, publishes: 1, freeze_limits: 1, bulk_ends: 1, ..QUIET };
    prove(scenario("bulk again", 2, Grain::PEERS_LAZY.heavy(), budget));
}

#[test]
fn a_crash_between_bulk_and_freeze_leaves_no_second_owner() {
    let budget = Budget { pushes: 1, publishes: 2, crashes: 1, bulk_waits: 1, ..QUIET };
    prove(scenario("bulk and crash", 2, Grain::PEERS_LAZY.heavy(), budget));
}

#[test]
fn a_client_is_served_on_while_the_bulk_of_its_claim_is_under_way() {
    let budget = Budget { orders: 1, dials: 1, publishes: 2, bulk_waits: 1, ..QUIET };
    prove(scenario("bulk and claim", 2, Grain::PEERS_LAZY.heavy(), budget));
}

#[test]
fn three_hubs_that_hold_bulks_of_one_session_do_not_mix_them_up() {
    let budget = Budget { pushes: 2, publishes: 1, cuts: 1, ..QUIET };
    prove(Scenario { recover_one_in: 64, ..scenario("three hubs, bulk", 3, Grain::PEERS.heavy(), budget) });
}

#[test]
fn kept_data_whose_time_is_over_leads_its_client_to_a_reset_and_never_in_circles() {
    let budget = Budget { pushes: 1, dials: 1, copy_ends: 1, kept_ends: 1, repeats: 1, ..QUIET };
    prove(scenario("kept ends", 2, Grain::PEERS, budget));
}

#[test]
fn a_cancelled_drain_leaves_every_session_served() {
    let budget = Budget { pushes: 1, orders: 1, dials: 1, cancels: 1, publishes: 1, freeze_limits: 1, ..QUIET };
    prove(scenario("cancel", 2, Grain::PEERS, budget));
}

#[test]
fn a_parked_session_survives_its_process() {
    let budget = Budget { parks: 1, crashes: 2, dials: 2, publishes: 2, sends: 1, cuts: 1, claim_limits: 1, ..QUIET };
    prove(scenario("park", 1, Grain::WIRE, budget));
}

#[test]
fn a_parked_session_is_found_by_a_peer() {
    let budget = Budget { parks: 1, dials: 1, orders: 1, crashes: 1, publishes: 1, claim_limits: 1, ..QUIET };
    prove(scenario("park with peer", 2, Grain::PEERS, budget));
}

#[test]
fn a_parked_session_whose_hub_is_away_waits_for_it() {
    let budget = Budget { parks: 1, sleeps: 1, dials: 2, orphans: 1, publishes: 1, claim_limits: 1, ..QUIET };
    prove(scenario("park and away", 2, Grain::PEERS, budget));
}

#[test]
fn three_hubs_pass_a_session_around() {
    let budget = Budget { pushes: 2, freeze_limits: 1, ..QUIET };
    prove(scenario("three hubs, push", 3, Grain::PEERS, budget));
}

#[test]
fn three_hubs_survive_a_crash() {
    let budget = Budget { pushes: 1, crashes: 1, dials: 1, ..QUIET };
    prove(scenario("three hubs, crash", 3, Grain::PEERS, budget));
}

#[test]
fn three_hubs_claim_and_push_at_once() {
    let budget = Budget { orders: 1, pushes: 1, dials: 1, ..QUIET };
    prove(scenario("three hubs, claim", 3, Grain::PEERS, budget));
}
