//! The replay buffer against the plainest list that does the same.

use crate::config;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::position::Offset;
use tidegate_protocol::replay::{Next, Replay, ReplayLimits};

#[derive(Clone, Debug)]
enum Act {
    Push(usize),
    Ack(u64),
    Move,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![3 => (0usize..30).prop_map(Act::Push), 2 => (0u64..40).prop_map(Act::Ack), 1 => Just(Act::Move)]
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn a_replay_buffer_is_a_list_that_forgets_from_its_front(
        base in prop_oneof![Just(0u64), 0u64..1_000_000],
        messages_max in 1usize..8,
        bytes_max in 1usize..100,
        acts in vec(act(), 0..60),
    ) {
        let limits = ReplayLimits { messages_max, bytes_max };
        let mut replay = Replay::<String>::starting_at(Offset(base));
        // Everything that was ever pushed, and how much of its front is forgotten.
        let (mut all, mut forgotten) = (Vec::<String>::new(), 0usize);
        for act in acts {
            match act {
                Act::Push(bytes) => {
                    let message = format!("{:.bytes$}", "x".repeat(bytes));
                    let room = replay.has_room(message.len(), &limits);
                    let before = forgotten;
                    let kept_bytes = |from: usize, all: &[String]| all[from..].iter().map(String::len).sum::<usize>();
                    while forgotten < all.len()
                        && (all.len() - forgotten >= messages_max
                            || kept_bytes(forgotten, &all) + message.len() > bytes_max)
                    {
                        forgotten += 1;
                    }
                    prop_assert_eq!(room, before == forgotten, "room is what costs nobody anything");
                    all.push(message.clone());
                    prop_assert_eq!(replay.push(message, &limits), Offset(base + all.len() as u64));
                }
                Act::Ack(ahead) => {
                    let received = base + ahead;
                    let possible = ahead <= all.len() as u64;
                    prop_assert_eq!(replay.ack(Offset(received)), possible);
                    if possible {
                        forgotten = forgotten.max(ahead as usize);
                    }
                }
                Act::Move => replay = Replay::restored(replay.base(), replay.iter().cloned().collect::<Vec<_>>()),
            }
            prop_assert_eq!(replay.base(), Offset(base + forgotten as u64));
            prop_assert_eq!(replay.end(), Offset(base + all.len() as u64));
            prop_assert_eq!(replay.bytes(), all[forgotten..].iter().map(String::len).sum::<usize>());
            for place in 0..=all.len() + 2 {
                let expected = if place < forgotten {
                    Next::Gap(Offset(base + forgotten as u64))
                } else {
                    all.get(place).map_or(Next::End, Next::Message)
                };
                prop_assert_eq!(replay.next_after(Offset(base + place as u64)), expected);
            }
        }
    }
}
