use super::*;
use crate::frame::Old;
use crate::position::Offset;

const A: HubId = HubId(0xa);
const B: HubId = HubId(0xb);
const HELLO: HelloFacts = HelloFacts { serial: 1, attempt: 1, old: Old::Lost, received: Offset(0), epoch: None };

fn begin(orphaned: bool) -> Claim {
    Claim::begin::<u8>(SessionId(1), ClaimId(1), ConnectionId(1), HELLO, orphaned, [A, B], &mut Vec::new())
}

#[test]
fn an_owner_is_claimed_as_soon_as_it_answers() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(B, Knowledge::Owner(Generation(2)), &mut out);
    assert!(matches!(out[..], [Step::Say(B, PeerMessage::Claim { .. })]), "{out:?}");
    assert!(claim.on_snapshot(), "the claim waits for the snapshot");
    assert!(!claim.on_snapshot(), "and takes it once");
}

#[test]
fn a_reset_comes_only_when_every_known_hub_said_unknown() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::Unknown, &mut out);
    assert_eq!(out, [], "B has not answered yet");
    claim.on_located(B, Knowledge::Unknown, &mut out);
    assert_eq!(out, [Step::Reset { why: "unknown", record: None }]);
}

#[test]
fn one_silent_hub_means_retry_and_not_reset() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::Unknown, &mut out);
    claim.on_silence(&mut out);
    assert_eq!(out, [Step::Retry { after_ms: RETRY_SILENT_MS, why: "peer_silent" }]);
}

#[test]
fn waiting_for_a_silent_hub_ends_in_a_reset_once_the_client_is_orphaned() {
    let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
    claim.on_silence(&mut out);
    assert_eq!(out, [Step::Reset { why: "owner_lost", record: None }]);
}

fn moved(to: HubId) -> Refusal {
    Refusal::NotOwner(Knowledge::MovedTo(to, Generation(2)))
}

#[test]
fn an_unknown_from_before_the_trail_was_known_is_not_believed() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(B, Knowledge::Unknown, &mut out);
    claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
    claim.on_refused(A, moved(B), &mut out);
    claim.on_located(B, Knowledge::Unknown, &mut out);
    assert!(
        matches!(out[..], [Step::Say(A, PeerMessage::Claim { .. }), Step::Say(B, PeerMessage::Claim { .. })]),
        "B may have it by now: {out:?}"
    );
}

#[test]
fn a_successor_that_lost_it_leads_back_to_what_its_predecessor_still_holds_and_then_to_a_reset() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
    claim.on_located(B, Knowledge::Unknown, &mut out);
    claim.on_refused(A, moved(B), &mut out);
    out.clear();
    claim.on_refused(B, Refusal::NotOwner(Knowledge::Unknown), &mut out);
    assert!(matches!(out[..], [Step::Say(A, PeerMessage::Claim { orphaned: true, .. })]), "{out:?}");
    claim.on_refused(A, moved(B), &mut out);
    assert_eq!(out.last(), Some(&Step::Reset { why: "owner_lost", record: None }), "A has nothing left");
}

#[test]
fn two_tombstones_that_point_at_each_other_lead_to_a_reset_and_not_in_circles() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
    claim.on_located(B, Knowledge::MovedTo(A, Generation(2)), &mut out);
    claim.on_refused(B, moved(A), &mut out);
    claim.on_refused(A, moved(B), &mut out);
    assert!(matches!(out.last(), Some(Step::Say(B, PeerMessage::Claim { orphaned: true, .. }))), "{out:?}");
    claim.on_refused(B, moved(A), &mut out);
    assert!(matches!(out.last(), Some(Step::Say(A, PeerMessage::Claim { orphaned: true, .. }))), "{out:?}");
    claim.on_refused(A, moved(B), &mut out);
    assert_eq!(out.last(), Some(&Step::Reset { why: "owner_lost", record: None }));
}

#[test]
fn a_trail_to_a_hub_that_stays_silent_ends_in_a_reset_once_the_client_is_orphaned() {
    for (orphaned, resets) in [(false, false), (true, true)] {
        let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
        claim.on_silence(&mut out);
        claim.on_refused(A, moved(B), &mut out);
        assert!(matches!(out.last(), Some(Step::Say(B, PeerMessage::Claim { .. }))), "{out:?}");
        claim.on_limit(&mut out);
        assert_eq!(matches!(out.last(), Some(Step::Reset { why: "owner_lost", .. })), resets, "{out:?}");
    }
}

