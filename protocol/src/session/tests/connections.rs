use super::*;

#[test]
fn a_takeover_closes_the_displaced_connection_for_good_and_fixes_received_in_the_same_step() {
    let mut pair = Pair::new();
    pair.a.receive(OLD, 9);
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    assert_eq!(closed(&actions, OLD), Some(Close::Displaced));
    assert_eq!(closed(&actions, OLD).map(Close::code), Some(4513));
    assert_eq!(welcome(&actions), Some((NEW, Offset(0), Offset(1))));
    assert_eq!(pair.a.receive(OLD, 8), Receipt::Deaf);
    assert_eq!(pair.a.receive(NEW, 8), Receipt::Counted);
}

#[test]
fn a_hello_that_is_refused_changes_nothing_for_the_connection_at_work() {
    let mut pair = Pair::new();
    let before = pair.a.clone();
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 1, 0), leaving: None });
    assert_eq!(closed(&actions, NEW), Some(Close::TokenReuse), "try 1 was seen");
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(2, 2, 0), leaving: None });
    assert_eq!(closed(&actions, NEW), Some(Close::TokenReuse), "serial 2 was never issued");
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 1), leaving: None });
    assert_eq!(closed(&actions, NEW), Some(Close::ProtocolError), "nothing was ever sent");
    assert_eq!(pair.a, before);
}

#[test]
fn using_a_token_voids_the_older_ones_and_itself_stays_good() {
    let mut pair = Pair::new();
    let serial = pair.a.issue().expect("a serving session issues tokens");
    pair.at(A, Event::Hello { conn: NEW, hello: hello(serial, 2, 0), leaving: None });
    let actions = pair.at(A, Event::Hello { conn: LATER, hello: hello(1, 3, 0), leaving: None });
    assert_eq!(closed(&actions, LATER), Some(Close::TokenReuse));
    let actions = pair.at(A, Event::Hello { conn: LATER, hello: hello(serial, 4, 0), leaving: None });
    assert!(welcome(&actions).is_some(), "the welcome with the next token may have been lost: {actions:?}");
}

#[test]
fn what_was_not_acked_comes_again_on_the_next_connection_from_the_clients_own_place() {
    let mut pair = Pair::new();
    for message in 1..=3 {
        pair.number(A, message);
    }
    pair.pump(A, OLD);
    pair.at(A, Event::Acked { conn: OLD, received: Offset(1) });
    pair.at(A, Event::ConnectionLost { conn: OLD });
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 2), leaving: None });
    assert_eq!(welcome(&actions), Some((NEW, Offset(2), Offset(0))));
    assert_eq!(pair.pump(A, NEW), [Item::Message(3)]);
}

#[test]
fn an_ack_of_what_came_on_the_old_connection_is_good_before_it_came_on_the_new_one() {
    let mut pair = Pair::new();
    pair.number(A, 1);
    pair.pump(A, OLD);
    pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    let actions = pair.at(A, Event::Acked { conn: NEW, received: Offset(1) });
    assert_eq!(closed(&actions, NEW), None, "the client read it on the old connection, after its hello");
    assert_eq!(pair.pump(A, NEW), [Item::Message(1)], "a position cannot skip: the client drops what it knows");
    assert_eq!(pair.a.record().map(|record| record.outbox.base()), Some(Offset(1)), "and then it is forgotten");
}

#[test]
fn what_was_acked_between_hello_and_welcome_is_neither_sent_again_nor_called_a_gap() {
    let mut pair = Pair::new();
    pair.number(A, 1);
    pair.pump(A, OLD);
    let late = hello(1, 2, 0);
    pair.at(A, Event::Acked { conn: OLD, received: Offset(1) });
    pair.claim(CLAIM, late);
    pair.settle(Some((NEW, late)));
    assert_eq!(pair.number(B, 2), Some(Offset(2)));
    assert_eq!(pair.pump(B, NEW), [Item::Message(2)]);
}

