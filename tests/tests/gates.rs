//! A gate that fails: clients are sent to another hub by its name and cannot reach it.

use tidegate_protocol::control::{DrainReport, DrainResult, DrainStatus, Phase};
use tidegate_tests::{Client, HookEnd, Pair, RunningHook, Seen, Signal, hook, wait_until};

const CLIENTS: usize = 6;
const POLICY: [&str; 12] = [
    "--notice",
    "200ms",
    "--window",
    "400ms",
    "--settle",
    "1s",
    "--gate-wait",
    "1s",
    "--stages",
    "50,50",
    "--deadline",
    "20s",
];

/// Two hubs, and clients of the first; nothing listens where the second is said to be.
async fn unreachable() -> (Pair, Vec<Client>) {
    let pair = Pair::start(|setup, _| setup).await;
    let clients = pair.clients(CLIENTS).await;
    pair.door.refuse();
    (pair, clients)
}

fn begin(pair: &Pair, more: &[&str]) -> RunningHook {
    hook(&[&["drain"][..], &POLICY, more].concat()).to(&pair.a).start()
}

async fn held(pair: &Pair) -> DrainStatus {
    let at_the_gate = |status: &DrainStatus| status.why.as_ref().is_some_and(|why| why.starts_with("canary"));
    pair.a.wait_drain("a gate holds it", |status| status.phase == Phase::Held && at_the_gate(status)).await
}

async fn report(pair: &Pair) -> DrainReport {
    pair.a.api.get("/v1/drain/report").await.read()
}

fn says(end: &HookEnd, part: &str) {
    assert!(end.stdout.replace('\n', " ").contains(part), "expected {part:?} in {end:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_shut_at_the_deadline_calls_the_drain_off_with_exit_8_and_nobody_was_moved() {
    let (pair, clients) = unreachable().await;
    let end = begin(&pair, &[]).end().await;
    assert_eq!(end.code, Some(8), "{end:#?}");
    says(&end, "after a look: tidegate-hook continue goes on");
    says(&end, "--public-url");
    let report = report(&pair).await;
    let counts = report.sessions.counts;
    assert_eq!(report.result, DrainResult::GateFailed, "{report:#?}");
    assert_eq!(
        (counts.moved, counts.parked, counts.forced, counts.remaining),
        (0, 0, 0, CLIENTS as u64),
        "{report:#?}"
    );
    assert!(report.stages[1].began_ms.is_none(), "no further stage was opened: {report:#?}");
    for client in &clients {
        let seen = client.wait("a connection", |seen| seen.connected).await;
        assert_eq!(seen.resets(), 0, "it is served on by the first hub");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_may_recall_at_once_and_continue_opens_one_that_holds() {
    let (pair, _clients) = unreachable().await;
    let end = begin(&pair, &["--on-gate", "recall"]).end().await;
    assert_eq!(end.code, Some(8), "{end:#?}");
    let nothing = hook(&["continue"]).to(&pair.a).run().await;
    assert_eq!(nothing.code, Some(6), "no gate holds it: {nothing:#?}");
    says(&nothing, "it is serving");

    let running = begin(&pair, &[]);
    held(&pair).await;
    let looked = hook(&["continue"]).to(&pair.a).run().await;
    assert_eq!(looked.code, Some(0), "{looked:#?}");
    let end = running.end().await;
    assert_eq!(end.code, Some(0), "without --strict: {end:#?}");
    let report = report(&pair).await;
    assert!(report.stages[1].began_ms.is_some(), "the next stage was opened: {report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_while_a_gate_holds_parks_everybody_and_pushes_nobody() {
    let (pair, clients) = unreachable().await;
    let running = begin(&pair, &["--no-recall"]);
    held(&pair).await;
    pair.a.signal(Signal::Term);
    for client in &clients {
        client.wait("the word that it is parked", Seen::told_parked).await;
    }
    assert_eq!(pair.a.exit().await.code, Some(0));
    wait_until("the other hub has none of them", || async {
        let there = pair.b.in_phase("attached").await.len() + pair.b.in_phase("detached").await.len();
        if there == 0 { Ok(()) } else { Err(there.to_string()) }
    })
    .await;
    drop(running);
}
