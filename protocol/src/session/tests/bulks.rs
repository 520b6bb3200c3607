//! Rule 10: the bulk is copied before the freeze, the freeze carries the difference.

use super::*;
use crate::peer::SNAPSHOT_VERSIONS;

const PUSH: Event<u8> = Event::Push { to: B, version: SNAPSHOT_VERSION };

/// A session at A that is worth a bulk.
fn heavy() -> Pair {
    let mut pair = Pair::new();
    set_state(&mut pair, 1);
    pair
}

fn set_state(pair: &mut Pair, byte: u8) {
    pair.a.record_mut(false).expect("A serves").state = vec![byte; BULK_MIN_BYTES];
}

/// What A said to B, by kind, oldest first.
fn said_by_a(pair: &Pair) -> Vec<&'static str> {
    let said = pair.done.iter().filter_map(|(at, action)| match action {
        Action::Say(_, message) if *at == A => Some(message.kind()),
        _ => None,
    });
    said.collect()
}

fn is_serving(session: &Session<u8>) -> bool {
    matches!(session.state(), State::Serving { .. })
}

/// The number of the bulk that is under way.
fn bulk_under_way(pair: &Pair) -> Generation {
    pair.net
        .iter()
        .find_map(|(.., message)| match message {
            PeerMessage::Bulk { bulk, .. } => Some(*bulk),
            _ => None,
        })
        .expect("a bulk is under way")
}

#[test]
fn a_heavy_session_is_served_until_its_bulk_is_held_and_the_freeze_carries_the_difference() {
    let mut pair = heavy();
    pair.number(A, 1);
    pair.at(A, PUSH);
    assert!(is_serving(&pair.a), "the bulk goes ahead");
    assert_eq!(pair.number(A, 2), Some(Offset(2)), "and A numbers on");
    assert_eq!(pair.a.receive(OLD, 9), Receipt::Counted, "and counts on");
    pair.deliver(None);
    pair.deliver(None);
    let Some((_, _, PeerMessage::Difference { difference, .. })) = pair.net.front() else {
        panic!("expected a difference: {:?}", pair.net)
    };
    assert!(difference.same_state && difference.rest.state.is_empty(), "the state is there already");
    assert_eq!(difference.rest.outbox.iter().collect::<Vec<_>>(), [&2], "1 went ahead");
    pair.settle(None);
    let record = pair.b.record().expect("B serves");
    assert_eq!(record.state, vec![1; BULK_MIN_BYTES]);
    assert_eq!((record.outbox.end(), record.received, record.untaken.len()), (Offset(2), Offset(1), 1));
    assert_eq!(said_by_a(&pair), ["bulk", "difference", "committed"]);
}

#[test]
fn a_light_session_is_frozen_at_once_with_everything_in_its_snapshot() {
    let mut pair = Pair::new();
    pair.number(A, 1);
    pair.at(A, PUSH);
    assert!(matches!(pair.a.state(), State::Frozen { .. }));
    assert_eq!(said_by_a(&pair), ["snapshot"]);
}

#[test]
fn a_client_that_waits_at_the_claimant_is_welcomed_after_bulk_and_difference() {
    let mut pair = heavy();
    let waiting = (NEW, hello(1, 2, 0));
    pair.claim(CLAIM, waiting.1);
    assert!(is_serving(&pair.a), "its old connection is served meanwhile");
    pair.number(A, 1);
    assert_eq!(pair.pump(A, OLD), [Item::Message(1)]);
    pair.settle(Some(waiting));
    assert_eq!(pair.b.counted(), Some(NEW));
    assert_eq!(pair.pump(B, NEW), [Item::Message(1)], "the hello told of nothing received");
}

#[test]
fn a_peer_that_reads_only_the_old_version_gets_everything_in_it() {
    let mut pair = heavy();
    let [old, _] = SNAPSHOT_VERSIONS;
    let claim =
        PeerMessage::Claim { session: S, claim: CLAIM, hello: hello(1, 2, 0), versions: vec![old], orphaned: false };
    let actions = pair.peer(B, A, claim);
    assert!(
        actions.iter().any(|action| matches!(action, Action::Say(B, PeerMessage::Snapshot { version: 1, .. }))),
        "{actions:?}"
    );
    let mut pushed = heavy();
    pushed.at(A, Event::Push { to: B, version: old });
    assert_eq!(said_by_a(&pushed), ["snapshot"]);
}

