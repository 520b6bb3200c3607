//! What happens to the hubs, one trouble after the other, by chance.

use crate::chance::Chance;
use crate::fleet::{Fleet, LASTING};
use crate::tally::Tally;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tidegate::fault::Step;
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase};
use tidegate_tests::{Hub, Signal};

/// How long a drain may take beyond its deadline before it counts as hung: the machine is busy.
const GRACE: Duration = Duration::from_secs(20);

/// A trouble, as the tally calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Drain,
    DrainAndCancel,
    DrainAndKill,
    DrainAndKillSuccessor,
    DrainAndStop,
    Stop,
    Kill,
    Standstill,
    CutAll,
    Armed,
    FullDisk,
    ClosedLog,
    TwoHubs,
}

const TROUBLES: [(Trouble, &str); 13] = [
    (Trouble::Drain, "drains"),
    (Trouble::DrainAndCancel, "cancels"),
    (Trouble::DrainAndKill, "kills in a drain"),
    (Trouble::DrainAndKillSuccessor, "kills of a successor"),
    (Trouble::DrainAndStop, "SIGTERMs in a drain"),
    (Trouble::Stop, "SIGTERMs"),
    (Trouble::Kill, "kills"),
    (Trouble::Standstill, "standstills"),
    (Trouble::CutAll, "cuts of all"),
    (Trouble::Armed, "kills at a named step"),
    (Trouble::FullDisk, "full disks"),
    (Trouble::ClosedLog, "closed logs"),
    (Trouble::TwoHubs, "drains of one of two behind a plain balancer"),
];

/// Makes trouble until this moment.
pub(crate) async fn until(end: Instant, fleet: &Fleet, chance: &mut Chance, tally: &Tally) {
    while Instant::now() < end {
        tokio::time::sleep(chance.span(500, 3_000)).await;
        let (trouble, kind) = *chance.one(&TROUBLES);
        tally.trouble(kind);
        // The hub that lasts is drained, cancelled and stopped with SIGSTOP, and nothing else.
        let at = match trouble {
            Trouble::Drain | Trouble::DrainAndCancel | Trouble::Standstill => chance.below(3) as usize,
            _ => 1 + chance.below(2) as usize,
        };
        make(trouble, at, fleet, chance, tally).await;
        fleet.mend(tally).await;
    }
}

async fn make(trouble: Trouble, at: usize, fleet: &Fleet, chance: &mut Chance, tally: &Tally) {
    let hub = fleet.hub(at);
    match trouble {
        Trouble::Drain => {
            let policy = policy(chance);
            drain(&hub, &policy).await;
            ended(&hub, &policy, tally).await;
        }
        Trouble::DrainAndCancel => {
            drain(&hub, &policy(chance)).await;
            tokio::time::sleep(chance.span(0, 2_500)).await;
        }
        Trouble::DrainAndKill => {
            drain(&hub, &policy(chance)).await;
            tokio::time::sleep(chance.span(0, 2_500)).await;
            hub.kill();
            tokio::time::sleep(chance.span(0, 4_000)).await;
        }
        Trouble::DrainAndKillSuccessor => {
            let policy = policy(chance);
            drain(&hub, &policy).await;
            tokio::time::sleep(chance.span(0, 2_500)).await;
            fleet.hub(other_than(at)).kill();
            ended(&hub, &policy, tally).await;
        }
        Trouble::DrainAndStop => {
            drain(&hub, &policy(chance)).await;
            tokio::time::sleep(chance.span(0, 2_000)).await;
            stop(&hub, tally).await;
        }
        Trouble::Stop => stop(&hub, tally).await,
        Trouble::Kill => {
            hub.kill();
            tokio::time::sleep(chance.span(0, 6_000)).await;
        }
        Trouble::Standstill => {
            hub.signal(Signal::Stop);
            tokio::time::sleep(chance.span(200, 5_000)).await;
            hub.signal(Signal::Cont);
        }
        Trouble::CutAll => fleet.front.cut(),
        Trouble::Armed => armed(at, fleet, chance, tally).await,
        Trouble::FullDisk => full_disk(&hub, chance, tally).await,
        Trouble::ClosedLog => closed_log(at, fleet, chance, tally).await,
        Trouble::TwoHubs => {
            let policy = policy(chance);
            fleet.front_of(&[at, LASTING]);
            drain(&hub, &policy).await;
            ended(&hub, &policy, tally).await;
            fleet.front_of(&[0, 1, 2]);
        }
    }
}

