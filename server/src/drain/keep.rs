//! The last report outlives the process: it is on disk before anybody can read it.

use super::Driver;
use crate::hub::Hub;
use crate::store::ReportFile;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, Phase};
use tidegate_protocol::drain::Drain;
use tokio::task::JoinHandle;

/// How long a report is waited for after *drained* can be seen; it is a matter of milliseconds.
const REPORT_WAIT: Duration = Duration::from_secs(3);

/// Where reports go, one after the other.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    file: Option<ReportFile>,
    writing: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    fn writing(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes it, then shows it. A disk that refuses costs the next process the report, and nobody else anything.
    pub(super) fn keep(&self, hub: &Arc<Hub>, report: DrainReport) {
        let Some(file) = self.file.clone() else { return hub.drain.show_report(report) };
        let mut writing = self.writing();
        let (before, hub) = (writing.take(), hub.clone());
        *writing = Some(tokio::spawn(async move {
            if let Some(before) = before {
                // Its outcome was told by itself; only the order matters here.
                drop(before.await);
            }
            let text = serde_json::to_string(&report).expect("plain structs with string keys");
            match tokio::task::spawn_blocking(move || file.write(&text)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the drain report is not kept for the next process"),
                Err(error) => tracing::warn!(%error, "the drain report is not kept for the next process"),
            }
            hub.drain.show_report(report);
        }));
    }
}

impl Driver {
    /// The last report. Whoever saw *drained*, or called the drain off, gets that drain's report: it is waited for, shortly.
    pub async fn report(&self) -> Option<DrainReport> {
        let mut changed = self.changed.subscribe();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                let kept = self.kept_report();
                // One that serves (again) has ended, too.
                let over = |machine: &&Drain| matches!(machine.phase(), Phase::Drained | Phase::Serving);
                let ended = self.machine().as_ref().filter(over).map(Drain::id);
                let missing = ended.is_some_and(|ended| kept.as_ref().is_none_or(|kept| kept.drain != ended));
                if !missing || changed.changed().await.is_err() {
                    return kept;
                }
            }
        };
        tokio::time::timeout(REPORT_WAIT, waiting).await.unwrap_or_else(|_| self.kept_report())
    }

    fn kept_report(&self) -> Option<DrainReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A driver whose reports are kept in this file, and that shows the one which an earlier run left there. Blocks
    /// for as long as a small file takes to be read.
    pub fn keeping(file: ReportFile) -> Self {
        let earlier = file.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "the last drain report cannot be read");
            None
        });
        let earlier = earlier.and_then(|text| {
            let report = serde_json::from_str::<DrainReport>(&text);
            report.inspect_err(|error| tracing::warn!(%error, "the last drain report is damaged, and passed over")).ok()
        });
        let earlier = earlier.map(|report| DrainReport { earlier_run: true, ..report });
        Self {
            report: Mutex::new(earlier),
            keeper: Keeper { file: Some(file), writing: Mutex::default() },
            ..Self::default()
        }
    }

    /// Waits until every report that was made is on disk.
    pub async fn kept(&self) {
        let writing = self.keeper.writing().take();
        if let Some(writing) = writing {
            // It was told by itself how that went.
            drop(writing.await);
        }
    }
}
