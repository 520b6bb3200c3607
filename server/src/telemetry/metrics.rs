//! Every metric: name, unit and help in one list, and handles registered once, so that counting is
//! one atomic step and no lookup. Each hub has a recorder of its own; several may live in one process.

use super::claims::ClaimGauges;
use super::labels::{
    AppTrouble, DialResult, Direction, Held, Label, Outcome, PeerResult, PeerTrouble, Rejected, SessionPhase,
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::fmt;
use std::marker::PhantomData;

/// How often [`Metrics::upkeep`] should be called: samples of histograms wait until then or the next scrape.
pub const UPKEEP_EVERY_MS: u64 = 5_000;

/// What the values of `tidegate_drain_phase` mean, by index.
pub const DRAIN_PHASES: [&str; 7] = ["serving", "noticing", "releasing", "held", "settling", "forcing", "drained"];

/// Upper bounds of the buckets of handover and gap times, in seconds.
const BUCKETS_SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const METADATA: Metadata<'static> = Metadata::new("tidegate", Level::INFO, None);

/// What kind a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric as Prometheus describes it: name, kind, unit, help.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    /// Name, with the unit or `_total` at its end.
    pub name: &'static str,
    kind: Kind,
    unit: Unit,
    /// What it counts.
    pub help: &'static str,
}

