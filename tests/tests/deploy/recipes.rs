//! The recipes for balancers: each as it is shipped, in front of two hubs, one of which drains strictly.

use crate::fleet::{Two, answers, shipped};
use std::path::PathBuf;
use tidegate_tests::{Crowd, Lab, Program, lab, wait_until};

/// Where the balancer stands.
const BALANCER: &str = "10.0.1.5";
const USERS: usize = 24;

/// A drain of some seconds; its deadline is far beyond what a loaded machine needs.
const DRAIN: &str = "tidegate-hook drain --strict --notice 1s --window 3s --settle 8s --deadline 60s";

/// Starts the recipe's program with the recipe's file, and drains one hub of two with users at work.
async fn drains_cleanly(file: &str, start: impl Fn(&tidegate_tests::Machine) -> Program) {
    let lab = Lab::start();
    let two = Two::start(&lab).await;
    let machine = lab.machine("lb", BALANCER);
    machine.write(&format!("/etc/{file}"), 0o644, &shipped(&format!("balancers/{file}")));
    let _balancer = start(&machine);
    answers(&format!("{BALANCER}:80"), "/healthz/ready").await;
    let crowd = Crowd::connect(&format!("ws://{BALANCER}:80/ledger"), USERS).await;
    let (a, b) = (Two::id(&two.a), Two::id(&two.b));
    let at_start = crowd.on(&a);
    assert!((1..USERS).contains(&at_start), "{file} spreads users over both hubs; {at_start} of {USERS} on the first");

    let said = two.a.sh(DRAIN);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(0), "{file}: a strict drain: {text}");
    assert!(text.contains(&format!("moved {at_start}, parked 0")), "{file}: everybody moved: {text}");
    assert!(text.contains("left here 0"), "{file}: nobody is left: {text}");
    crowd.all_on(&b).await;
    crowd.all_at_work().await;

    // It serves again, and gets newcomers again.
    two.a.must("tidegate-hook cancel");
    let url = format!("ws://{BALANCER}:80/ledger");
    wait_until(&format!("{file}: newcomers reach the hub that serves again"), || async {
        let newcomer = Crowd::connect(&url, 1).await;
        if newcomer.on(&a) == 1 { Ok(()) } else { Err("the other hub got it".to_owned()) }
    })
    .await;
    crowd.audit().await;
}

fn haproxy(machine: &tidegate_tests::Machine, file: &str) -> Program {
    machine.start("/usr/sbin/haproxy", &["-db", "-f", &format!("/etc/{file}")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_by_turns_drains_cleanly() {
    if lab("recipes::haproxy_by_turns_drains_cleanly") {
        let file = "haproxy-roundrobin.cfg";
        drains_cleanly(file, |machine| haproxy(machine, file)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_with_least_connections_drains_cleanly() {
    if lab("recipes::haproxy_with_least_connections_drains_cleanly") {
        let file = "haproxy-leastconn.cfg";
        drains_cleanly(file, |machine| haproxy(machine, file)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_by_turns_drains_cleanly() {
    if lab("recipes::nginx_by_turns_drains_cleanly") {
        drains_cleanly("nginx.conf", |machine| {
            machine.must("mkdir -p /var/lib/nginx /var/log/nginx");
            machine.start("/usr/sbin/nginx", &["-c", "/etc/nginx.conf", "-e", "stderr", "-g", "daemon off; user root;"])
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_with_least_requests_drains_cleanly() {
    if lab("recipes::envoy_with_least_requests_drains_cleanly") {
        drains_cleanly("envoy.yaml", |machine| {
            let envoy = envoy();
            let copied = std::fs::copy(&envoy, machine.path("/srv/envoy"));
            copied.unwrap_or_else(|error| panic!("{} cannot be copied: {error}", envoy.display()));
            let args = ["-c", "/etc/envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"];
            machine.start("/srv/envoy", &args)
        })
        .await;
    }
}

/// Envoy, where `scripts/setup.sh` puts it.
fn envoy() -> PathBuf {
    let tests = std::env::current_exe().expect("a running program has a path");
    let target = tests.ancestors().find(|path| path.join("tools").is_dir());
    let envoy = target.map(|target| target.join("tools/envoy/_bin/envoy"));
    envoy.filter(|path| path.exists()).expect("there is no target/tools/envoy: run scripts/setup.sh test")
}
