//! Whatever a deployment began ends with it: the shapes of a deployment, in the agent's order of events, with real hubs and
//! the real trigger. Events that the agent gives no script are left out.

use tidegate_protocol::control::{DrainStatus, Phase};
use tidegate_tests::{Hook, HookEnd, Hub, Kitchen, Setup, hook, wait_until};

const QUICK: &str = "notice = \"100ms\"\nwindow = \"100ms\"\nsettle = \"300ms\"\ndeadline = \"10s\"\n";
const SLOW: &str = "notice = \"60s\"\nwindow = \"60s\"\nsettle = \"1s\"\ndeadline = \"5m\"\n";

/// The trigger in this event of this group's deployment.
fn event(hub: &Hub, name: &str, group: &str, deployment: &str, settings: &str) -> Hook {
    let (data, state) = (hub.setup().data_dir(), hub.setup().path("last-hub"));
    let text = format!(
        "hub = \"http://{}\"\ndata-dir = \"{}\"\nstate-file = \"{}\"\n{settings}",
        hub.private,
        data.display(),
        state.display()
    );
    let file = hub.setup().file("hook.toml", &text).display().to_string();
    hook(&["--config", &file])
        .env("LIFECYCLE_EVENT", name)
        .env("DEPLOYMENT_ID", deployment)
        .env("APPLICATION_NAME", "shop")
        .env("DEPLOYMENT_GROUP_NAME", group)
}

async fn run(hub: &Hub, name: &str, group: &str, deployment: &str) -> HookEnd {
    let end = event(hub, name, group, deployment, QUICK).run().await;
    assert_eq!(end.code, Some(0), "{name} of {deployment}: {end:#?}");
    end
}

async fn state(hub: &Hub) -> String {
    hub.api.get("/v1/hub").await.json()["state"].as_str().unwrap_or_default().to_owned()
}

