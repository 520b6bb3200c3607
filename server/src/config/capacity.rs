//! What fits into the descriptors that this process may have: raised at the start, then divided, so that no kind
//! of connection takes the last one from another.
//!
//! ```text
//!   all ─┬─ kept back for ourselves: a quarter of few, 512 of many; half of it for the private listener
//!        └─ the public listener's ─┬─ sessions, one each, two with an app behind
//!                                  └─ whoever is no session yet: heads, plain HTTP, second connections
//! ```

use super::limits::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept back where there is enough: the log of parked sessions, peers, the app's events, files being read again, and
/// the private listener.
const KEPT_BACK: u64 = 512;
/// Asked for where the hard limit is none at all.
const WITHOUT_A_LIMIT: u64 = 1 << 20;

/// How much of each kind this process holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Sessions, all phases together.
    pub sessions: u64,
    /// Connections that were upgraded: a session may have two for a moment, while its client moves.
    pub upgraded: u64,
    /// Connections of the public listener, whatever they are at.
    pub public: u64,
    /// Of these, such as have not sent their request.
    pub half_open: u64,
    /// Of these, such as stay open for the next plain HTTP request.
    pub http: u64,
    /// Connections of the private listener.
    pub private: u64,
}

impl Capacity {
    /// What the limits allow, within so many descriptors (`None`: unknown, and taken for enough).
    pub fn within(limits: &Limits, descriptors: Option<u64>, with_app: bool) -> Self {
        let each = if with_app { 2 } else { 1 };
        let all = descriptors.unwrap_or(u64::MAX / 4);
        let kept_back = (all / 4).min(KEPT_BACK.max(all / 40));
        let public = all - kept_back;
        // For whoever is no session yet.
        let others = (public / 40).max((public / 8).min(64)).max(3);
        let sessions = limits.sessions.min((public.saturating_sub(others) / each).max(1));
        let public = public.saturating_sub((each - 1) * sessions).max(4);
        Self {
            sessions,
            upgraded: sessions + (others / 4).min(sessions / 16).max(1),
            public,
            half_open: limits.half_open.min((public / 2).max(1)),
            http: limits.http_connections.min((others / 4).max(1)),
            private: limits.private_connections.min((kept_back / 2).max(1)),
        }
    }
}

/// How many files this process may have open, and what came of asking for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit that the process was started with; `None`: no limit.
    pub given: Option<u64>,
    /// What it has now.
    pub now: Option<u64>,
    /// What it may have at most.
    pub hard: Option<u64>,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one. The soft one, 1,024 on most systems, is for programs that use
    /// `select`, which could not count further; nothing here does.
    pub fn raise() -> Self {
        let Rlimit { current: given, maximum: hard } = getrlimit(Resource::Nofile);
        let wanted = Some(hard.unwrap_or(WITHOUT_A_LIMIT));
        if given.is_some_and(|given| wanted.is_none_or(|wanted| given < wanted)) {
            // Refused: it stays as it is, and the capacity with it.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: hard });
        }
        Self { given, now: Self::now(), hard }
    }

    /// What this process may have now.
    pub fn now() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_add_up_to_more_than_there_is_and_nobody_gets_nothing() {
        for descriptors in (16..3_000).step_by(7).chain([4_096, 20_000, 65_536, 1 << 20, 1 << 30]) {
            for with_app in [false, true] {
                let room = Capacity::within(&Limits::default(), Some(descriptors), with_app);
                let app = if with_app { room.sessions } else { 0 };
                let case = format!("{descriptors} descriptors, app {with_app}: {room:?}");
                assert!(room.public + app + room.private <= descriptors, "{case}");
                assert!(room.upgraded + room.http < room.public, "somebody new gets in at any time: {case}");
                let least = [room.sessions, room.half_open, room.http, room.private].into_iter().min();
                assert!(least >= Some(1), "{case}");
            }
        }
    }

    #[test]
    fn few_descriptors_cut_everything_and_many_cut_nothing() {
        let limits = Limits::default();
        let sessions = |descriptors, app| Capacity::within(&limits, descriptors, app).sessions;
        assert_eq!((sessions(Some(1_024), false), sessions(Some(1_024), true)), (704, 352));
        assert_eq!((sessions(Some(20_000), false), sessions(Some(20_000), true)), (19_000, 9_500));
        assert_eq!((sessions(Some(1 << 20), true), sessions(None, true)), (19_000, 19_000));
        let room = Capacity::within(&limits, Some(1 << 20), true);
        assert_eq!((room.half_open, room.http, room.private), (1_024, 512, 1_024));
    }
}
