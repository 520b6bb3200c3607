use super::*;

#[test]
fn a_push_moves_a_session_without_a_connection_of_its_client() {
    let mut pair = Pair::new();
    pair.at(A, Event::ConnectionLost { conn: OLD });
    pair.number(A, 1);
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.settle(None);
    assert!(matches!(pair.b.state(), State::Serving { link: Link::Detached, .. }), "{:?}", pair.b.state());
    let actions = pair.at(B, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    assert!(welcome(&actions).is_some());
    assert_eq!(pair.pump(B, NEW), [Item::Message(1)]);
}

#[test]
fn a_thaw_raises_the_generation_above_the_offer_and_the_next_freeze_offers_a_new_one() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    assert_eq!(pair.a.fence(), Some(Fence { generation: Generation(1), offered: Generation(2) }));
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    assert_eq!(pair.a.fence(), Some(Fence { generation: Generation(3), offered: Generation(3) }));
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    assert_eq!(pair.a.fence(), Some(Fence { generation: Generation(3), offered: Generation(4) }));
}

#[test]
fn a_held_for_an_old_freeze_is_answered_aborted_and_its_holder_drops_the_copy() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    let held = pair.net.iter().position(|(.., message)| message.kind() == "held").expect("B said held");
    let (from, to, message) = pair.net.remove(held).expect("it is there");
    let actions = pair.peer(from, to, message);
    assert_eq!(actions, [Action::Say(B, PeerMessage::Aborted { session: S, handover: handover(2) })]);
    assert!(matches!(pair.a.state(), State::Frozen { .. }), "the freeze of now goes on");
    pair.at(B, Event::Peer { from: A, message: PeerMessage::Aborted { session: S, handover: handover(2) } });
    assert_eq!(pair.b.state(), &State::Moved { to: A, generation: Generation(2) });
}

#[test]
fn a_copy_goes_live_on_committed_alone() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.at(B, Event::PeerGone { hub: A });
    pair.at(B, Event::Fired(Timer::CopyTtl(Generation(9))));
    pair.peer(A, B, PeerMessage::Committed { session: S, handover: handover(3) });
    assert!(matches!(pair.b.state(), State::Copy { .. }), "another try's word is not ours: {:?}", pair.b.state());
    assert_eq!(pair.b.receive(NEW, 1), Receipt::Deaf);
    assert_eq!(pair.number(B, 1), None);
    pair.peer(A, B, PeerMessage::Committed { session: S, handover: handover(2) });
    assert!(matches!(pair.b.state(), State::Serving { .. }));
}

#[test]
fn committed_is_repeated_until_live_is_in_and_the_data_is_kept_until_then() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.deliver(None);
    pair.net.clear();
    for tries in 0..7 {
        let actions = pair.at(A, Event::Fired(Timer::Repeat(Generation(2), tries)));
        assert!(
            says(&actions, "committed")
                && actions.iter().any(|action| matches!(action, Action::Arm(Timer::Repeat(..), _))),
            "{actions:?}"
        );
        assert!(pair.a.record().is_some());
    }
    pair.settle(None);
    assert!(pair.a.record().is_none(), "live is in");
    assert_eq!(pair.at(A, Event::Fired(Timer::Repeat(Generation(2), 0))), []);
}

#[test]
fn a_hub_that_would_end_asks_what_became_of_a_copy_and_may_end_once_it_knows() {
    for lost in ["aborted", "committed"] {
        let mut pair = Pair::new();
        pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
        pair.deliver(None);
        assert!(!pair.b.may_end(), "a copy: its owner may have committed it");
        if lost == "aborted" {
            pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
        } else {
            pair.deliver(None);
        }
        pair.net.clear();
        let actions = pair.at(B, Event::AskAgain);
        assert!(says(&actions, "held"), "{actions:?}");
        pair.settle(None);
        assert_eq!((pair.a.is_owner(), pair.b.is_owner()), (lost == "aborted", lost == "committed"));
        assert_eq!(pair.b.may_end(), lost == "aborted", "an owner must hand it on first");
        assert_eq!(pair.at(B, Event::AskAgain), [], "there is nothing to ask");
    }
}

#[test]
fn a_second_committed_is_answered_live_again_whatever_came_of_the_session_since() {
    let mut pair = Pair::moved();
    let committed = PeerMessage::Committed { session: S, handover: handover(2) };
    let actions = pair.peer(A, B, committed.clone());
    assert!(says(&actions, "live"), "{actions:?}");
    pair.at(B, Event::End(Left::Evicted));
    let actions = pair.peer(A, B, committed);
    assert!(says(&actions, "live"), "{actions:?}");
}

#[test]
fn a_late_committed_is_answered_live_by_a_hub_that_gets_the_session_back() {
    const C: HubId = HubId(0xc);
    let mut b = Session::<u8>::unknown(S, B);
    let mut out = Vec::new();
    let back = Handover { from: C, to: B, generation: Generation(4) };
    let record = Box::new(Record::new(Epoch(1), Profile::default()));
    b.handle(Event::Copied { waiting: None, handover: back, record }, &mut out);
    out.clear();
    let committed = PeerMessage::Committed { session: S, handover: handover(2) };
    b.handle(Event::Peer { from: A, message: committed }, &mut out);
    assert!(says(&out, "live"), "only an owner offers, so generation 2 was live before 4: {out:?}");
}

