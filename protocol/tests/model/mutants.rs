//! The model can fail: each rule that is dropped is caught, and by the promise that it keeps.

use crate::QUIET;
use crate::bounds::{Budget, Grain, Mutant};
use crate::check::{Scenario, caught};

fn must_be_caught(mutant: Mutant, grain: Grain, budget: Budget, by: &[&str]) {
    // The way back would meet the broken promise first: tried only where nothing else breaks.
    let recover_one_in = u64::from(by.contains(&"way back"));
    let scenario = Scenario { name: "mutant", hubs: 2, budget, grain, recover_one_in, mutant };
    let found = caught(scenario).unwrap_or_else(|| panic!("{mutant}: no promise was broken; expected one of {by:?}"));
    assert!(by.iter().any(|wanted| found.contains(wanted)), "{mutant}: caught by \"{found}\"; expected one of {by:?}");
}

#[test]
fn a_commit_on_any_held_is_caught() {
    let budget = Budget { pushes: 2, freeze_limits: 1, ..QUIET };
    must_be_caught(Mutant::CommitOnAnyHeld, Grain::PEERS, budget, &["no reset", "two owners"]);
}

#[test]
fn a_thaw_that_keeps_the_generation_is_caught() {
    let budget = Budget { pushes: 2, freeze_limits: 1, cuts: 1, publishes: 2, ..QUIET };
    let by = &["once, in order", "generation", "two owners"];
    must_be_caught(Mutant::ThawKeepsGeneration, Grain::PEERS, budget, by);
}

#[test]
fn a_commit_without_held_is_caught() {
    let budget = Budget { pushes: 1, repeats: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::CommitWithoutHeld, Grain::PEERS, budget, &["no reset"]);
}

#[test]
fn a_copy_that_goes_live_on_its_time_to_live_is_caught() {
    let budget = Budget { pushes: 1, copy_ends: 1, ..QUIET };
    must_be_caught(Mutant::GoLiveOnTtl, Grain::PEERS, budget, &["two owners"]);
}

#[test]
fn a_copy_that_goes_live_when_its_predecessor_is_gone_is_caught() {
    let budget = Budget { pushes: 1, crashes: 1, publishes: 1, freeze_limits: 1, ..QUIET };
    let by = &["generation", "once, in order", "two owners"];
    must_be_caught(Mutant::GoLiveOnPredecessorGone, Grain::PEERS, budget, by);
}

#[test]
fn counting_a_committed_session_as_moved_is_caught() {
    must_be_caught(Mutant::MovedBeforeLive, Grain::PEERS, Budget { pushes: 1, ..QUIET }, &["moved means served"]);
}

#[test]
fn a_committed_that_is_said_only_once_is_caught() {
    must_be_caught(Mutant::CommittedSaidOnce, Grain::PEERS, Budget { pushes: 1, ..QUIET }, &["way back"]);
}

#[test]
fn a_frozen_owner_that_reads_on_is_caught() {
    let budget = Budget { pushes: 1, sends: 2, freeze_limits: 1, ..QUIET };
    must_be_caught(Mutant::ReadWhileFrozen, Grain::WIRE, budget, &["counted and taken once"]);
}

#[test]
fn an_ack_before_the_app_took_the_message_is_caught() {
    let budget = Budget { sends: 1, ..QUIET };
    must_be_caught(Mutant::AckBeforeTaken, Grain::FINE, budget, &["what is acked was taken"]);
}

#[test]
fn untaken_messages_that_stay_behind_are_caught() {
    let budget = Budget { pushes: 1, sends: 2, dials: 1, ..QUIET };
    let by = &["counted and taken once", "what is acked"];
    must_be_caught(Mutant::UntakenStayBehind, Grain::FINE, budget, by);
}

#[test]
fn a_try_that_is_not_looked_at_is_caught() {
    let budget = Budget { orders: 1, dials: 2, late_hellos: 1, cuts: 1, ..QUIET };
    must_be_caught(Mutant::NoTryCheck, Grain::PEERS, budget, &["never closed for good"]);
}

#[test]
fn silence_taken_for_knowledge_is_caught() {
    let budget = Budget { orders: 1, dials: 1, claim_limits: 1, ..QUIET };
    must_be_caught(Mutant::SilenceIsKnowledge, Grain::PEERS, budget, &["no reset"]);
}

#[test]
fn words_for_an_earlier_run_that_are_heard_by_a_later_one_are_caught() {
    let budget = Budget { pushes: 1, crashes: 1, doubles: 1, repeats: 1, publishes: 1, ..QUIET };
    let by = &["generation", "once, in order", "two owners", "moved means"];
    must_be_caught(Mutant::NoIncarnationFence, Grain::PEERS, budget, by);
}

#[test]
fn kept_data_that_resets_its_client_without_asking_the_others_is_caught() {
    let budget = Budget { pushes: 1, parks: 1, crashes: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::ResetWithoutAsking, Grain::PEERS, budget, &["no reset"]);
}

#[test]
fn a_park_that_is_told_before_it_is_written_is_caught() {
    let budget = Budget { parks: 1, ..QUIET };
    must_be_caught(Mutant::ParkedBeforeWritten, Grain::PEERS, budget, &["told safe means on disk"]);
}

#[test]
fn a_parked_session_that_is_forgotten_while_its_hub_is_away_is_caught() {
    let budget = Budget { parks: 1, sleeps: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::ParkedForgotten, Grain::PEERS, budget, &["no reset"]);
}

#[test]
fn an_app_message_before_welcome_is_caught() {
    let budget = Budget { orders: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::MessageBeforeWelcome, Grain::PEERS, budget, &["never closed for good", "way back"]);
}

#[test]
fn a_connection_that_starts_one_position_off_is_caught() {
    let budget = Budget { publishes: 2, cuts: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::PositionOffByOne, Grain::PEERS, budget, &["once, in order", "way back"]);
}

#[test]
fn a_difference_that_is_put_on_whatever_is_there_is_caught() {
    let budget = Budget { pushes: 1, cuts: 1, publishes: 2, bulk_ends: 1, dials: 1, ..QUIET };
    let by = &["once, in order", "way back"];
    must_be_caught(Mutant::DifferenceGuessed, Grain::PEERS.heavy(), budget, by);
}

#[test]
fn a_freeze_without_a_limit_is_caught() {
    must_be_caught(Mutant::FreezeWithoutLimit, Grain::PEERS, Budget { pushes: 1, ..QUIET }, &["way back"]);
}

#[test]
fn a_claim_that_asks_nobody_else_is_caught() {
    must_be_caught(Mutant::AsksNobody, Grain::PEERS, Budget { dials: 1, cuts: 1, ..QUIET }, &["no reset"]);
}

#[test]
fn calls_that_are_forgotten_after_the_freeze_are_caught() {
    let budget = Budget { pushes: 1, calls: 1, freeze_limits: 1, ..QUIET };
    must_be_caught(Mutant::WaitingCallsForgotten, Grain::PEERS, budget, &["no call is forgotten"]);
}

#[test]
fn a_hub_that_ends_while_a_copy_of_it_waits_for_its_predecessor_is_caught() {
    let budget = Budget { pushes: 1, ends: 1, dials: 1, ..QUIET };
    must_be_caught(Mutant::EndsWithCopies, Grain::PEERS, budget, &["no reset"]);
}

#[test]
fn an_old_connection_that_still_counts_is_caught() {
    let budget = Budget { orders: 1, cancels: 1, dials: 1, sends: 1, ..QUIET };
    must_be_caught(Mutant::OldConnectionCounts, Grain::WIRE, budget, &["counted and taken once"]);
}
