//! The commands that ask one thing and show the answer: plan, status, report, cancel, serve.

use crate::client::Answer;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lifecycle::Task;
use crate::output::Mode;
use crate::progress;
use crate::run::{Ending, Run};
use crate::summary;
use crate::text::wrap;
use serde_json::value::RawValue;
use std::time::Duration;
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase, PlanAnswer};

/// Asks, shows, and ends.
pub(crate) async fn ask(run: &Run, task: &Task) -> Ending {
    let done = match task {
        Task::Plan => plan(run).await,
        Task::Report => report(run).await,
        Task::Cancel => serve(run, run.api.cancel().await).await,
        Task::Serve => serve(run, run.api.release().await).await,
        Task::Continue => go_on(run).await,
        Task::Status | Task::Drain | Task::Rest | Task::Nothing(_) => status(run).await,
    };
    match done {
        Ok(ending) => {
            run.reached.set(true);
            ending
        }
        Err(failure) => run.failed(task, &failure).await,
    }
}

async fn plan(run: &Run) -> Result<Ending, Failure> {
    let answer: Answer<PlanAnswer> = run.api.plan(&run.settings.request).await?;
    show(run, &answer.raw, || summary::plan(&answer.value));
    Ok(match answer.value.fits {
        true => Ending::new(Exit::Done, Vec::new()),
        false => Ending::new(Exit::NotClean, Vec::new()),
    })
}

async fn status(run: &Run) -> Result<Ending, Failure> {
    let answer: Answer<DrainStatus> = run.api.status(Duration::ZERO, None).await?;
    show(run, &answer.raw, || summary::status(&answer.value));
    Ok(Ending::new(Exit::Done, Vec::new()))
}

async fn report(run: &Run) -> Result<Ending, Failure> {
    let answer: Answer<DrainReport> = match run.api.report(Duration::ZERO).await {
        Err(Failure::Refused { status: 404, .. }) => {
            return Ok(Ending::say(Exit::Refused, "no report: no drain of this hub has ended yet"));
        }
        answer => answer?,
    };
    show(run, &answer.raw, || summary::report(&answer.value));
    Ok(Ending::new(Exit::Done, Vec::new()))
}

async fn serve(run: &Run, answer: Result<Answer<DrainStatus>, Failure>) -> Result<Ending, Failure> {
    let answer = answer?;
    show(run, &answer.raw, || {
        let status = &answer.value;
        let moved = status.sessions.map(|counts| progress::outcomes(&counts)).filter(|text| !text.is_empty());
        let moved = moved.map(|text| format!("; {text}")).unwrap_or_default();
        match status.phase {
            Phase::Serving => vec![format!("{}the hub serves{moved}", run.deployment.prefix())],
            _ if !status.claims.is_empty() => {
                let claims: Vec<String> = status.claims.iter().map(summary::claim).collect();
                wrap(&format!("{}still drained for {}", run.deployment.prefix(), claims.join("; ")), 4)
            }
            _ => vec![format!("{}told the hub to serve; now {}", run.deployment.prefix(), progress::line(status))],
        }
    });
    Ok(Ending::new(Exit::Done, Vec::new()))
}

async fn go_on(run: &Run) -> Result<Ending, Failure> {
    let answer: Answer<DrainStatus> = run.api.go_on().await?;
    show(run, &answer.raw, || vec![format!("the drain goes on; now {}", progress::line(&answer.value))]);
    Ok(Ending::new(Exit::Done, Vec::new()))
}

/// The hub's answer, byte for byte on one line, or in words.
fn show(run: &Run, raw: &RawValue, words: impl FnOnce() -> Vec<String>) {
    match run.output.mode() {
        // JSON strings hold no raw line ends, so these are only layout.
        Mode::Json => run.output.raw(raw.get().replace(['\n', '\r'], " ")),
        Mode::Plain | Mode::Terminal => words().iter().for_each(|line| run.output.raw(crate::text::fit(line))),
    }
}
