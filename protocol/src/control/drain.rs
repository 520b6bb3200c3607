//! Status, report and dry run of a drain.

use super::{AskedBy, CalledOff, ClaimStatus, HubState, Trigger};
use crate::id::{DrainId, HubId, SessionId};
use serde::{Deserialize, Serialize};

/// Where a drain stands, as the status names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// No drain.
    #[default]
    Serving,
    /// Clients were told; nobody is moved yet.
    Noticing,
    /// A stage is being moved.
    Releasing,
    /// Moving is suspended, and the status says why.
    Held,
    /// Everybody was asked; the last are awaited.
    Settling,
    /// The deadline is here: what is left is parked or closed.
    Forcing,
    /// Over; the process stays up and hands on whoever still comes.
    Drained,
}

impl Phase {
    /// All phases, in the order in which a drain goes through them.
    pub const ALL: [Self; 7] =
        [Self::Serving, Self::Noticing, Self::Releasing, Self::Held, Self::Settling, Self::Forcing, Self::Drained];

    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Noticing => "noticing",
            Self::Releasing => "releasing",
            Self::Held => "held",
            Self::Settling => "settling",
            Self::Forcing => "forcing",
            Self::Drained => "drained",
        }
    }
}

/// Every session of the starting population and every arrival: one outcome each, or remaining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionCounts {
    /// Sessions held when the drain began.
    pub at_start: u64,
    /// Sessions that came while it ran.
    pub arrived: u64,
    /// Live on another hub, confirmed.
    pub moved: u64,
    /// On disk for the next process.
    pub parked: u64,
    /// Ended, evicted, expired or replaced.
    pub left: u64,
    /// Neither push nor park worked.
    pub forced: u64,
    /// Given away, and never confirmed live.
    pub unconfirmed: u64,
    /// Still here.
    pub remaining: u64,
}

/// What keeps unroutable sessions here, as far as it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct UnroutableBy {
    /// The balancer brings most of all clients here, whoever they are.
    pub balancer: u64,
    /// Others get through, and these come back here more often than chance explains.
    pub client: u64,
    /// They were sent to another hub by its `--public-url`, and come back here: they cannot reach it.
    pub public_url: u64,
}

/// Where clients came to that were ordered to move by the URL they used, each time they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Returns {
    /// Back to this hub.
    pub here: u64,
    /// To another one.
    pub elsewhere: u64,
}

/// Somebody the drain is waiting for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WaitingFor {
    /// Who.
    pub session: SessionId,
    /// What it is waiting for, in a few words.
    pub why: String,
    /// For how long.
    pub since_ms: u64,
}

/// One hub that takes over, with its share so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SuccessorReport {
    /// Its id.
    pub hub: HubId,
    /// How clients reach it by name; null when they cannot.
    pub url: Option<String>,
    /// Sessions of this drain that are live there.
    pub moved: u64,
    /// What it said last; null when it is silent.
    pub state: Option<HubState>,
    /// For how many more sessions it has room, those that are on their way there left aside; null when it does not
    /// tell.
    #[serde(default)]
    pub room: Option<u64>,
    /// How long 99 of 100 of its clients waited for their welcome in its last seconds, in milliseconds: the
    /// drain slows down when this rises. Null while nobody comes there.
    #[serde(default)]
    pub admission_ms: Option<u64>,
}

/// Answer of `POST`, `GET` and `DELETE /v1/drain`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainStatus {
    /// Where it stands.
    pub phase: Phase,
    /// Which drain; null without one.
    pub drain: Option<DrainId>,
    /// Rises with every change; pass it as `after` to wait for the next.
    pub seq: u64,
    /// How long in this phase.
    pub since_ms: Option<u64>,
    /// How long until it ends, whatever happens; null when it has ended.
    pub deadline_in_ms: Option<u64>,
    /// The account; null without a drain.
    pub sessions: Option<SessionCounts>,
    /// Connections closed at the deadline against their will whose sessions were kept.
    pub cut: Option<u64>,
    /// Sessions whose client came back here so often that chance does not explain it; they stay.
    pub unroutable: Option<u64>,
    /// By what, as far as it was found; null without a drain.
    pub unroutable_by: Option<UnroutableBy>,
    /// Where clients that were ordered to move came to; null without a drain.
    pub returns: Option<Returns>,
    /// Moves that are ordered and not yet live.
    pub in_flight: Option<u64>,
    /// The stage being moved, counted from 1; null before the first.
    pub stage: Option<u64>,
    /// How many stages there are.
    pub stages: Option<u64>,
    /// Sessions that went live elsewhere per second, over the last seconds.
    pub rate_per_s: Option<f64>,
    /// How long until nobody remains, at this rate; null when it cannot be told.
    pub eta_ms: Option<u64>,
    /// The first ten that it waits for.
    pub waiting_for: Vec<WaitingFor>,
    /// The hubs that take over.
    pub successors: Vec<SuccessorReport>,
    /// Whether this call joined a drain that was under way; null when it did not ask for one.
    pub joined: Option<bool>,
    /// Why moving is suspended, in a word; null while it is not.
    pub held: Option<HeldKind>,
    /// The same in a sentence.
    pub why: Option<String>,
    /// Why other hubs take nobody, in sentences; empty while all that are known do, and without a drain.
    pub blockers: Vec<String>,
    /// Who wants the hub drained, the oldest claim first.
    pub claims: Vec<ClaimStatus>,
    /// What ended the last drain, or the state after it; null until one was called off.
    pub called_off: Option<CalledOff>,
    /// What else an operator should know, in sentences: sessions that lie on the disk of a hub that is gone.
    pub notes: Vec<String>,
}

