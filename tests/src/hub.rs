//! A hub as a process, and what it is started with.

use crate::ports::free_address;
use crate::private::Private;
use crate::program::{Exit, Program, Signal, Surroundings};
use crate::wait::wait_until;
use rustix::process::{Pid, Resource, Rlimit};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tidegate_protocol::control::{DrainStatus, SessionInfo};

/// Any port of loopback.
const ANY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// A cluster key for the hubs of one test.
pub fn cluster_key() -> &'static str {
    "9f1c6ad07c1f4b7e8d2a35b0c4e6f7a8192b3c4d5e6f708192a3b4c5d6e7f809"
}

/// What a hub is started with: free ports, a directory of its own, warnings on stderr, and what a test
/// adds. The directory lives as long as any setup or hub that knows it, so a hub can be started again.
#[derive(Clone, Debug)]
pub struct Setup {
    name: String,
    directory: Arc<TempDir>,
    public: SocketAddr,
    private: SocketAddr,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Setup {
    /// A hub called so in messages.
    ///
    /// # Panics
    /// When there is no room for its directory.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for hub {name}: {error}"));
        let setup = Self {
            name: format!("hub {name}"),
            directory: Arc::new(directory),
            public: ANY,
            private: ANY,
            args: Vec::new(),
            env: Vec::new(),
        };
        setup.file("cluster.key", &format!("{}\n", cluster_key()));
        setup.flag("--log-level", "info")
    }

    /// Adds an option and its value. A later one replaces an earlier one, unless it may be repeated.
    #[must_use]
    pub fn flag(mut self, name: &str, value: impl ToString) -> Self {
        const REPEATABLE: [&str; 2] = ["--peer", "--allowed-origin"];
        if !REPEATABLE.contains(&name)
            && let Some(at) = self.args.iter().position(|arg| arg == name)
        {
            self.args.drain(at..at + 2);
        }
        self.args.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Forgets all variables of its environment, the armed fault points among them.
    #[must_use]
    pub fn without_env(mut self) -> Self {
        self.env.clear();
        self
    }

    /// Puts this app behind it, without events.
    #[must_use]
    pub fn app(self, address: &SocketAddr) -> Self {
        self.flag("--app", format!("ws://{address}"))
    }

    /// Puts an app behind it that takes events, as the kitchen does at `/tidegate/events`.
    #[must_use]
    pub fn app_with_events(self, address: &SocketAddr) -> Self {
        self.app(address).flag("--app-events", format!("http://{address}/tidegate/events"))
    }

    /// Uses the key that all hubs of the tests share, as hubs with peers must.
    #[must_use]
    pub fn in_cluster(self) -> Self {
        let key = self.path("cluster.key").display().to_string();
        self.flag("--cluster-key-file", key)
    }

    /// Knows the hub at this private address from the start. Needs [`Setup::in_cluster`].
    #[must_use]
    pub fn peer(self, private: &SocketAddr) -> Self {
        self.flag("--peer", format!("http://{private}"))
    }

    /// Listens on these addresses instead of free ones.
    #[must_use]
    pub fn at(mut self, public: SocketAddr, private: SocketAddr) -> Self {
        (self.public, self.private) = (public, private);
        self
    }

    /// A path in its directory, beside the data.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Writes a file into its directory, for the owner's eyes only, and gives the path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        let written = std::fs::write(&path, text)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)));
        written.unwrap_or_else(|error| panic!("{name} cannot be written: {error}"));
        path
    }

    /// All arguments, for starts that are meant to fail.
    pub fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = ["serve", "--public"].map(str::to_owned).into();
        // "Any port" is one that the process after this one gets again, whatever happens in between.
        let settled = |address: SocketAddr| if address == ANY { free_address() } else { address };
        args.extend([settled(self.public).to_string(), "--private".to_owned(), settled(self.private).to_string()]);
        args.extend(["--data-dir".to_owned(), self.data_dir().display().to_string()]);
        args.extend(self.args.iter().cloned());
        args
    }

    /// The same on another data directory.
    pub fn args_on(&self, data_dir: &Path) -> Vec<String> {
        let mut args = self.args();
        if let Some(at) = args.iter().position(|arg| arg == "--data-dir") {
            args[at + 1] = data_dir.display().to_string();
        }
        args
    }

    /// Starts the process without waiting for anything.
    pub fn launch(&self) -> Program {
        Program::start(&self.name, "tidegate", &self.args(), &self.env)
    }

    /// Starts a hub in other surroundings, on addresses that are known before, and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn start_into(self, around: Surroundings) -> Hub {
        self.at(free_address(), free_address()).start_at_into(around).await
    }

    /// The same, on the addresses that it has.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub async fn start_at_into(&self, around: Surroundings) -> Hub {
        let setup = self.clone();
        let program = Program::start_into(&setup.name, "tidegate", &setup.args(), &setup.env, around);
        let (public, private) = (setup.public, setup.private);
        let hub = Hub { setup, program, public, private, api: Private::new(private) };
        wait_until("the hub answers", || async {
            assert!(!hub.is_over(), "{} ended before it answered: {:?}", hub.setup.name, hub.program.over());
            tokio::net::TcpStream::connect(private).await.map_err(|error| error.to_string())
        })
        .await;
        hub
    }

    /// Starts a hub and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready: with what it said.
    pub async fn start(&self) -> Hub {
        Hub::ready(self.clone(), self.launch()).await
    }
}