#[test]
fn a_trail_to_a_hub_that_is_known_to_be_silent_is_given_up_as_soon_as_a_silent_hub_while_locating() {
    for (orphaned, resets) in [(false, false), (true, true)] {
        let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
        claim.on_silence(&mut out);
        claim.on_peer_silence(A, &mut out);
        assert!(!claim.is_done(), "A has answered");
        claim.on_refused(A, moved(B), &mut out);
        claim.on_peer_silence(A, &mut out);
        assert!(!claim.is_done(), "the claim is at B now");
        claim.on_peer_silence(B, &mut out);
        assert_eq!(matches!(out.last(), Some(Step::Reset { why: "owner_lost", .. })), resets, "{out:?}");
        assert!(claim.is_done(), "{out:?}");
    }
}

#[test]
fn a_hub_that_answered_and_is_slow_to_give_is_no_reason_for_a_reset() {
    let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
    claim.on_located(B, Knowledge::Owner(Generation(2)), &mut out);
    claim.on_limit(&mut out);
    assert!(matches!(out.last(), Some(Step::Retry { .. })), "{out:?}");
}

#[test]
fn kept_data_resets_a_client_only_when_no_hub_is_silent_or_the_client_has_waited() {
    let record = || Box::new(Record::<u8>::new(crate::position::Epoch(1), Default::default()));
    for (orphaned, resets) in [(false, false), (true, true)] {
        let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Copy(Generation(2)), &mut out);
        claim.on_silence(&mut out);
        claim.on_reset_from(record(), &mut out);
        assert_eq!(matches!(out.last(), Some(Step::Reset { .. })), resets, "B is silent and may have it: {out:?}");
    }
}

#[test]
fn a_hub_that_comes_back_makes_all_answers_stale() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::Unknown, &mut out);
    claim.on_gone(B, &mut out);
    assert!(matches!(out[..], [Step::Retry { .. }]), "its new run may have taken the session up: {out:?}");
}

#[test]
fn a_trail_is_followed_to_the_hub_with_the_highest_generation() {
    let (mut claim, mut out) = (begin(false), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::MovedTo(B, Generation(2)), &mut out);
    claim.on_located(B, Knowledge::Copy(Generation(3)), &mut out);
    assert!(matches!(out[..], [Step::Say(B, PeerMessage::Claim { .. })]), "{out:?}");
}

#[test]
fn a_session_that_lies_on_the_disk_of_a_hub_that_is_away_waits_for_it_however_long_its_client_has_waited() {
    const GONE: HubId = HubId(0xc);
    for orphaned in [false, true] {
        // Nobody else knows it, or a tombstone leads to the hub that is away, or a copy was left behind.
        for other in [Knowledge::Unknown, Knowledge::MovedTo(GONE, Generation(3)), Knowledge::Copy(Generation(2))] {
            let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
            claim.on_located(A, Knowledge::Parked(GONE), &mut out);
            claim.on_located(B, other, &mut out);
            assert!(matches!(out[..], [Step::Retry { why: "parked", .. }]), "{other:?}: {out:?}");
        }
        // The hub itself was asked, and is silent.
        let (mut claim, mut out) = (begin(orphaned), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Parked(B), &mut out);
        assert_eq!(out, [], "its own answer may come");
        claim.on_silence(&mut out);
        assert!(matches!(out[..], [Step::Retry { why: "parked", .. }]), "{out:?}");
    }
}

#[test]
fn whoever_has_a_session_speaks_for_himself_whatever_was_said_of_his_disk() {
    let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
    claim.on_located(A, Knowledge::Parked(B), &mut out);
    claim.on_located(B, Knowledge::Owner(Generation(4)), &mut out);
    assert!(matches!(out[..], [Step::Say(B, PeerMessage::Claim { .. })]), "{out:?}");
    for said in [Knowledge::Unknown, Knowledge::Ended(Generation(4))] {
        let (mut claim, mut out) = (begin(true), Vec::<Step<u8>>::new());
        claim.on_located(A, Knowledge::Parked(B), &mut out);
        claim.on_located(B, said, &mut out);
        assert_eq!(out, [Step::Reset { why: "unknown", record: None }], "it is not there any more: {said:?}");
    }
}