/// Why a drain moves nobody although somebody is left to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldKind {
    /// Too few of the last stage are back.
    Gate,
    /// The first clients did not come back.
    Canary,
    /// One move after the other was refused.
    Refusals,
    /// No other hub takes sessions, or none has room.
    NoSuccessor,
}

impl HeldKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gate, Self::Canary, Self::Refusals, Self::NoSuccessor];

    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Canary => "canary",
            Self::Refusals => "refusals",
            Self::NoSuccessor => "no_successor",
        }
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainResult {
    /// Nobody of the starting population remained.
    Drained,
    /// At the deadline somebody was in no safe place: neither push nor park had worked, or a push was never confirmed.
    Forced,
    /// Whoever could move did; the others stayed, because their clients are brought back here.
    Unroutable,
    /// It was called off, because no client of a stage was seen at another hub: nobody was pushed to where none arrives.
    #[serde(rename = "gate_failed")]
    GateFailed,
    /// It was called off.
    Cancelled,
}

impl DrainResult {
    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Forced => "forced",
            Self::Unroutable => "unroutable",
            Self::GateFailed => "gate_failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The account of a report: the status's, and how many clients were seen again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReportSessions {
    /// One outcome each.
    #[serde(flatten)]
    pub counts: SessionCounts,
    /// Moved sessions whose client was seen live on the successor.
    pub resumed: u64,
}

/// What clients were told and what they said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientCounts {
    /// Clients that were sent a notice.
    pub notified: u64,
    /// Clients that said ready.
    pub ready: u64,
    /// Clients that said busy.
    pub busy: u64,
    /// Of these, how many were given more time.
    pub granted: u64,
}

/// Messages, counted by reconciling the offsets on both sides of each handover, when the successor has
/// welcomed the client. Sessions for which that has not happened by the report are in `unreconciled`, and
/// in no other count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct MessageCounts {
    /// Sent again by the successor.
    pub replayed: u64,
    /// Went to the client twice: written to the connection that was open at the freeze, and sent again by the
    /// successor, because neither the client's hello nor an ack of it had told that they arrived. The client
    /// drops each by its position if the first one did arrive, as it does unless the old connection broke in
    /// that very moment; the hubs cannot see which, so this is the most that were dropped.
    pub duplicates_dropped: u64,
    /// Declared gaps.
    pub gaps: u64,
    /// Lost. Counted, not assumed: numbered or counted before the handover and unknown to the successor when
    /// it welcomed the client.
    pub lost: u64,
    /// Moved sessions whose client had not come back at the successor by the report, so that nobody has
    /// compared its offsets. Their messages are held there.
    pub unreconciled: u64,
    /// How the apps of moved and parked sessions finished with them.
    pub app: AppCounts,
}

/// How apps finished with the sessions that were moved or parked. What an app had yet to say and its library dropped
/// at the hub's Close is in no other count: the hub cannot know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct AppCounts {
    /// Asked by `moving`, and said that they were done.
    pub said: u64,
    /// Could not be asked; they were quiet, and closed when the hub did.
    pub assumed: u64,
    /// Were still talking, or not done in their time.
    pub cut: u64,
}

/// For how long moved sessions that had a connection were without service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct GapMs {
    /// Half of them no longer than this; null when nobody was measured.
    pub p50: Option<u64>,
    /// 99 of 100 no longer than this; null when nobody was measured.
    pub p99: Option<u64>,
    /// The longest; null when nobody was measured.
    pub max: Option<u64>,
}

/// What became of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StageReport {
    /// Planned begin after the start.
    pub begin_ms: u64,
    /// Planned span.
    pub span_ms: u64,
    /// Planned count.
    pub count: u64,
    /// When it really began after the start; null if it never did.
    pub began_ms: Option<u64>,
    /// Of its sessions, how many are no longer here. The gate counts those that are live elsewhere.
    pub back: u64,
    /// How long the gate after it stayed shut beyond its span.
    pub gate_waited_ms: u64,
    /// Stragglers that were pushed because the gate had waited its longest.
    pub pushed: u64,
}

