//! `deploy/codedeploy/two-instances.md`, followed word by word, and then a deployment of both instances, one after the
//! other, by the shipped bundle in the agent's order of events. HAProxy stands for the load balancer, a script for
//! `systemctl`, and the steps of the agent that cannot be scripted are done here.

use crate::fleet::{acquainted, answers, id, kitchen, ready, shipped};
use crate::page::blocks;
use crate::systemd::with_systemctl;
use serde_json::Value;
use std::time::Duration;
use tidegate_tests::{Crowd, Lab, Machine, Program, lab};

const BALANCER: &str = "10.0.1.5";
const AUTH: &str = "-H \"Authorization: Bearer $(cat /etc/tidegate/private.token)\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_two_instances_works_word_by_word_and_its_deployment_is_noticed_by_nobody() {
    if !lab("two_instances::the_page_of_two_instances_works_word_by_word_and_its_deployment_is_noticed_by_nobody") {
        return;
    }
    let lab = Lab::start();
    let (a, b) = (lab.machine("a", "10.0.1.11"), lab.machine("b", "10.0.1.12"));
    let _apps = [kitchen(&a).await, kitchen(&b).await];
    follow(&a, &b).await;
    for machine in [&a, &b] {
        ready(&machine.address).await;
        acquainted(machine, 1, AUTH).await;
    }
    let balancer = Balancer::start(&lab).await;
    let crowd = Crowd::connect(&format!("ws://{BALANCER}:80/ledger"), 10).await;
    let ids = [id(&a, AUTH), id(&b, AUTH)];
    assert!((1..10).contains(&crowd.on(&ids[0])), "users of both instances");

    for (own, machine) in [&a, &b].into_iter().enumerate() {
        // The page's own times, but for those that only make a test long.
        let settings = machine.must("cat /etc/tidegate/hook.toml");
        let quick = settings.replace("\"15s\"", "\"1s\"").replace("\"60s\"", "\"3s\"");
        machine.write("/etc/tidegate/hook.toml", 0o644, &quick);
        deploy(machine, &balancer, own).await;
        crowd.all_on(&ids[1 - own]).await;
        acquainted(if own == 0 { &b } else { &a }, 1, AUTH).await;
    }
    crowd.all_at_work().await;
    crowd.audit().await;
}

/// Does what the page says, in its order.
async fn follow(a: &Machine, b: &Machine) {
    let page = shipped("codedeploy/two-instances.md");
    let blocks = blocks(&page);
    assert!(blocks.len() >= 8, "the page has its commands and files: {blocks:?}");
    for machine in [a, b] {
        with_systemctl(machine);
        machine.write("/etc/systemd/system/tidegate.service", 0o644, &shipped("systemd/tidegate.service"));
    }
    for block in &blocks {
        for (name, machine) in [("a", a), ("b", b)] {
            if !block.is_for(name) {
                continue;
            }
            match (block.language.as_str(), &block.path) {
                ("sh", None) => {
                    let said = machine.must(&block.text);
                    if block.text.contains("head -c") {
                        copy_secrets(a, b);
                    }
                    if block.text.contains("hook plan") {
                        assert!(said.contains("sessions"), "the plan says how many sessions would move: {said}");
                    }
                }
                ("toml", Some(path)) => machine.write(path, 0o644, &block.text),
                (language, path) => panic!("a block for {name} that nobody can follow: {language} {path:?}"),
            }
        }
        // The page looks at the other hub as soon as both were started.
        if block.text.contains("enable --now") {
            for machine in [a, b] {
                ready(&machine.address).await;
                acquainted(machine, 1, AUTH).await;
            }
        }
    }
}

/// "Copy both files to B, to the same place, with the same owner and mode."
fn copy_secrets(a: &Machine, b: &Machine) {
    for file in ["/etc/tidegate/cluster.key", "/etc/tidegate/private.token"] {
        let text = a.must(&format!("cat {file}"));
        b.write(file, 0o600, &text);
        b.must(&format!("chown tidegate: {file}"));
    }
}

/// HAProxy in the place of the load balancer, told to take instances out and in again.
struct Balancer {
    machine: Machine,
    _program: Program,
}

impl Balancer {
    async fn start(lab: &Lab) -> Self {
        let machine = lab.machine("lb", BALANCER);
        let config = shipped("balancers/haproxy-roundrobin.cfg")
            .replace("global\n", "global\n    stats socket /run/haproxy.sock mode 600 level admin\n");
        machine.write("/etc/haproxy.cfg", 0o644, &config);
        let program = machine.start("/usr/sbin/haproxy", &["-db", "-f", "/etc/haproxy.cfg"]);
        answers(&format!("{BALANCER}:80"), "/healthz/ready").await;
        Self { machine, _program: program }
    }

    fn order(&self, order: &str) {
        let script = format!(
            "python3 -c 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(\"/run/haproxy.sock\"); \
             s.sendall(b\"{order}\\n\"); sys.stdout.write(s.recv(4096).decode())'"
        );
        let said = self.machine.must(&script);
        assert_eq!(said.trim(), "", "{order}");
    }
}

/// One instance's deployment: the agent's events in its order, each script with its timeout.
async fn deploy(machine: &Machine, balancer: &Balancer, own: usize) {
    let server = ["a", "b"][own];
    for script in ["tidegate.sh", "app_start.sh", "app_stop.sh"] {
        machine.write(
            &format!("/opt/bundle/scripts/{script}"),
            0o755,
            &shipped(&format!("codedeploy/scripts/{script}")),
        );
    }
    let unit = "[Service]\nExecStart=/bin/sleep 3600\nTimeoutStopSec=5s\n";
    machine.write("/etc/systemd/system/app.service", 0o644, unit);
    let appspec: Value = serde_saphyr::from_str(&shipped("codedeploy/appspec.yml")).expect("appspec.yml is YAML");
    for event in [
        "BeforeBlockTraffic",
        "BlockTraffic",
        "AfterBlockTraffic",
        "ApplicationStop",
        "BeforeInstall",
        "AfterInstall",
        "ApplicationStart",
        "ValidateService",
        "BeforeAllowTraffic",
        "AllowTraffic",
        "AfterAllowTraffic",
    ] {
        match event {
            "BlockTraffic" => balancer.order(&format!("set server hubs/{server} state maint")),
            "AllowTraffic" => balancer.order(&format!("set server hubs/{server} state ready")),
            _ => {
                for script in appspec["hooks"][event].as_array().into_iter().flatten() {
                    run(machine, event, script).await;
                }
            }
        }
    }
}

async fn run(machine: &Machine, event: &str, script: &Value) {
    let path = format!("/opt/bundle/{}", script["location"].as_str().expect("a script has a location"));
    let mut command = machine.command(&path, &[]);
    for (name, value) in [
        ("LIFECYCLE_EVENT", event),
        ("DEPLOYMENT_ID", "d-A1B2C3D4E"),
        ("APPLICATION_NAME", "shop"),
        ("DEPLOYMENT_GROUP_NAME", "web"),
        ("DEPLOYMENT_GROUP_ID", "11111111-2222-3333-4444-555555555555"),
    ] {
        command.env(name, value);
    }
    let timeout = Duration::from_secs(script["timeout"].as_u64().expect("a script has a timeout"));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(timeout, output).await.unwrap_or_else(|_| panic!("{event}: beyond {timeout:?}"));
    let output = output.expect("the task runs").unwrap_or_else(|error| panic!("{event}: {path}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{event}: {path}: {}\n{said}", output.status);
}
