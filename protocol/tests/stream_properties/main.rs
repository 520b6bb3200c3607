//! Replay, offsets and tokens: what one end counts is what the other end counts, however the two streams and
//! their connections are cut and mixed; and what a session is on its way to another hub or release.

mod buffer;
mod codec;
mod line;
mod serials;

use line::{Line, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

/// So many cases, the same ones each time, unless the environment asks for others.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let standard = ProptestConfig::default();
    let asked = |name: &str| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if asked("PROPTEST_CASES") { standard.cases } else { cases },
        rng_seed: if asked("PROPTEST_RNG_SEED") { standard.rng_seed } else { RngSeed::Fixed(4) },
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        max_shrink_iters: 20_000,
        ..standard
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..3).prop_map(Step::ClientSends),
        4 => (0u8..3).prop_map(Step::HubNumbers),
        4 => (1u8..5).prop_map(Step::HubWrites),
        8 => (any::<u8>(), 1u8..4).prop_map(|(line, count)| Step::CarryUp(line, count)),
        8 => (any::<u8>(), 1u8..4).prop_map(|(line, count)| Step::CarryDown(line, count)),
        2 => (1u8..4).prop_map(Step::AppTakes),
        2 => Just(Step::HubAcks),
        2 => Just(Step::Timer),
        1 => any::<u8>().prop_map(Step::Cut),
        1 => any::<u8>().prop_map(Step::CutUnnoticed),
        1 => Just(Step::HubOrders),
    ]
}

proptest! {
    #![proptest_config(config(2_500))]

    #[test]
    fn both_ends_count_alike_whatever_becomes_of_the_lines_between_them(
        kept in 1usize..6,
        unacked in 2usize..10,
        steps in vec(step(), 0..120),
    ) {
        let mut line = Line::new(kept, unacked);
        for step in steps {
            line.step(step);
        }
        line.settle();
    }
}
