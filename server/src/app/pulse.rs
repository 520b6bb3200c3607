//! Whether an app's socket is alive. A path that is dead tells nobody: a balancer in between forgets an idle
//! connection, and both ends wait for ever. So the hub asks a silent app, and gives the socket up when nothing comes.

use std::sync::atomic::{AtomicU32, Ordering};

/// The app is not read for now, because its client has no room: its silence means nothing.
const PAUSED: u32 = u32::MAX;
/// So many heartbeats without a byte end a socket.
const BEATS_MAX: u32 = 3;

/// When something of the app was heard last, in seconds of the hub's clock, and how often it was asked since.
#[derive(Debug)]
pub(super) struct Pulse {
    heard_s: AtomicU32,
    asked: AtomicU32,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { heard_s: AtomicU32::new(PAUSED), asked: AtomicU32::new(0) }
    }
}

/// What a look at it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing is to be done.
    Sound,
    /// Ask for a sign of life.
    Ask,
    /// It is dead.
    Dead,
}

impl Pulse {
    /// A byte came, or went.
    pub(super) fn hear(&self, now_s: u32) {
        self.heard_s.store(now_s, Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// The app is not read from here on.
    pub(super) fn pause(&self) {
        self.heard_s.store(PAUSED, Ordering::Relaxed);
    }

    /// It is read; if it was not, its silence begins now.
    pub(super) fn resume(&self, now_s: &dyn Fn() -> u32) {
        if self.heard_s.load(Ordering::Relaxed) == PAUSED {
            self.hear(now_s());
        }
    }

    /// Looks at it; at each look at most one question is counted, so that a hub that stood still asks before it judges.
    pub(super) fn beat(&self, now_s: u32, heartbeat_s: u32) -> Beat {
        let heard_s = self.heard_s.load(Ordering::Relaxed);
        let asked = self.asked.load(Ordering::Relaxed);
        if heard_s == PAUSED || now_s.saturating_sub(heard_s) < heartbeat_s.saturating_mul(asked + 1) {
            return Beat::Sound;
        }
        self.asked.store(asked + 1, Ordering::Relaxed);
        if asked + 1 >= BEATS_MAX { Beat::Dead } else { Beat::Ask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_app_is_asked_at_each_heartbeat_and_dead_at_the_third() {
        let pulse = Pulse::default();
        assert_eq!(pulse.beat(1_000, 25), Beat::Sound, "nobody reads it yet");
        pulse.resume(&|| 100);
        assert_eq!(
            (pulse.beat(124, 25), pulse.beat(125, 25), pulse.beat(126, 25)),
            (Beat::Sound, Beat::Ask, Beat::Sound)
        );
        assert_eq!(
            (pulse.beat(150, 25), pulse.beat(174, 25), pulse.beat(175, 25)),
            (Beat::Ask, Beat::Sound, Beat::Dead)
        );
    }

    #[test]
    fn a_byte_begins_the_count_anew_and_an_app_that_nobody_reads_is_not_judged() {
        let pulse = Pulse::default();
        pulse.resume(&|| 0);
        assert_eq!((pulse.beat(25, 25), pulse.beat(50, 25)), (Beat::Ask, Beat::Ask));
        pulse.hear(60);
        assert_eq!((pulse.beat(75, 25), pulse.beat(85, 25)), (Beat::Sound, Beat::Ask));
        pulse.pause();
        assert_eq!(pulse.beat(10_000, 25), Beat::Sound);
        pulse.resume(&|| 10_000);
        assert_eq!(pulse.beat(10_001, 25), Beat::Sound);
    }

    #[test]
    fn a_hub_that_stood_still_asks_before_it_judges() {
        let pulse = Pulse::default();
        pulse.resume(&|| 0);
        assert_eq!((pulse.beat(500, 25), pulse.beat(500, 25), pulse.beat(500, 25)), (Beat::Ask, Beat::Ask, Beat::Dead));
    }
}
