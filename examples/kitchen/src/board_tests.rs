//! What the board promises its guests.

use super::*;

fn steps(board: &Board, now_ms: u64) -> Vec<(u32, Step, u32)> {
    board.pack(now_ms).tickets.into_iter().map(|ticket| (ticket.id, ticket.state, ticket.remaining_ms)).collect()
}

#[test]
fn the_first_two_orders_cook_at_once_and_the_third_waits() {
    let mut board = Board::default();
    for dish in ["soup", "pasta", "bread"] {
        board.order(dish, 1_000).expect("the board has room");
    }
    assert_eq!(steps(&board, 1_000), [(1, Step::Cooking, 7_000), (2, Step::Cooking, 9_000), (3, Step::Queued, 4_000)]);
    assert_eq!(board.next_due_ms(), Some(8_000), "the soup is ready first");
}

#[test]
fn a_waiting_ticket_starts_in_the_moment_a_burner_is_free_even_if_we_look_late() {
    let mut board = Board::default();
    for dish in ["soup", "pasta", "bread"] {
        board.order(dish, 0).expect("the board has room");
    }
    assert_eq!(board.advance(10_000), [1, 3, 2], "soup at 7 s, bread starts, pasta at 9 s");
    assert_eq!(steps(&board, 10_000), [(1, Step::Ready, 0), (2, Step::Ready, 0), (3, Step::Cooking, 1_000)]);
    assert_eq!(board.advance(10_000), Vec::<u32>::new(), "the same moment twice changes nothing");
    assert_eq!(board.advance(11_000), [3]);
    assert_eq!(board.next_due_ms(), None, "nothing is left to cook");
}

#[test]
fn a_packed_board_goes_on_elsewhere_with_the_time_that_was_left() {
    let mut board = Board::default();
    for dish in ["soup", "pasta", "bread"] {
        board.order(dish, 0).expect("the board has room");
    }
    let packed = board.pack(6_500);
    let mut elsewhere = packed.clone().unpack(900_000);
    assert_eq!(elsewhere.pack(900_000), packed, "nothing has changed on the way");
    assert_eq!(elsewhere.next_due_ms(), Some(900_500));
    assert_eq!(elsewhere.order("salad", 900_000), Ok(4), "numbers go on where they were");
}

#[test]
fn only_a_ready_ticket_can_be_picked_up_and_only_once() {
    let mut board = Board::default();
    board.order("bread", 0).expect("the board has room");
    assert_eq!(board.pick_up(1), Err(Refusal::NotReady { id: 1 }));
    board.advance(4_000);
    assert_eq!(board.pick_up(1), Ok(()));
    assert_eq!(board.pick_up(1), Err(Refusal::NotReady { id: 1 }));
    assert_eq!(board.pack(4_000), PackedBoard { last_id: 1, picked_up: 1, tickets: Vec::new() });
}

#[test]
fn an_order_that_cannot_be_written_on_a_ticket_is_refused_and_says_why() {
    let mut board = Board::default();
    assert_eq!(board.order(" \t ", 0), Err(Refusal::Empty));
    assert_eq!(board.order(&"x".repeat(81), 0), Err(Refusal::TooLong { chars: 81 }));
    assert_eq!(board.order(&"ü".repeat(80), 0), Ok(1), "characters count, not bytes");
    assert_eq!(board.order("pea\u{1} \n soup", 0), Ok(2));
    assert_eq!(board.view(2, 0).map(|ticket| ticket.order), Some("pea soup".to_owned()));
}

#[test]
fn a_full_board_refuses_until_a_ticket_is_picked_up() {
    let mut board = Board::default();
    for _ in 0..TICKETS_MAX {
        board.order("bread", 0).expect("the board has room");
    }
    assert_eq!(board.order("bread", 0), Err(Refusal::Full));
    board.advance(4_000);
    board.pick_up(1).expect("the first is ready");
    assert_eq!(board.order("bread", 4_000), Ok(49));
}
