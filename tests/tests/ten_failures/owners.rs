//! Who has a session, where it goes, and what is lost on the way.

use serde_json::json;
use tidegate_protocol::close::Close;
use tidegate_protocol::control::HubState;
use tidegate_tests::{
    Crowd, Fleet, Owners, Pair, RawClient, Relay, Setup, acquainted, at_once, connect_all, drain, report, wait_until,
};

/// Failure 5: clients are sent back to the hub that goes, or on to the next one that goes.
#[tokio::test]
async fn nobody_is_sent_to_a_hub_that_is_going_too_nor_back_to_the_one_that_went() {
    let named = |name: &str| {
        let setup = Setup::new(name).in_cluster().flag("--peer-url", "http://127.0.0.1:0");
        setup.flag("--public-url", "ws://127.0.0.1:0/connect")
    };
    let a = named("A").start().await;
    let (b, c) = tokio::join!(async { named("B").peer(&a.private).start().await }, async {
        named("C").peer(&a.private).start().await
    });
    acquainted(&[&a, &b, &c]).await;
    let clients = connect_all(&a.url("/connect"), 9).await;
    // The next one to go begins first, and is empty: it is drained at once and stays up.
    drain(&b, at_once(20_000)).await;
    report(&b).await;
    let going = b.id().await;
    wait_until("the first hub has heard that the second one goes", || async {
        let info: tidegate_protocol::control::HubInfo = a.api.get("/v1/hub").await.read();
        let said = info.peers.iter().find(|peer| peer.hub.is_some_and(|hub| hub.to_string() == going));
        let goes = said.is_some_and(|peer| matches!(peer.state, Some(HubState::Draining | HubState::Drained)));
        if goes { Ok(()) } else { Err(format!("{:?}", info.peers)) }
    })
    .await;
    let policy = json!({"notice_ms": 200, "window_ms": 500, "settle_ms": 2000, "deadline_ms": 20000, "stages": [100]});
    drain(&a, policy).await;
    let report = report(&a).await;
    let moved_to = |hub: &str| {
        let there = report.successors.iter().find(|successor| successor.hub.to_string() == hub);
        there.map_or(0, |successor| successor.moved)
    };
    let stays = c.id().await;
    assert_eq!((moved_to(&going), moved_to(&stays)), (0, 9), "all to the hub that stays: {report:#?}");
    for client in &clients {
        let at_c = |seen: &tidegate_tests::Seen| seen.connected && seen.hub.is_some_and(|hub| hub.to_string() == stays);
        let seen = client.wait("its session on the hub that stays", at_c).await;
        assert_eq!((seen.resets(), seen.moves() + seen.resumes()), (0, 1), "in one hop: {:?}", seen.reports);
    }
}

/// Failure 8: messages are lost or doubled in the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_full_traffic_a_deployment_loses_doubles_and_reorders_no_message_either_way() {
    const USERS: usize = 12;
    let fleet = Fleet::named().await;
    let [from, to] = &fleet.hubs;
    let crowd = Crowd::connect(&from.url("/ledger"), USERS).await;
    crowd.all_at_work().await;
    let policy = json!({"notice_ms": 300, "window_ms": 1500, "settle_ms": 2000, "deadline_ms": 25000});
    drain(from, policy).await;
    let report = report(from).await;
    assert_eq!(report.sessions.counts.moved, USERS as u64, "{report:#?}");
    assert_eq!((report.messages.lost, report.messages.gaps), (0, 0), "says the hub: {report:#?}");
    crowd.all_on(&to.id().await).await;
    crowd.all_at_work().await;
    // And so say each user and each app, who kept accounts of their own.
    crowd.audit().await;
}

/// Failure 9: two live owners, or two sockets of which one gets what the other should have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_one_owner_and_one_socket_at_any_moment_of_a_deployment() {
    let pair = Pair::start(|setup, _| setup).await;
    let balancer = Relay::to_all(&[pair.a.public, pair.b.public]).await;
    let clients = connect_all(&balancer.url("/connect"), 10).await;
    let owners = Owners::watch(&[&pair.a, &pair.b]);
    let policy =
        json!({"notice_ms": 100, "window_ms": 1500, "settle_ms": 1500, "deadline_ms": 25000, "stages": [20, 80]});
    drain(&pair.a, policy).await;
    for client in &clients {
        // In the middle of it all each line breaks once more, and the balancer deals the next one anywhere.
        client.cut().await;
    }
    report(&pair.a).await;
    let to = json!({"all": true});
    let reached = pair.b.api.publish(&to, "to each once").await;
    owners.verdict().await;
    assert_eq!(reached, 10, "ten sessions, wherever they are");
    for client in &clients {
        let seen = client.wait("the message", |seen| !seen.received.is_empty()).await;
        assert_eq!((seen.received.clone(), seen.resets()), (vec!["to each once".to_owned()], 0));
    }
}

/// Failure 9, the other half: the copy of a tab must not take turns with the tab.
#[tokio::test]
async fn a_second_socket_of_one_session_ends_the_first_for_good_and_an_old_token_ends_nothing() {
    let pair = Pair::start(|setup, _| setup).await;
    let (mut first, welcome) = RawClient::welcomed(&pair.a.url("/connect")).await;
    let mut second = RawClient::back(&pair.b.url("/connect"), &welcome["token"], 2, 0).await;
    second.expect("welcome").await;
    let (code, _) = first.closed().await;
    let final_codes = [Close::Displaced.code(), 1012];
    assert!(code.is_some_and(|code| final_codes.contains(&code)), "the first is closed: {code:?}");
    // The tab that was copied shows what it had, with a try that was used already.
    let mut stolen = RawClient::back(&pair.a.url("/connect"), &welcome["token"], 1, 0).await;
    assert_eq!(stolen.closed().await.0, Some(Close::TokenReuse.code()), "it gets nothing");
    assert_eq!(pair.b.api.publish(&json!({"session": welcome["session"]}), "still here").await, 1);
    assert_eq!(second.expect_text().await, "still here", "and the second one goes on");
}
