//! What the hub is told at its start: from typed text to one validated [`Config`].
//!
//! ```text
//!   command line ─┐
//!   environment  ─┼─► ServeArgs (as typed, no IO) ─► resolve ─► Config ─► the hub
//!   config file  ─┘        args.rs, layers.rs       resolve.rs
//! ```
//!
//! A value that is wrong stops the start with exit 2 and names the option, the value, where it
//! came from, and what would be right.

pub mod args;
mod capacity;
mod layers;
pub mod limits;
mod resolve;
#[cfg(test)]
mod tests;
mod value;

pub use args::{AuthMode, JwtAlgorithm, LogFormat, ServeArgs};
pub use capacity::{Capacity, OpenFiles};
pub use limits::Limits;
pub(crate) use value::base_url;

use http::Uri;
use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_output::{Stream, last_words};
use tidegate_protocol::app::FinalAnswers;

/// How long what a process says before its end may take to be read; then it ends all the same.
pub const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Everything the hub is told, validated. Spans are in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that settings were read from, if any.
    pub config_file: Option<PathBuf>,
    /// Where clients are listened for; port 0 takes any free one.
    pub public: SocketAddr,
    /// Where apps, the trigger, peers, metrics and health are listened for; port 0 takes any free one.
    pub private: SocketAddr,
    /// The app that each session is relayed to (`ws` or `wss`); `None`: push only.
    pub app: Option<Uri>,
    /// Where the app takes events by HTTP POST.
    pub app_events: Option<Uri>,
    /// Which of its answers refuse a client for good.
    pub app_finals: FinalAnswers,
    /// How a client reaches this very hub (`ws` or `wss`). Port 0 stands for the port that was bound.
    pub public_url: Option<Uri>,
    /// Private base URLs of other hubs; a DNS name stands for all its addresses.
    pub peers: Vec<Uri>,
    /// A file with more of them, one a line.
    pub peers_file: Option<PathBuf>,
    /// How peers reach this hub; `None`: the address of a private listener that is not loopback.
    /// Port 0 stands for the port that was bound.
    pub peer_url: Option<Uri>,
    /// After this silence a hub is forgotten.
    pub peer_forget_after_ms: u64,
    /// Certificates that https peers are checked against; `None`: those of the system.
    pub peer_ca_file: Option<PathBuf>,
    /// Where parked sessions, the hub id and a generated key are kept.
    pub data_dir: PathBuf,
    /// The key shared by all hubs; `None`: one is generated in the data directory.
    pub cluster_key_file: Option<PathBuf>,
    /// What clients must show.
    pub auth: AuthConfig,
    /// Origins that may connect, as browsers send them, lower case; empty: any.
    pub allowed_origins: Vec<String>,
    /// Certificate and key of the public listener; `None`: plain.
    pub public_tls: Option<TlsFiles>,
    /// Certificate and key of the private listener; `None`: plain.
    pub private_tls: Option<TlsFiles>,
    /// File with the bearer token of the private API; `None`: no token is asked for.
    pub private_token_file: Option<PathBuf>,
    /// A private listener off loopback may go without a token.
    pub insecure_private: bool,
    /// How long a session waits for its client.
    pub session_ttl_ms: u64,
    /// How long a client waits for a silent owner before its session is reset.
    pub orphan_after_ms: u64,
    /// How long SIGTERM may take to hand over or park all sessions.
    pub stop_deadline_ms: u64,
    /// How long after its drain a deployment without a load balancer may leave the hub drained.
    pub return_after_ms: u64,
    /// Whether readiness turns 503 in a drain.
    pub unready_when_draining: bool,
    /// What log lines look like.
    pub log_format: LogFormat,
    /// How much is logged: a level, or levels by module.
    pub log_level: String,
    /// Every limit.
    pub limits: Limits,
}

/// What clients must show when they connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// Nothing: sessions are anonymous.
    None,
    /// A JWT that passes these checks.
    Jwt(JwtConfig),
}

/// How JWTs are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// Public key as PEM, or the shared secret for HS256.
    pub key_file: PathBuf,
    /// How tokens must be signed; `None`: what fits the key file.
    pub algorithm: Option<JwtAlgorithm>,
    /// Claim `iss` that tokens must have; `None`: any.
    pub issuer: Option<String>,
    /// Claim `aud` that tokens must have; `None`: it is not looked at.
    pub audience: Option<String>,
}