#[test]
fn a_bulk_whose_answer_is_late_holds_nothing_up_and_is_counted_on_by_the_next_try() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    let bulk = bulk_under_way(&pair);
    pair.at(A, Event::Fired(Timer::BulkWait(bulk)));
    assert!(matches!(pair.a.state(), State::Frozen { .. }));
    assert_eq!(said_by_a(&pair), ["bulk", "snapshot"], "without the answer everything is sent");
    let Some(fence) = pair.a.fence() else { panic!("A owns it") };
    pair.net.retain(|(.., message)| message.kind() == "bulk");
    pair.at(A, Event::Fired(Timer::Freeze(fence.offered)));
    pair.settle(None);
    pair.at(A, PUSH);
    pair.settle(None);
    assert!(is_serving(&pair.b), "{:?}", pair.b.state());
    assert_eq!(said_by_a(&pair), ["bulk", "snapshot", "aborted", "difference", "committed"]);
}

#[test]
fn a_thaw_keeps_the_bulk_and_the_next_try_sends_no_more_than_the_difference() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    pair.deliver(None);
    pair.deliver(None);
    let offered = pair.a.fence().map(|fence| fence.offered).expect("A owns it");
    pair.net.clear();
    pair.at(A, Event::Fired(Timer::Freeze(offered)));
    pair.net.clear();
    pair.number(A, 7);
    pair.at(A, PUSH);
    pair.settle(None);
    assert_eq!(said_by_a(&pair), ["bulk", "difference", "aborted", "difference", "committed"]);
    assert_eq!(pair.b.record().map(|record| record.state.len()), Some(BULK_MIN_BYTES));
}

#[test]
fn much_that_changed_since_the_bulk_goes_ahead_again() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    pair.deliver(None);
    pair.deliver(None);
    let offered = pair.a.fence().map(|fence| fence.offered).expect("A owns it");
    pair.net.clear();
    pair.at(A, Event::Fired(Timer::Freeze(offered)));
    pair.net.clear();
    set_state(&mut pair, 2);
    pair.at(A, PUSH);
    assert!(is_serving(&pair.a), "a new bulk first");
    pair.settle(None);
    assert_eq!(pair.b.record().map(|record| record.state[0]), Some(2));
}

#[test]
fn a_difference_that_finds_no_bulk_is_answered_lacking_and_everything_is_sent_within_the_freeze() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    pair.deliver(None);
    pair.deliver(None);
    pair.shelves.clear();
    pair.settle(None);
    assert!(is_serving(&pair.b), "{:?}", pair.b.state());
    assert_eq!(said_by_a(&pair), ["bulk", "difference", "snapshot", "committed"]);
    let late = PeerMessage::Lacking { session: S, handover: handover(3) };
    assert_eq!(pair.peer(B, A, late), [], "an echo of a try that is over");
}

#[test]
fn a_refused_bulk_is_followed_by_everything() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    let bulk = bulk_under_way(&pair);
    pair.net.clear();
    pair.peer(B, A, PeerMessage::BulkRefused { session: S, bulk });
    assert_eq!(said_by_a(&pair), ["bulk", "snapshot"]);
}

#[test]
fn answers_to_other_bulks_of_other_hubs_are_not_ours() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    let bulk = bulk_under_way(&pair);
    let before = pair.a.clone();
    pair.peer(HubId(0xc), A, PeerMessage::BulkHeld { session: S, bulk });
    pair.peer(B, A, PeerMessage::BulkHeld { session: S, bulk: bulk.next() });
    pair.at(A, Event::Fired(Timer::BulkWait(bulk.next())));
    assert_eq!(pair.a, before);
}

#[test]
fn a_doubled_difference_is_held_twice_and_its_echo_after_go_live_says_nothing() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    pair.deliver(None);
    pair.deliver(None);
    let (from, to, difference) = pair.net.front().cloned().expect("the difference");
    pair.deliver(None);
    pair.shelves.clear();
    assert!(says(&pair.peer(from, to, difference.clone()), "held"), "the copy is here, whatever became of the bulk");
    pair.settle(None);
    assert_eq!(pair.peer(from, to, difference), []);
}

