//! From the clients' outcomes and the hub's report to one verdict.

use super::client::Outcome;
use hdrhistogram::Histogram;
use serde::Serialize;
use tidegate_protocol::control::{DrainReport, DrainResult};

/// How many faults are named.
pub(crate) const FAULTS_NAMED: usize = 10;

/// The last line on stdout of `drain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// Clients.
    pub(crate) users: u64,
    /// Clients whose session lives on another hub than at first.
    pub(crate) moved: u64,
    /// Sessions that the hub could neither push nor park, by its report.
    pub(crate) forced: u64,
    /// Messages that never came and were never declared, both directions.
    pub(crate) lost: u64,
    /// Messages that came twice.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
    /// Gaps that hubs declared to clients.
    pub(crate) declared_gaps: u64,
    /// Sessions that lost continuity and were told.
    pub(crate) resets: u64,
    /// Clients that were asked for their account and could not settle it.
    pub(crate) unsettled: u64,
    /// Without a usable connection around a change, as clients saw it: from the hello on the second
    /// connection (the hub freezes after it) or the loss of the first, to `welcome`.
    pub(crate) gap_ms_p50: Option<f64>,
    /// 99 of 100 clients not longer than this.
    pub(crate) gap_ms_p99: Option<f64>,
    /// The longest.
    pub(crate) gap_ms_max: Option<f64>,
    /// The hub's own figure: freeze to welcome, on the clocks of the two hubs.
    pub(crate) hub_gap_ms_p99: Option<u64>,
    /// Numbered messages sent by clients.
    pub(crate) messages_up: u64,
    /// Numbered messages received by clients.
    pub(crate) messages_down: u64,
    /// How the drain ended, by the hub's report.
    pub(crate) result: Option<DrainResult>,
    /// How long the drain took, by the hub's report.
    pub(crate) drain_ms: Option<u64>,
    /// Whether clients and hub tell the same story of moved, lost and gaps.
    pub(crate) agrees: bool,
}

impl Verdict {
    /// Whether everything was as it must be. Of a client that was reset nobody knows what it lost.
    pub(crate) fn is_clean(&self) -> bool {
        let wrong = [self.lost, self.duplicated, self.reordered, self.unsettled, self.resets, self.forced];
        wrong.iter().all(|count| *count == 0) && self.agrees
    }
}

