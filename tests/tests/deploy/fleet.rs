//! What the tests of `deploy/` share: the shipped files, an app, two hubs with the addresses of the recipes.

use std::path::Path;
use tidegate_tests::{Lab, Machine, Program, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A file of `deploy/`, as it stands.
pub(crate) fn shipped(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The app of a machine: a kitchen on port 3000 that pushes now and then.
pub(crate) async fn kitchen(machine: &Machine) -> Program {
    let args =
        ["--listen", "0.0.0.0:3000", "--hub-url", "ws://127.0.0.1:9", "--name", "app", "--ledger-push-ms", "100"];
    let kitchen = machine.start("/usr/local/bin/tidegate-kitchen", &args);
    kitchen.first_line().await;
    kitchen
}

/// The status of `GET path`, if anybody answers.
pub(crate) async fn get(address: &str, path: &str) -> Result<String, String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = asked.await.map_err(|error| format!("{address}{path}: {error}"))?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Waits until the hub on this machine is ready, as a balancer would ask it.
pub(crate) async fn ready(address: &str) {
    answers(&format!("{address}:8080"), "/healthz/ready").await;
}

/// Waits until `GET path` gives 200.
pub(crate) async fn answers(address: &str, path: &str) {
    wait_until(&format!("{address} answers 200 to {path}"), || async {
        let status = get(address, path).await?;
        if status == "200" { Ok(()) } else { Err(status) }
    })
    .await;
}

/// Two hubs at the addresses that the recipes name, an app beside each.
pub(crate) struct Two {
    pub(crate) a: Machine,
    pub(crate) b: Machine,
    _running: Vec<Program>,
}

impl Two {
    pub(crate) async fn start(lab: &Lab) -> Self {
        let (a, b) = (lab.machine("a", "10.0.1.11"), lab.machine("b", "10.0.1.12"));
        let mut running = Vec::new();
        for (own, other) in [(&a, &b), (&b, &a)] {
            running.push(kitchen(own).await);
            own.write("/srv/cluster.key", 0o600, &format!("{}\n", tidegate_tests::cluster_key()));
            let (peer, peer_url) = (format!("http://{}:8081", other.address), format!("http://{}:8081", own.address));
            let args = [
                ["serve", "--public", "0.0.0.0:8080", "--private", "0.0.0.0:8081", "--insecure-private"].as_slice(),
                &["--data-dir", "/var/lib/tidegate", "--cluster-key-file", "/srv/cluster.key"],
                &["--app", "ws://127.0.0.1:3000", "--app-events", "http://127.0.0.1:3000/tidegate/events"],
                &["--peer", &peer, "--peer-url", &peer_url],
            ];
            running.push(own.start("/usr/local/bin/tidegate", &args.concat()));
        }
        for machine in [&a, &b] {
            ready(&machine.address).await;
            acquainted(machine, 1, "").await;
        }
        Self { a, b, _running: running }
    }

    /// The id of a machine's hub.
    pub(crate) fn id(machine: &Machine) -> String {
        id(machine, "")
    }
}

/// `GET /v1/hub` of the hub on this machine, with this header for `curl`.
pub(crate) fn hub(machine: &Machine, header: &str) -> serde_json::Value {
    let said = machine.must(&format!("curl -fsS {header} http://127.0.0.1:8081/v1/hub"));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{said:?} is no JSON: {error}"))
}

pub(crate) fn id(machine: &Machine, header: &str) -> String {
    hub(machine, header)["id"].as_str().expect("a hub has an id").to_owned()
}

/// Waits until the hub on this machine knows so many others that serve.
pub(crate) async fn acquainted(machine: &Machine, others: usize, header: &str) {
    wait_until(&format!("the hub on {} knows {others} others", machine.address), || async {
        let said = hub(machine, header);
        let peers = said["peers"].as_array().cloned().unwrap_or_default();
        let known = peers.iter().filter(|peer| peer["state"] == "serving" && peer["reachable"] == true).count();
        if known == others { Ok(()) } else { Err(said.to_string()) }
    })
    .await;
}
