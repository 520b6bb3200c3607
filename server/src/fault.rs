//! Fault points: named steps at which a debug build kills, stops or delays itself, so that tests hit the
//! very moment that they mean. `TIDEGATE_FAULT=STEP:ACTION[@N][,…]` arms them:
//!
//! | action | what happens at the step |
//! |---|---|
//! | `kill` | SIGKILL on itself: nothing is flushed, nothing is said |
//! | `stop` | SIGSTOP on itself: every thread stands still until SIGCONT |
//! | `pause=MS` | the thread that got there sleeps, with whatever it holds: a stalled disk or scheduler |
//!
//! `@N` waits for the N-th time that the step is reached (1); `kill` and `stop` happen once, `pause` from then
//! on every time. A step or an action that does not exist stops the start. In builds without debug assertions
//! all of this is nothing: the variable is not even read. This file stands alone, so that a test can compile
//! it both ways.

/// The variable that arms fault points.
pub const VARIABLE: &str = "TIDEGATE_FAULT";

/// What was wrong with the variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The part that cannot be read.
    pub given: String,
    /// What would be right.
    pub expected: String,
}

macro_rules! steps {
    ($( #[doc = $doc:literal] $step:ident = $name:literal; )*) => {
        /// Every step that can be named. A message between hubs has three: before it is posted, after the
        /// other hub answered the post, and when it came in, before anything is done about it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $( #[doc = $doc] $step, )*
        }

        impl Step {
            /// All of them, in the order of a handover and then of parking.
            pub const ALL: &[Self] = &[$( Self::$step, )*];

            /// How the variable calls it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$step => $name, )* }
            }
        }
    };
}

steps! {
    /// A client said hello; nothing was done about it
    HelloReceived = "hello_received";
    /// A welcome stands in its connection's lane
    WelcomeSaid = "welcome_said";
    /// Claimant: the claim is not posted
    BeforeClaimSaid = "before_claim_said";
    /// Claimant: the owner has it
    AfterClaimSaid = "after_claim_said";
    /// Owner: the claim came
    ClaimReceived = "claim_received";
    /// Predecessor: the copy ahead of the freeze is not posted
    BeforeBulkSaid = "before_bulk_said";
    /// Predecessor: the successor has the copy ahead of the freeze
    AfterBulkSaid = "after_bulk_said";
    /// Successor: the copy ahead of the freeze came
    BulkReceived = "bulk_received";
    /// Successor: the copy ahead is there, and `bulk_held` is not posted
    BeforeBulkHeldSaid = "before_bulk_held_said";
    /// Successor: the predecessor has `bulk_held`
    AfterBulkHeldSaid = "after_bulk_held_said";
    /// Predecessor: `bulk_held` came, nothing is frozen
    BulkHeldReceived = "bulk_held_received";
    /// Predecessor: the session has just frozen
    Frozen = "frozen";
    /// Predecessor: the app is not asked yet
    BeforeMovingPosted = "before_moving_posted";
    /// Predecessor: the app gave its state
    AfterMovingAnswered = "after_moving_answered";
    /// Predecessor: the snapshot is not posted
    BeforeSnapshotSaid = "before_snapshot_said";
    /// Predecessor: the successor has the snapshot
    AfterSnapshotSaid = "after_snapshot_said";
    /// Successor: the snapshot came
    SnapshotReceived = "snapshot_received";
    /// Successor: the copy is there, and `held` is not posted
    BeforeHeldSaid = "before_held_said";
    /// Successor: the predecessor has `held`
    AfterHeldSaid = "after_held_said";
    /// Predecessor: `held` came, nothing is committed
    HeldReceived = "held_received";
    /// Predecessor: `moved` of a session of the data directory is not written
    BeforeMovedSync = "before_moved_sync";
    /// Predecessor: it is durable, and `committed` is not said
    AfterMovedSync = "after_moved_sync";
    /// Predecessor: the last `move` of the old connection stands in its lane
    LastMoveSaid = "last_move_said";
    /// Predecessor: the old connection is to be closed with 1012 and hears of it next
    BeforeClose = "before_close";
    /// Predecessor: the commit is done here
    Committed = "committed";
    /// Predecessor: `committed` is not posted
    BeforeCommittedSaid = "before_committed_said";
    /// Predecessor: the successor has `committed`
    AfterCommittedSaid = "after_committed_said";
    /// Successor: `committed` came, the copy is still inert
    CommittedReceived = "committed_received";
    /// Successor: the session is live here
    GoneLive = "gone_live";
    /// Successor: `live` is not posted
    BeforeLiveSaid = "before_live_said";
    /// Successor: the predecessor has `live`
    AfterLiveSaid = "after_live_said";
    /// Predecessor: `live` came, the data is still kept
    LiveReceived = "live_received";
    /// The log of parked sessions: nothing of a batch is written
    BeforeLogWrite = "before_log_write";
    /// The log: half of the batch is written
    MidLogWrite = "mid_log_write";
    /// The log: the batch is written and not synced
    AfterLogWrite = "after_log_write";
    /// The log: the batch is durable, and nobody was told
    AfterLogSync = "after_log_sync";
    /// A parked session is asked for, and `taken up` is not written
    BeforeTakenUpSync = "before_taken_up_sync";
    /// `taken up` is durable, and nobody serves the session
    AfterTakenUpSync = "after_taken_up_sync";
}

#[cfg(debug_assertions)]
pub use armed::{arm, at, halves, messages};
#[cfg(not(debug_assertions))]
pub use nothing::{arm, at, halves, messages};

/// Where a message between hubs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// About to be posted.
    Before,
    /// Posted and answered.
    After,
    /// Come in.
    Received,
}

