use super::*;

#[test]
fn a_claimed_session_is_welcomed_at_the_claimant_with_nothing_lost_and_counts_as_moved_after_live() {
    let mut pair = Pair::new();
    pair.number(A, 1);
    pair.a.receive(OLD, 9);
    pair.claim(CLAIM, hello(1, 2, 0));
    let waiting = Some((NEW, hello(1, 2, 0)));
    assert_eq!(pair.deliver(waiting).map(|message| message.kind()), Some("snapshot"));
    assert!(matches!(pair.b.state(), State::Copy { .. }), "held inert until committed");
    assert_eq!(pair.deliver(None).map(|message| message.kind()), Some("held"));
    assert_eq!(pair.told(A, Outcome::Live(B)), 0, "committed is not moved yet");
    pair.settle(None);
    assert_eq!(pair.told(A, Outcome::Live(B)), 1);
    let welcomes: Vec<_> = pair.done.iter().filter(|(_, action)| matches!(action, Action::Welcome { .. })).collect();
    assert!(
        matches!(
            welcomes[..],
            [(B, Action::Welcome { conn: NEW, from: Offset(0), received: Offset(1), resumed: true, .. })]
        ),
        "{welcomes:?}"
    );
    assert_eq!(pair.pump(B, NEW), [Item::Message(1)]);
    assert_eq!(pair.b.record().map(|record| record.untaken.clone()), Some(VecDeque::from([9])), "untaken ones travel");
    assert_eq!(pair.a.state(), &State::Moved { to: B, generation: Generation(2) });
}

#[test]
fn commit_makes_the_old_connection_deaf_and_its_last_words_are_move_and_1012() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    let actions = pair.peer(B, A, PeerMessage::Held { session: S, handover: handover(2) });
    let at = |wanted: fn(&Action<u8>) -> bool| actions.iter().position(wanted);
    let order = (
        at(|action| matches!(action, Action::LastMove { conn: OLD, to: B, .. })),
        at(|action| matches!(action, Action::Close { conn: OLD, .. })),
    );
    assert!(matches!(order, (Some(last_move), Some(close)) if last_move < close), "{actions:?}");
    assert_eq!(closed(&actions, OLD), Some(Close::Restart));
    assert_eq!(pair.a.receive(OLD, 7), Receipt::Deaf);
}

#[test]
fn the_token_of_the_last_move_is_known_to_the_successor() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    pair.settle(None);
    let serial = pair.done.iter().find_map(|(_, action)| match action {
        Action::LastMove { serial, .. } => Some(*serial),
        _ => None,
    });
    let serial = serial.expect("commit sends a last move");
    let actions = pair.at(B, Event::Hello { conn: LATER, hello: hello(serial, 3, 0), leaving: None });
    assert_eq!(welcome(&actions), Some((LATER, Offset(0), Offset(0))));
}

#[test]
fn a_frozen_owner_reads_nothing_from_the_old_connection_and_gives_it_nothing() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    assert_eq!(pair.a.receive(OLD, 7), Receipt::Hold);
    assert_eq!(pair.a.record().map(|record| record.received), Some(Offset(0)));
    assert_eq!(pair.number(A, 1), None, "a call waits unnumbered");
    assert_eq!(pair.a.place(), Place::Wait);
}

#[test]
fn a_repeated_claim_sends_the_snapshot_of_this_freeze_again_and_never_starts_another() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    let before = pair.a.clone();
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    assert!(
        matches!(actions[..], [Action::Say(B, PeerMessage::Snapshot { handover, .. })] if handover.generation == Generation(2)),
        "{actions:?}"
    );
    assert_eq!(pair.a, before);
}

#[test]
fn a_repeated_claim_after_a_thaw_never_reenters_the_old_freeze_and_is_told_busy() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    pair.at(A, Event::Fired(Timer::Freeze(Generation(2))));
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    assert!(
        matches!(actions[..], [Action::Say(B, PeerMessage::Refused { why: Refusal::Busy, .. })]),
        "a doubled claim is no thief: {actions:?}"
    );
    assert!(matches!(pair.a.state(), State::Serving { .. }));
}

#[test]
fn a_claim_while_another_is_under_way_is_told_busy() {
    let mut pair = Pair::new();
    pair.claim(CLAIM, hello(1, 2, 0));
    let actions = pair.claim(ClaimId(2), hello(1, 3, 0));
    assert!(
        matches!(actions[..], [Action::Say(B, PeerMessage::Refused { claim: ClaimId(2), why: Refusal::Busy, .. })]),
        "{actions:?}"
    );
}

#[test]
fn a_claim_whose_try_is_not_above_the_highest_seen_is_refused_for_good() {
    let mut pair = Pair::new();
    pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 4, 0), leaving: None });
    let actions = pair.claim(CLAIM, hello(1, 3, 0));
    assert!(
        matches!(actions[..], [Action::Say(B, PeerMessage::Refused { why: Refusal::Judged(Verdict::TokenReuse), .. })]),
        "{actions:?}"
    );
    assert!(matches!(pair.a.state(), State::Serving { .. }), "and the session goes on where it was");
}

#[test]
fn a_claimant_that_reads_no_snapshot_version_of_ours_is_refused_without_a_freeze() {
    let mut pair = Pair::new();
    let claim =
        PeerMessage::Claim { session: S, claim: CLAIM, hello: hello(1, 2, 0), versions: vec![99], orphaned: false };
    let actions = pair.peer(B, A, claim);
    assert!(matches!(actions[..], [Action::Say(B, PeerMessage::Refused { why: Refusal::Version, .. })]), "{actions:?}");
}

#[test]
fn a_hub_that_is_not_the_owner_says_what_it_knows() {
    let mut pair = Pair::moved();
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    let why = Refusal::NotOwner(Knowledge::MovedTo(B, Generation(2)));
    assert_eq!(actions, [Action::Say(B, PeerMessage::Refused { session: S, claim: CLAIM, why })]);
}

#[test]
fn a_hub_never_freezes_a_session_to_move_it_to_itself() {
    let mut pair = Pair::new();
    let claim =
        PeerMessage::Claim { session: S, claim: CLAIM, hello: hello(1, 2, 0), versions: vec![1], orphaned: false };
    let actions = pair.peer(A, A, claim);
    assert!(matches!(actions[..], [Action::Say(A, PeerMessage::Refused { why: Refusal::Busy, .. })]), "{actions:?}");
    pair.at(A, Event::Push { to: A, version: SNAPSHOT_VERSION });
    assert!(matches!(pair.a.state(), State::Serving { .. }));
}
