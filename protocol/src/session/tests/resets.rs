use super::*;

fn given() -> Pair {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.deliver(None);
    pair.net.clear();
    assert!(matches!(pair.a.state(), State::Given { .. }));
    pair
}

fn resets(actions: &[Action<u8>]) -> Option<&Record<u8>> {
    actions.iter().find_map(|action| match action {
        Action::Reset { record, .. } => Some(&**record),
        _ => None,
    })
}

#[test]
fn a_successor_that_lost_it_leads_to_a_reset_from_the_kept_data_and_never_to_a_second_owner() {
    let mut pair = Pair::new();
    pair.a.record_mut(false).expect("serving").state = b"cart".to_vec();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    pair.net.clear();
    // B came back with nothing.
    pair.b = Session::unknown(S, B);
    pair.at(A, Event::Fired(Timer::Repeat(Generation(2), 0)));
    pair.settle(None);
    assert_eq!(pair.told(A, Outcome::SuccessorLost), 1);
    assert!(!pair.a.is_owner(), "never to a guess");
    assert!(!pair.a.answers_hello(), "a third hub may know more: ask first");
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    let record = resets(&actions).expect("rule 14's reset at once");
    assert_eq!((record.epoch, record.state.as_slice()), (Epoch(2), b"cart".as_slice()));
    assert!(matches!(pair.a.state(), State::Ended { .. }));
}

#[test]
fn a_claim_on_kept_data_of_a_lost_session_is_answered_with_what_is_left() {
    let mut pair = given();
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    assert!(says(&actions, "refused"), "its successor may well be alive: {actions:?}");
    pair.at(A, Event::PeerGone { hub: B });
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    assert!(says(&actions, "reset_from"), "{actions:?}");
}

#[test]
fn an_orphaned_client_is_reset_from_a_copy_and_the_owner_that_learns_it_ends_the_session() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    let actions = pair.at(B, Event::Orphaned { conn: NEW, hello: hello(1, 2, 0) });
    assert!(resets(&actions).is_some(), "{actions:?}");
    assert_eq!(pair.told(B, Outcome::Left(Left::Replaced)), 0, "a copy was never counted here");
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    let actions = pair.peer(B, A, PeerMessage::Replaced { session: S });
    assert!(matches!(pair.a.state(), State::Ended { .. }));
    assert!(actions.contains(&Action::Told(Outcome::Left(Left::Replaced))));
}

#[test]
fn a_copy_that_was_reset_before_it_went_live_is_never_called_live() {
    let mut pair = given();
    pair.at(B, Event::Orphaned { conn: NEW, hello: hello(1, 2, 0) });
    let actions = pair.peer(A, B, PeerMessage::Committed { session: S, handover: handover(2) });
    assert!(says(&actions, "lost"), "it must not count as moved: {actions:?}");
}

#[test]
fn a_reset_is_refused_to_a_token_that_a_later_one_made_void() {
    let mut pair = Pair::new();
    let serial = pair.a.issue().expect("serving");
    pair.at(A, Event::Hello { conn: NEW, hello: hello(serial, 2, 0), leaving: None });
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    pair.at(A, Event::PeerGone { hub: B });
    let actions = pair.at(A, Event::Hello { conn: LATER, hello: hello(1, 3, 0), leaving: None });
    assert_eq!(closed(&actions, LATER), Some(Close::TokenReuse));
}

#[test]
fn a_copy_is_dropped_after_its_time_to_live_and_its_predecessor_is_told_lost() {
    let mut pair = given();
    pair.at(B, Event::Fired(Timer::CopyTtl(Generation(2))));
    assert_eq!(pair.b.state(), &State::Moved { to: A, generation: Generation(2) });
    pair.at(A, Event::Fired(Timer::Repeat(Generation(2), 0)));
    pair.settle(None);
    assert!(matches!(pair.a.state(), State::Given { successor_gone: true, .. }));
}

#[test]
fn a_copy_that_ran_out_leaves_its_generation_so_that_an_old_snapshot_never_comes_to_life() {
    let mut pair = Pair::new();
    let actions = pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    let old = actions.iter().find_map(|action| match action {
        Action::Say(_, message @ PeerMessage::Snapshot { .. }) => Some(message.clone()),
        _ => None,
    });
    let old = old.expect("a push sends a snapshot");
    pair.settle(None);
    pair.at(B, Event::Push { to: A, version: SNAPSHOT_VERSION });
    pair.settle(None);
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.net.clear();
    pair.at(B, Event::Fired(Timer::CopyTtl(Generation(4))));
    assert_eq!(pair.peer(A, B, old), [], "generation 2 is long past");
    pair.peer(A, B, PeerMessage::Committed { session: S, handover: handover(2) });
    assert!(!pair.b.is_owner() && pair.a.is_owner(), "two owners: {:?}", pair.b.state());
}

#[test]
fn a_copy_whose_waiting_client_was_accepted_by_the_owner_keeps_it_when_the_next_try_arrives() {
    let mut pair = Pair::new();
    let first = hello(1, 2, 0);
    pair.claim(CLAIM, first);
    pair.deliver(Some((NEW, first)));
    pair.net.clear();
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.net.retain(|(.., message)| message.kind() == "snapshot");
    pair.settle(None);
    let welcomed =
        pair.done.iter().any(|(hub, action)| *hub == B && matches!(action, Action::Welcome { conn: NEW, .. }));
    assert!(welcomed, "the owner accepted this very hello: {:?}", pair.done);
}

#[test]
fn a_connection_waits_at_a_copy_for_a_limited_time() {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    let actions = pair.at(B, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    assert_eq!(actions, [Action::Arm(Timer::CopyWait(NEW), COPY_WAIT_MS)]);
    let actions = pair.at(B, Event::Fired(Timer::CopyWait(NEW)));
    assert!(matches!(actions[..], [Action::Retry { conn: NEW, .. }]), "{actions:?}");
}

#[test]
fn an_aborted_try_sends_the_waiting_connection_away_with_retry() {
    let mut pair = Pair::new();
    let first = hello(1, 2, 0);
    pair.claim(CLAIM, first);
    pair.deliver(Some((NEW, first)));
    let actions = pair.peer(A, B, PeerMessage::Aborted { session: S, handover: handover(2) });
    assert!(matches!(actions[..], [Action::Retry { conn: NEW, .. }, Action::ApplyCalls]), "{actions:?}");
}

#[test]
fn a_hub_that_knows_nothing_does_not_call_a_held_copy_aborted() {
    let mut pair = given();
    pair.a = Session::unknown(S, A);
    let actions = pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    assert_eq!(actions, [], "its earlier run may have committed: the copy is all that is left for a reset");
}
