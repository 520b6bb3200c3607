//! Whom a scenario measures: a hub that runs, a hub started for the run, or any WebSocket server.

use crate::args::{http_url, with_path, ws_url};
use crate::hub_api::HubApi;
use crate::measure::listens;
use crate::started::Started;
use crate::thin::{Dialect, Target};
use clap::Args;
use http::Uri;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::lookup_host;

/// Options that name the server.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The server")]
#[command(group = clap::ArgGroup::new("which server").required(true).args(["hub", "start"]))]
pub(crate) struct TargetArgs {
    /// A running hub, as clients reach it. Without a path: /connect.
    #[arg(long, value_name = "URL", value_parser = ws_url)]
    pub(crate) hub: Option<Uri>,
    /// Its private API: needed to publish and to join channels.
    #[arg(long, value_name = "URL", value_parser = http_url, conflicts_with = "start")]
    pub(crate) private: Option<Uri>,
    /// For a server that is no hub: a POST of a bare text to this URL publishes it to everybody.
    #[arg(long, value_name = "URL", value_parser = http_url, conflicts_with_all = ["start", "private"])]
    pub(crate) publish_url: Option<Uri>,
    /// File with the bearer token of the private API.
    #[arg(long, value_name = "FILE", env = "TIDEGATE_PRIVATE_TOKEN_FILE")]
    pub(crate) private_token_file: Option<PathBuf>,
    /// Its process, for memory and processor time; repeatable. Needs the same machine.
    #[arg(long, value_name = "PID", conflicts_with = "start")]
    pub(crate) pid: Vec<u32>,
    /// Start this `tidegate` for the run, on free ports of 127.0.0.1, and end it afterwards.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) start: Option<PathBuf>,
    /// One more argument for the hub that is started; repeatable.
    #[arg(long, value_name = "ARG", requires = "start", allow_hyphen_values = true)]
    pub(crate) start_arg: Vec<String>,
    /// Start an app behind that hub which sends every message back.
    #[arg(long, requires = "start")]
    pub(crate) echo_app: bool,
    /// `plain` for a server that is no hub: a connection is open when it is upgraded.
    #[arg(long, value_enum, default_value = "tidegate")]
    pub(crate) dialect: DialectArg,
}

/// [`Dialect`], with a default for clap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DialectArg {
    /// `tidegate.v1`: hello, welcome, acks.
    #[default]
    Tidegate,
    /// A bare WebSocket.
    Plain,
}

impl From<DialectArg> for Dialect {
    fn from(given: DialectArg) -> Self {
        match given {
            DialectArg::Tidegate => Self::Tidegate,
            DialectArg::Plain => Self::Plain,
        }
    }
}

/// How a text reaches everybody.
#[derive(Clone)]
pub(crate) enum Publisher {
    /// Not at all.
    None,
    /// `POST /v1/publish`, as the hub has it.
    Hub(HubApi),
    /// `POST` of the text itself to this path (nchan).
    Raw(HubApi, String),
}

impl Publisher {
    /// Publishes by a POST of the bare text to this URL.
    ///
    /// # Errors
    /// The URL names no host.
    pub(crate) fn raw(url: &Uri) -> Result<Self, String> {
        let authority = url.authority().ok_or_else(|| format!("{url} names no host"))?;
        let base = format!("http://{authority}").parse().map_err(|error| format!("{url}: {error}"))?;
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self::Raw(HubApi::new(base, None), path))
    }
}

/// A server that can be measured.
pub(crate) struct Server {
    /// What to call it.
    pub(crate) name: String,
    /// Where clients connect, and how.
    pub(crate) target: Target,
    /// Its processes, as far as they are known.
    pub(crate) pids: Vec<u32>,
    /// How to reach everybody.
    pub(crate) publisher: Publisher,
    /// What was started for it, and ends with it.
    pub(crate) started: Vec<Started>,
    /// Apps behind it, started for it; their processor time is not the server's.
    pub(crate) apps: Vec<Started>,
    /// What is odd about the options that name it.
    pub(crate) warnings: Vec<String>,
}

impl Server {
    /// The server that these options name, started if need be.
    ///
    /// # Errors
    /// In words: it could not be started or found.
    pub(crate) async fn from_args(args: &TargetArgs) -> Result<Self, String> {
        let token = token(args.private_token_file.as_ref())?;
        if let Some(program) = &args.start {
            let mut more = args.start_arg.clone();
            let app = if args.echo_app { Some(echo_app().await?) } else { None };
            if let Some(app) = &app {
                more.extend(["--app".to_owned(), app.ready.public_url()?.to_string()]);
            }
            let server = Self::start(program, &more, token).await?;
            return Ok(Self { apps: app.into_iter().collect(), ..server });
        }
        let hub = args.hub.as_ref().ok_or("give --hub or --start")?;
        let publisher = match (&args.private, &args.publish_url) {
            (Some(private), _) => Publisher::Hub(HubApi::new(private.clone(), token)),
            (None, Some(url)) => Publisher::raw(url)?,
            (None, None) => Publisher::None,
        };
        let target = target(&with_path(hub, "/connect"), args.dialect.into()).await?;
        let pids: Vec<u32> = args.pid.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        Ok(Self {
            name: hub.to_string(),
            warnings: doubts(&pids, target.address.port()),
            target: Target { runs_on: true, ..target },
            pids,
            publisher,
            started: Vec::new(),
            apps: Vec::new(),
        })
    }

