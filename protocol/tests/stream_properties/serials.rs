//! Which tokens a session accepts (rule 24) and which tries (rule 11), against the rule as it is written.

use crate::config;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_protocol::frame::Old;
use tidegate_protocol::position::{Epoch, Offset};
use tidegate_protocol::session::record::{HelloFacts, Profile, Record, Verdict};

#[derive(Clone, Debug)]
enum Act {
    /// The hub issues one more token.
    Issue,
    /// A client shows the token of this age (0: the newest), with a try so far above or below the highest.
    Show { age: u32, above: i64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![Just(Act::Issue), (0u32..6, -3i64..4).prop_map(|(age, above)| Act::Show { age, above })]
}

fn hello(serial: u32, attempt: u32) -> HelloFacts {
    HelloFacts { serial, attempt, old: Old::Lost, received: Offset(0), epoch: None }
}

proptest! {
    #![proptest_config(config(1_000))]

    #[test]
    fn accepted_is_the_last_token_used_and_any_issued_since_and_only_with_a_higher_try(acts in vec(act(), 0..80)) {
        let mut record = Record::<String>::new(Epoch(1), Profile::default());
        // The rule, kept by hand: which serials are good now.
        let (mut good, mut issued, mut highest) = (vec![0u32], 0u32, 0u32);
        for act in acts {
            match act {
                Act::Issue => {
                    issued += 1;
                    prop_assert_eq!(record.issue(), issued, "serials never come twice");
                    good.push(issued);
                }
                Act::Show { age, above } => {
                    let serial = issued.wrapping_sub(age);
                    let attempt = (i64::from(highest) + above).max(0) as u32;
                    let expected = good.contains(&serial) && attempt > highest;
                    let hello = hello(serial, attempt);
                    let verdict = record.judge(&hello);
                    prop_assert_eq!(verdict, if expected { Ok(()) } else { Err(Verdict::TokenReuse) });
                    if expected {
                        record.accept(&hello);
                        highest = attempt;
                        good.retain(|good| *good >= serial);
                        prop_assert!(record.has_accepted(&hello), "the very same hello is known again");
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_may_claim_what_was_never_sent_nor_another_epoch(
        sent in 0u64..10, claimed in 0u64..20, epoch in prop::option::of(0u32..3),
    ) {
        let mut record = Record::<String>::new(Epoch(1), Profile::default());
        let limits = tidegate_protocol::replay::ReplayLimits { messages_max: 100, bytes_max: 1_000 };
        (0..sent).for_each(|n| _ = record.outbox.push(n.to_string(), &limits));
        let serial = record.issue();
        let facts = HelloFacts { received: Offset(claimed), epoch: epoch.map(Epoch), ..hello(serial, 1) };
        let possible = claimed <= sent && epoch.is_none_or(|epoch| epoch == 1);
        prop_assert_eq!(record.judge(&facts), if possible { Ok(()) } else { Err(Verdict::Impossible) });
    }
}
