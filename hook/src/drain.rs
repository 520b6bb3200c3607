//! The drain, done: ask for it, watch it, and judge its end. What to say and when it is over is
//! decided in `watch`; what was left undone is handled in `run`.

use crate::client::Answer;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lifecycle::Task;
use crate::output::Mode;
use crate::run::{Ending, Run};
use crate::text::{millis, span, wrap};
use crate::watch::{End, Step, Watch};
use crate::{progress, summary};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tidegate_protocol::control::{CalledOff, DrainReport, DrainResult, DrainStatus, Phase, SessionCounts};
use tidegate_protocol::id::DrainId;
use tokio::time::{Instant, sleep};

/// Pauses before a broken connection is tried again. After the last one the hub counts as vanished.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_millis(1_000)];
/// Pause between two questions for a report that is not there yet.
const REPORT_PAUSE: Duration = Duration::from_millis(250);
/// How long the report of a drain that is over may be missing, beyond the settle.
const REPORT_GRACE: Duration = Duration::from_secs(1);

/// Drains the hub, or pushes and parks the rest, and waits for the end.
pub(crate) async fn drain(run: &Run, task: &Task) -> Ending {
    announce(run, task);
    run.asked.set(true);
    let status: DrainStatus = match run.api.start(&run.settings.request).await {
        Ok(answer) => answer.value,
        Err(failure) => {
            // Only these leave it open whether the hub has begun.
            run.asked.set(matches!(failure, Failure::Silent { .. } | Failure::Vanished(_) | Failure::Garbage(_)));
            return run.failed(task, &failure).await;
        }
    };
    run.reached.set(true);
    if status.joined == Some(true) {
        run.output.note(match status.phase {
            Phase::Drained => "the hub is drained already",
            _ => "joined the drain that is under way; its policy stands",
        });
    }
    // What the hub accounts for then was over before this run.
    let found_over = status.joined == Some(true) && status.phase == Phase::Drained;
    let before = found_over.then(|| status.sessions.unwrap_or_default());
    let rest_settle_ms = (*task == Task::Rest).then(|| millis(run.settings.settle));
    Watching { run, task, watch: Watch::new(rest_settle_ms), started: Instant::now(), broke: false, before }
        .until_the_end(status)
        .await
}

fn announce(run: &Run, task: &Task) {
    let what = if *task == Task::Rest { "pushing or parking the rest at" } else { "draining" };
    let settings = &run.settings;
    let limit_ms = millis(settings.give_up_after);
    if run.output.mode() == Mode::Json {
        let trigger = run.deployment.trigger();
        let policy = &settings.request;
        run.output.object(&json!({ "event": "start", "hub": settings.hub, "give_up_after_ms": limit_ms, "trigger": trigger, "policy": policy }));
    } else {
        run.output.raw(crate::text::fit(&format!(
            "{}{what} {}, for {} at most",
            run.deployment.prefix(),
            settings.hub,
            span(limit_ms)
        )));
    }
}

/// The loop around [`Watch`].
struct Watching<'a> {
    run: &'a Run,
    task: &'a Task,
    watch: Watch,
    started: Instant,
    /// Whether the connection broke on the way; then a drain that is gone went with the hub.
    broke: bool,
    /// The counts at the beginning of this run, if the drain was over by then.
    before: Option<SessionCounts>,
}

