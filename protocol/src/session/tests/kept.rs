//! How long the data of a session that was given away is kept (rules 8 and 14, and an end to waiting).

use super::*;

/// A gave the session to B and has not heard `live`.
fn given() -> Pair {
    let mut pair = Pair::new();
    pair.at(A, Event::Push { to: B, version: SNAPSHOT_VERSION });
    pair.deliver(None);
    pair.deliver(None);
    pair.net.clear();
    assert!(matches!(pair.a.state(), State::Given { .. }));
    pair
}

#[test]
fn data_that_nobody_confirmed_is_kept_for_a_limited_time_and_leaves_a_tombstone_that_shows_the_way() {
    let mut pair = given();
    let armed = |(at, action): &(HubId, Action<u8>)| {
        *at == A && matches!(action, Action::Arm(Timer::Kept(Generation(2)), KEPT_MS))
    };
    assert!(pair.done.iter().any(armed), "{:?}", pair.done);
    pair.at(A, Event::Fired(Timer::Kept(Generation(1))));
    assert!(pair.a.record().is_some(), "a timer of an earlier handover");
    pair.at(A, Event::Fired(Timer::Kept(Generation(2))));
    assert_eq!(pair.a.state(), &State::Moved { to: B, generation: Generation(2) });
    assert_eq!(pair.told(A, Outcome::NeverConfirmed(B)), 1);
    assert_eq!(pair.told(A, Outcome::Live(B)), 0, "nobody said so, so it does not count as moved");
}

#[test]
fn kept_data_of_a_session_that_its_successor_lost_ends_with_it() {
    let mut pair = given();
    pair.at(A, Event::PeerGone { hub: B });
    pair.at(A, Event::Fired(Timer::Kept(Generation(2))));
    assert!(matches!(pair.a.state(), State::Ended { .. }), "{:?}", pair.a.state());
    assert_eq!(pair.told(A, Outcome::Left(Left::Expired)), 1);
}

#[test]
#[allow(clippy::assertions_on_constants, reason = "the limits stand in constants, and so does their order")]
fn kept_data_outlives_a_copy_and_a_clients_wait_for_a_lost_owner() {
    const ORPHAN_AFTER_MS: u64 = 30_000;
    assert!(KEPT_MS > COPY_TTL_MS && KEPT_MS > 2 * ORPHAN_AFTER_MS);
}
