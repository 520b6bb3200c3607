//! The story of a hub's process: open, listen, say where, serve, and on a signal hand over or park.

use crate::app::App;
use crate::auth::Auth;
use crate::config::{Config, OpenFiles, SettingError};
use crate::drain::Driver;
use crate::fault;
use crate::hub::{Hub, Parts};
use crate::keys::{ClusterKeys, ClusterKeysError, PrivateToken, Sealer, TokenMint};
use crate::peer::{Own, Peers};
use crate::store::{DataDir, DataDirError, Limits, ReportFile, Store, StoreError};
use crate::telemetry::{self, Metrics};
use crate::tls::{TlsListener, TlsReloader};
use crate::world::{self, Listener, World};
use crate::{api, hub, memory, public};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_output::{Outlet, Stream};
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::stopping::Stopping;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a start waits for another process to leave the data directory.
const DATA_DIR_WAIT: Duration = Duration::from_secs(24 * 3600);
/// How often liveness of connections is looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a hub could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting that only shows to be wrong when it is used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The data directory refuses.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log of parked sessions refuses.
    #[error("{path}: {error}", path = path.display())]
    Store {
        /// The data directory.
        path: std::path::PathBuf,
        /// Why.
        error: StoreError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({option}): {error}; choose a free address, or port 0 for any free port")]
    Listen {
        /// The option that named it.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The runtime or its signals could not be set up.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

impl RunError {
    /// 2 for a wrong setting, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Setting(_) => 2,
            Self::DataDir(_) | Self::Store { .. } | Self::Listen { .. } | Self::Runtime(_) => 1,
        }
    }
}

impl From<ClusterKeysError> for RunError {
    fn from(error: ClusterKeysError) -> Self {
        match error {
            ClusterKeysError::Setting(error) => Self::Setting(error),
            ClusterKeysError::DataDir(error) => Self::DataDir(error),
        }
    }
}

/// Runs a hub until it is told to stop.
///
/// # Errors
/// See [`RunError`]; nothing was served then.
pub fn run(config: Config) -> Result<(), RunError> {
    let files = OpenFiles::raise();
    // Dropped last, so that the last lines of everything else are written.
    let _logs = telemetry::init_logs(config.log_format, &config.log_level)?;
    telemetry::log_panics();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_park(|| _ = memory::give_back()).build()?;
    let served = runtime.block_on(serve(config, files));
    // A thread that waits for a disk that stands still must not keep the process.
    runtime.shutdown_background();
    served
}

async fn serve(config: Config, files: OpenFiles) -> Result<(), RunError> {
    fault::arm().map_err(|wrong| SettingError::new(fault::VARIABLE, wrong.given, wrong.expected))?;
    tokio::spawn(telemetry::rounds());
    tokio::spawn(Strays::new()?.tell());
    for note in config.notes() {
        tracing::info!("{note}");
    }
    let world = world::system();
    let random = &mut |bytes: &mut [u8]| world.fill_random(bytes);
    let data_dir = DataDir::open(&config.data_dir, DATA_DIR_WAIT, world.unix_ms(), random).await?;
    let keys = ClusterKeys::for_hub(&config, &data_dir)?.in_world(&world);
    let store = open_store(&config, &data_dir, &keys).await?;
    let public_tls =
        config.public_tls.as_ref().map(|files| TlsReloader::load(TlsListener::Public, files)).transpose()?;
    let private_tls =
        config.private_tls.as_ref().map(|files| TlsReloader::load(TlsListener::Private, files)).transpose()?;
    let start = Start {
        private_token: api::token(&config)?,
        public: listen(&world, "--public", config.public).await?,
        private: listen(&world, "--private", config.private).await?,
        public_tls: public_tls.clone(),
        private_tls: private_tls.clone(),
        id: data_dir.hub(),
        incarnation: data_dir.incarnation(),
        world,
        keys,
        reports: Some(data_dir.report_file()),
        store,
        config,
    };
    tokio::spawn(memory::begin_rounds());
    let mut signals = Signals::new()?;
    let (public, private) = (start.public.local_addr()?, start.private.local_addr()?);
    let hub = start.run()?;
    say_capacity(&hub, files);
    let _stdout = say_ready(public, private);
    tracing::info!(hub = %hub.id, incarnation = %hub.incarnation, %public, %private, parked = hub.store.stats().parked, "serving");
    while let Told::Reload = signals.next().await {
        reload(&[&public_tls, &private_tls].into_iter().flatten().collect::<Vec<_>>());
    }
    stop(&hub, signals.stop()).await;
    drop(data_dir);
    Ok(())
}

