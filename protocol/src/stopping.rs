//! The end of a hub's process: who is given to peers, who is put on disk, who is closed, and all of it within one
//! deadline, whatever peers and disk do.
//!
//! ```text
//!   Handing ── nobody is left for a peer, or its time is over ──► Parking ── nobody is left, or its time is over ──► Closing ──► Gone
//! ```
//! A disk that refuses is tried again, each time after twice the pause. Whoever it has not taken when its time is over
//! is closed with a slot for the return, so that the client neither waits for a dead line nor comes with all others.

use crate::drain::SAFE_RATE_PER_S;
use crate::position::Millis;

/// How often the end is looked for, in milliseconds.
pub const LOOK_MS: u64 = 20;
/// The pause after the first refusal of the disk, in milliseconds; doubled with each further one.
pub const PAUSE_FIRST_MS: u64 = 100;
/// No pause is longer than this, in milliseconds.
pub const PAUSE_MAX_MS: u64 = 2_000;
/// How long the last words of handovers are waited for while parking, in milliseconds: a freeze's limit, and
/// `committed` repeated.
pub const LAST_WORDS_MS: u64 = 2_000;
/// Of the deadline this is kept for parking what no peer took, at most, in milliseconds; at most a quarter.
const PARKING_MS: u64 = 5_000;
/// And this for closing lines and for the goodbye; at most a tenth.
const CLOSING_MS: u64 = 1_500;

/// What the driver sees when it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The drain that hands over has ended.
    pub drained: bool,
    /// Sessions that this hub owns in memory.
    pub owned: u64,
    /// Others wait for a word of a living hub about some session.
    pub awaited: bool,
    /// Sessions that just begin; each has its own limit.
    pub beginning: bool,
    /// How often the disk has refused a session since the process began.
    pub refused: u64,
    /// Lines to clients that still stand.
    pub lines: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look again after so many milliseconds.
    Wait(u64),
    /// Put every session on disk that is still here.
    Park,
    /// Close every line that still stands, each with its slot ([`slot_ms`]).
    Close,
    /// Say goodbye and go.
    Go,
}

/// Where the end stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Peers take what they can.
    Handing,
    /// What is left goes to disk.
    Parking {
        since: Millis,
        /// When it is tried next.
        again_at: Millis,
        /// What the next refusal makes everybody wait.
        pause_ms: u64,
        /// How often the disk had refused when it was tried last.
        refused: u64,
        /// Looks in a row at which nobody was left. A snapshot that was taken in just before nothing was taken in
        /// any more is seen by the second.
        empty: u8,
    },
    /// Lines close.
    Closing,
}

/// The machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    began: Millis,
    deadline_ms: u64,
    stage: Stage,
}

impl Stopping {
    /// The end begins, and is over `deadline_ms` later in any case.
    pub fn begin(now: Millis, deadline_ms: u64) -> Self {
        Self { began: now, deadline_ms, stage: Stage::Handing }
    }

    /// How long peers may take, in milliseconds from the beginning.
    pub fn handing_ms(&self) -> u64 {
        (self.deadline_ms - self.closing_ms() - (self.deadline_ms / 4).min(PARKING_MS)).max(1)
    }

    fn closing_ms(&self) -> u64 {
        (self.deadline_ms / 10).min(CLOSING_MS)
    }

    fn parking_until(&self) -> Millis {
        self.began.plus(self.deadline_ms - self.closing_ms())
    }

    /// How much of the deadline is left, in milliseconds.
    pub fn left_ms(&self, now: Millis) -> u64 {
        self.began.plus(self.deadline_ms).since(now)
    }

    /// How much of the time for peers and disk is left, in milliseconds.
    pub fn parking_left_ms(&self, now: Millis) -> u64 {
        self.parking_until().since(now)
    }

    /// No more handing over: whoever is here goes to disk at once.
    pub fn park_now(&mut self, now: Millis) {
        if self.stage == Stage::Handing {
            self.stage =
                Stage::Parking { since: now, again_at: now, pause_ms: PAUSE_FIRST_MS, refused: u64::MAX, empty: 0 };
        }
    }

    /// Whether peers have had their time, or have taken what they take.
    pub fn is_handing(&self) -> bool {
        self.stage == Stage::Handing
    }

    /// What to do now.
    pub fn next(&mut self, now: Millis, seen: &Seen) -> Step {
        match self.stage {
            Stage::Handing => {
                let time_over = now.since(self.began) >= self.handing_ms();
                if time_over || (seen.drained && !seen.awaited) {
                    self.park_now(now);
                }
                Step::Wait(if self.is_handing() { LOOK_MS } else { 0 })
            }
            Stage::Parking { .. } => self.park(now, seen),
            Stage::Closing if seen.lines == 0 || now.since(self.parking_until()) >= self.closing_ms() / 2 => Step::Go,
            Stage::Closing => Step::Wait(LOOK_MS),
        }
    }

