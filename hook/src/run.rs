//! One run of the trigger: what it knows, how it ends, and what it undoes when it fails.

use crate::client::Api;
use crate::evidence::{self, Evidence, Running};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lifecycle::{Deployment, Task};
use crate::output::{Mode, Output};
use crate::settings::Settings;
use crate::summary;
use crate::text::{fit, millis, span, wrap};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tidegate_protocol::control::{DrainStatus, OnOrphan};

/// How long a failed run may take to tell the hub to serve again.
pub(crate) const RECALL_MAX: Duration = Duration::from_secs(2);
/// The same after SIGTERM: the whole exit must stay within a second.
pub(crate) const RECALL_AT_TERM_MAX: Duration = Duration::from_millis(300);

/// What a run works with. One task uses it, so cells suffice.
pub(crate) struct Run {
    /// What was asked for.
    pub(crate) settings: Settings,
    /// Who asks.
    pub(crate) deployment: Deployment,
    /// The way to the hub.
    pub(crate) api: Api,
    /// The way to the reader.
    pub(crate) output: Output,
    /// Whether the hub may be draining because of us. Stays set after the end of a drain, for a
    /// drain that ended badly is undone as well.
    pub(crate) asked: Cell<bool>,
    /// Whether a hub has answered as one.
    pub(crate) reached: Cell<bool>,
    /// The last status that was seen.
    pub(crate) last: RefCell<Option<DrainStatus>>,
}

/// How a run ends: the code, and the last lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The exit.
    pub(crate) exit: Exit,
    /// What to say last.
    pub(crate) lines: Vec<String>,
}

impl Ending {
    /// An ending with its last lines.
    pub(crate) fn new(exit: Exit, lines: Vec<String>) -> Self {
        Self { exit, lines }
    }

    /// An ending that one sentence explains.
    pub(crate) fn say(exit: Exit, sentence: &str) -> Self {
        Self { exit, lines: wrap(sentence, 5) }
    }
}

impl Run {
    /// How a call that failed ends the run.
    pub(crate) async fn failed(&self, task: &Task, failure: &Failure) -> Ending {
        let hub = &self.settings.hub;
        match failure {
            Failure::NothingListens => self.nobody(task).await,
            Failure::Refused { status: 422, detail } => {
                Ending::say(Exit::Usage, &format!("{hub}: the hub cannot carry out this policy: {detail}"))
            }
            Failure::NeedsConsent(_) => Ending::say(Exit::NeedsConsent, &format!("{hub}: {failure}")),
            Failure::Refused { .. } => Ending::say(Exit::Refused, &format!("{hub}: {failure}")),
            Failure::Unreachable(_)
            | Failure::Silent { .. }
            | Failure::Unauthorized
            | Failure::Vanished(_)
            | Failure::Garbage(_) => Ending::say(Exit::Unanswered, &format!("{hub}: {failure}")),
        }
    }

    /// Nobody listening is only a warning, for then there is nothing to drain, and failing would block the very
    /// deployment that repairs it. But a hub that runs elsewhere holds its users.
    async fn nobody(&self, task: &Task) -> Ending {
        let hub = &self.settings.hub;
        let found = evidence::look(&self.settings).await;
        if let Evidence::Elsewhere(Running { what, url }) = found {
            let place = &self.settings.hub_place;
            let file = self.settings.file_path.display();
            let mut ending = Ending::say(
                Exit::Unanswered,
                &format!("{hub} ({place}): nothing listens there, but a hub runs elsewhere: {what}"),
            );
            ending.lines.push(match url {
                Some(url) => format!("write this line into {file}: hub = \"{url}\""),
                None => format!("write its --private address into {file}: hub = \"http://ADDRESS:PORT\""),
            });
            ending.lines.push("if another hub is meant, name its data directory there: data-dir = \"…\"".to_owned());
            return ending;
        }
        if self.settings.require_hub {
            return Ending::say(Exit::Unanswered, &format!("{hub}: nothing listens there, and --require-hub is set"));
        }
        let installed = match found {
            Evidence::Installed(place) => format!("; {place} says that a hub is installed here, and none runs"),
            Evidence::Elsewhere(_) | Evidence::None => String::new(),
        };
        Ending::say(Exit::Done, &format!("warning: {hub}: nothing listens there, {}{installed}", absence(task)))
    }

    /// The ending when our own patience is over.
    pub(crate) fn gave_up(&self) -> Ending {
        let after = span(millis(self.settings.give_up_after));
        self.with_last(Ending::say(Exit::Unanswered, &format!("gave up after {after}: the hub has not come to an end")))
    }

    /// The ending on a signal.
    pub(crate) fn stopped(&self, exit: Exit) -> Ending {
        let name = if exit == Exit::Terminated { "SIGTERM" } else { "Ctrl-C" };
        self.with_last(Ending::say(exit, &format!("{name}: stopped waiting")))
    }

    /// The ending when the agent that runs us has died: as on SIGTERM, which it can no longer send.
    pub(crate) fn agent_died(&self) -> Ending {
        let why = "the agent has died (its pipe is broken, and this process has another parent): stopped waiting";
        self.with_last(Ending::say(Exit::Terminated, why))
    }