async fn becomes(hub: &Hub, expected: &str) {
    wait_until(&format!("the hub is {expected}"), || async {
        let said = state(hub).await;
        if said == expected { Ok(()) } else { Err(said) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_behind_a_load_balancer_before_allow_traffic_ends_it_and_nothing_before() {
    let hub = Setup::new("balanced").flag("--return-after", "1s").start().await;
    for name in ["BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop", "BeforeInstall", "ApplicationStart"] {
        run(&hub, name, "blue", "d-1").await;
    }
    let validated = run(&hub, "ValidateService", "blue", "d-1").await;
    assert!(validated.stdout.contains("still drained for"), "{validated:#?}");
    // Twice as long as return-after and later than every event.
    let old = |status: &DrainStatus| status.since_ms.is_some_and(|ms| ms > 2_000);
    let status = hub.wait_drain("the drain to have been over for long", old).await;
    assert_eq!(status.phase, Phase::Drained, "no time ends what BeforeBlockTraffic began: {status:?}");
    assert_eq!(status.claims[0].claimant, "shop/blue", "{status:?}");
    // A rollback has another id.
    run(&hub, "BeforeAllowTraffic", "blue", "d-2").await;
    assert_eq!(state(&hub).await, "serving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_place_without_a_load_balancer_validate_service_ends_it() {
    let hub = Setup::new("plain").start().await;
    run(&hub, "ApplicationStop", "blue", "d-1").await;
    assert_eq!(state(&hub).await, "drained");
    for name in ["BeforeInstall", "AfterInstall", "ApplicationStart"] {
        run(&hub, name, "blue", "d-1").await;
    }
    let end = run(&hub, "ValidateService", "blue", "d-1").await;
    assert!(end.stdout.contains("ValidateService of d-1 (shop/blue): the hub serves"), "{end:#?}");
    assert_eq!(state(&hub).await, "serving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_after_its_drain_gives_the_hub_back_when_the_app_is_back() {
    let kitchen = Kitchen::start("failing").await;
    let hub = Setup::new("failing").app(&kitchen.address).start().await;
    run(&hub, "ApplicationStop", "blue", "d-1").await;
    let address = kitchen.address;
    drop(kitchen);
    // Install fails, and nobody runs a script any more. Somebody starts the app by hand: whether the hub saw the address
    // refused or another process there, it knows that the old one is gone.
    let listener = wait_until("the app's address to be free", || async {
        tokio::net::TcpListener::bind(address).await.map_err(|error| error.to_string())
    })
    .await;
    becomes(&hub, "serving").await;
    drop(listener);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_of_a_blue_green_deployment_stays_drained_although_its_app_is_deployed_anew() {
    let kitchen = Kitchen::start("original").await;
    let hub = Setup::new("original").app(&kitchen.address).flag("--return-after", "1s").start().await;
    // The agent runs these two scripts on an original, and none after them.
    for name in ["BeforeBlockTraffic", "AfterBlockTraffic"] {
        run(&hub, name, "blue", "d-1").await;
    }
    let address = kitchen.address;
    drop(kitchen);
    let listener = wait_until("the app's address to be free", || async {
        tokio::net::TcpListener::bind(address).await.map_err(|error| error.to_string())
    })
    .await;
    let old = |status: &DrainStatus| status.since_ms.is_some_and(|ms| ms > 4_000);
    let status = hub.wait_drain("the drain to have been over for long", old).await;
    assert_eq!(status.phase, Phase::Drained, "an original must not become a successor again: {status:?}");
    assert_eq!(status.claims[0].ends_in_ms, None, "{status:?}");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_behind_a_load_balancer_is_ended_by_the_next_one() {
    let hub = Setup::new("failed").flag("--return-after", "1s").start().await;
    for name in ["BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop"] {
        run(&hub, name, "blue", "d-1").await;
    }
    // Install fails. The rollback has another id and begins anew.
    for name in ["BeforeBlockTraffic", "AfterBlockTraffic", "ApplicationStop", "ValidateService"] {
        run(&hub, name, "blue", "d-2").await;
    }
    assert_eq!(state(&hub).await, "drained");
    run(&hub, "BeforeAllowTraffic", "blue", "d-2").await;
    assert_eq!(state(&hub).await, "serving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_latest_it_ends_after_return_after() {
    let hub = Setup::new("forgotten").flag("--return-after", "1s").start().await;
    run(&hub, "ApplicationStop", "blue", "d-1").await;
    becomes(&hub, "serving").await;
    let status: DrainStatus = hub.drain().await;
    let by = status.called_off.map(|off| off.by).unwrap_or_default();
    assert_eq!(by, "nothing ended it for 1000 ms: shop/blue (ApplicationStop of d-1)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_groups_on_one_instance_do_not_end_each_others_drain() {
    let hub = Setup::new("shared").start().await;
    run(&hub, "BeforeBlockTraffic", "blue", "d-1").await;
    run(&hub, "BeforeBlockTraffic", "green", "d-9").await;
    let green = run(&hub, "BeforeAllowTraffic", "green", "d-9").await;
    let said = green.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("still drained for shop/blue (BeforeBlockTraffic of d-1)"), "{green:#?}");
    assert_eq!(state(&hub).await, "drained");
    run(&hub, "BeforeAllowTraffic", "blue", "d-1").await;
    assert_eq!(state(&hub).await, "serving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_only_joined_and_is_stopped_leaves_the_first_ones_drain() {
    let kitchen = Kitchen::start("joined").await;
    let hub = Setup::new("joined").app(&kitchen.address).start().await;
    let _crowd = tidegate_tests::Crowd::connect(&hub.url("/ledger"), 2).await;
    let first = event(&hub, "BeforeBlockTraffic", "blue", "d-1", SLOW).start();
    becomes(&hub, "draining").await;
    let second = event(&hub, "BeforeBlockTraffic", "green", "d-9", SLOW).start();
    hub.wait_drain("two claims", |status| status.claims.len() == 2).await;
    wait_until("the second to listen to signals", || async {
        let said = second.stdout();
        if said.iter().any(|line| line.starts_with("noticing")) { Ok(()) } else { Err(said.join("\n")) }
    })
    .await;
    second.signal(tidegate_tests::Signal::Term);
    assert_eq!(second.end().await.code, Some(143));
    let status: DrainStatus = hub.drain().await;
    assert_eq!(status.claims.iter().map(|claim| claim.claimant.as_str()).collect::<Vec<_>>(), ["shop/blue"]);
    assert!(!first.is_over(), "the first waits on");
    hub.api.delete("/v1/drain").await.expect(200);
    let end = first.end().await;
    assert_eq!(end.code, Some(4), "{end:#?}");
    assert!(end.stdout.contains("called off by an operator"), "{end:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_serves_whatever_was_claimed() {
    let hub = Setup::new("restarted").start().await;
    run(&hub, "BeforeBlockTraffic", "blue", "d-1").await;
    hub.kill();
    let hub = hub.successor_setup().start().await;
    assert_eq!(state(&hub).await, "serving");
    let allowed = run(&hub, "BeforeAllowTraffic", "blue", "d-1").await;
    assert!(allowed.stdout.contains("the hub serves"), "{allowed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_runs_at_another_address_is_no_success_and_one_that_is_dead_is_only_a_warning() {
    let hub = Setup::new("elsewhere").start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a free port");
    let data = hub.setup().data_dir().display().to_string();
    let state = hub.setup().path("last-hub").display().to_string();
    let text = format!("# ours\nhub = \"http://{nobody}\"\ndata-dir = \"{data}\"\nstate-file = \"{state}\"\n");
    let file = hub.setup().file("wrong.toml", &text).display().to_string();
    let wrong = || hook(&["--config", &file]).env("LIFECYCLE_EVENT", "BeforeBlockTraffic");
    let end = wrong().run().await;
    assert_eq!(end.code, Some(5), "{end:#?}");
    let said = end.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!("{file}, line 2"),
        format!("process {} has the data directory", hub.pid()),
        format!("listens at {}", hub.private),
        format!("hub = \"http://{}\"", hub.private),
    ] {
        assert!(said.contains(&part), "expected {part:?} in {said}");
    }
    hub.kill();
    let dead = wrong().run().await;
    assert_eq!(dead.code, Some(0), "{dead:#?}");
    let said = dead.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("says that a hub is installed here, and none runs"), "{dead:#?}");
    let required = hook(&["--config", &file, "--require-hub"]).env("LIFECYCLE_EVENT", "BeforeBlockTraffic").run().await;
    assert_eq!(required.code, Some(5), "{required:#?}");
}
