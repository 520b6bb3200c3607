//! Who keeps this hub drained, as a metric: one gauge for each claimant and event, 1 while the claim is there.

use super::metrics::Register;
use metrics::{Gauge, Label};
use metrics_exporter_prometheus::PrometheusRecorder;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tidegate_protocol::control::ClaimStatus;

/// Claimants with a time series of their own; further ones share the name `other`.
const SERIES_MAX: usize = 64;
/// Claims without a name, which would be a new series each.
const UNNAMED: &str = "unnamed";
const OTHER: &str = "other";

/// The gauges so far. One whose claim has ended stays, at 0, so that an alert ends with it.
pub struct ClaimGauges {
    name: &'static str,
    series: Mutex<BTreeMap<(String, String), Gauge>>,
}

impl Register for ClaimGauges {
    fn register(_: &PrometheusRecorder, name: &'static str, _: Vec<Label>) -> Self {
        Self { name, series: Mutex::default() }
    }
}

impl ClaimGauges {
    /// Shows these claims, and no others.
    pub(super) fn show(&self, recorder: &PrometheusRecorder, claims: &[ClaimStatus]) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.values().for_each(|gauge| gauge.set(0.0));
        for claim in claims {
            let named = !claim.claimant.starts_with("run ") && claim.claimant != "anonymous";
            let event = claim.event.clone().unwrap_or_else(|| "none".to_owned());
            let mut key = (if named { claim.claimant.clone() } else { UNNAMED.to_owned() }, event);
            if series.len() >= SERIES_MAX && !series.contains_key(&key) {
                key = (OTHER.to_owned(), "none".to_owned());
            }
            let labels = || vec![Label::new("claimant", key.0.clone()), Label::new("event", key.1.clone())];
            let gauge = series.entry(key.clone()).or_insert_with(|| Gauge::register(recorder, self.name, labels()));
            gauge.increment(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;
    use tidegate_protocol::control::{ClaimLife, ClaimStatus};

    fn claim(claimant: &str, event: Option<&str>) -> ClaimStatus {
        let (event, life) = (event.map(str::to_owned), ClaimLife::Kept);
        ClaimStatus { claimant: claimant.to_owned(), event, deployment: None, life, since_ms: 0, ends_in_ms: None }
    }

    fn lines(metrics: &Metrics) -> Vec<String> {
        let text = metrics.render();
        text.lines().filter(|line| line.starts_with("tidegate_drain_claims{")).map(str::to_owned).collect()
    }

    #[test]
    fn a_claim_shows_while_it_is_there_and_falls_to_0_after_it() {
        let metrics = Metrics::new(0);
        metrics.drain_claims(&[
            claim("shop/blue", Some("BeforeBlockTraffic")),
            claim("run a", None),
            claim("run b", None),
        ]);
        let blue = "tidegate_drain_claims{claimant=\"shop/blue\",event=\"BeforeBlockTraffic\"}";
        let mut shown = lines(&metrics);
        shown.sort();
        assert_eq!(
            shown,
            [format!("{blue} 1"), "tidegate_drain_claims{claimant=\"unnamed\",event=\"none\"} 2".to_owned()]
        );
        metrics.drain_claims(&[]);
        assert!(lines(&metrics).contains(&format!("{blue} 0")), "{:?}", lines(&metrics));
    }

    #[test]
    fn the_number_of_series_is_bounded() {
        let metrics = Metrics::new(0);
        for n in 0..super::SERIES_MAX * 2 {
            metrics.drain_claims(&[claim(&format!("shop/{n}"), None)]);
        }
        let shown = lines(&metrics);
        assert_eq!(shown.len(), super::SERIES_MAX + 1);
        assert!(shown.contains(&"tidegate_drain_claims{claimant=\"other\",event=\"none\"} 1".to_owned()), "{shown:?}");
    }
}