/// What a hub is started from, once its disk is open and its addresses are bound.
#[allow(missing_docs, reason = "settings and parts, under the names that they have everywhere")]
pub struct Start {
    pub config: Config,
    pub world: World,
    pub id: HubId,
    pub incarnation: Incarnation,
    pub keys: ClusterKeys,
    pub store: Store,
    /// Where drain reports are kept for the next process.
    pub reports: Option<ReportFile>,
    pub public: Listener,
    pub private: Listener,
    pub public_tls: Option<TlsReloader>,
    pub private_tls: Option<TlsReloader>,
    pub private_token: Option<PrivateToken>,
}

impl Start {
    /// Puts the hub together and sets all of its tasks going, on the runtime that calls this.
    ///
    /// # Errors
    /// A setting that only shows to be wrong when it is used.
    pub fn run(self) -> Result<Arc<Hub>, RunError> {
        let Self { config, world, id, incarnation, keys, store, public, private, .. } = self;
        let own = Own { hub: id, run: incarnation, public: public.local_addr()?, private: private.local_addr()? };
        let hub = Hub::new(Parts {
            id,
            incarnation,
            mint: TokenMint::new(&keys),
            auth: Auth::new(&config.auth, config.limits.channels_per_session)?,
            metrics: Metrics::new(world.unix_ms()),
            app: App::new(&config, &world)?,
            peers: Peers::new(&config, &world, &keys, own)?,
            drain: self.reports.map(Driver::keeping).unwrap_or_default(),
            store,
            private: own.private,
            world,
            config,
        });
        tokio::spawn(api::serve(hub.clone(), private, self.private_tls, self.private_token));
        tokio::spawn(public::serve(hub.clone(), public, self.public_tls));
        tokio::spawn(hub::sweep(hub.clone(), SWEEP));
        crate::peer::spawn(&hub);
        crate::drain::spawn(&hub);
        let parked = hub.clone();
        tokio::spawn(async move { parked.index_parked().await });
        let timers = hub.clone();
        tokio::spawn(async move { timers.run_timers().await });
        Ok(hub)
    }
}

/// New certificates are for new connections; a file that cannot be read leaves the old ones in place.
fn reload(listeners: &[&TlsReloader]) {
    if listeners.is_empty() {
        tracing::info!("SIGHUP: there is nothing to read again, for no listener has a certificate");
    }
    for tls in listeners {
        match tls.reload() {
            Ok(()) => tracing::info!("certificates read again"),
            Err(error) => tracing::error!(%error, "certificates not read again; the old ones stay"),
        }
    }
}

async fn open_store(config: &Config, data_dir: &DataDir, keys: &ClusterKeys) -> Result<Store, RunError> {
    let (disk, sealer) = (data_dir.disk(), Arc::new(Sealer::new(keys)));
    let opened = tokio::task::spawn_blocking(move || Store::open(disk, sealer, Limits::default())).await;
    let opened = opened.map_err(|error| RunError::Runtime(std::io::Error::other(error)))?;
    let (store, recovered) = opened.map_err(|error| RunError::Store { path: config.data_dir.clone(), error })?;
    if recovered.damaged > 0 || recovered.torn_bytes > 0 {
        tracing::warn!(
            damaged = recovered.damaged,
            torn_bytes = recovered.torn_bytes,
            lost = recovered.lost.len(),
            "the log of parked sessions was damaged; what could not be read is reset and told"
        );
    }
    if !recovered.parked.is_empty() || !recovered.taken_up.is_empty() {
        tracing::info!(
            parked = recovered.parked.len(),
            lost_in_a_crash = recovered.taken_up.len(),
            "found parked sessions"
        );
    }
    Ok(store)
}

