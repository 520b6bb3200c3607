//! How often, and for how long, an app is dialled for a session before its client is sent away.
//!
//! ```text
//!   Trying ── 101 ──► Open ── it ended after 5 s or more ──► Trying, counted anew
//!     ▲ │               │
//!     │ │               └── it ended sooner: that dial failed ──► Trying, one more
//!     │ └── a final answer, too many failures, too long ──► GivenUp
//!     └── the client asks again ─────────────────────────────┘ (unless the answer was final)
//! ```

use super::{Answer, FinalAnswers};
use crate::position::Millis;

/// A socket that ends sooner than this, in milliseconds, was no success: its dial counts as failed.
pub const STABLE_MS: u64 = 5_000;
/// The first rest is at most so long, in milliseconds; doubled with each failure.
const REST_FIRST_MS: u64 = 200;
/// No rest is longer than this, in milliseconds.
const REST_MAX_MS: u64 = 5_000;
/// A client that is sent away comes back after at least this, in milliseconds ...
const SLOT_FIRST_MS: u64 = 1_000;
/// ... and within so many more: clients that lost one app must not come back to it in step.
const SLOT_SPREAD_MS: u64 = 4_000;

/// How long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Failed dials in a row.
    pub tries_max: u64,
    /// Time without a socket, in milliseconds.
    pub within_ms: u64,
}

/// With what the client is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The app refused it for good (1008): no other try can help.
    Refused,
    /// The app may come back (1013), and so may the client, after this time in milliseconds.
    Away {
        /// Its slot.
        after_ms: u64,
    },
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Dial again, not before this moment.
    Again(Millis),
    /// No more.
    GiveUp(GiveUp),
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    failed: u32,
    /// Since when there is no socket that lasted.
    since: Millis,
}

/// Where the way to the app stands. The picture is above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Trying { run: Run, not_before: Millis },
    Open { run: Run, at: Millis },
    GivenUp,
}

/// The dials of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redials(State);

impl Redials {
    /// The app is to be dialled for the first time, or anew.
    pub fn begin(now: Millis) -> Self {
        Self(State::Trying { run: Run { failed: 0, since: now }, not_before: now })
    }

    /// The socket is open.
    pub fn opened(&mut self, now: Millis) {
        if let State::Trying { run, .. } = self.0 {
            self.0 = State::Open { run, at: now };
        }
    }

    /// A dial, or the event that goes before it, failed. `chance` is any random number.
    pub fn failed(&mut self, now: Millis, answer: Answer, finals: &FinalAnswers, limits: Limits, chance: u64) -> Next {
        if finals.is_final(answer) {
            self.0 = State::GivenUp;
            return Next::GiveUp(GiveUp::Refused);
        }
        match self.0 {
            State::Trying { run, .. } | State::Open { run, .. } => self.one_more(now, run, limits, chance),
            State::GivenUp => Next::GiveUp(away(chance)),
        }
    }

    /// The socket ended, and the app did not mean the session by it.
    pub fn ended(&mut self, now: Millis, limits: Limits, chance: u64) -> Next {
        match self.0 {
            State::Open { at, .. } if now.since(at) >= STABLE_MS => {
                let run = Run { failed: 0, since: now };
                let not_before = rest_until(now, 0, chance);
                self.0 = State::Trying { run, not_before };
                Next::Again(not_before)
            }
            State::Open { run, .. } | State::Trying { run, .. } => self.one_more(now, run, limits, chance),
            State::GivenUp => Next::GiveUp(away(chance)),
        }
    }

    /// Its time may be over, with a dial under way or still waiting for its turn.
    pub fn late(&mut self, now: Millis, limits: Limits, chance: u64) -> Option<GiveUp> {
        let State::Trying { run, .. } = self.0 else { return None };
        (now.since(run.since) >= limits.within_ms).then(|| {
            self.0 = State::GivenUp;
            away(chance)
        })
    }

    fn one_more(&mut self, now: Millis, run: Run, limits: Limits, chance: u64) -> Next {
        let failed = run.failed.saturating_add(1);
        let not_before = rest_until(now, run.failed, chance);
        // A try that could only begin when the time is over is none.
        if u64::from(failed) >= limits.tries_max || not_before.since(run.since) >= limits.within_ms {
            self.0 = State::GivenUp;
            return Next::GiveUp(away(chance));
        }
        self.0 = State::Trying { run: Run { failed, ..run }, not_before };
        Next::Again(not_before)
    }

    /// When the next dial may begin; none: not at all.
    pub fn not_before(&self) -> Option<Millis> {
        match self.0 {
            State::Trying { not_before, .. } => Some(not_before),
            State::Open { .. } | State::GivenUp => None,
        }
    }

    /// When [`Redials::late`] is to be asked.
    pub fn over_at(&self, limits: Limits) -> Option<Millis> {
        match self.0 {
            State::Trying { run, .. } => Some(run.since.plus(limits.within_ms)),
            State::Open { .. } | State::GivenUp => None,
        }
    }

    /// Failed dials in a row.
    pub fn failed_in_a_row(&self) -> u32 {
        match self.0 {
            State::Trying { run, .. } | State::Open { run, .. } => run.failed,
            State::GivenUp => 0,
        }
    }
}

/// Between half of the rest and all of it, so that sessions that lost one app do not come back to it in step.
fn rest_until(now: Millis, failed: u32, chance: u64) -> Millis {
    let most = REST_FIRST_MS.saturating_mul(1 << failed.min(16)).min(REST_MAX_MS);
    now.plus(most / 2 + chance % (most / 2 + 1))
}