/// Answer of `GET /v1/drain/report`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DrainReport {
    /// Which drain.
    pub drain: DrainId,
    /// How it ended.
    pub result: DrainResult,
    /// Wall clock at its start, RFC 3339 in UTC.
    pub started_at: String,
    /// How long it took.
    pub took_ms: u64,
    /// The account.
    pub sessions: ReportSessions,
    /// Connections closed at the deadline against their will whose sessions were kept.
    pub cut: u64,
    /// Sessions whose client came back here so often that chance does not explain it; they stayed.
    pub unroutable: u64,
    /// By what, as far as it was found.
    #[serde(default)]
    pub unroutable_by: UnroutableBy,
    /// Where clients that were ordered to move came to.
    #[serde(default)]
    pub returns: Returns,
    /// The dialogue.
    pub clients: ClientCounts,
    /// The messages.
    pub messages: MessageCounts,
    /// The interruptions.
    pub gap_ms: GapMs,
    /// Stage by stage.
    pub stages: Vec<StageReport>,
    /// Hub by hub.
    pub successors: Vec<SuccessorReport>,
    /// What the trigger said of itself; null if nothing.
    pub trigger: Option<Trigger>,
    /// Why it was called off, why somebody stayed or was forced, how many the deadline cut, or why sessions were parked
    /// although other hubs are known; null otherwise.
    pub why: Option<String>,
    /// Who asked for it while it ran, in the order in which they came.
    #[serde(default)]
    pub asked_by: Vec<AskedBy>,
    /// Whether it is the report of an earlier run of this hub, kept in its data directory.
    #[serde(default)]
    pub earlier_run: bool,
}

/// One stage of a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanStage {
    /// Begin after the start.
    pub begin_ms: u64,
    /// Over how long its moves are spread.
    pub span_ms: u64,
    /// How many sessions.
    pub count: u64,
}

/// How many sessions one successor would get.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanShare {
    /// Its id.
    pub hub: HubId,
    /// How clients reach it by name; null when they cannot.
    pub url: Option<String>,
    /// How many sessions.
    pub sessions: u64,
    /// For how many it has room; null when it does not tell, which counts as enough.
    #[serde(default)]
    pub room: Option<u64>,
}

/// What happens when nobody takes sessions over, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanParks {
    /// How many sessions would be parked in the data directory, all at once. The others move.
    pub sessions: u64,
    /// When, after the start.
    pub at_ms: u64,
    /// Why, in a sentence.
    pub why: String,
}

/// Answer of `POST /v1/drain/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// Sessions it was computed for.
    pub sessions: u64,
    /// Stage by stage; a single one of no length when everybody would be parked.
    pub stages: Vec<PlanStage>,
    /// Present when not everybody finds a place elsewhere as things are now: who does not would be parked.
    #[serde(default)]
    pub parks: Option<PlanParks>,
    /// From the start until the last session is expected to be gone.
    pub total_ms: u64,
    /// When it ends, whatever happens.
    pub deadline_ms: u64,
    /// Time kept before the deadline for pushing who is left.
    pub push_reserve_ms: u64,
    /// Who would get how many.
    pub successors: Vec<PlanShare>,
    /// Whether everything fits before the deadline, with the time kept for pushing, and everybody has room elsewhere
    /// (or it is agreed that he is parked).
    pub fits: bool,
    /// Whether a drain would be refused with 409 until somebody agrees to parking (`allow_park`).
    #[serde(default)]
    pub needs_consent: bool,
    /// What stands in the way, in sentences; empty when nothing does.
    pub blockers: Vec<String>,
    /// What the plan takes for granted, in sentences: hubs that do not tell their room.
    #[serde(default)]
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_drain_the_status_is_serving_and_everything_unknown_is_null() {
        let text = serde_json::to_string(&DrainStatus::default()).unwrap();
        assert_eq!(
            text,
            r#"{"phase":"serving","drain":null,"seq":0,"since_ms":null,"deadline_in_ms":null,"sessions":null,"cut":null,"unroutable":null,"unroutable_by":null,"returns":null,"in_flight":null,"stage":null,"stages":null,"rate_per_s":null,"eta_ms":null,"waiting_for":[],"successors":[],"joined":null,"held":null,"why":null,"blockers":[],"claims":[],"called_off":null,"notes":[]}"#
        );
        assert_eq!(serde_json::from_str::<DrainStatus>(&text).unwrap(), DrainStatus::default());
    }

    #[test]
    fn phases_and_results_are_the_words_of_the_contract() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{}\"", phase.as_str()));
        }
        use DrainResult::{Cancelled, Drained, Forced, GateFailed, Unroutable};
        for result in [Drained, Forced, Unroutable, GateFailed, Cancelled] {
            assert_eq!(serde_json::to_string(&result).unwrap(), format!("\"{}\"", result.as_str()));
        }
    }

    #[test]
    fn a_reports_account_carries_resumed_beside_the_outcomes() {
        let sessions =
            ReportSessions { counts: SessionCounts { at_start: 2, moved: 2, ..SessionCounts::default() }, resumed: 1 };
        assert_eq!(
            serde_json::to_string(&sessions).unwrap(),
            r#"{"at_start":2,"arrived":0,"moved":2,"parked":0,"left":0,"forced":0,"unconfirmed":0,"remaining":0,"resumed":1}"#
        );
    }
}