#[test]
fn a_successor_that_is_gone_while_its_bulk_is_under_way_takes_the_bulk_along() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    pair.at(A, Event::PeerGone { hub: B });
    assert!(is_serving(&pair.a));
    assert_eq!(pair.told(A, Outcome::Thawed { blocked: false }), 1, "the drain tries another");
    pair.net.clear();
    pair.at(A, PUSH);
    assert_eq!(said_by_a(&pair), ["bulk", "bulk"], "its new run has nothing");
}

#[test]
fn a_client_that_comes_back_while_the_bulk_of_its_claim_is_under_way_is_served_where_it_is() {
    let mut pair = heavy();
    pair.claim(CLAIM, hello(1, 2, 0));
    let actions = pair.at(A, Event::Hello { conn: LATER, hello: hello(1, 3, 0), leaving: None });
    assert!(welcome(&actions).is_some(), "{actions:?}");
    assert_eq!(pair.told(A, Outcome::Thawed { blocked: false }), 1);
    pair.settle(None);
    assert!(is_serving(&pair.a), "the answer to the bulk freezes nothing any more");
    assert_eq!(pair.a.successor(), None);
}

/// Who is told that it began asks at once to whom: the drain counts the move from there, not from the freeze.
#[test]
fn a_handover_that_began_names_its_successor_with_a_bulk_and_without() {
    for mut pair in [heavy(), Pair::new()] {
        let told = pair.at(A, PUSH);
        assert!(told.contains(&Action::Told(Outcome::Began)), "{told:?}");
        assert_eq!(pair.a.successor(), Some(B));
    }
}

#[test]
fn a_claim_that_is_repeated_while_its_bulk_is_under_way_changes_nothing() {
    let mut pair = heavy();
    pair.claim(CLAIM, hello(1, 2, 0));
    let before = pair.a.clone();
    assert_eq!(pair.claim(CLAIM, hello(1, 2, 0)), []);
    assert_eq!(pair.a, before);
}

#[test]
fn a_claim_of_another_hub_turns_a_session_whose_bulk_is_under_way() {
    const C: HubId = HubId(0xc);
    let mut pair = heavy();
    pair.at(A, PUSH);
    let bulk = bulk_under_way(&pair);
    let versions = SNAPSHOT_VERSIONS.to_vec();
    let claim = PeerMessage::Claim { session: S, claim: CLAIM, hello: hello(1, 2, 0), versions, orphaned: false };
    pair.peer(C, A, claim);
    assert_eq!(pair.a.successor(), Some(C));
    pair.peer(B, A, PeerMessage::BulkHeld { session: S, bulk });
    assert!(is_serving(&pair.a), "the first bulk was for nothing");
    let began = pair.told(A, Outcome::Began);
    assert_eq!((began, pair.told(A, Outcome::Thawed { blocked: false })), (2, 1), "each begin has its end");
}

#[test]
fn a_client_that_comes_to_the_hub_that_it_is_pushed_to_needs_no_second_bulk() {
    let mut pair = heavy();
    let waiting = (NEW, hello(1, 2, 0));
    pair.at(A, PUSH);
    pair.claim(CLAIM, waiting.1);
    pair.settle(Some(waiting));
    assert_eq!(pair.b.counted(), Some(NEW));
    assert_eq!(said_by_a(&pair), ["bulk", "difference", "committed"]);
}

#[test]
fn a_session_is_parked_even_while_its_bulk_is_under_way() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    let actions = pair.at(A, Event::Park);
    assert!(actions.contains(&Action::Write), "{actions:?}");
    pair.at(A, Event::WriteFailed);
    pair.settle(None);
    assert!(is_serving(&pair.a), "and the late answer moves nothing");
}

#[test]
fn an_old_bulk_is_not_counted_on() {
    let mut pair = heavy();
    pair.at(A, PUSH);
    let bulk = bulk_under_way(&pair);
    pair.at(A, Event::Fired(Timer::BulkReuse(bulk)));
    assert_eq!(pair.a.successor(), Some(B), "but one that is awaited is not old");
    pair.deliver(None);
    pair.deliver(None);
    pair.at(A, Event::Fired(Timer::BulkReuse(bulk)));
    pair.net.clear();
    let offered = pair.a.fence().map(|fence| fence.offered).expect("A owns it");
    pair.at(A, Event::Fired(Timer::Freeze(offered)));
    pair.at(A, PUSH);
    assert_eq!(said_by_a(&pair), ["bulk", "difference", "aborted", "bulk"]);
}
