//! What ever showed above zero in the metrics of any hub that is watched.

use http::Method;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate_tests::{Hub, Private, wait_until};

/// How often a hub is asked: some gauges are above zero for a moment only.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The series that moved, by name and labels as Prometheus writes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book(Arc<Mutex<BTreeSet<String>>>);

impl Book {
    /// Reads a hub's metrics over and over, until it is gone.
    pub(crate) fn watch(&self, hub: &Hub) {
        let (book, api) = (self.clone(), hub.api.clone());
        tokio::spawn(async move {
            while let Some(text) = scrape(&api).await {
                book.note(&text);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    fn note(&self, text: &str) {
        let above = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            value.parse::<f64>().is_ok_and(|value| value > 0.0).then(|| series.to_owned())
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(above);
    }

    /// Whether a series moved whose name and first labels are these. A histogram moves with its count.
    pub(crate) fn has(&self, series: &str) -> bool {
        let (bare, counted) = (format!("{series}{{"), format!("{series}_count"));
        let moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moved.iter().any(|one| one == series || one.starts_with(&bare) || one.starts_with(&counted))
    }

    /// Waits until all of these have moved.
    pub(crate) async fn wait(&self, series: &[&str]) {
        wait_until(&format!("{series:?} to move"), async || {
            let still: Vec<_> = series.iter().filter(|one| !self.has(one)).collect();
            if still.is_empty() { Ok(()) } else { Err(format!("{still:?} stand still")) }
        })
        .await;
    }

    /// The same for reasons of `tidegate_rejected_total`.
    pub(crate) async fn wait_rejected(&self, why: &[&str]) {
        let series: Vec<String> = why.iter().map(|why| rejected(why)).collect();
        self.wait(&series.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

/// The series of a reason.
pub(crate) fn rejected(why: &str) -> String {
    format!("tidegate_rejected_total{{why=\"{why}\"}}")
}

async fn scrape(api: &Private) -> Option<String> {
    let answer = api.try_send(Method::GET, "/metrics", &[], "").await.ok()?;
    Some(String::from_utf8_lossy(&answer.body).into_owned())
}
