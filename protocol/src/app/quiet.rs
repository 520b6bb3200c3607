//! When the hub's Close goes to an app that finishes with a session. Stock libraries answer a Close at once and
//! drop what they had yet to say, so it goes where nothing is to be expected.

use crate::position::Millis;

/// The limits of it, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quiet {
    /// So long without a message either way is a quiet moment.
    pub quiet_ms: u64,
    /// It is waited for at most so long ...
    pub wait_ms: u64,
    /// ... and never longer than the app has to finish after the Close.
    pub moving_ms: u64,
}

/// Where an app that finishes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It takes events: it is asked by `moving`.
    Asked {
        /// When the question left; none yet.
        at: Option<Millis>,
        /// Whether it has answered.
        answered: bool,
    },
    /// It takes none, and cannot be asked.
    Unasked {
        /// Since when it is to finish.
        at: Millis,
    },
}

/// How an app finished, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finished {
    /// It was asked, and said itself that it was done.
    Said,
    /// It could not be asked; it was quiet, and is taken for done. What its library dropped nobody knows.
    Assumed,
    /// It was still talking, or not done in its time.
    Cut,
}

impl Quiet {
    /// Until when a quiet moment is waited for at most.
    fn patience_ms(&self) -> u64 {
        self.wait_ms.min(self.moving_ms)
    }

    /// When the Close may go; none: not before something happens. `active` is when the last message passed,
    /// either way.
    pub fn close_at(&self, finish: Finish, active: Millis) -> Option<Millis> {
        match finish {
            Finish::Asked { answered: true, at } => Some(at.unwrap_or_default()),
            Finish::Asked { answered: false, at: None } => None,
            // The question travels by a way of its own: it must be there first.
            Finish::Asked { answered: false, at: Some(at) } => Some(at.plus(self.quiet_ms.min(self.patience_ms()))),
            Finish::Unasked { at } => Some(active.plus(self.quiet_ms).max(at).min(at.plus(self.patience_ms()))),
        }
    }

    /// Whether the app was quiet when its Close went at this moment.
    pub fn was_quiet(&self, closed: Millis, active: Millis) -> bool {
        closed.since(active) >= self.quiet_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Quiet = Quiet { quiet_ms: 50, wait_ms: 1_000, moving_ms: 1_000 };

    #[test]
    fn an_app_that_cannot_be_asked_is_closed_in_a_quiet_moment() {
        let at = Millis(10_000);
        let finish = Finish::Unasked { at };
        assert_eq!(QUIET.close_at(finish, Millis(0)), Some(at), "it has been quiet for long");
        assert_eq!(QUIET.close_at(finish, Millis(9_990)), Some(Millis(10_040)), "an answer may be due");
        assert_eq!(QUIET.close_at(finish, Millis(10_300)), Some(Millis(10_350)), "it talks on, and is listened to");
        assert_eq!(QUIET.close_at(finish, Millis(10_990)), Some(Millis(11_000)), "but not for ever");
        assert!(!QUIET.was_quiet(Millis(11_000), Millis(10_990)));
    }

    #[test]
    fn the_wait_is_bounded_by_its_own_limit_and_by_the_time_for_moving() {
        let short = Quiet { moving_ms: 60, ..QUIET };
        assert_eq!(short.close_at(Finish::Unasked { at: Millis(0) }, Millis(40)), Some(Millis(60)));
        let impatient = Quiet { wait_ms: 20, ..QUIET };
        assert_eq!(impatient.close_at(Finish::Unasked { at: Millis(0) }, Millis(0)), Some(Millis(20)));
    }

    #[test]
    fn an_app_with_events_is_asked_first() {
        let close_at = |at, answered| QUIET.close_at(Finish::Asked { at, answered }, Millis(0));
        assert_eq!(close_at(None, false), None, "the question has not left");
        assert_eq!(close_at(Some(Millis(100)), false), Some(Millis(150)), "it has to get there before the close");
        assert_eq!(close_at(Some(Millis(100)), true), Some(Millis(100)), "it said so itself");
    }
}