    fn park(&mut self, now: Millis, seen: &Seen) -> Step {
        let over = now >= self.parking_until();
        let Stage::Parking { since, again_at, pause_ms, refused, empty } = &mut self.stage else {
            return Step::Wait(LOOK_MS);
        };
        let waits = seen.beginning || (seen.awaited && now.since(*since) < LAST_WORDS_MS);
        *empty = if seen.owned == 0 && !waits { *empty + 1 } else { 0 };
        if over || *empty >= 2 {
            self.stage = Stage::Closing;
            return Step::Close;
        }
        if seen.refused > *refused {
            *again_at = now.plus(*pause_ms);
            *pause_ms = (*pause_ms * 2).min(PAUSE_MAX_MS);
        }
        *refused = seen.refused;
        if seen.owned > 0 && now >= *again_at {
            // Only who is not on the way to the disk already is concerned by the next one.
            *again_at = now.plus(LOOK_MS);
            return Step::Park;
        }
        Step::Wait(LOOK_MS)
    }
}

/// When the `place`-th client that is closed at the end should come back, in milliseconds: at the safe rate.
pub fn slot_ms(place: u64) -> u64 {
    place * 1_000 / SAFE_RATE_PER_S
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays an end with this many sessions and a disk that takes nobody; gives when it parked, closed and went.
    fn play(deadline_ms: u64, owned: u64, takes: bool) -> (Vec<u64>, u64, u64) {
        let mut stopping = Stopping::begin(Millis(1_000), deadline_ms);
        let mut seen = Seen { drained: true, owned, lines: owned, ..Seen::default() };
        let (mut now, mut parks, mut closed) = (Millis(1_000), Vec::new(), 0);
        loop {
            match stopping.next(now, &seen) {
                Step::Wait(ms) => now = now.plus(ms),
                Step::Park => {
                    parks.push(now.0 - 1_000);
                    if takes {
                        seen.owned = 0;
                    } else {
                        seen.refused += seen.owned;
                    }
                }
                Step::Close => closed = now.0 - 1_000,
                Step::Go => return (parks, closed, now.0 - 1_000),
            }
        }
    }

    #[test]
    fn a_disk_that_takes_nobody_is_tried_ever_more_seldom_and_the_deadline_is_kept() {
        let (parks, closed, gone) = play(25_000, 40, false);
        assert!(parks.len() < 20, "{} tries in 25 s: {parks:?}", parks.len());
        let pauses: Vec<u64> = parks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            pauses.windows(2).all(|pair| pair[0] <= pair[1]),
            "each pause is as long as the one before: {pauses:?}"
        );
        assert_eq!(closed, 23_500, "then everybody is closed");
        assert!(gone <= 25_000, "gone after {gone} ms");
    }

    #[test]
    fn every_deadline_is_kept_and_leaves_time_for_the_disk_and_for_closing() {
        for deadline_ms in [1, 50, 500, 1_000, 6_000, 25_000, 600_000] {
            let stopping = Stopping::begin(Millis(0), deadline_ms);
            let (handing, parking) = (stopping.handing_ms(), stopping.parking_left_ms(Millis(0)));
            assert!(handing <= parking && parking <= deadline_ms, "{deadline_ms}: {handing}, {parking}");
            let (_, closed, gone) = play(deadline_ms, 3, false);
            // The last look may come one pause late.
            assert!(closed <= parking + LOOK_MS && gone <= deadline_ms + LOOK_MS, "{deadline_ms}: {closed}, {gone}");
        }
    }

    #[test]
    fn a_disk_that_takes_everybody_ends_it_at_once() {
        let (parks, closed, _) = play(25_000, 40, true);
        assert_eq!(parks, [0]);
        assert!(closed <= 2 * LOOK_MS, "{closed}");
    }

    #[test]
    fn peers_have_their_time_and_last_words_are_waited_for() {
        let mut stopping = Stopping::begin(Millis(0), 25_000);
        let seen = Seen { drained: true, awaited: true, owned: 1, ..Seen::default() };
        assert_eq!(stopping.next(Millis(0), &seen), Step::Wait(LOOK_MS), "somebody waits for a word of this hub");
        assert_eq!(stopping.next(Millis(stopping.handing_ms()), &seen), Step::Wait(0));
        assert_eq!(stopping.next(Millis(18_500), &seen), Step::Park);
        let empty = Seen { owned: 0, ..seen };
        assert_eq!(stopping.next(Millis(18_600), &empty), Step::Wait(LOOK_MS));
        assert_eq!(stopping.next(Millis(20_600), &empty), Step::Wait(LOOK_MS), "long enough; looked at twice");
        assert_eq!(stopping.next(Millis(20_620), &empty), Step::Close);
    }
}
