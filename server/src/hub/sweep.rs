//! What is looked after once a tick: silent connections and silent apps, JWTs that ran out, tombstones that nobody
//! reported, and the gauges. A JWT's end has no timer: it may be years away, and the clock may be corrected until then.

use super::Hub;
use crate::app;
use std::sync::Arc;
use tidegate_protocol::session::{Link, State};
use tokio::time::Duration;

/// A walk over all sessions costs some 0.3 us for each: a hub rests one tick more for so many sessions.
const SESSIONS_PER_TICK: usize = 4096;
/// A heartbeat is late by this part of itself at most.
const LOOKS_PER_HEARTBEAT: u32 = 5;
/// Gauges are older than this and one tick in no case.
const TICKS_TO_REST_MAX: u32 = 4;

/// Looks after connections, apps' sockets and numbers: asks the silent ones, closes the dead ones. Once a tick, and the more
/// sessions there are the more seldom.
pub async fn sweep(hub: Arc<Hub>, every: Duration) {
    const MISSED_MAX: u32 = 3;
    let mut tick = tokio::time::interval(every);
    let heartbeat_s = (hub.config.limits.heartbeat_ms / 1000).max(1) as u32;
    loop {
        tick.tick().await;
        for _ in 0..ticks_to_rest(hub.cell_count(), heartbeat_s) {
            tick.tick().await;
        }
        let now_s = hub.now_s();
        for conn in hub.all_connections() {
            let silent_s = conn.silent_s(now_s);
            if silent_s < heartbeat_s * (conn.asked() + 1) {
                continue;
            }
            if conn.ask() > MISSED_MAX {
                conn.close(tidegate_protocol::close::Close::Heartbeat, "nothing heard for three heartbeats");
            } else {
                conn.ping();
            }
        }
        hub.gauge(now_s, heartbeat_s);
        hub.metrics.upkeep();
    }
}

fn ticks_to_rest(sessions: usize, heartbeat_s: u32) -> u32 {
    let bearable = (heartbeat_s / LOOKS_PER_HEARTBEAT).saturating_sub(1);
    bearable.min(TICKS_TO_REST_MAX).min((sessions / SESSIONS_PER_TICK) as u32)
}

impl Hub {
    fn gauge(self: &Arc<Self>, now_s: u32, heartbeat_s: u32) {
        use crate::telemetry::SessionPhase as Phase;
        let mut counts = [0u64; 4];
        let (mut gone, mut ran_out) = (Vec::new(), Vec::new());
        let judged_at = self.auth.is_needed().then(|| self.unix_ms());
        let (mut unacked_bytes, mut away_bytes) = (0, 0);
        for cell in self.all_cells() {
            let inner = cell.lock();
            app::beat(self, &cell, &inner, now_s, heartbeat_s);
            ran_out.extend(judged_at.and_then(|now_unix_ms| Self::has_run_out(&inner, now_unix_ms)));
            let held = inner.session.record().map_or(0, |record| record.outbox.bytes() as u64);
            unacked_bytes += held;
            match inner.session.state() {
                State::Serving { link: Link::Attached { .. }, .. } => counts[0] += 1,
                State::Serving { .. } => {
                    counts[1] += 1;
                    away_bytes += held;
                }
                State::Frozen { .. } => counts[2] += 1,
                State::Copy { .. } => counts[3] += 1,
                // A copy that was aborted or ran out leaves one of these without a word to anybody.
                State::Nothing | State::Moved { .. } | State::Ended { .. } => gone.push(cell.id),
                State::Given { .. } | State::Parked { .. } => {}
            }
        }
        self.bury(gone);
        self.bound_away(away_bytes);
        ran_out.iter().for_each(|conn| self.run_out(conn));
        for (phase, count) in [Phase::Attached, Phase::Detached, Phase::Frozen, Phase::Copy].into_iter().zip(counts) {
            self.metrics.sessions.of(phase).set(count as f64);
        }
        let stats = self.store.stats();
        self.metrics.sessions.of(Phase::Parked).set(stats.parked as f64);
        let elsewhere: u64 = self.parked_elsewhere_counts().values().sum();
        self.metrics.parked_elsewhere.set(elsewhere as f64);
        self.metrics.parked_bytes.set(stats.log_bytes as f64);
        self.metrics.unacked_bytes.set(unacked_bytes as f64);
        self.metrics.room.set(self.places() as f64);
        self.metrics.connections.set(self.connection_count() as f64);
        self.metrics.http_connections.set(self.entrance.http_open() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_hub_looks_more_seldom_and_never_misses_a_heartbeat() {
        assert_eq!(ticks_to_rest(4_095, 25), 0, "a small hub looks in every tick");
        assert_eq!(ticks_to_rest(18_000, 25), 4);
        assert_eq!(ticks_to_rest(1_000_000, 25), 4, "a fifth of a heartbeat at most");
        assert_eq!(ticks_to_rest(1_000_000, 3_600), 4, "gauges stay fresh");
        assert_eq!(ticks_to_rest(1_000_000, 1), 0);
    }
}
