//! What the kitchen promises a hub about a session that comes, leaves and comes back.

use super::*;

fn kitchen() -> Arc<Guests> {
    Arc::new(Guests::new(8))
}

fn bringing(table: Table) -> Arrival {
    Arrival { hub: Some("h1".to_owned()), table: Some(table), ..Arrival::default() }
}

fn orders(serving: &Serving) -> Vec<String> {
    let view = serving.with(|table, now_ms| table.board.pack(now_ms)).expect("this socket serves the session");
    view.tickets.into_iter().map(|ticket| ticket.order).collect()
}

fn order(serving: &Serving, dish: &str) {
    serving.with(|table, now_ms| table.board.order(dish, now_ms)).expect("this socket serves").expect("room");
}

#[tokio::test]
async fn moving_waits_for_the_socket_and_then_gives_the_state_away() {
    let here = kitchen();
    here.opened("s", (1, 1), None).expect("room");
    let (serving, known) = here.serve("s").expect("room");
    assert!(known, "opened came first");
    let moving = tokio::spawn({
        let here = Arc::clone(&here);
        async move { here.moving("s", (1, 2)).await }
    });
    order(&serving, "soup");
    drop(serving);
    let state = moving.await.expect("no panic").expect("the socket is closed");

    let there = kitchen();
    there.resumed("s", (1, 3), bringing(Table::unpack(&state, there.now_ms()).expect("our bytes"))).expect("room");
    let (serving, known) = there.serve("s").expect("room");
    assert!(known, "the state came before the socket");
    assert_eq!(orders(&serving), ["soup"], "the order that came before the close is in the state");
}

#[tokio::test]
async fn a_socket_that_is_not_closed_keeps_the_session_here() {
    let here = kitchen();
    let (serving, _) = here.serve("s").expect("room");
    order(&serving, "soup");
    assert_eq!(here.moving("s", (1, 1)).await, Err(StillServed));
    assert_eq!(orders(&serving), ["soup"], "nothing has changed");
}

#[tokio::test]
async fn a_repeated_moving_gets_the_same_bytes() {
    let here = kitchen();
    let (serving, _) = here.serve("s").expect("room");
    order(&serving, "soup");
    drop(serving);
    let once = here.moving("s", (1, 4)).await.expect("nobody serves it");
    assert!(!once.is_empty());
    assert_eq!(here.moving("s", (1, 4)).await.expect("nobody serves it"), once);
}

#[tokio::test]
async fn a_session_that_comes_back_after_a_failed_handover_has_its_tickets_with_or_without_state() {
    for with_state in [true, false] {
        let here = kitchen();
        let (serving, _) = here.serve("s").expect("room");
        order(&serving, "soup");
        drop(serving);
        let state = here.moving("s", (1, 4)).await.expect("nobody serves it");
        let table = with_state.then(|| Table::unpack(&state, here.now_ms()).expect("our bytes"));
        here.resumed("s", (1, 5), Arrival { table, ..Arrival::default() }).expect("room");
        let (serving, _) = here.serve("s").expect("room");
        assert_eq!(orders(&serving), ["soup"], "with_state: {with_state}");
    }
}

#[tokio::test]
async fn a_repeated_resumed_does_not_undo_what_came_after_it() {
    let here = kitchen();
    here.resumed("s", (1, 5), bringing(Table::default())).expect("room");
    let (serving, _) = here.serve("s").expect("room");
    order(&serving, "soup");
    here.resumed("s", (1, 5), bringing(Table::default())).expect("room");
    here.opened("s", (1, 1), None).expect("room");
    assert_eq!(orders(&serving), ["soup"]);
}

#[tokio::test]
async fn a_session_may_leave_and_return_even_when_the_other_hub_counted_its_events_anew() {
    let here = kitchen();
    here.opened("s", (1, 1), None).expect("room");
    here.moving("s", (1, 7)).await.expect("nobody serves it");
    let mut table = Table::default();
    table.board.order("pasta", 0).expect("room");
    here.resumed("s", (1, 2), bringing(table)).expect("room");
    let (serving, _) = here.serve("s").expect("room");
    assert_eq!(orders(&serving), ["pasta"], "what it did elsewhere counts, not what was packed here");
}

#[tokio::test]
async fn a_socket_that_was_lost_does_not_bring_back_an_older_table() {
    let here = kitchen();
    here.resumed("s", (1, 1), bringing(Table::default())).expect("room");
    let (serving, _) = here.serve("s").expect("room");
    order(&serving, "soup");
    drop(serving);
    let lost = || Arrival { brought: Brought::Older, ..bringing(Table::default()) };
    here.resumed("s", (1, 2), lost()).expect("room");
    let (serving, _) = here.serve("s").expect("room");
    assert_eq!(orders(&serving), ["soup"], "the table here is newer than what the hub was last given");

    let anew = kitchen();
    anew.resumed("s", (1, 2), lost()).expect("room");
    let (_serving, known) = anew.serve("s").expect("room");
    assert!(known, "a kitchen that was started anew has nothing better than the table that the hub brings");
}

#[tokio::test]
async fn a_newer_socket_takes_the_table_and_the_older_one_notices() {
    let here = kitchen();
    let (old, _) = here.serve("s").expect("room");
    order(&old, "soup");
    let changed = old.changed();
    let (new, _) = here.serve("s").expect("room");
    changed.await;
    assert_eq!(old.with(|_, _| ()), None, "the older socket has lost the session");
    drop(old);
    assert_eq!(orders(&new), ["soup"], "the end of the older one takes nothing away");
}

#[tokio::test]
async fn an_ended_session_is_forgotten_and_a_full_kitchen_says_its_limit() {
    let here = Arc::new(Guests::new(1));
    here.opened("a", (1, 1), None).expect("room");
    assert_eq!(here.opened("b", (1, 1), None), Err(Full { max: 1 }));
    assert!(here.serve("b").is_err());
    here.ended("a");
    assert!(here.is_empty());
    here.opened("b", (1, 1), None).expect("there is room again");
}

#[tokio::test]
async fn a_session_that_nobody_knows_has_no_state() {
    assert_eq!(kitchen().moving("stranger", (1, 1)).await, Ok(Bytes::new()));
}

#[tokio::test]
async fn a_session_that_comes_back_without_its_state_is_not_passed_off_as_known() {
    let here = kitchen();
    here.resumed("s", (1, 5), Arrival::default()).expect("nothing to do");
    let (_serving, known) = here.serve("s").expect("room");
    assert!(!known, "nobody brought the tickets");
}
