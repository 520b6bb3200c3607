use super::*;

#[test]
fn a_parked_session_is_written_before_its_connection_is_closed_with_1012() {
    let mut pair = Pair::new();
    let actions = pair.at(A, Event::Park);
    assert!(actions.contains(&Action::Write) && closed(&actions, OLD).is_none(), "{actions:?}");
    let actions = pair.at(A, Event::Written);
    assert_eq!(closed(&actions, OLD), Some(Close::Restart));
    assert_eq!(pair.told(A, Outcome::Parked), 1);
}

#[test]
fn a_write_error_thaws_and_the_session_goes_on() {
    let mut pair = Pair::new();
    pair.at(A, Event::Park);
    let actions = pair.at(A, Event::WriteFailed);
    assert!(actions.contains(&Action::Told(Outcome::ParkFailed)), "{actions:?}");
    assert_eq!(closed(&actions, OLD), None);
    assert_eq!(pair.a.receive(OLD, 1), Receipt::Counted);
}

#[test]
fn after_parking_every_hello_is_answered_retry_and_a_claim_takes_it_up() {
    let mut pair = Pair::new();
    pair.at(A, Event::Park);
    pair.at(A, Event::Written);
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    assert!(matches!(actions[..], [Action::Retry { conn: NEW, why: "parked", .. }]), "{actions:?}");
    let actions = pair.claim(CLAIM, hello(1, 2, 0));
    assert!(actions.contains(&Action::TakeUp), "{actions:?}");
}

#[test]
fn a_session_that_is_taken_up_has_a_generation_above_all_that_it_offered_and_its_client_resumes() {
    let mut pair = Pair::new();
    pair.number(A, 1);
    pair.at(A, Event::Park);
    let record = Box::new(pair.a.record().expect("frozen").clone());
    pair.at(A, Event::Written);
    let fence = pair.a.fence().expect("parked sessions keep their fence");
    let mut out = Vec::new();
    let mut again = Session::taken_up(S, A, record, fence, &mut out);
    assert!(again.generation() > fence.offered);
    assert!(out.contains(&Action::Bind));
    out.clear();
    again.handle(Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None }, &mut out);
    assert_eq!(welcome(&out), Some((NEW, Offset(0), Offset(0))));
    assert_eq!(again.next_for(NEW), Some(Item::Message(1)));
}

#[test]
fn a_parked_session_that_was_replaced_is_over() {
    let mut pair = Pair::new();
    pair.at(A, Event::Park);
    pair.at(A, Event::Written);
    pair.peer(B, A, PeerMessage::Replaced { session: S });
    assert!(
        matches!(pair.a.state(), State::Ended { .. }),
        "it must not come back beside the new one: {:?}",
        pair.a.state()
    );
}
