//! A status in words: one line for a log, and a place and a text for a bar.

use crate::output::BarView;
use crate::text::{count, fit, span, wrap};
use tidegate_protocol::control::{DrainStatus, HubState, Phase, SessionCounts};

/// How many of those that are waited for fit on a line.
const NAMED_MAX: usize = 2;

/// Where the drain stands, on one line that fits; what matters most comes first.
pub(crate) fn line(status: &DrainStatus) -> String {
    let mut parts = vec![format!("{}: {}", status.phase.as_str(), population(status))];
    if let Some(why) = &status.why {
        parts.push(format!("because {why}"));
    }
    parts.extend(numbers(status));
    fit(&parts.join(", "))
}

/// Who is waited for, on one line; nothing if nobody is.
pub(crate) fn waiting(status: &DrainStatus) -> Option<String> {
    let first = status.waiting_for.first()?;
    let mut why: Vec<String> = status
        .waiting_for
        .iter()
        .take(NAMED_MAX)
        .map(|one| {
            let id = one.session.to_string();
            format!("{}… {} for {}", &id[..8], one.why, span(one.since_ms))
        })
        .collect();
    let remaining = status.sessions.map_or(0, |sessions| sessions.remaining);
    let named = u64::try_from(why.len()).unwrap_or(u64::MAX);
    if remaining > named && first.since_ms > 0 {
        why.push(format!("and {} more", remaining - named));
    }
    Some(fit(&format!("  waiting for {}", why.join("; "))))
}

/// What a person can do about a gate that failed, on one line.
pub(crate) fn at_a_gate(status: &DrainStatus) -> Option<String> {
    let failed = status.phase == Phase::Held && status.why.as_ref().is_some_and(|why| why.starts_with("canary"));
    failed.then(|| {
        "  after a look: tidegate-hook continue goes on; else the drain is called off at its deadline".to_owned()
    })
}

/// What keeps other hubs from taking sessions, in lines that fit; nothing while one of them serves.
pub(crate) fn blocked(status: &DrainStatus) -> Vec<String> {
    if status.successors.iter().any(|hub| hub.state == Some(HubState::Serving)) {
        return Vec::new();
    }
    let named = status.blockers.iter().take(NAMED_MAX);
    named.flat_map(|blocker| wrap(&format!("in the way: {blocker}"), 2)).collect()
}

/// The place of the bar.
pub(crate) fn bar(status: &DrainStatus) -> BarView {
    let counts = status.sessions.unwrap_or_default();
    let total = counts.at_start.saturating_add(counts.arrived);
    let mut text = vec![status.phase.as_str().to_owned()];
    text.extend(status.why.clone());
    text.extend(numbers(status));
    BarView { done: total.saturating_sub(counts.remaining), total, text: fit(&text.join(", ")) }
}

fn population(status: &DrainStatus) -> String {
    let Some(counts) = &status.sessions else {
        return "no account yet".to_owned();
    };
    let total = counts.at_start.saturating_add(counts.arrived);
    if status.phase == Phase::Noticing {
        return format!("{} told, nobody moved yet", count(counts.remaining, "session"));
    }
    let outcomes = outcomes(counts);
    let outcomes = if outcomes.is_empty() { String::new() } else { format!(" ({outcomes})") };
    format!("{} of {total} left{outcomes}", counts.remaining)
}

/// The outcomes so far that are not zero: `moved 3, parked 1`.
pub(crate) fn outcomes(counts: &SessionCounts) -> String {
    let named = [
        ("moved", counts.moved),
        ("parked", counts.parked),
        ("ended", counts.left),
        ("forced", counts.forced),
        ("unconfirmed", counts.unconfirmed),
    ];
    let told: Vec<String> = named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    told.join(", ")
}

/// Stage, moves under way, pace and ends, as far as they are known.
fn numbers(status: &DrainStatus) -> Vec<String> {
    let mut parts = Vec::new();
    if let (Some(stage), Some(stages)) = (status.stage, status.stages) {
        parts.push(format!("stage {stage}/{stages}"));
    }
    if let Some(n) = status.in_flight.filter(|n| *n > 0) {
        parts.push(format!("{n} moving"));
    }
    if let Some(rate) = status.rate_per_s.filter(|rate| *rate >= 0.05) {
        parts.push(format!("{rate:.1}/s"));
    }
    if let Some(eta_ms) = status.eta_ms.filter(|ms| *ms > 0) {
        parts.push(format!("about {} to go", span(eta_ms)));
    }
    if let Some(n) = status.unroutable.filter(|n| *n > 0) {
        parts.push(format!("{n} unroutable"));
    }
    if let Some(ms) = status.deadline_in_ms {
        parts.push(format!("deadline in {}", span(ms)));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::LINE_MAX_CHARS;
    use tidegate_protocol::control::WaitingFor;
    use tidegate_protocol::id::SessionId;

    fn counts() -> SessionCounts {
        SessionCounts { at_start: 500, arrived: 4, moved: 120, left: 2, remaining: 382, ..SessionCounts::default() }
    }

    #[test]
    fn a_line_says_how_many_are_left_and_what_became_of_the_others() {
        let status = DrainStatus {
            phase: Phase::Releasing,
            sessions: Some(counts()),
            stage: Some(3),
            stages: Some(4),
            in_flight: Some(12),
            rate_per_s: Some(8.25),
            eta_ms: Some(46_000),
            deadline_in_ms: Some(240_000),
            ..DrainStatus::default()
        };
        assert_eq!(
            line(&status),
            "releasing: 382 of 504 left (moved 120, ended 2), stage 3/4, 12 moving, 8.2/s, about 46 s to go, deadline in 4m"
        );
        assert_eq!(bar(&status).done, 122);
        assert_eq!(bar(&status).total, 504);
    }

    #[test]
    fn unknown_values_are_left_out() {
        let status = DrainStatus { phase: Phase::Noticing, sessions: Some(counts()), ..DrainStatus::default() };
        assert_eq!(line(&status), "noticing: 382 sessions told, nobody moved yet");
        assert_eq!(line(&DrainStatus { phase: Phase::Held, ..DrainStatus::default() }), "held: no account yet");
    }

    #[test]
    fn a_held_drain_says_why_and_still_fits_the_line() {
        let why =
            Some("the canary stage is not back: 0 of 5 after 10 s; is the successor reachable by clients?".repeat(3));
        let status = DrainStatus { phase: Phase::Held, why, sessions: Some(counts()), ..DrainStatus::default() };
        let text = line(&status);
        assert!(text.starts_with("held: 382 of 504 left (moved 120, ended 2), because the canary"), "{text}");
        assert_eq!(text.chars().count(), LINE_MAX_CHARS);
    }

    #[test]
    fn who_is_waited_for_is_named_by_the_head_of_the_id() {
        let one = WaitingFor { session: SessionId(0xabcd << 112), why: "busy: typing".to_owned(), since_ms: 14_000 };
        let status = DrainStatus {
            waiting_for: vec![one.clone(), one.clone(), one],
            sessions: Some(counts()),
            ..DrainStatus::default()
        };
        assert_eq!(
            waiting(&status).unwrap(),
            "  waiting for abcd0000… busy: typing for 14 s; abcd0000… busy: typing for 14 s; and 380 more"
        );
        assert_eq!(waiting(&DrainStatus::default()), None);
    }
}