#[test]
fn an_ack_of_what_was_never_sent_closes_the_connection_and_keeps_the_session() {
    let mut pair = Pair::new();
    let actions = pair.at(A, Event::Acked { conn: OLD, received: Offset(1) });
    assert_eq!(closed(&actions, OLD), Some(Close::ProtocolError));
    assert!(matches!(pair.a.state(), State::Serving { link: Link::Detached, .. }));
}

#[test]
fn a_message_is_acked_only_once_the_app_has_taken_it() {
    let mut pair = Pair::new();
    pair.a.receive(OLD, 9);
    assert_eq!(pair.a.record().map(Record::taken), Some(Offset(0)));
    pair.at(A, Event::Taken);
    assert_eq!(pair.a.record().map(Record::taken), Some(Offset(1)));
}

#[test]
fn a_full_outbox_gives_a_declared_gap_and_never_silence() {
    let mut pair = Pair::new();
    for message in 0..10 {
        pair.number(A, message);
    }
    let items = pair.pump(A, OLD);
    assert_eq!(items[..2], [Item::Gap { from: Offset(0), to: Offset(2) }, Item::Message(2)]);
}

#[test]
fn only_the_counted_connection_can_end_the_session() {
    let mut pair = Pair::new();
    pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: None });
    pair.at(A, Event::Bye { conn: OLD });
    assert!(matches!(pair.a.state(), State::Serving { .. }), "the displaced one is deaf");
    pair.at(A, Event::Bye { conn: NEW });
    assert!(matches!(pair.a.state(), State::Ended { .. }));
    assert_eq!(pair.told(A, Outcome::Left(Left::Ended)), 1);
}

#[test]
fn a_leaving_hub_sends_an_open_client_away_each_time_until_its_drain_says_that_it_stays() {
    let mut pair = Pair::new();
    for attempt in 2..24 {
        let open = HelloFacts { old: Old::Open, ..hello(1, attempt, 0) };
        let actions = pair.at(A, Event::Hello { conn: NEW, hello: open, leaving: Some(100) });
        assert!(
            actions.iter().any(|action| matches!(action, Action::Retry { conn: NEW, why: "other_hub", after_ms: 100 })),
            "{actions:?}"
        );
        assert_eq!(closed(&actions, OLD), None, "the old connection stays the connection");
    }
    assert_eq!(pair.told(A, Outcome::Bounced), 22, "each is told to the drain, which counts them");
    let open = HelloFacts { old: Old::Open, ..hello(1, 24, 0) };
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: open, leaving: None });
    assert!(welcome(&actions).is_some(), "{actions:?}");
}

#[test]
fn a_leaving_hub_resumes_a_client_whose_connection_is_lost_at_once() {
    let mut pair = Pair::new();
    let actions = pair.at(A, Event::Hello { conn: NEW, hello: hello(1, 2, 0), leaving: Some(100) });
    assert_eq!(welcome(&actions), Some((NEW, Offset(0), Offset(0))));
}

#[test]
fn numbers_at_their_end_stay_there_and_never_begin_anew() {
    use crate::session::record::{Profile, Tokens};
    let mut record = Record::<u8>::new(Epoch(u32::MAX), Profile::default());
    record.outbox = crate::replay::Replay::restored(Offset(u64::MAX), [1, 2]);
    record.untaken.extend([1, 2, 3]);
    record.tokens = Tokens { used: u32::MAX, issued: u32::MAX };
    assert_eq!(record.outbox.end(), Offset(u64::MAX));
    assert_eq!(record.taken(), Offset(0), "no more is untaken than was counted, whatever a record says");
    assert_eq!(record.after_reset().epoch, Epoch(u32::MAX));
    assert_eq!(record.issue(), u32::MAX);
    assert_eq!(crate::position::Generation(u32::MAX).next().0, u32::MAX, "a generation never falls");
}