async fn listen(world: &World, option: &'static str, address: SocketAddr) -> Result<Listener, RunError> {
    world.listen(address).await.map_err(|error| RunError::Listen { option, address, error })
}

/// How many sessions there is room for, and why not for more.
fn say_capacity(hub: &Hub, files: OpenFiles) {
    let shown = |limit: Option<u64>| limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string());
    let (given, now) = (shown(files.given), shown(files.now));
    let (room, wanted) = (hub.capacity.sessions, hub.config.limits.sessions);
    match room < wanted {
        false => tracing::info!(sessions = room, open_files = now, open_files_given = given, "capacity"),
        true => tracing::warn!(
            sessions = room,
            open_files = now,
            open_files_given = given,
            limit_sessions = wanted,
            "capacity is cut by the limit of open files: raise the hard one (LimitNOFILE= of a unit, ulimit -Hn)"
        ),
    }
}

/// The one line on stdout that scripts wait for. Nobody may be listening, or nobody read what is in the pipe
/// already: the hub serves all the same, and the line is written when it is taken, as long as the outlet lives.
fn say_ready(public: SocketAddr, private: SocketAddr) -> Outlet {
    let line = serde_json::json!({"event": "ready", "public": public.to_string(), "private": private.to_string()});
    let stdout = Outlet::open(Stream::Stdout);
    stdout.line(&line.to_string());
    stdout
}

/// Push, else park, within the stop deadline; once `hurried` is done, park at once. Whatever peers and disk do, it is
/// over at the deadline.
pub async fn stop(hub: &Arc<Hub>, hurried: impl Future<Output = ()>) {
    let deadline_ms = hub.config.stop_deadline_ms;
    tracing::info!(deadline_ms, "stopping: sessions are pushed to peers, else parked");
    let began = hub.now();
    let mut stopping = Stopping::begin(began, deadline_ms);
    let ending = async {
        let hurry = tokio::select! {
            biased;
            stays = crate::drain::leave(hub, &mut stopping) => Ok(stays),
            () = hurried => Err(()),
        };
        let _stays_parked = match hurry {
            Ok(stays) => stays,
            Err(()) => {
                tracing::info!("second signal: parking at once");
                crate::drain::park_everything(hub, &mut stopping).await
            }
        };
        hub.peers.goodbye().await;
        // After the goodbye: what peers had published by then is in it.
        hub.leave_ledger().await;
        hub.drain.kept().await;
        if let Err(error) = hub.store.close().await {
            tracing::error!(%error, "the log of parked sessions did not close cleanly");
        }
    };
    if tokio::time::timeout(Duration::from_millis(deadline_ms), ending).await.is_err() {
        tracing::error!(
            deadline_ms,
            "the stop deadline has come before the last words were said: a disk or a peer stands still"
        );
    }
    tracing::info!(took_ms = hub.now().since(began), "stopped");
}

enum Told {
    Stop,
    Reload,
}

/// Signals that mean nothing here and would end the process by default: somebody may send them by mistake, or
/// mean another program.
struct Strays([(&'static str, Signal); 4]);

impl Strays {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            ("SIGUSR1", signal(SignalKind::user_defined1())?),
            ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ("SIGALRM", signal(SignalKind::alarm())?),
            ("SIGIO", signal(SignalKind::io())?),
        ]))
    }

    /// Says that they mean nothing, for as long as the process lives.
    async fn tell(self) {
        let listening = self.0.map(|(name, mut signal)| async move {
            while signal.recv().await.is_some() {
                match name {
                    "SIGUSR2" => {
                        tracing::info!("SIGUSR2 is kept for later use and does nothing; SIGTERM stops this hub")
                    }
                    name => tracing::info!("{name} does nothing here; SIGTERM stops this hub"),
                }
            }
        });
        futures_util::future::join_all(listening).await;
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// Kept only so that it is caught: a write beyond the file size limit then fails, as on a full disk, and
    /// its sessions are served on. By default the system would kill the whole process.
    _file_too_large: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Resolves when a stop is asked for.
    async fn stop(mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.quit.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }
}
