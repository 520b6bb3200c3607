//! Two hubs of our own: one to be drained, one to take over.

use crate::hub_api::HubApi;
use crate::started::Started;
use crate::target::{Publisher, Server, target};
use crate::thin::Dialect;
use http::Uri;
use serde_json::Value;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long the hubs may take to know each other.
const MEET_WAIT: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Two hubs that know each other.
pub(crate) struct Fleet {
    /// Where clients reach the one to be drained.
    pub(crate) hub: Uri,
    /// Its private API.
    pub(crate) api: HubApi,
    /// The one that takes over, with its private API.
    pub(crate) successor: Server,
    /// The processes of both.
    pub(crate) pids: Vec<u32>,
    first: Started,
    _key: TempDir,
}

struct Seat {
    public: String,
    private: String,
}

impl Fleet {
    /// Starts both on free ports of 127.0.0.1, with a key of this run, and waits until they have met.
    ///
    /// # Errors
    /// In words: one did not start, or they did not meet.
    pub(crate) async fn start(program: &Path, more: &[String]) -> Result<Self, String> {
        let key = tempfile::tempdir().map_err(|error| format!("no directory for the key: {error}"))?;
        let file = key.path().join("cluster.key");
        // It seals nothing that outlives the run.
        let mut drawn = [0_u8; 32];
        let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut drawn));
        random.map_err(|error| format!("/dev/urandom: {error}"))?;
        let text: String = drawn.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect();
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        restrict(&file)?;
        let ports = free_ports()?;
        let seat = |public: u16, private: u16| Seat {
            public: format!("127.0.0.1:{public}"),
            private: format!("127.0.0.1:{private}"),
        };
        let (a, b) = (seat(ports[0], ports[1]), seat(ports[2], ports[3]));
        let first = hub(program, &a, &b, &file, more).await?;
        let second = hub(program, &b, &a, &file, more).await?;
        let (api, other) =
            (HubApi::new(first.ready.private_url()?, None), HubApi::new(second.ready.private_url()?, None));
        meet(&api).await?;
        meet(&other).await?;
        let url = format!("ws://{}/connect", b.public).parse().map_err(|error| format!("{}: {error}", b.public))?;
        Ok(Self {
            hub: first.ready.public_url()?,
            api,
            pids: vec![first.pid, second.pid],
            successor: Server {
                name: "successor".to_owned(),
                target: target(&url, Dialect::Tidegate).await?,
                pids: vec![second.pid],
                publisher: Publisher::Hub(other),
                started: vec![second],
                apps: Vec::new(),
                warnings: Vec::new(),
            },
            first,
            _key: key,
        })
    }

    /// Ends both.
    pub(crate) async fn end(self) {
        self.first.end().await;
        self.successor.end().await;
    }
}

fn restrict(file: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file, mode).map_err(|error| format!("{}: {error}", file.display()))
}

async fn hub(program: &Path, own: &Seat, other: &Seat, key: &Path, more: &[String]) -> Result<Started, String> {
    let mut args: Vec<String> = Vec::new();
    let key = key.display().to_string();
    for (flag, value) in [
        ("--public", own.public.clone()),
        ("--private", own.private.clone()),
        ("--public-url", format!("ws://{}", own.public)),
        ("--peer", format!("http://{}", other.private)),
        ("--peer-url", format!("http://{}", own.private)),
        ("--cluster-key-file", key),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    args.extend(more.iter().cloned());
    Started::hub(program, &args).await.map_err(|why| format!("--start {why}"))
}

async fn meet(api: &HubApi) -> Result<(), String> {
    let end = Instant::now() + MEET_WAIT;
    loop {
        let hub: Value = api.get("/v1/hub", LOOK + MEET_WAIT).await?.ok_or("the hub has no /v1/hub")?;
        let serves = |peer: &Value| peer["state"] == "serving";
        if hub["peers"].as_array().is_some_and(|peers| peers.iter().any(serves)) {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(format!("the hubs did not meet within {MEET_WAIT:?}: {}", hub["peers"]));
        }
        sleep(LOOK).await;
    }
}

/// Four ports that were free a moment ago: each hub must know the other's before it starts.
fn free_ports() -> Result<[u16; 4], String> {
    let listeners: Result<Vec<TcpListener>, _> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
    let listeners = listeners.map_err(|error| format!("no free ports: {error}"))?;
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
    }
    Ok(ports)
}