fn away(chance: u64) -> GiveUp {
    GiveUp::Away { after_ms: SLOT_FIRST_MS + chance % SLOT_SPREAD_MS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { tries_max: 8, within_ms: 30_000 };

    fn refused(redials: &mut Redials, now: Millis) -> Next {
        redials.failed(now, Answer::Status(503), &FinalAnswers::default(), LIMITS, 0)
    }

    #[test]
    fn the_eighth_failure_in_a_row_sends_the_client_away_with_a_slot() {
        let mut redials = Redials::begin(Millis(0));
        let mut now = Millis(0);
        for failure in 1..8 {
            let Next::Again(at) = refused(&mut redials, now) else { panic!("given up after {failure} failures") };
            assert!(at > now, "there is a rest before each try");
            now = at;
        }
        assert!(matches!(refused(&mut redials, now), Next::GiveUp(GiveUp::Away { after_ms: 1_000..5_000 })));
        assert_eq!((redials.not_before(), redials.over_at(LIMITS)), (None, None), "nothing is dialled any more");
    }

    #[test]
    fn an_app_that_opens_and_ends_at_once_is_one_that_fails() {
        let (mut redials, mut now, mut opened) = (Redials::begin(Millis(0)), Millis(0), 0);
        loop {
            redials.opened(now);
            opened += 1;
            now = now.plus(STABLE_MS / 100);
            match redials.ended(now, LIMITS, 0) {
                Next::Again(at) => now = at,
                Next::GiveUp(give_up) => {
                    assert!(matches!(give_up, GiveUp::Away { .. }));
                    break;
                }
            }
        }
        assert_eq!(opened, LIMITS.tries_max);
    }

    #[test]
    fn a_socket_that_lasted_wipes_the_failures_away() {
        let mut redials = Redials::begin(Millis(0));
        for tenth in 0..7 {
            assert!(matches!(refused(&mut redials, Millis(tenth * 100)), Next::Again(_)));
        }
        redials.opened(Millis(1_000));
        assert!(matches!(redials.ended(Millis(1_000 + STABLE_MS), LIMITS, 0), Next::Again(_)));
        assert_eq!(redials.failed_in_a_row(), 0);
    }

    #[test]
    fn a_dial_that_hangs_ends_with_its_time() {
        let mut redials = Redials::begin(Millis(500));
        assert_eq!(redials.over_at(LIMITS), Some(Millis(30_500)));
        assert_eq!(redials.late(Millis(30_499), LIMITS, 0), None);
        assert_eq!(redials.late(Millis(30_500), LIMITS, 7), Some(GiveUp::Away { after_ms: 1_007 }));
    }

    #[test]
    fn a_final_answer_ends_it_at_the_first_try() {
        let mut redials = Redials::begin(Millis(0));
        let next = redials.failed(Millis(0), Answer::Status(401), &FinalAnswers::default(), LIMITS, 0);
        assert_eq!(next, Next::GiveUp(GiveUp::Refused));
    }

    #[derive(Clone, Copy, Debug)]
    enum Told {
        Opened,
        Ended,
        Failed,
        Late,
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(9), ..ProptestConfig::default() })]
        /// Whatever an app does, without a socket that lasts the client is sent away in time and in tries.
        #[test]
        fn nobody_is_kept_longer_than_the_limits(
            tries_max in 1u64..12,
            within_ms in 0u64..40_000,
            chances in proptest::collection::vec((any::<u64>(), 0u64..STABLE_MS, 0..4u8), 1..400),
        ) {
            let limits = Limits { tries_max, within_ms };
            let (mut redials, mut now) = (Redials::begin(Millis(0)), Millis(0));
            for (chance, passes_ms, what) in chances {
                let told = [Told::Opened, Told::Ended, Told::Failed, Told::Late][what as usize];
                let was_trying = redials.over_at(limits).is_some();
                if was_trying {
                    // The server looks again when the time is over, however long something takes.
                    now = now.plus(passes_ms).min(redials.over_at(limits).unwrap_or(now)).max(now);
                } else {
                    now = now.plus(passes_ms);
                }
                let next = match told {
                    Told::Opened => { redials.opened(now); continue; }
                    Told::Ended if was_trying => continue,
                    Told::Ended => redials.ended(now, limits, chance),
                    Told::Failed if !was_trying => continue,
                    Told::Failed => redials.failed(now, Answer::None, &FinalAnswers::default(), limits, chance),
                    Told::Late => match redials.late(now, limits, chance) {
                        Some(give_up) => Next::GiveUp(give_up),
                        None => continue,
                    },
                };
                match next {
                    Next::Again(at) => {
                        prop_assert!(u64::from(redials.failed_in_a_row()) < tries_max);
                        prop_assert!(at > now);
                        // A socket that lasted begins a new count, which may end before its first rest.
                        let over_at = redials.over_at(limits).expect("it is being tried");
                        prop_assert!(at < over_at || redials.failed_in_a_row() == 0);
                    }
                    Next::GiveUp(give_up) => {
                        let has_slot = matches!(give_up, GiveUp::Away { after_ms: 1_000..5_000 });
                        prop_assert!(has_slot);
                        prop_assert_eq!(redials.not_before(), None);
                        return Ok(());
                    }
                }
            }
        }
    }
}
