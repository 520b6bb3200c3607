//! The manifest: its containers' commands, probes and limits, run as three pods of a network of the test's own, as the user and
//! with the volumes that it names, behind a Service by the rules that kube-proxy writes. What only a cluster shows (scheduling,
//! the controller's own order, the network policy) is not tested.

use crate::fleet::{acquainted, get, id, shipped};
use serde_json::Value;
use std::process::Command;
use tidegate_tests::{Crowd, Lab, Machine, Program, lab, wait_until};

const AUTH: &str = "-H \"Authorization: Bearer $(cat /run/secrets/tidegate/private.token)\"";
/// The Service's own address.
const SERVICE: &str = "10.0.1.100";
const PODS: usize = 3;

/// The documents of the manifest.
fn manifest() -> Vec<Value> {
    let text = shipped("kubernetes/tidegate.yaml");
    let documents = text.split("\n---\n").filter(|text| text.contains("kind:"));
    documents.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

fn document(kind: &str) -> Value {
    manifest().into_iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("the manifest has a {kind}"))
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap_or_default().to_owned()).collect()
}

/// A pod: a machine, and how its container's processes are run.
struct Pod {
    machine: Machine,
    as_user: Vec<String>,
    _program: Option<Program>,
}

impl Pod {
    /// As the kubelet would: the volume belongs to the group of `fsGroup` and nobody else may look in, secrets likewise.
    fn new(lab: &Lab, n: usize, spec: &Value) -> Self {
        let machine = lab.machine(&format!("tidegate-{n}"), &address(n));
        let security = &spec["securityContext"];
        let number = |name: &str| security[name].as_u64().unwrap_or_else(|| panic!("the pod's {name} is a number"));
        let (user, group) = (number("runAsUser"), number("fsGroup"));
        machine.must(&format!("install -d -m 2770 -o root -g {group} /var/lib/tidegate; chmod 755 /tmp"));
        for (file, text) in
            [("cluster.key", tidegate_tests::cluster_key()), ("private.token", "c2Vjci10b2tlbi1vZi1hLXRlc3Q4NTIz")]
        {
            machine.write(&format!("/run/secrets/tidegate/{file}"), 0o440, text);
        }
        machine.must(&format!("chown -R root:{group} /run/secrets/tidegate"));
        let peers: String = (0..PODS).map(|n| format!("{} tidegate-peers\n", address(n))).collect();
        machine.must(&format!("printf '{peers}10.0.1.50 app\\n' >>/etc/hosts; echo 'multi on' >/etc/host.conf"));
        let mut as_user: Vec<String> =
            ["--reuid", &user.to_string(), "--regid", &user.to_string()].map(str::to_owned).into();
        as_user.extend(["--groups".to_owned(), group.to_string()]);
        as_user.extend(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned));
        Self { machine, as_user, _program: None }
    }

    fn command(&self, words: &[String]) -> Command {
        let args: Vec<&str> = self.as_user.iter().chain(words).map(String::as_str).collect();
        let mut command = self.machine.command("/usr/bin/setpriv", &args);
        command.env("POD_IP", &self.machine.address);
        command
    }

    /// The container's command and arguments, its variables put in.
    fn start(&mut self, container: &Value) {
        let words: Vec<String> = [words(&container["command"]), words(&container["args"])].concat();
        let words: Vec<String> = words.iter().map(|word| word.replace("$(POD_IP)", &self.machine.address)).collect();
        self._program = Some(Program::spawn(&format!("pod at {}", self.machine.address), self.command(&words)));
    }
}

fn address(n: usize) -> String {
    format!("10.0.1.{}", 11 + n)
}

