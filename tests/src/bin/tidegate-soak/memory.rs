//! The memory of the hub that lasts: sampled all the time, and a line through it in the end.

use crate::fleet::{Fleet, LASTING};
use crate::tally::Tally;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// The share of the run at its begin in which tables and pools fill, in percent.
const WARM_UP_PERCENT: usize = 40;
/// The steepest line that still counts as flat, in KiB a minute: what a run of some minutes can tell from noise.
const FLAT_KIB_PER_MINUTE: f64 = 400.0;
/// Fewer samples than these say nothing; such a run is too short to judge memory by.
const SAMPLES_MIN: usize = 60;

/// A watch that runs.
pub(crate) struct Memory {
    stop: watch::Sender<bool>,
    samples: JoinHandle<Vec<(f64, f64)>>,
}

/// What the samples come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slope {
    /// KiB a minute, by least squares after the warm-up.
    pub(crate) kib_per_minute: f64,
    /// The mean after the warm-up, in KiB.
    pub(crate) mean_kib: f64,
    /// How many samples it is made of.
    pub(crate) samples: usize,
}

/// Begins to look.
pub(crate) fn watch(fleet: &Fleet, tally: Arc<Tally>) -> Memory {
    let (hub, stop) = (fleet.hub(LASTING), watch::Sender::new(false));
    let mut stopped = stop.subscribe();
    let samples = tokio::spawn(async move {
        let (began, mut samples) = (Instant::now(), Vec::new());
        while !*stopped.borrow() {
            if !hub.is_over() {
                let kib = hub.memory_kib();
                tally.memory_kib(kib);
                samples.push((began.elapsed().as_secs_f64() / 60.0, kib as f64));
            }
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                _ = stopped.changed() => {}
            }
        }
        samples
    });
    Memory { stop, samples }
}

impl Memory {
    /// The line through all that was seen.
    pub(crate) async fn close(self) -> Slope {
        self.stop.send_replace(true);
        let samples = self.samples.await.unwrap_or_default();
        let warm = &samples[samples.len() * WARM_UP_PERCENT / 100..];
        Slope::through(warm)
    }
}

impl Slope {
    fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len().max(1) as f64;
        let (mean_at, mean_kib) = (
            points.iter().map(|point| point.0).sum::<f64>() / count,
            points.iter().map(|point| point.1).sum::<f64>() / count,
        );
        let (mut above, mut below) = (0.0, 0.0);
        for (at, kib) in points {
            above += (at - mean_at) * (kib - mean_kib);
            below += (at - mean_at).powi(2);
        }
        let kib_per_minute = if below > 0.0 { above / below } else { 0.0 };
        Self { kib_per_minute, mean_kib, samples: points.len() }
    }

    /// Whether the memory stayed where it was, as far as the run is long enough to tell.
    pub(crate) fn is_flat(&self) -> bool {
        self.samples < SAMPLES_MIN || self.kib_per_minute < FLAT_KIB_PER_MINUTE
    }
}

impl fmt::Display for Slope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.samples < SAMPLES_MIN, self.is_flat()) {
            (true, _) => "too short a run to judge",
            (false, true) => "flat",
            (false, false) => "NOT FLAT",
        };
        write!(
            f,
            "memory of the hub that lasts: {:.1} MiB, {:+.0} KiB a minute over {} samples (at most {FLAT_KIB_PER_MINUTE}): {verdict}",
            self.mean_kib / 1024.0,
            self.kib_per_minute,
            self.samples
        )
    }
}
