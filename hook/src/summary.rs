//! Accounts in words: the report of a drain, a plan as a table, the status for a person.
//!
//! The lines of a drain's end are what the agent keeps of it, so together they stay within 2,000
//! characters: at most [`HUBS_MAX`] hubs and [`BLOCKERS_MAX`] sentences are listed.

use crate::progress;
use crate::text::{clip, count, fit, span, wrap};
use tidegate_protocol::control::{
    AppCounts, AskedBy, ClaimLife, ClaimStatus, DrainReport, DrainResult, DrainStatus, GapMs, Phase, PlanAnswer,
    SessionCounts, SuccessorReport,
};

/// Hubs that are listed one by one; further ones are counted.
const HUBS_MAX: usize = 3;
/// Sentences about what stands in a plan's way that are printed.
const BLOCKERS_MAX: usize = 10;
/// Claims that are named one by one.
const CLAIMS_MAX: usize = 3;
/// Lines for one sentence of the hub.
const SENTENCE_MAX_LINES: usize = 3;

/// Who did not go in good order, for `--strict`; `None` if everybody did.
pub(crate) fn not_clean(counts: &SessionCounts, cut: u64) -> Option<String> {
    let named =
        [(counts.forced, "forced"), (cut, "cut"), (counts.unconfirmed, "unconfirmed"), (counts.remaining, "left here")];
    let bad: Vec<String> = named.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    (!bad.is_empty()).then(|| bad.join(", "))
}

/// The end of a drain, by its report.
pub(crate) fn report(report: &DrainReport) -> Vec<String> {
    let counts = &report.sessions.counts;
    let mut lines = vec![format!(
        "{} in {}: {} at the start, {} arrived",
        report.result.as_str(),
        span(report.took_ms),
        count(counts.at_start, "session"),
        counts.arrived
    )];
    if report.earlier_run {
        lines.push(format!("this was in an earlier run of the hub; the drain began at {}", report.started_at));
    }
    if let Some(why) = &report.why {
        lines.extend(wrap(&format!("why: {why}"), SENTENCE_MAX_LINES));
    }
    lines.extend(asked_by(&report.asked_by));
    lines.push(account(counts, report.cut, report.unroutable));
    let clients = &report.clients;
    lines.push(format!(
        "clients: notified {}, ready {}, busy {} ({} given time), resumed {}",
        clients.notified, clients.ready, clients.busy, clients.granted, report.sessions.resumed
    ));
    let messages = &report.messages;
    // Of whom nobody has compared the offsets, `lost` says nothing.
    let unreconciled = match messages.unreconciled {
        0 => String::new(),
        sessions => format!("; not compared: {}", count(sessions, "session")),
    };
    lines.push(format!(
        "messages: lost {}, gaps {}, replayed {}, duplicates dropped {}{unreconciled}",
        messages.lost, messages.gaps, messages.replayed, messages.duplicates_dropped
    ));
    lines.extend(apps(&report.messages.app));
    lines.extend(gap(&report.gap_ms));
    lines.extend(successors(&report.successors));
    lines.iter().map(|line| fit(line)).collect()
}

/// What a run did that found the hub drained, and then the report of the drain that was over before it.
pub(crate) fn report_of_before(report: &DrainReport, before: &SessionCounts, last: &SessionCounts) -> Vec<String> {
    let since = |of: fn(&SessionCounts) -> u64| of(last).saturating_sub(of(before));
    let mut lines = vec![format!(
        "since this run began: {} arrived, {} moved, {} parked, {} remaining now",
        since(|counts| counts.arrived),
        since(|counts| counts.moved),
        since(|counts| counts.parked),
        last.remaining
    )];
    lines.push("the hub was drained already; that drain's report:".to_owned());
    lines.extend(self::report(report));
    lines.iter().map(|line| fit(line)).collect()
}

/// Of which apps nobody knows whether they had more to say.
fn apps(app: &AppCounts) -> Option<String> {
    let AppCounts { said, assumed, cut } = *app;
    (assumed + cut > 0)
        .then(|| format!("apps: {said} said that they were done, {assumed} were quiet and taken for done, {cut} cut"))
}

/// The end of a drain without a report, by the last status that was seen.
pub(crate) fn last_seen(status: &DrainStatus) -> Vec<String> {
    let mut lines = vec![progress::line(status)];
    if let Some(counts) = &status.sessions {
        lines.push(account(counts, status.cut.unwrap_or(0), status.unroutable.unwrap_or(0)));
    }
    lines.extend(progress::waiting(status));
    lines
}

/// Where the hub stands, for a person who asks.
pub(crate) fn status(status: &DrainStatus) -> Vec<String> {
    if status.phase == Phase::Serving {
        return [vec!["serving: no drain".to_owned()], notes(&status.notes)].concat();
    }
    let mut lines = last_seen(status);
    lines.extend(successors(&status.successors));
    lines.extend(blockers(&status.blockers));
    lines.extend(status.claims.iter().take(CLAIMS_MAX).map(|one| fit(&format!("wanted by {}", claim(one)))));
    lines.extend(notes(&status.notes));
    lines
}

fn notes(sentences: &[String]) -> Vec<String> {
    sentences.iter().take(BLOCKERS_MAX).flat_map(|note| wrap(note, SENTENCE_MAX_LINES)).collect()
}