    /// The same ending, with what was seen last.
    pub(crate) fn with_last(&self, mut ending: Ending) -> Ending {
        if let Some(status) = &*self.last.borrow() {
            ending.lines.extend(summary::last_seen(status));
        }
        ending
    }

    /// Undoes what a failed run began, if that is wanted, and says what was and was not undone.
    pub(crate) async fn undo(&self, ending: &mut Ending) {
        let limit = match ending.exit {
            // Cancelled: somebody else has undone it. A failed gate: the hub itself has. Usage, consent: the hub began nothing.
            Exit::Done | Exit::Cancelled | Exit::GateFailed | Exit::Usage | Exit::NeedsConsent => return,
            Exit::Terminated | Exit::Interrupted => RECALL_AT_TERM_MAX,
            Exit::NotClean | Exit::Unanswered | Exit::Refused => RECALL_MAX,
        };
        if !self.asked.get() {
            return;
        }
        if !self.settings.recall {
            let kept = "nothing was undone: the hub goes on with the drain; `tidegate-hook cancel` calls it off";
            ending.lines.push(kept.to_owned());
            return;
        }
        let told = tokio::time::timeout(limit, self.api.undo::<Value>()).await;
        let told = told.unwrap_or(Err(Failure::Silent { waited_ms: millis(limit) }));
        ending.lines.extend(match told {
            // Whatever is on there now, this run has neither begun nor joined it.
            Ok(answer) if drains_on(&answer.value) => wrap(
                "undone: what this run asked for; the hub drains on somebody else's account, which was left alone",
                2,
            ),
            Ok(_) => wrap("undone: the hub was told to serve again; who has moved stays moved", 2),
            // Claims live in the hub's memory.
            Err(Failure::NothingListens) => wrap(
                "NOT undone, and nothing is to be: nothing listens there any more, and a hub that starts anew serves",
                2,
            ),
            Err(failure) => {
                wrap(&format!("NOT undone: the hub could not be told to serve again ({failure}){}", self.lease()), 3)
            }
        });
    }

    /// What the hub does by itself when nobody asks any more.
    fn lease(&self) -> String {
        let request = &self.settings.request;
        let lease_ms = request.resolve().map(|policy| policy.lease_ms).unwrap_or_default();
        match request.on_orphan {
            Some(OnOrphan::Recall) => format!("; it does so by itself after {}", span(lease_ms)),
            Some(OnOrphan::Continue) | None => String::new(),
        }
    }

    /// Says the last lines; the code stands in the very last one. Of a task that has said nothing before, the first
    /// names the event: under CodeDeploy all events write into one log.
    pub(crate) fn close(&self, ending: &Ending, quiet_success: bool) {
        let mut ending = ending.clone();
        if let Some(first) = ending.lines.first_mut().filter(|_| quiet_success) {
            let named = wrap(&format!("{}{first}", self.deployment.prefix()), 5);
            ending.lines.splice(..1, named);
        }
        let code = ending.exit.code();
        self.output.end_bar();
        match self.output.mode() {
            Mode::Json if quiet_success && ending.exit == Exit::Done && ending.lines.is_empty() => {}
            Mode::Json => {
                let event = self.deployment.event.as_deref();
                let end = json!({ "event": "end", "lifecycle_event": event, "exit": code, "result": ending.exit.word(), "text": ending.lines });
                self.output.object(&end);
            }
            Mode::Plain | Mode::Terminal => {
                ending.lines.iter().for_each(|line| self.output.raw(fit(line)));
                if !(quiet_success && ending.exit == Exit::Done) {
                    self.output.raw(format!("tidegate-hook: {}, exit {code}", ending.exit.word().replace('_', " ")));
                }
            }
        }
    }

    /// In JSON mode: an object of the hub under a name of ours, byte for byte, on one line.
    pub(crate) fn pass_on(&self, event: &str, raw: &RawValue) {
        #[derive(Serialize)]
        struct Report<'a> {
            event: &'a str,
            report: &'a RawValue,
        }
        if self.output.mode() == Mode::Json {
            self.output.object(&Report { event, report: raw });
        }
    }
}

/// Whether the answer to an undoing says that the hub still drains.
fn drains_on(status: &Value) -> bool {
    status.get("phase").and_then(Value::as_str).is_some_and(|phase| phase != "serving")
}

/// What it means for each command that no hub is there. Nothing was asked, so nothing more is claimed.
const fn absence(task: &Task) -> &'static str {
    match task {
        Task::Drain | Task::Rest | Task::Nothing(_) => "so there is nothing to drain",
        Task::Plan => "so there are no sessions to plan for; a drain would end at once",
        Task::Status => "so there is no status; is the hub running, and is this its --private address?",
        Task::Report => "so no report can be read; the hub keeps the last one in its data directory",
        Task::Continue => "so no drain is held there that could go on",
        Task::Cancel | Task::Serve => "so no drain is under way there that could be called off",
    }
}
