//! What is due: attempts, messages, acks, goodbyes.

use super::clock::now_ns;
use super::codec;
use super::conn::Phase;
use super::engine::Engine;
use super::orders::{Kind, Traffic};
use super::read::addressed;
use super::schedule::Pace;

/// Attempts, messages or goodbyes in one turn: more would keep what has come in waiting.
const TURN_MAX: usize = 64;

/// The shortest payload of an echo in bytes: its stamp, and whose it is.
pub(crate) const ECHO_BYTES_MIN: u32 = 24;

impl Engine {
    /// Does what is due by `now_ns`.
    pub(super) fn do_what_is_due(&mut self, now: u64) {
        self.send_due_acks(now);
        for _ in 0..TURN_MAX {
            let now = now_ns();
            let Some(due) = self.schedule.next_connect(now, self.figures.progress.opening) else { break };
            self.active = true;
            self.dial(due);
            self.figures.late.note(now.saturating_sub(due));
        }
        for _ in 0..TURN_MAX {
            if self.schedule.oldest.is_empty() || self.schedule.goodbyes.take(now).is_none() {
                break;
            }
            self.say_goodbye();
        }
        self.send_due_traffic();
    }

    /// Closes the oldest connection that is still open.
    fn say_goodbye(&mut self) {
        while let Some((slot, generation)) = self.schedule.oldest.pop_front() {
            let slot = slot as usize;
            let is_it = |conn: &&mut super::conn::Conn| conn.generation == generation && conn.phase == Phase::Open;
            let Some(conn) = self.conns[slot].as_mut().filter(is_it) else { continue };
            conn.phase = Phase::Closing;
            self.figures.progress.open -= 1;
            self.figures.progress.closed += 1;
            self.figures.progress.closing += 1;
            return self.say(slot, codec::CLOSE, &1000_u16.to_be_bytes());
        }
    }

    /// Begins traffic. In a closed loop each session sends its first message now.
    pub(super) fn begin_traffic(&mut self, traffic: Traffic) {
        self.echo_bytes = traffic.payload.max(ECHO_BYTES_MIN) as usize;
        let count = if traffic.per_s.is_some() { u64::MAX } else { u64::from(traffic.sessions) };
        self.schedule.traffic = Some((traffic, Pace::new(traffic.begin_ns, traffic.per_s, count), 0));
    }

    fn send_due_traffic(&mut self) {
        for _ in 0..TURN_MAX {
            let now = now_ns();
            let sessions = self.conns.len();
            let Some((traffic, pace, turn)) = &mut self.schedule.traffic else { return };
            let Some(due) = pace.take(now) else { return };
            if due >= traffic.until_ns {
                // In a closed loop the answers decide when it ends.
                return self.schedule.traffic = None;
            }
            let (traffic, among) = (*traffic, sessions.min(traffic.sessions as usize));
            let slot = *turn % among.max(1);
            *turn = (*turn + 1) % among.max(1);
            self.figures.late.note(now - due);
            // Open loop: the message counts from when it was due. Closed: from now, there is no plan.
            self.send_stamped(slot, traffic, if traffic.per_s.is_some() { due } else { now });
        }
    }

    fn send_stamped(&mut self, slot: usize, traffic: Traffic, stamp: u64) {
        let conn = self.conns.get_mut(slot).and_then(Option::as_mut).filter(|conn| conn.phase == Phase::Open);
        let Some(conn) = conn else { return self.figures.error("not sent: the connection is not open") };
        // A stamp names the message; two that were due in one nanosecond are two all the same.
        let stamp = stamp.max(conn.sent_ns + 1);
        conn.sent_ns = stamp;
        let who = self.setup.who(conn.generation);
        self.active = true;
        self.figures.progress.sent += 1;
        match traffic.kind {
            Kind::Echo => {
                let text = addressed(stamp, who, traffic.payload.max(ECHO_BYTES_MIN) as usize);
                self.say(slot, codec::TEXT, text.as_bytes());
            }
            Kind::Ping => self.say(slot, codec::PING, &stamp.to_be_bytes()),
        }
    }

    /// A message of ours is back.
    pub(super) fn came_back(&mut self, slot: usize, stamp: u64, kind: Kind) {
        let now = now_ns();
        self.active = true;
        let Some(conn) = self.conns[slot].as_mut() else { return };
        if stamp > conn.sent_ns || stamp <= conn.echoed_ns {
            return self.figures.wrong("an answer came twice, out of order, or to what was never sent");
        }
        conn.echoed_ns = stamp;
        self.figures.progress.echoed += 1;
        self.figures.echo.note(now.saturating_sub(stamp));
        if let Some((traffic, ..)) = self.schedule.traffic
            && traffic.per_s.is_none()
            && traffic.kind == kind
            && now < traffic.until_ns
        {
            self.send_stamped(slot, traffic, now);
        }
    }
}