/// Not a byte more may be written; the hub's drain has peers, its stop may have to park.
async fn full_disk(hub: &Hub, chance: &mut Chance, tally: &Tally) {
    hub.limit_file_bytes(Some(0));
    let policy = policy(chance);
    drain(hub, &policy).await;
    if chance.once_in(2) {
        ended(hub, &policy, tally).await;
    }
    stop(hub, tally).await;
}

/// The next process of a hub has nobody who reads its log.
async fn closed_log(at: usize, fleet: &Fleet, chance: &mut Chance, tally: &Tally) {
    stop(&fleet.hub(at), tally).await;
    fleet.start_with_a_closed_log(at).await;
    let hub = fleet.hub(at);
    tokio::time::sleep(chance.span(500, 2_000)).await;
    let policy = policy(chance);
    drain(&hub, &policy).await;
    ended(&hub, &policy, tally).await;
    stop(&hub, tally).await;
}

/// Among the two that may be killed, the other one.
fn other_than(at: usize) -> usize {
    if at == 1 { 2 } else { 1 }
}

/// The next process kills itself at a named step, in a drain of its own or of another hub.
async fn armed(at: usize, fleet: &Fleet, chance: &mut Chance, tally: &Tally) {
    stop(&fleet.hub(at), tally).await;
    let (step, nth) = (chance.one(Step::ALL).name(), 1 + chance.below(4));
    fleet.start_again(at, Some(&format!("{step}:kill@{nth}"))).await;
    tokio::time::sleep(chance.span(500, 2_000)).await;
    let policy = policy(chance);
    let drained = *chance.one(&[at, LASTING, at]);
    let hub = fleet.hub(drained);
    drain(&hub, &policy).await;
    ended(&hub, &policy, tally).await;
    // Whether the step was reached or not, the next process has none armed.
    fleet.hub(at).kill();
}

fn policy(chance: &mut Chance) -> Value {
    let (notice, window) = (chance.below(800), chance.below(2_500));
    json!({"allow_park": true, "notice_ms": notice, "window_ms": window, "settle_ms": 500, "deadline_ms": 9_000,
        "stages": if chance.once_in(2) { json!([100]) } else { json!([20, 80]) },
        "max_in_flight": 1 + chance.below(16)})
}

/// A hub that kills itself at this moment answers nothing.
async fn drain(hub: &Hub, policy: &Value) {
    let json = [("content-type", "application/json")];
    drop(hub.api.try_send(Method::POST, "/v1/drain", &json, policy.to_string()).await);
}

/// Waits for the end of the drain, or of the hub; the report must add up.
async fn ended(hub: &Hub, policy: &Value, tally: &Tally) {
    let deadline = Duration::from_millis(policy["deadline_ms"].as_u64().unwrap_or_default());
    let end = Instant::now() + deadline + GRACE;
    loop {
        let Ok(answer) = hub.api.try_send(Method::GET, "/v1/drain", &[], "").await else { return };
        let status: DrainStatus = answer.read();
        match status.phase {
            Phase::Drained => break,
            Phase::Serving => return,
            _ if Instant::now() > end => {
                return tally.wrong(format!("a drain did not end at its deadline: {status:?}"));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let Ok(answer) = hub.api.try_send(Method::GET, "/v1/drain/report", &[], "").await else { return };
    if answer.status != 200 {
        return tally.wrong(format!("a drain has ended without a report: {answer}"));
    }
    let report: DrainReport = answer.read();
    let counts = report.sessions.counts;
    let outcomes = counts.moved + counts.parked + counts.left + counts.forced + counts.unconfirmed + counts.remaining;
    if counts.at_start + counts.arrived != outcomes {
        tally.wrong(format!("a report does not add up: {report:?}"));
    }
    if report.messages.lost > 0 {
        tally.wrong(format!("a report counts lost messages: {report:?}"));
    }
}

/// SIGTERM, and the end must be a regular one.
async fn stop(hub: &Hub, tally: &Tally) {
    hub.signal(Signal::Term);
    let exit = hub.exit().await;
    // One that was killed before has no code.
    if let Some(code) = exit.code.filter(|code| *code != 0) {
        tally.wrong(format!("SIGTERM ended a hub with {code}: {:?}", exit.stderr.last()));
    }
}