macro_rules! metrics {
    ($( $field:ident: $type:ty = $name:literal, $kind:ident, $unit:ident, $help:literal; )*) => {
        /// Every metric of a hub.
        pub const METRICS: &[Described] = &[
            $( Described { name: $name, kind: Kind::$kind, unit: Unit::$unit, help: $help }, )*
        ];

        /// Handles of all metrics of one hub, and their text form.
        pub struct Metrics {
            $( #[doc = $help] pub $field: $type, )*
            recorder: PrometheusRecorder,
            handle: PrometheusHandle,
        }

        impl Metrics {
            fn register(recorder: PrometheusRecorder) -> Self {
                let handle = recorder.handle();
                Self { $( $field: <$type as Register>::register(&recorder, $name, Vec::new()), )* recorder, handle }
            }
        }
    };
}

metrics! {
    sessions: ByLabel<Gauge, SessionPhase> = "tidegate_sessions", Gauge, Count, "Sessions of this hub by phase";
    connections: Gauge = "tidegate_connections", Gauge, Count, "Client connections that are open";
    http_connections: Gauge = "tidegate_http_connections", Gauge, Count, "Connections of the public listener that stay open for another plain HTTP request";
    messages: ByLabel<Counter, Direction> = "tidegate_messages_total", Counter, Count, "App messages by direction";
    bytes: ByLabel<Counter, Direction> = "tidegate_bytes_total", Counter, Bytes, "Payload bytes of app messages by direction";
    unacked_bytes: Gauge = "tidegate_unacked_bytes", Gauge, Bytes, "Bytes of app messages kept until clients ack them";
    replayed: Counter = "tidegate_replayed_messages_total", Counter, Count, "Messages sent again after a resume";
    resumes: Counter = "tidegate_resumes_total", Counter, Count, "Sessions resumed by their clients";
    resets: Counter = "tidegate_resets_total", Counter, Count, "Sessions whose continuity was lost, and whose client and app were told";
    gaps: Counter = "tidegate_gaps_total", Counter, Count, "Gaps declared to clients";
    rejected: ByLabel<Counter, Rejected> = "tidegate_rejected_total", Counter, Count, "What was turned away, by reason";
    drain_phase: Gauge = "tidegate_drain_phase", Gauge, Count, "Phase of the drain: 0 serving, 1 noticing, 2 releasing, 3 held, 4 settling, 5 forcing, 6 drained";
    drain_sessions: ByLabel<Gauge, Outcome> = "tidegate_drain_sessions", Gauge, Count, "Sessions of the last drain by outcome";
    drain_claims: ClaimGauges = "tidegate_drain_claims", Gauge, Count, "Claims that keep this hub drained, by claimant and event; 0 once they have ended";
    drain_held: ByLabel<Gauge, Held> = "tidegate_drain_held", Gauge, Count, "1 while the drain moves nobody for this reason";
    drain_cut: Gauge = "tidegate_drain_cut", Gauge, Count, "Connections that the last drain closed at its deadline although their sessions were kept";
    drain_unroutable: Gauge = "tidegate_drain_unroutable", Gauge, Count, "Sessions whose clients keep coming back to this hub that drains";
    drain_in_flight: Gauge = "tidegate_drain_in_flight", Gauge, Count, "Moves that are ordered and not live yet";
    drain_blockers: Gauge = "tidegate_drain_blockers", Gauge, Count, "What stands in the way of the drain: hubs that take nobody, addresses where nobody is found";
    drain_refused: Counter = "tidegate_drain_refused_total", Counter, Count, "Drains that were refused because they would have parked sessions unasked";
    room: Gauge = "tidegate_room", Gauge, Count, "For how many more sessions this hub has room";
    handover_seconds: Histogram = "tidegate_handover_seconds", Histogram, Seconds, "Time from move or push to live, per session handed over";
    gap_seconds: Histogram = "tidegate_gap_seconds", Histogram, Seconds, "Time in which a connected session was not served: freeze to committed, committed to welcome";
    admission_seconds: Histogram = "tidegate_admission_seconds", Histogram, Seconds, "Time from a client's hello to its welcome; peers that drain pace by it";
    app_dials: ByLabel<Counter, DialResult> = "tidegate_app_dials_total", Counter, Count, "Dials of the app by result";
    app_events: ByLabel<Counter, DialResult> = "tidegate_app_events_total", Counter, Count, "Posts of app events by result";
    app_troubles: ByLabel<Counter, AppTrouble> = "tidegate_app_troubles_total", Counter, Count, "What apps did that their clients felt, by reason";
    peer_messages: PeerMessages = "tidegate_peer_messages_total", Counter, Count, "Messages to other hubs by kind and result";
    peers: Gauge = "tidegate_peers", Gauge, Count, "Hubs that this one knows and hears";
    peers_failing: ByLabel<Gauge, PeerTrouble> = "tidegate_peers_failing", Gauge, Count, "Hubs that should be there and did not answer the last hello, by reason";
    parked_elsewhere: Gauge = "tidegate_parked_elsewhere", Gauge, Count, "Sessions that wait on the disks of hubs that have parked and do not serve: they are not reset while those are expected back";
    parked_bytes: Gauge = "tidegate_parked_bytes", Gauge, Bytes, "Size of the log of parked sessions on disk";
    log_lines_dropped: Counter = "tidegate_log_lines_dropped_total", Counter, Count, "Log lines that stderr did not take in time";
    start_time: Gauge = "process_start_time_seconds", Gauge, Seconds, "When this process started, in seconds since 1970";
}

impl Metrics {
    /// A recorder of its own with every metric at zero. `started_unix_ms` is the wall clock at the start.
    pub fn new(started_unix_ms: u64) -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &BUCKETS_SECONDS)
                .expect("the list of buckets is not empty");
        }
        let recorder = builder.build_recorder();
        for metric in METRICS {
            let (name, unit) = (KeyName::from_const_str(metric.name), Some(metric.unit));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(name, unit, metric.help.into()),
                Kind::Histogram => recorder.describe_histogram(name, unit, metric.help.into()),
            }
        }
        let metrics = Self::register(recorder);
        metrics.start_time.set(started_unix_ms as f64 / 1000.0);
        metrics
    }

    /// Counts one message to a peer. `kind` names the message, as in the protocol.
    pub fn peer_message(&self, kind: &'static str, result: PeerResult) {
        let labels = vec![
            metrics::Label::from_static_parts("kind", kind),
            metrics::Label::from_static_parts(PeerResult::NAME, result.text()),
        ];
        let key = Key::from_parts(self.peer_messages.name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// Shows who keeps this hub drained.
    pub fn drain_claims(&self, claims: &[tidegate_protocol::control::ClaimStatus]) {
        self.drain_claims.show(&self.recorder, claims);
    }

    /// Records one handover, from move or push to live.
    pub fn handover_ms(&self, ms: u64) {
        self.handover_seconds.record(ms as f64 / 1000.0);
    }

    /// Records the time in which one connected session was not served.
    pub fn gap_ms(&self, ms: u64) {
        self.gap_seconds.record(ms as f64 / 1000.0);
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.log_lines_dropped.absolute(super::logs::lines_dropped());
        self.handle.render()
    }

    /// Folds waiting samples of histograms; without it they pile up until somebody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Something that a recorder makes from a name and labels.
pub(super) trait Register: Sized {
    fn register(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<metrics::Label>) -> Self;
}

impl Register for Counter {
    fn register(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<metrics::Label>) -> Self {
        recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }
}

impl Register for Gauge {
    fn register(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<metrics::Label>) -> Self {
        recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }
}

impl Register for Histogram {
    fn register(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<metrics::Label>) -> Self {
        recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }
}

/// One handle for each value of a label.
pub struct ByLabel<T, L> {
    handles: Box<[T]>,
    label: PhantomData<L>,
}

impl<T: Register, L: Label> Register for ByLabel<T, L> {
    fn register(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<metrics::Label>) -> Self {
        let one = |value: &L| {
            let mut labels = labels.clone();
            labels.push(metrics::Label::from_static_parts(L::NAME, value.text()));
            T::register(recorder, name, labels)
        };
        Self { handles: L::ALL.iter().map(one).collect(), label: PhantomData }
    }
}

impl<T, L: Label> ByLabel<T, L> {
    /// The handle for one value.
    pub fn of(&self, value: L) -> &T {
        &self.handles[value.index()]
    }
}

/// Counters that are registered as kinds come up; see [`Metrics::peer_message`].
pub struct PeerMessages {
    name: &'static str,
}

impl Register for PeerMessages {
    fn register(_: &PrometheusRecorder, name: &'static str, _: Vec<metrics::Label>) -> Self {
        Self { name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(start)).collect();
        assert_eq!(lines.len(), 1, "one line should start with {start:?}:\n{text}");
        lines[0]
    }

    #[test]
    fn the_metrics_of_the_contract_are_there_from_the_start_with_help_and_labels() {
        let text = Metrics::new(1_800_000_000_500).render();
        for start in [
            "tidegate_sessions{phase=\"attached\"} 0",
            "tidegate_sessions{phase=\"parked\"} 0",
            "tidegate_connections 0",
            "tidegate_messages_total{direction=\"to_client\"} 0",
            "tidegate_drain_phase 0",
            "tidegate_drain_sessions{outcome=\"unconfirmed\"} 0",
            "tidegate_rejected_total{why=\"token_reuse\"} 0",
            "process_start_time_seconds 1800000000.5",
            "# HELP tidegate_sessions ",
            "# TYPE tidegate_messages_total counter",
            "# TYPE tidegate_drain_phase gauge",
        ] {
            line(&text, start);
        }
    }

    #[test]
    fn what_is_counted_shows_and_another_hub_in_the_process_does_not_see_it() {
        let (one, other) = (Metrics::new(0), Metrics::new(0));
        one.messages.of(Direction::FromClient).increment(3);
        one.sessions.of(SessionPhase::Detached).set(7.0);
        one.rejected.of(Rejected::TokenReuse).increment(2);
        one.peer_message("claim", PeerResult::Timeout);
        one.peer_message("claim", PeerResult::Timeout);
        let text = one.render();
        line(&text, "tidegate_messages_total{direction=\"from_client\"} 3");
        line(&text, "tidegate_sessions{phase=\"detached\"} 7");
        line(&text, "tidegate_rejected_total{why=\"token_reuse\"} 2");
        line(&text, "tidegate_peer_messages_total{kind=\"claim\",result=\"timeout\"} 2");
        line(&other.render(), "tidegate_messages_total{direction=\"from_client\"} 0");
    }

    #[test]
    fn times_are_histograms_with_buckets_that_also_survive_upkeep() {
        let metrics = Metrics::new(0);
        metrics.gap_ms(30);
        metrics.upkeep();
        metrics.handover_ms(300);
        let text = metrics.render();
        line(&text, "# TYPE tidegate_gap_seconds histogram");
        line(&text, "tidegate_gap_seconds_bucket{le=\"0.025\"} 0");
        line(&text, "tidegate_gap_seconds_bucket{le=\"0.05\"} 1");
        line(&text, "tidegate_handover_seconds_count 1");
    }

    #[test]
    fn every_metric_is_named_once_and_by_the_rules_of_prometheus() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "two metrics share a name");
        for metric in METRICS {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn each_label_value_has_the_place_that_it_says() {
        fn check<L: Label + PartialEq + fmt::Debug>() {
            for (place, value) in L::ALL.iter().enumerate() {
                assert_eq!(value.index(), place, "{value:?}");
            }
        }
        check::<SessionPhase>();
        check::<Direction>();
        check::<Outcome>();
        check::<Rejected>();
        check::<DialResult>();
        check::<AppTrouble>();
        check::<PeerResult>();
    }
}