/// What kube-proxy writes for a Service without session affinity.
fn service(port: &Value, target: u64) {
    let port = port["port"].as_u64().expect("a Service has a port");
    for n in 0..PODS {
        let chance = format!("1 -m statistic --mode random --probability {:.5}", 1.0 / (PODS - n) as f64);
        let chance = if n + 1 < PODS { chance.trim_start_matches("1 ").to_owned() } else { String::new() };
        let rule = format!(
            "PATH=$PATH:/usr/sbin iptables -t nat -A OUTPUT -d {SERVICE} -p tcp --dport {port} {chance} -j DNAT --to-destination {}:{target}",
            address(n)
        );
        let done = Command::new("sh").args(["-c", &rule]).output().expect("there is a shell");
        assert!(done.status.success(), "{rule}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_pods_start_as_their_user_and_one_that_is_deleted_hands_everybody_on() {
    if !lab("kubernetes::the_manifests_pods_start_as_their_user_and_one_that_is_deleted_hands_everybody_on") {
        return;
    }
    let set = document("StatefulSet");
    let spec = &set["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let lab = Lab::start();
    let app = lab.machine("app", "10.0.1.50");
    let _kitchen = crate::fleet::kitchen(&app).await;
    let mut pods: Vec<Pod> = (0..PODS).map(|n| Pod::new(&lab, n, spec)).collect();
    for pod in &mut pods {
        pod.start(container);
    }
    for pod in &pods {
        for probe in ["readinessProbe", "livenessProbe"] {
            let port = port(container, container[probe]["httpGet"]["port"].as_str().expect("a probe has a port"));
            let path = container[probe]["httpGet"]["path"].as_str().expect("a probe has a path");
            crate::fleet::answers(&format!("{}:{port}", pod.machine.address), path).await;
        }
        acquainted(&pod.machine, PODS - 1, AUTH).await;
    }
    service(&document("Service")["spec"]["ports"][0], port(container, "public"));
    let crowd = Crowd::connect(&format!("ws://{SERVICE}:80/ledger"), 12).await;
    let first = id(&pods[0].machine, AUTH);
    assert!(crowd.on(&first) > 0, "the Service gives users to the first pod, too");

    // The deletion: preStop, then SIGTERM.
    let stop = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let done = pods[0].command(&stop).output().expect("preStop can be started");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "preStop: {}\n{said}", done.status);
    wait_until("nobody is on the pod that goes", || async {
        let left = crowd.on(&first);
        if left == 0 { Ok(()) } else { Err(format!("{left} are")) }
    })
    .await;
    let gone = pods.remove(0);
    let program = gone._program.expect("it was started");
    gone.machine.must("kill -TERM $(pgrep -x tidegate)");
    assert_eq!(program.exit().await.code, Some(0), "SIGTERM is a regular end");
    let refused = get(&format!("{}:8080", gone.machine.address), "/healthz/ready").await;
    assert!(refused.is_err(), "nobody listens there any more: {refused:?}");
    crowd.all_at_work().await;
    crowd.audit().await;
}

/// A named port's number.
fn port(container: &Value, name: &str) -> u64 {
    let ports = container["ports"].as_array().into_iter().flatten();
    let mut named = ports.filter(|port| port["name"] == name);
    named
        .next()
        .and_then(|port| port["containerPort"].as_u64())
        .unwrap_or_else(|| panic!("the container has a port {name}"))
}

#[test]
fn the_manifests_times_nest() {
    let set = document("StatefulSet");
    let spec = &set["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let stop = words(&container["lifecycle"]["preStop"]["exec"]["command"]);
    let seconds = |words: &[String], name: &str| -> u64 {
        let value = words.iter().find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("{name} is given"));
        humantime_seconds(value)
    };
    let hook = seconds(&stop, "--deadline=") + seconds(&stop, "--settle=");
    let hub = seconds(&words(&container["args"]), "--stop-deadline=");
    let grace = spec["terminationGracePeriodSeconds"].as_u64().expect("the pod has a grace period");
    assert!(grace > hook + hub, "the grace period of {grace} s covers preStop, {hook} s, and the stop, {hub} s");
}

/// Seconds of `25s` or `1m`.
fn humantime_seconds(value: &str) -> u64 {
    let (number, unit) = value.split_at(value.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|error| panic!("{value}: {error}"));
    match unit {
        "s" => number,
        "m" => number * 60,
        _ => panic!("{value} is neither seconds nor minutes"),
    }
}