#[test]
fn a_hub_that_dropped_its_copy_never_says_live_for_it() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.peer(A, B, PeerMessage::Aborted { session: S, handover: handover(2) });
    let actions = pair.peer(A, B, PeerMessage::Committed { session: S, handover: handover(2) });
    assert!(says(&actions, "lost"), "{actions:?}");
}

#[test]
fn a_snapshot_that_comes_twice_is_answered_held_twice() {
    let mut pair = Pair::new();
    let actions = pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    let snapshot = actions.iter().find_map(|action| match action {
        Action::Say(_, message @ PeerMessage::Snapshot { .. }) => Some(message.clone()),
        _ => None,
    });
    let snapshot = snapshot.expect("a push sends a snapshot");
    assert!(says(&pair.peer(A, B, snapshot.clone()), "held"));
    assert!(pair.b.holds(handover(2)));
    assert!(says(&pair.peer(A, B, snapshot.clone()), "held"));
    pair.settle(None);
    assert_eq!(pair.peer(A, B, snapshot), [], "an echo after go-live says nothing");
}

#[test]
fn calls_that_wait_at_a_copy_are_not_forgotten_when_it_will_never_go_live() {
    let copy = || {
        let mut pair = Pair::new();
        pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
        pair.deliver(None);
        assert_eq!(pair.b.place(), Place::Wait);
        pair
    };
    let mut aborted = copy();
    let actions = aborted.peer(A, B, PeerMessage::Aborted { session: S, handover: handover(2) });
    assert_eq!((aborted.b.place(), actions), (Place::At(A), vec![Action::ApplyCalls]));
    let mut ended = copy();
    let actions = ended.at(B, Event::Fired(Timer::CopyTtl(Generation(2))));
    assert_eq!((ended.b.place(), actions), (Place::At(A), vec![Action::ApplyCalls]));
    let mut orphaned = copy();
    let actions = orphaned.at(B, Event::PeerGone { hub: A });
    assert_eq!((orphaned.b.place(), actions), (Place::Nowhere, vec![Action::ApplyCalls]));
}

#[test]
fn an_abort_thaws_at_once_and_the_session_goes_on_where_it_was() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    let actions = pair.peer(B, A, PeerMessage::Abort { session: S, handover: handover(2) });
    assert!(actions.contains(&Action::Bind) && actions.contains(&Action::ApplyCalls), "{actions:?}");
    assert_eq!(pair.a.receive(OLD, 1), Receipt::Counted);
    assert_eq!(
        pair.peer(B, A, PeerMessage::Abort { session: S, handover: handover(2) }),
        [],
        "a doubled one is nothing"
    );
}

#[test]
fn an_abort_after_commit_changes_nothing() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    pair.peer(B, A, PeerMessage::Abort { session: S, handover: handover(2) });
    assert!(matches!(pair.a.state(), State::Given { .. }));
}

#[test]
fn the_limit_of_a_freeze_doubles_with_each_failure_and_the_third_reports_the_session_as_blocked() {
    let mut pair = Pair::new();
    let mut limits_ms = Vec::new();
    for _ in 0..3 {
        let actions = pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
        let (timer, ms) = actions
            .iter()
            .find_map(|action| match action {
                Action::Arm(timer @ Timer::Freeze(_), ms) => Some((*timer, *ms)),
                _ => None,
            })
            .expect("a freeze has a limit");
        limits_ms.push(ms);
        pair.at(A, Event::Fired(timer));
    }
    assert_eq!(limits_ms, [250, 500, 1000]);
    assert_eq!(
        (pair.told(A, Outcome::Thawed { blocked: false }), pair.told(A, Outcome::Thawed { blocked: true })),
        (2, 1)
    );
}

#[test]
fn the_limit_of_an_old_freeze_does_not_end_the_freeze_of_now() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.peer(B, A, PeerMessage::Abort { session: S, handover: handover(2) });
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    assert!(matches!(pair.a.state(), State::Frozen { .. }));
}

#[test]
fn a_successor_that_is_gone_while_it_is_offered_the_session_thaws_it() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.at(A, Event::PeerGone { hub: B });
    assert!(matches!(pair.a.state(), State::Serving { .. }));
}

#[test]
fn an_eviction_of_a_frozen_session_ends_it_and_its_copy_is_dropped() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    let actions = pair.at(A, Event::End(Left::Evicted));
    assert_eq!(closed(&actions, OLD), Some(Close::Evicted));
    pair.settle(None);
    assert!(matches!(pair.b.state(), State::Moved { .. }), "{:?}", pair.b.state());
    assert_eq!(pair.told(A, Outcome::Left(Left::Evicted)), 1);
}

#[test]
fn calls_for_a_moved_session_are_passed_on_to_its_successor() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    let actions = pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    assert!(actions.contains(&Action::ForwardCalls(B)));
    assert_eq!(pair.a.place(), Place::At(B));
    pair.settle(None);
    assert_eq!((pair.a.place(), pair.b.place()), (Place::At(B), Place::Here));
}

#[test]
fn a_snapshot_from_the_successor_proves_that_it_was_live_there() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.deliver(None);
    pair.net.retain(|(.., message)| message.kind() == "committed");
    pair.deliver(None);
    pair.net.clear();
    pair.at(B, Event::Push { to: A, version: SNAPSHOT_VERSION });
    pair.settle(None);
    assert!(matches!(pair.a.state(), State::Serving { .. }), "it came back: {:?}", pair.a.state());
    assert_eq!(pair.told(A, Outcome::Live(B)), 1, "although `live` was lost");
    assert_eq!(pair.a.generation(), Generation(3));
}