    /// Starts a hub for the run.
    ///
    /// # Errors
    /// As [`Started::hub`].
    pub(crate) async fn start(
        program: &std::path::Path,
        more: &[String],
        token: Option<String>,
    ) -> Result<Self, String> {
        let hub = Started::hub(program, more).await.map_err(|why| format!("--start {why}"))?;
        Ok(Self {
            name: "tidegate".to_owned(),
            target: target(&with_path(&hub.ready.public_url()?, "/connect"), Dialect::Tidegate).await?,
            pids: vec![hub.pid],
            publisher: Publisher::Hub(HubApi::new(hub.ready.private_url()?, token)),
            started: vec![hub],
            apps: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// The hub's private API.
    ///
    /// # Errors
    /// It is not known.
    pub(crate) fn api(&self) -> Result<&HubApi, String> {
        match &self.publisher {
            Publisher::Hub(api) => Ok(api),
            Publisher::None | Publisher::Raw(..) => {
                Err("this needs the private API of a hub: give --private".to_owned())
            }
        }
    }

    /// Sends one text to everybody, or to a channel. How many sessions it was numbered for, if the
    /// server says so.
    ///
    /// # Errors
    /// The server has no such call, or refused it.
    pub(crate) async fn publish(&self, text: &str, channel: Option<&str>) -> Result<Option<u64>, String> {
        match &self.publisher {
            Publisher::None => Err("to publish, the private API must be known: give --private".to_owned()),
            Publisher::Hub(api) => {
                let to = channel.map_or_else(|| json!({ "all": true }), |name| json!({ "channel": name }));
                let answer: serde_json::Value =
                    api.post("/v1/publish", &json!({ "to": to, "text": text, "scope": "hub" })).await?;
                Ok(answer["sessions"].as_u64())
            }
            Publisher::Raw(api, path) => api.post_text(path, text).await.map(|()| None),
        }
    }

    /// Sends one text to everybody on every hub of the fleet.
    ///
    /// # Errors
    /// As [`Server::publish`]; or a hub of the fleet did not answer.
    pub(crate) async fn publish_everywhere(&self, text: &str) -> Result<(), String> {
        let answer: serde_json::Value =
            self.api()?.post("/v1/publish", &json!({ "to": { "all": true }, "text": text })).await?;
        match answer["unreachable"].as_array() {
            Some(silent) if !silent.is_empty() => Err(format!("a publish did not reach {silent:?}")),
            _ => Ok(()),
        }
    }

    /// Ends what was started for it.
    pub(crate) async fn end(self) {
        for started in self.started.into_iter().chain(self.apps) {
            started.end().await;
        }
    }
}

/// What is odd about the processes that shall be measured.
fn doubts(pids: &[u32], port: u16) -> Vec<String> {
    if pids.is_empty() {
        return vec!["without --pid no processor time and no memory is told".to_owned()];
    }
    let doubt = format!(
        "--pid {pids:?} does not listen on port {port}: is it the process that shall be measured? (`ss -ltnp` shows who does)"
    );
    if listens(pids, port) == Some(false) { vec![doubt] } else { Vec::new() }
}

/// Starts the app that sends everything back, on a free port of 127.0.0.1.
///
/// # Errors
/// As [`Started::program`].
pub(crate) async fn echo_app() -> Result<Started, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
    Started::program(&program, ["echo-app".into()], Vec::new()).await
}

/// The bearer token in a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn token(file: Option<&PathBuf>) -> Result<Option<String>, String> {
    let Some(file) = file else { return Ok(None) };
    let token =
        std::fs::read_to_string(file).map_err(|error| format!("--private-token-file {}: {error}", file.display()))?;
    Ok(Some(token.trim().to_owned()))
}

/// Where a URL leads.
///
/// # Errors
/// The name has no address.
pub(crate) async fn target(url: &Uri, dialect: Dialect) -> Result<Target, String> {
    let host = url.host().ok_or_else(|| format!("{url} names no host"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found: Option<SocketAddr> =
        lookup_host((bare, url.port_u16().unwrap_or(80))).await.map_err(|error| format!("{url}: {error}"))?.next();
    let address = found.ok_or_else(|| format!("{url}: the name has no address"))?;
    let path = url.path_and_query().map_or("/connect", |path| path.as_str()).to_owned();
    Ok(Target { address, path, dialect, receive_buffer: None, runs_on: false })
}