/// A hub that is ready. Killed when it is dropped.
#[derive(Debug)]
pub struct Hub {
    setup: Setup,
    program: Program,
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where apps, the trigger and peers connect.
    pub private: SocketAddr,
    /// Its private API.
    pub api: Private,
}

impl Hub {
    /// Waits until a launched process is ready.
    ///
    /// # Panics
    /// When it does not get ready: with what it said.
    pub async fn ready(setup: Setup, program: Program) -> Self {
        let line = program.first_line().await;
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = |field: &str| -> SocketAddr {
            let address = ready[field].as_str().and_then(|text| text.parse().ok());
            address.unwrap_or_else(|| panic!("{} began with {line:?}, not with its ready line", setup.name))
        };
        let (public, private) = (address("public"), address("private"));
        Self { setup, program, public, private, api: Private::new(private) }
    }

    /// What it was started with: same directory, free ports again.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }

    /// What it was started with, on the very addresses that it has, for the process after it.
    pub fn successor_setup(&self) -> Setup {
        self.setup.clone().at(self.public, self.private)
    }

    /// The URL of a path for clients.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.public)
    }

    /// The directory with its parked sessions.
    pub fn data_dir(&self) -> impl AsRef<Path> {
        self.setup.data_dir()
    }

    /// What it said on stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.program.stderr()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.program.over().is_some()
    }

    /// Whether it stands still after SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The state stands after the name, which is in parentheses.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }

    /// How many bytes a file of its may have from now on, as on a disk that is full.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn limit_file_bytes(&self, bytes: Option<u64>) {
        self.limit(Resource::Fsize, bytes);
    }

    /// How many descriptors it may have from now on.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn limit_descriptors(&self, count: u64) {
        self.limit(Resource::Nofile, Some(count));
    }

    fn limit(&self, resource: Resource, current: Option<u64>) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id is not 0");
        // The hard limit stays, so that the soft one can be lifted again.
        let hard = rustix::process::getrlimit(resource).maximum;
        let set = rustix::process::prlimit(Some(pid), resource, Rlimit { current, maximum: hard });
        set.unwrap_or_else(|error| panic!("{}: its limit cannot be set: {error}", self.setup.name));
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// When it is gone.
    pub fn descriptors(&self) -> u64 {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid()));
        open.unwrap_or_else(|error| panic!("{}: {error}", self.setup.name)).count() as u64
    }

    /// Its share of memory (PSS) in KiB.
    ///
    /// # Panics
    /// When it is gone.
    pub fn memory_kib(&self) -> u64 {
        let table = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap_or_default();
        let line = table.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_else(|| panic!("{}: its memory cannot be read", self.setup.name))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&self) {
        self.program.kill();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits for its end.
    pub async fn exit(&self) -> Exit {
        self.program.exit().await
    }

    /// Stops it with SIGTERM and waits for its end, which must be a regular one.
    ///
    /// # Panics
    /// When it ends with another code than 0, or not in time.
    pub async fn stop(&self) {
        self.signal(Signal::Term);
        let exit = self.exit().await;
        assert_eq!(exit.code, Some(0), "SIGTERM is a regular end of {}", self.setup.name);
    }

    /// Its id.
    ///
    /// # Panics
    /// When `GET /v1/hub` does not answer.
    pub async fn id(&self) -> String {
        self.api.get("/v1/hub").await.json()["id"].as_str().expect("a hub has an id").to_owned()
    }

    /// The sessions that it lists in this phase.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn in_phase(&self, phase: &str) -> BTreeSet<String> {
        let lines = self.api.get("/v1/sessions?limit=1000").await.json();
        let lines = lines["sessions"].as_array().cloned().unwrap_or_default();
        let here = lines.iter().filter(|line| line["phase"] == phase);
        here.filter_map(|line| line["session"].as_str().map(str::to_owned)).collect()
    }

    /// One session as `GET /v1/sessions/{id}` shows it.
    ///
    /// # Panics
    /// When the hub does not know it.
    pub async fn session(&self, id: &str) -> SessionInfo {
        self.api.get(&format!("/v1/sessions/{id}")).await.read()
    }

    /// The status of its drain.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn drain(&self) -> DrainStatus {
        self.api.get("/v1/drain").await.read()
    }

    /// Waits until the status of its drain is as expected, and gives it.
    ///
    /// # Panics
    /// When the time is over: with the last status.
    pub async fn wait_drain(&self, what: &str, is: impl Fn(&DrainStatus) -> bool) -> DrainStatus {
        wait_until(what, || async {
            let status = self.drain().await;
            if is(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }
}
