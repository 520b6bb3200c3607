//! The named steps of a handover: at each of them the process is killed, and comes back or not; stopped for
//! a while; or slowed, while the clients' connections break all the time.

use crate::scene::{Role, Scene, killed, nobody_was_reset, none_of_these_were_reset, stopped};
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::fault::Step;
use tidegate_protocol::control::Phase;
use tidegate_tests::{Books, Hub, Pair, Relay, Signal, connect_all};

/// Cases that run at a time.
const AT_A_TIME: usize = 4;
/// How long a process that is stopped stands still: longer than a call between hubs may take, and than a freeze.
const STANDSTILL: Duration = Duration::from_millis(1_200);
/// How long a slow step takes: longer than the first freeze may last.
const SLOW_MS: u64 = 300;

/// Who gets to which step of a handover. Those of the disk stand in `parking.rs`.
const STEPS: [(Step, Role); 30] = {
    use Role::{Predecessor, Successor};
    [
        (Step::HelloReceived, Successor),
        (Step::BeforeClaimSaid, Successor),
        (Step::AfterClaimSaid, Successor),
        (Step::ClaimReceived, Predecessor),
        (Step::BeforeBulkSaid, Predecessor),
        (Step::AfterBulkSaid, Predecessor),
        (Step::BulkReceived, Successor),
        (Step::BeforeBulkHeldSaid, Successor),
        (Step::AfterBulkHeldSaid, Successor),
        (Step::BulkHeldReceived, Predecessor),
        (Step::Frozen, Predecessor),
        (Step::BeforeMovingPosted, Predecessor),
        (Step::AfterMovingAnswered, Predecessor),
        (Step::BeforeSnapshotSaid, Predecessor),
        (Step::AfterSnapshotSaid, Predecessor),
        (Step::SnapshotReceived, Successor),
        (Step::BeforeHeldSaid, Successor),
        (Step::AfterHeldSaid, Successor),
        (Step::HeldReceived, Predecessor),
        (Step::LastMoveSaid, Predecessor),
        (Step::BeforeClose, Predecessor),
        (Step::Committed, Predecessor),
        (Step::BeforeCommittedSaid, Predecessor),
        (Step::AfterCommittedSaid, Predecessor),
        (Step::CommittedReceived, Successor),
        (Step::GoneLive, Successor),
        (Step::BeforeLiveSaid, Successor),
        (Step::AfterLiveSaid, Successor),
        (Step::LiveReceived, Predecessor),
        (Step::WelcomeSaid, Successor),
    ]
};

/// Each step, at its first pass or a later one by turns, so that some sessions are through and some are not.
fn cases(action: &str) -> Vec<(String, Role, usize)> {
    let nth = |at: usize| if at.is_multiple_of(2) { 1 } else { 3 };
    let all = STEPS.iter().enumerate();
    all.map(|(at, (step, role))| (format!("{}:{action}@{}", step.name(), nth(at)), *role, at)).collect()
}

#[test]
fn every_step_of_a_handover_and_of_the_disk_is_attacked() {
    let here: Vec<&str> = STEPS.iter().map(|(step, _)| step.name()).chain(crate::parking::STEPS).collect();
    let missing: Vec<&str> = Step::ALL.iter().map(|step| step.name()).filter(|name| !here.contains(name)).collect();
    assert!(missing.is_empty(), "no test attacks {missing:?}");
}