/// Certificate chain and private key of a listener, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the listener's own first.
    pub cert: PathBuf,
    /// Private key of the first certificate.
    pub key: PathBuf,
}

/// Where a setting was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line, or only seen when all settings came together.
    Flag,
    /// In this environment variable.
    Env(String),
    /// In this config file.
    File(PathBuf),
}

/// A setting that is wrong. Its text names the option, the value and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The option, such as `--public`; for a typo in the file the key as written.
    pub option: String,
    /// The value that was given; empty if there was none.
    pub given: String,
    /// Where it was given.
    pub source: Source,
    /// What would be right, as a clause: "expected …".
    pub expected: String,
}

impl SettingError {
    /// A setting found wrong after all layers came together, a file that it names for instance.
    pub fn new(option: &str, given: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { option: option.to_owned(), given: given.to_string(), source: Source::Flag, expected: expected.into() }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given.trim_matches('"');
        match given {
            "" => write!(f, "{}: {}", self.option, self.expected)?,
            given => write!(f, "{} = \"{given}\": {}", self.option, self.expected)?,
        }
        match &self.source {
            Source::Flag => Ok(()),
            Source::Env(variable) => write!(f, " (from {variable})"),
            Source::File(path) => write!(f, " (in {})", path.display()),
        }
    }
}

impl std::error::Error for SettingError {}

/// Why there is no `Config`.
#[derive(Debug)]
pub enum ConfigError {
    /// The command line cannot be read, or asks for help or the version.
    Usage(Box<clap::Error>),
    /// One setting is wrong.
    Setting(SettingError),
}

impl ConfigError {
    /// Exit code of the program: 0 after help or version, else 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(error) if !error.use_stderr() => 0,
            Self::Usage(_) | Self::Setting(_) => 2,
        }
    }

    /// Tells the person at the terminal: help and version on stdout, everything else on stderr.
    pub fn print(&self) {
        let (stream, text) = match self {
            Self::Usage(error) => {
                let (stream, is_terminal) = match error.use_stderr() {
                    true => (Stream::Stderr, std::io::stderr().is_terminal()),
                    false => (Stream::Stdout, std::io::stdout().is_terminal()),
                };
                let text = error.render();
                (stream, if is_terminal { text.ansi().to_string() } else { text.to_string() })
            }
            Self::Setting(error) => {
                (Stream::Stderr, format!("error: {error}\n\nFor more information, try 'tidegate serve --help'."))
            }
        };
        // Neither a closed terminal nor a full pipe may turn an error into another one.
        last_words(stream, &text, LAST_WORDS_MAX);
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => write!(f, "{error}"),
            Self::Setting(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<SettingError> for ConfigError {
    fn from(error: SettingError) -> Self {
        Self::Setting(error)
    }
}

impl Config {
    /// Reads the command line and the environment of this process, and the config file if one is named.
    pub fn load() -> Result<Self, ConfigError> {
        let argv: Vec<OsString> = std::env::args_os().collect();
        Self::read(&argv, &|name| std::env::var_os(name))
    }

    /// The same for a given command line (program name first) and a given environment.
    pub fn read(argv: &[OsString], env: &dyn Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let flags = layers::from_flags(argv)?;
        let env = layers::from_env(env)?;
        let file = match layers::file_named(&flags, &env) {
            None => ServeArgs::default(),
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    SettingError::new("--config", path.display(), format!("expected a file to read, but {error}"))
                })?;
                layers::from_file(&path, &text)?
            }
        };
        Ok(resolve::resolve(flags.or(env).or(file))?)
    }

    /// Whether other hubs are named, so that sessions may move to them.
    pub fn has_peers(&self) -> bool {
        !self.peers.is_empty() || self.peers_file.is_some()
    }

    /// What the operator should know at the start although nothing is wrong, a sentence each.
    pub fn notes(&self) -> Vec<&'static str> {
        let private_open = !self.private.ip().is_loopback() && self.private_token_file.is_none();
        let notes = [
            (self.app.is_none(), "no --app: what clients send is counted, acknowledged and dropped"),
            (!self.has_peers(), "no --peer: in a drain sessions are parked on disk for the next process"),
            (private_open, "--insecure-private: whoever reaches the private listener rules this hub"),
            (
                self.unready_when_draining,
                "--unready-when-draining: a load balancer may cut every connection when a drain begins",
            ),
        ];
        notes.into_iter().filter_map(|(holds, note)| holds.then_some(note)).collect()
    }
}