impl Watching<'_> {
    async fn until_the_end(mut self, first: DrainStatus) -> Ending {
        let mut status = first;
        loop {
            let step = self.watch.observe(&status, self.now_ms());
            self.show(&status, &step);
            let called_off = status.called_off.clone().filter(|off| Some(off.drain) == self.watch.drain());
            if step.end != Some(End::Gone) {
                self.run.last.replace(Some(status));
            }
            if let Some(end) = step.end {
                return self.judge(end, called_off).await;
            }
            sleep(Duration::from_millis(self.watch.ask_gap_ms())).await;
            status = match self.ask().await {
                Ok(answer) => answer.value,
                Err(failure) => return self.lost(&failure).await,
            };
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.started.elapsed())
    }

    fn show(&self, status: &DrainStatus, step: &Step) {
        let output = &self.run.output;
        if step.end != Some(End::Gone) {
            output.bar(progress::bar(status));
        }
        match output.mode() {
            _ if step.lines.is_empty() => {}
            Mode::Json => output.object(&Named { event: "status", status }),
            Mode::Terminal if step.heartbeat => {}
            Mode::Plain | Mode::Terminal => step.lines.iter().for_each(|line| output.raw(line.clone())),
        }
    }

    /// The next status; a connection that breaks is tried again for a moment.
    async fn ask(&mut self) -> Result<Answer<DrainStatus>, Failure> {
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            let wait = Duration::from_millis(self.watch.wait_ms(self.now_ms()));
            match self.run.api.status(wait, Some(self.watch.seq())).await {
                Err(failure) if failure.is_passing() => {
                    self.broke = true;
                    let Some(pause) = pauses.next() else {
                        return Err(failure);
                    };
                    sleep(*pause).await;
                }
                answer => return answer,
            }
        }
    }

    /// The hub cannot be asked any more. In the middle of a drain nobody listening is no longer harmless.
    async fn lost(&self, failure: &Failure) -> Ending {
        let ending = match failure {
            Failure::NothingListens => {
                let hub = &self.run.settings.hub;
                Ending::say(
                    Exit::Unanswered,
                    &format!("{hub}: the hub vanished in the middle: nothing listens there any more"),
                )
            }
            other => self.run.failed(self.task, other).await,
        };
        self.run.with_last(ending)
    }

    /// `called_off`: who did it, if the hub serves again.
    async fn judge(&self, end: End, called_off: Option<CalledOff>) -> Ending {
        let ours = self.watch.drain();
        let report = self.report(ours).await;
        if let Some(answer) = &report {
            if self.before.is_some() && self.run.output.mode() == Mode::Json {
                self.run.output.note("the report is of the drain that was over before this run");
            }
            self.run.pass_on("report", &answer.raw);
        }
        let gone = called_off.filter(|_| end == End::Gone).map(|off| format!("called off by {}", off.by));
        match (end, report.map(|answer| answer.value)) {
            // It may have ended well before, and its report says so.
            (End::Gone, report) if gone.is_some() => {
                let mut lines = report.map(|report| summary::report(&report)).unwrap_or_default();
                lines.extend(wrap(&gone.unwrap_or_default(), 3));
                self.run.with_last(Ending::new(Exit::Cancelled, lines))
            }
            (_, Some(report)) if summary::was_cancelled(&report) => {
                Ending::new(Exit::Cancelled, summary::report(&report))
            }
            (_, Some(report)) if report.result == DrainResult::GateFailed => {
                Ending::new(Exit::GateFailed, summary::report(&report))
            }
            (_, Some(report)) => {
                let last = self.run.last.borrow().as_ref().and_then(|status| status.sessions);
                let lines = match &self.before {
                    Some(before) => summary::report_of_before(&report, before, &last.unwrap_or(*before)),
                    None => summary::report(&report),
                };
                self.drained(lines, summary::not_clean(&self.counts(&report), report.cut))
            }
            (End::Drained, None) => {
                let last = self.run.last.borrow().clone().unwrap_or_default();
                let mut lines = summary::last_seen(&last);
                lines
                    .push("the hub gave no report that can be read; these numbers are from its last status".to_owned());
                self.drained(lines, summary::not_clean(&last.sessions.unwrap_or_default(), last.cut.unwrap_or(0)))
            }
            (End::Gone, None) if self.broke => self.run.with_last(Ending::say(
                Exit::Unanswered,
                "the hub vanished in the middle: it was restarted and knows of no drain",
            )),
            (End::Gone, None) => self.run.with_last(Ending::say(Exit::Cancelled, "somebody else called the drain off")),
        }
    }

    /// The account that `--strict` looks at. The report is closed at the drain's end; who came since
    /// stands in the last status, and the rest is about just those.
    fn counts(&self, report: &DrainReport) -> SessionCounts {
        let mut counts = report.sessions.counts;
        if let Some(seen) = self.run.last.borrow().as_ref().and_then(|status| status.sessions) {
            counts.remaining = seen.remaining;
        }
        counts
    }

    fn drained(&self, mut lines: Vec<String>, not_clean: Option<String>) -> Ending {
        let exit = match not_clean {
            Some(bad) if self.run.settings.strict => {
                lines.push(format!("--strict: {bad}"));
                Exit::NotClean
            }
            _ => Exit::Done,
        };
        Ending::new(exit, lines)
    }

    /// The report of our drain. It may come a little after the end, when the last resumes are counted.
    async fn report(&self, ours: Option<DrainId>) -> Option<Answer<DrainReport>> {
        let settle = self.run.settings.settle;
        let until = Instant::now() + settle + REPORT_GRACE;
        loop {
            match self.run.api.report::<DrainReport>(settle).await {
                Ok(answer) if Some(answer.value.drain) == ours => return Some(answer),
                Ok(_) | Err(Failure::Refused { status: 404, .. }) if Instant::now() < until => {
                    sleep(REPORT_PAUSE).await
                }
                Ok(_) | Err(_) => return None,
            }
        }
    }
}

/// A status under the name of its event.
#[derive(Serialize)]
struct Named<'a> {
    event: &'a str,
    #[serde(flatten)]
    status: &'a DrainStatus,
}