/// Adds up the outcomes, compares with the hub's report, and names the faults (the first
/// [`FAULTS_NAMED`]; disagreements come first).
pub(crate) fn judge(outcomes: &[Outcome], report: Result<&DrainReport, &str>) -> (Verdict, Vec<String>) {
    let mut verdict = Verdict { users: outcomes.len() as u64, ..Verdict::default() };
    let mut faults = Vec::new();
    // Three digits of one minute in microseconds: a few kilobytes.
    let mut gaps = Histogram::<u64>::new_with_max(60_000_000, 3).expect("fixed bounds that the histogram allows");
    for outcome in outcomes {
        verdict.moved += u64::from(outcome.first_hub != outcome.last_hub && outcome.resets == 0);
        verdict.lost += outcome.account.lost;
        verdict.duplicated += outcome.account.duplicated;
        verdict.reordered += outcome.account.reordered;
        verdict.declared_gaps += outcome.declared_gaps;
        verdict.resets += outcome.resets;
        verdict.unsettled += u64::from(!outcome.answered && outcome.resets == 0);
        verdict.messages_up += outcome.sent_up;
        verdict.messages_down += outcome.received_down;
        if let Some(gap_us) = outcome.gap_us {
            gaps.saturating_record(gap_us);
        }
        let session = outcome.session.map_or_else(|| "no session".to_owned(), |session| format!("session {session}"));
        let named = outcome.account.faults.iter().map(|fault| format!("client {} ({session}): {fault}", outcome.index));
        faults.extend(named);
    }
    let ms =
        |quantile: f64| (!gaps.is_empty()).then(|| (gaps.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0);
    (verdict.gap_ms_p50, verdict.gap_ms_p99, verdict.gap_ms_max) = (ms(0.5), ms(0.99), ms(1.0));
    let disagreements = match report {
        Ok(report) => {
            verdict.forced = report.sessions.counts.forced;
            verdict.hub_gap_ms_p99 = report.gap_ms.p99;
            verdict.result = Some(report.result);
            verdict.drain_ms = Some(report.took_ms);
            disagreements(&verdict, report)
        }
        Err(why) => vec![format!("no report of the hub to compare with: {why}")],
    };
    verdict.agrees = disagreements.is_empty();
    faults.splice(0..0, disagreements.into_iter().chain(explained(&verdict, report.ok())));
    let more = faults.len().saturating_sub(FAULTS_NAMED);
    faults.truncate(FAULTS_NAMED);
    if more > 0 {
        faults.push(format!("… and {more} more"));
    }
    (verdict, faults)
}

/// What stands behind counts that are not zero.
fn explained(verdict: &Verdict, report: Option<&DrainReport>) -> Vec<String> {
    let mut why = Vec::new();
    let parked = report.map_or(0, |report| report.sessions.counts.parked);
    if parked > 0 && verdict.unsettled > 0 {
        why.push(format!(
            "the hub has parked {parked} sessions on disk: start the next process on its --data-dir and address within --answer; \
             until then what was not confirmed counts as lost"
        ));
    }
    if verdict.resets > 0 {
        why.push(format!("{} clients were reset: what they lost by it is in no other count", verdict.resets));
    }
    if verdict.forced > 0 {
        why.push(format!("the hub could neither push nor park {} sessions", verdict.forced));
    }
    why
}

/// Where clients and hub differ. A hub that held more sessions than ours may report more than we
/// saw, never less.
fn disagreements(verdict: &Verdict, report: &DrainReport) -> Vec<String> {
    let counts = &report.sessions.counts;
    let others = counts.at_start + counts.arrived > verdict.users;
    let compared = [
        ("moved sessions", verdict.moved, counts.moved),
        ("lost messages", verdict.lost, report.messages.lost),
        ("declared gaps", verdict.declared_gaps, report.messages.gaps),
    ];
    let differs = |(_, ours, theirs): &(&str, u64, u64)| if others { ours > theirs } else { ours != theirs };
    compared
        .into_iter()
        .filter(differs)
        .map(|(what, ours, theirs)| format!("{what}: the clients saw {ours}, the hub reports {theirs}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::ledger::Account;
    use tidegate_protocol::id::HubId;

    fn moved_client(index: usize) -> Outcome {
        Outcome {
            index,
            first_hub: Some(HubId(1)),
            last_hub: Some(HubId(2)),
            answered: true,
            gap_us: Some(2_000 + index as u64),
            sent_up: 10,
            received_down: 12,
            ..Outcome::default()
        }
    }

    fn report(moved: u64, lost: u64, gaps: u64, at_start: u64) -> DrainReport {
        let text = format!(
            r#"{{"drain":"00000000000000ab","result":"drained","started_at":"2026-11-22T00:00:00Z","took_ms":900,
            "sessions":{{"at_start":{at_start},"arrived":0,"moved":{moved},"parked":0,"left":0,"forced":0,"unconfirmed":0,
            "remaining":0,"resumed":{moved}}},"cut":0,"unroutable":0,
            "clients":{{"notified":0,"ready":0,"busy":0,"granted":0}},
            "messages":{{"replayed":0,"duplicates_dropped":0,"gaps":{gaps},"lost":{lost}}},
            "gap_ms":{{"p50":1,"p99":2,"max":3}},"stages":[],"successors":[],"trigger":null,"why":null}}"#
        );
        serde_json::from_str(&text).expect("a report as the contract has it")
    }

    #[test]
    fn a_clean_run_that_the_hub_confirms_is_clean_and_names_no_fault() {
        let outcomes: Vec<_> = (0..3).map(moved_client).collect();
        let (verdict, faults) = judge(&outcomes, Ok(&report(3, 0, 0, 3)));
        assert!(verdict.is_clean(), "{verdict:?} {faults:?}");
        assert_eq!((verdict.users, verdict.moved, verdict.messages_up, verdict.messages_down), (3, 3, 30, 36));
        assert_eq!((verdict.gap_ms_p99, verdict.hub_gap_ms_p99, verdict.drain_ms), (Some(2.0), Some(2), Some(900)));
        assert_eq!(faults, [] as [String; 0]);
    }

    #[test]
    fn a_hub_that_tells_another_story_is_named_with_both_numbers() {
        let (verdict, faults) = judge(&[moved_client(0)], Ok(&report(0, 0, 2, 1)));
        assert!(!verdict.agrees && !verdict.is_clean());
        assert_eq!(
            faults,
            [
                "moved sessions: the clients saw 1, the hub reports 0",
                "declared gaps: the clients saw 0, the hub reports 2"
            ]
        );
    }

    #[test]
    fn sessions_of_others_on_the_hub_may_add_to_its_report_but_never_take_away() {
        assert!(judge(&[moved_client(0)], Ok(&report(5, 0, 0, 5))).0.agrees);
        let two = [moved_client(0), moved_client(1)];
        assert!(!judge(&two, Ok(&report(1, 0, 0, 5))).0.agrees);
    }

    #[test]
    fn without_a_report_or_with_an_unsettled_client_nothing_is_clean() {
        let (verdict, faults) = judge(&[moved_client(0)], Err("the hub is gone"));
        assert!(!verdict.is_clean());
        assert_eq!(faults, ["no report of the hub to compare with: the hub is gone"]);
        let unsettled = Outcome { answered: false, ..moved_client(0) };
        assert!(!judge(&[unsettled], Ok(&report(1, 0, 0, 1))).0.is_clean());
    }

    #[test]
    fn the_first_ten_faults_are_named_and_the_rest_counted() {
        let broken = |index| Outcome {
            account: Account { lost: 1, faults: vec!["up: 1 of 10 lost".to_owned()], ..Account::default() },
            ..moved_client(index)
        };
        let outcomes: Vec<_> = (0..13).map(broken).collect();
        let (verdict, faults) = judge(&outcomes, Ok(&report(13, 13, 0, 13)));
        assert_eq!((verdict.lost, verdict.agrees, verdict.is_clean()), (13, true, false));
        assert_eq!(faults.len(), FAULTS_NAMED + 1);
        assert_eq!(faults[10], "… and 3 more");
        assert!(faults[0].starts_with("client 0 (no session): up: 1 of 10 lost"), "{}", faults[0]);
    }
}
