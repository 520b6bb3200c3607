//! Plan and pacing under any population, arrivals, grants, gates, refusals and losses: what a drain must keep,
//! judged from outside by a watch that keeps its own account.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` make other runs; without them every run is the same one.

mod fleet;
mod plan_cost;
mod quiet;
mod scenario;
mod watch;

use fleet::Fleet;
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

proptest! {
    #![proptest_config(config(1_500))]

    #[test]
    fn whatever_happens_window_bound_notice_and_account_are_kept_and_it_ends(scenario in scenario::scenario()) {
        let mut fleet = Fleet::new(&scenario);
        fleet.play(&scenario.script);
        fleet.run_out();
        fleet.watch.judge_end();
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn a_drain_that_is_called_off_at_any_moment_adds_up_and_recalls_who_was_told(
        scenario in scenario::scenario(),
        after_ms in 0u64..20_000,
    ) {
        let mut fleet = Fleet::new(&scenario);
        fleet.play(&scenario.script);
        fleet.pass(after_ms);
        fleet.cancel();
    }
}