/// Who wants the hub drained, and how long still.
pub(crate) fn claim(claim: &ClaimStatus) -> String {
    let of = claim.deployment.as_ref().map(|deployment| format!(" of {deployment}")).unwrap_or_default();
    let event = claim.event.as_ref().map(|event| format!(" ({event}{of})")).unwrap_or_default();
    let ends = match (claim.life, claim.ends_in_ms) {
        (ClaimLife::Returning, Some(ms)) => format!(", until its app is back, {} at most", span(ms)),
        (ClaimLife::Kept, None) => ", until it is released".to_owned(),
        (_, Some(ms)) => format!(", {} at most", span(ms)),
        (ClaimLife::Draining | ClaimLife::Returning, None) => String::new(),
    };
    format!("{}{event} for {}{ends}", claim.claimant, span(claim.since_ms))
}

/// Who asked, in one line.
fn asked_by(asked: &[AskedBy]) -> Option<String> {
    let name = |one: &AskedBy| match &one.event {
        Some(event) => format!("{} ({event})", one.claimant),
        None => one.claimant.clone(),
    };
    let named: Vec<String> = asked.iter().take(CLAIMS_MAX).map(name).collect();
    let more = asked.len().saturating_sub(CLAIMS_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| fit(&format!("asked for by {}{more}", named.join(", "))))
}

fn blockers(sentences: &[String]) -> Vec<String> {
    let named = sentences.iter().take(BLOCKERS_MAX);
    named.flat_map(|blocker| wrap(&format!("in the way: {blocker}"), SENTENCE_MAX_LINES)).collect()
}

/// A plan as a table, and whether it fits.
pub(crate) fn plan(plan: &PlanAnswer) -> Vec<String> {
    let mut lines = vec![format!("plan for {}", count(plan.sessions, "session"))];
    if let Some(parks) = plan.parks.as_ref().filter(|parks| parks.sessions == plan.sessions) {
        let sentence = format!(
            "nobody would be moved: after {} all {} would be parked here for the next process, because {}",
            span(parks.at_ms),
            count(parks.sessions, "session"),
            parks.why
        );
        lines.extend(wrap(&sentence, SENTENCE_MAX_LINES));
        lines.extend(blockers(&plan.blockers));
        lines.push(verdict(plan).to_owned());
        return lines;
    }
    if plan.sessions == 0 {
        lines.push("nobody is here: a drain would end at once".to_owned());
        lines.extend(blockers(&plan.blockers));
        lines.push(verdict(plan).to_owned());
        return lines;
    }
    lines.push(format!("{:>7} {:>10} {:>10} {:>10}", "stage", "begins", "takes", "sessions"));
    for (n, stage) in plan.stages.iter().enumerate() {
        let begin = format!("+{}", span(stage.begin_ms));
        lines.push(format!("{:>7} {begin:>10} {:>10} {:>10}", n + 1, span(stage.span_ms), stage.count));
    }
    lines.push(format!(
        "takes {} of {}; the last {} are kept for pushing who is left",
        span(plan.total_ms),
        span(plan.deadline_ms),
        span(plan.push_reserve_ms)
    ));
    for share in &plan.successors {
        let url = share.url.as_ref().map(|url| format!(" by {url}")).unwrap_or_default();
        let room = share.room.map(|room| format!(", room for {room}")).unwrap_or_default();
        lines.push(fit(&format!("to hub {}{url}: {}{room}", share.hub, count(share.sessions, "session"))));
    }
    if let Some(parks) = &plan.parks {
        let parked = count(parks.sessions, "session");
        let sentence = format!("{parked} would be parked here after {}, because {}", span(parks.at_ms), parks.why);
        lines.extend(wrap(&sentence, SENTENCE_MAX_LINES));
    }
    lines.extend(plan.notes.iter().take(BLOCKERS_MAX).flat_map(|note| wrap(note, SENTENCE_MAX_LINES)));
    if plan.successors.is_empty() {
        lines.push("to no other hub: sessions would be parked for the next process here".to_owned());
    }
    lines.extend(blockers(&plan.blockers));
    lines.push(verdict(plan).to_owned());
    lines
}

const fn verdict(plan: &PlanAnswer) -> &'static str {
    match plan {
        PlanAnswer { fits: true, .. } => "it fits",
        PlanAnswer { needs_consent: true, .. } => "it does NOT fit: there is no room elsewhere (--allow-park parks)",
        _ => "it does NOT fit the deadline",
    }
}

/// Whether a report tells of a drain that was called off.
pub(crate) fn was_cancelled(report: &DrainReport) -> bool {
    report.result == DrainResult::Cancelled
}

fn account(counts: &SessionCounts, cut: u64, unroutable: u64) -> String {
    fit(&format!(
        "moved {}, parked {}, ended {}, forced {}, unconfirmed {}, left here {}; cut {cut}, unroutable {unroutable}",
        counts.moved, counts.parked, counts.left, counts.forced, counts.unconfirmed, counts.remaining
    ))
}

fn gap(gap: &GapMs) -> Option<String> {
    let (p50, p99, max) = (gap.p50?, gap.p99?, gap.max?);
    Some(format!("without service: half of them up to {}, 99 % up to {}, longest {}", span(p50), span(p99), span(max)))
}

fn successors(hubs: &[SuccessorReport]) -> Vec<String> {
    let mut lines: Vec<String> = hubs
        .iter()
        .take(HUBS_MAX)
        .map(|hub| {
            let url = hub.url.as_ref().map(|url| format!(" by {}", clip(url, 40))).unwrap_or_default();
            let state = hub.state.map_or("silent", |state| state.as_str());
            fit(&format!("to hub {}{url}: {}, it is {state}", hub.hub, count(hub.moved, "session")))
        })
        .collect();
    if hubs.len() > HUBS_MAX {
        lines.push(format!("and to {} hubs more", hubs.len() - HUBS_MAX));
    }
    lines
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
