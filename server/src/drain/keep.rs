//! The last report outlives the process: it is on disk before anybody can read it.

use super::Driver;
use crate::hub::Hub;
use crate::store::ReportFile;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::control::DrainReport;
use tokio::task::JoinHandle;

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