/// What remains in a build for users.
#[cfg(not(debug_assertions))]
mod nothing {
    use super::{Place, Step, Wrong};

    /// Nothing.
    #[inline(always)]
    pub const fn arm() -> Result<(), Wrong> {
        Ok(())
    }

    /// Nothing.
    #[inline(always)]
    pub const fn at(_: Step) {}

    /// Nothing.
    #[inline(always)]
    pub fn messages<'a>(_: Place, _: impl IntoIterator<Item = &'a str>) {}

    /// The whole, and nothing after it.
    #[inline(always)]
    pub fn halves(_: Step, bytes: &[u8]) -> (&[u8], &[u8]) {
        (bytes, &[])
    }
}

#[cfg(debug_assertions)]
mod armed {
    use super::{Place, Step, VARIABLE, Wrong};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// How long a thread that sent itself a signal waits to feel it.
    const FELT: Duration = Duration::from_millis(50);

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Pause(Duration),
    }

    #[derive(Debug)]
    struct Point {
        step: Step,
        action: Action,
        nth: u64,
        passed: AtomicU64,
    }

    static POINTS: OnceLock<Vec<Point>> = OnceLock::new();

    /// Reads the variable. Call it once, before anything is served.
    ///
    /// # Errors
    /// It names a step or an action that does not exist.
    pub fn arm() -> Result<(), Wrong> {
        let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(()) };
        let points = value.to_string_lossy().split(',').map(read).collect::<Result<Vec<Point>, Wrong>>()?;
        // A second call, in a test of this process, changes nothing.
        drop(POINTS.set(points));
        Ok(())
    }

    fn read(text: &str) -> Result<Point, Wrong> {
        let wrong = |expected: String| Wrong { given: text.to_owned(), expected };
        let (name, rest) =
            text.split_once(':').ok_or_else(|| wrong("expected STEP:ACTION, such as frozen:kill".into()))?;
        let step = Step::ALL.iter().find(|step| step.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Step::ALL.iter().map(|step| step.name()).collect();
            wrong(format!("expected one of the steps {}", names.join(", ")))
        })?;
        let (action, nth) = match rest.split_once('@') {
            None => (rest, 1),
            Some((action, nth)) => {
                let nth = nth.parse().ok().filter(|nth| *nth > 0);
                (action, nth.ok_or_else(|| wrong("expected @N with a number from 1 on".into()))?)
            }
        };
        let action = match action.split_once('=') {
            None if action == "kill" => Action::Kill,
            None if action == "stop" => Action::Stop,
            Some(("pause", ms)) if ms.parse::<u64>().is_ok() => {
                Action::Pause(Duration::from_millis(ms.parse().unwrap_or_default()))
            }
            _ => return Err(wrong("expected the action kill, stop, or pause=MILLISECONDS".into())),
        };
        Ok(Point { step: *step, action, nth, passed: AtomicU64::new(0) })
    }

    /// The process is at this step.
    pub fn at(step: Step) {
        for point in POINTS.get().into_iter().flatten().filter(|point| point.step == step) {
            let pass = point.passed.fetch_add(1, Ordering::SeqCst) + 1;
            match point.action {
                // Whoever comes after the one that kills would be beyond the step before the kill is felt.
                Action::Kill if pass >= point.nth => signal(rustix::process::Signal::KILL),
                Action::Stop if pass == point.nth => signal(rustix::process::Signal::STOP),
                Action::Pause(length) if pass >= point.nth => std::thread::sleep(length),
                Action::Kill | Action::Stop | Action::Pause(_) => {}
            }
        }
    }

    fn signal(signal: rustix::process::Signal) {
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), signal) {
            panic!("a process cannot signal itself: {error}");
        }
        // Nothing after this step may happen before the signal does.
        std::thread::sleep(FELT);
    }

    /// Messages of these kinds are at this place; kinds without a step are passed over.
    pub fn messages<'a>(place: Place, kinds: impl IntoIterator<Item = &'a str>) {
        if POINTS.get().is_none() {
            return;
        }
        for kind in kinds {
            let name = match place {
                Place::Before => format!("before_{kind}_said"),
                Place::After => format!("after_{kind}_said"),
                Place::Received => format!("{kind}_received"),
            };
            if let Some(step) = Step::ALL.iter().find(|step| step.name() == name) {
                at(*step);
            }
        }
    }

    /// What to write before this step and what after it: all of it before, unless the step is armed.
    pub fn halves(step: Step, bytes: &[u8]) -> (&[u8], &[u8]) {
        let armed = POINTS.get().is_some_and(|points| points.iter().any(|point| point.step == step));
        bytes.split_at(if armed { bytes.len() / 2 } else { bytes.len() })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn every_step_has_a_name_of_its_own_that_arms_it() {
            for step in Step::ALL {
                let point = read(&format!("{}:kill", step.name())).expect("a name arms its step");
                assert_eq!((point.step, point.action, point.nth), (*step, Action::Kill, 1));
            }
        }

        #[test]
        fn a_typo_is_told_with_what_would_be_right() {
            for (text, hint) in [
                ("frozne:kill", "one of the steps"),
                ("frozen", "STEP:ACTION"),
                ("frozen:kil", "the action kill"),
                ("frozen:pause=soon", "the action kill"),
                ("frozen:kill@0", "@N"),
            ] {
                let wrong = read(text).expect_err(text);
                assert!(wrong.given == text && wrong.expected.contains(hint), "{wrong:?}");
            }
        }

        #[test]
        fn an_action_may_wait_for_a_later_pass() {
            let point = read("after_log_sync:pause=20@3").expect("well written");
            assert_eq!((point.action, point.nth), (Action::Pause(Duration::from_millis(20)), 3));
        }
    }
}