/// What the survivor serves is safe; the rest of the dead hub's memory is gone, and its clients are told.
#[tokio::test]
async fn a_hub_that_is_killed_at_any_step_takes_only_what_it_held_and_everybody_is_told() {
    let cases = stream::iter(cases("kill")).map(|(armed, role, at)| async move {
        let scene = Scene::start(role, &armed, "1s").await;
        scene.drain(7_000).await;
        killed(&armed, scene.of(role)).await;
        let safe = match role {
            Role::Predecessor => Scene::safe_at(&scene.pair.b).await,
            Role::Successor => Scene::safe_at(&scene.pair.a).await,
        };
        // Every second one comes back as a new run on the same directory and addresses.
        let again = if at % 4 < 2 { Some(start_again(scene.of(role)).await) } else { None };
        match role {
            Role::Predecessor => after_the_predecessor(scene, &armed, again.as_ref(), &safe).await,
            Role::Successor => after_the_successor(scene, &armed, again.as_ref(), &safe).await,
        }
    });
    cases.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

async fn start_again(hub: &Hub) -> Hub {
    hub.successor_setup().without_env().start().await
}

async fn after_the_predecessor(scene: Scene, armed: &str, again: Option<&Hub>, safe: &BTreeSet<String>) {
    let hubs: Vec<&Hub> = [&scene.pair.b].into_iter().chain(again).collect();
    scene.serve_by(&hubs);
    let ended = scene.close(armed).await;
    none_of_these_were_reset(armed, &ended, safe);
}

async fn after_the_successor(scene: Scene, armed: &str, again: Option<&Hub>, safe: &BTreeSet<String>) {
    let hubs: Vec<&Hub> = [&scene.pair.a].into_iter().chain(again).collect();
    if let Some(again) = again {
        scene.pair.door.retarget(&[again.public]);
    } else {
        scene.pair.door.refuse();
    }
    scene.serve_by(&hubs);
    let report = scene.drained().await;
    let counts = report.sessions.counts;
    assert_eq!(counts.forced, 0, "{armed}: {report:#?}");
    let ended = scene.close(armed).await;
    none_of_these_were_reset(armed, &ended, safe);
    let resets: u64 = ended.iter().map(|one| one.verdict.resets.min(1)).sum();
    let given = counts.moved + counts.unconfirmed + counts.left;
    assert!(resets <= given, "{armed}: {resets} were reset, and {given} had been given away: {report:#?}");
}

#[tokio::test]
async fn a_hub_that_stands_still_at_any_step_costs_time_and_nothing_else() {
    let cases = stream::iter(cases("stop")).map(|(armed, role, _)| async move {
        let scene = Scene::start(role, &armed, "60s").await;
        let drain = scene.drain(20_000);
        let standstill = async {
            stopped(&armed, scene.of(role)).await;
            tokio::time::sleep(STANDSTILL).await;
            scene.of(role).signal(Signal::Cont);
        };
        tokio::join!(drain, standstill);
        scene.serve_by(&[&scene.pair.a, &scene.pair.b]);
        let report = scene.drained().await;
        let counts = report.sessions.counts;
        // Three failed tries and no other peer: such a session is parked, and goes on when this hub serves again.
        assert_eq!(
            counts.moved + counts.parked + counts.remaining,
            scene.sessions() + counts.arrived,
            "{armed}: {report:#?}"
        );
        let ended = scene.close(&armed).await;
        nobody_was_reset(&armed, &ended);
    });
    cases.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// Clients lose their connections at any moment of the slow step, again and again.
#[tokio::test]
async fn clients_that_are_cut_off_at_any_step_of_a_slow_handover_lose_nothing() {
    let cases = stream::iter(cases(&format!("pause={SLOW_MS}"))).map(|(armed, role, _)| async move {
        let scene = Scene::start(role, &armed, "60s").await;
        scene.drain(20_000).await;
        scene.side.heal();
        let cuts = async {
            for turn in 0.. {
                for (at, client) in scene.traffic.clients().enumerate() {
                    if (at + turn) % 3 == 0 {
                        client.cut().await;
                    }
                }
                // So that some moves get through between two cuts.
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        };
        tokio::select! {
            () = cuts => {}
            _ = scene.pair.a.wait_drain("the end of the drain", |status| status.phase == Phase::Drained) => {}
        }
        scene.serve_by(&[&scene.pair.a, &scene.pair.b]);
        scene.drained().await;
        let ended = scene.close(&armed).await;
        nobody_was_reset(&armed, &ended);
    });
    cases.buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

/// Sessions that were parked and taken up: `moved` is on disk before the other hub may serve them.
#[tokio::test]
async fn a_hub_that_is_killed_around_the_note_of_a_move_never_serves_that_session_again() {
    for step in [Step::BeforeMovedSync, Step::AfterMovedSync] {
        let armed = format!("{}:kill", step.name());
        let books = Books::default();
        let app = books.app().await;
        let pair = Pair::start(|setup, _| crate::scene::quick(setup, "1s").app_with_events(&app.address)).await;
        let (front, side) = (Relay::to(pair.a.public).await, Relay::to(pair.a.public).await);
        let mut clients = connect_all(&front.url("/connect"), 4).await;
        clients.extend(connect_all(&side.url("/connect"), 2).await);
        // Without a way to the other hub they are parked; the next run takes them up when they come back.
        pair.link.cut(tidegate_tests::Manner::Refuse);
        pair.a.stop().await;
        let next = pair.a.successor_setup().env(tidegate::fault::VARIABLE, &armed).start().await;
        pair.link.heal();
        tidegate_tests::acquainted(&[&next, &pair.b]).await;
        for client in &clients {
            client.wait("a return", |seen| seen.resumes() == 1 && seen.connected).await;
        }
        let pair = Pair { a: next, ..pair };
        let scene = Scene::with(pair, books, app, front, side, clients).await;
        scene.drain(7_000).await;
        killed(&armed, &scene.pair.a).await;
        let safe = Scene::safe_at(&scene.pair.b).await;
        let again = start_again(&scene.pair.a).await;
        after_the_predecessor(scene, &armed, Some(&again), &safe).await;
    }
}
