//! The command line as typed. Nothing here touches a file, the environment or the network; values
//! are read one by one, and [`super::resolve`] looks at them together.

use super::limits::LimitArgs;
use super::value;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::Uri;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Tidegate: holds the WebSocket sessions of a stateful app, and hands them over when a deployment comes.
#[derive(Parser, Debug)]
#[command(name = "tidegate", version, arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a hub.
    Serve(Box<ServeArgs>),
}

/// What clients must show when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Nothing: sessions are anonymous.
    None,
    /// A signed JWT with the claims `sub`, `exp` and perhaps `channels`.
    Jwt,
}

/// How a JWT must be signed. Named by the hub and never taken from the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256; the key file holds the shared secret.
    #[value(name = "HS256", alias = "hs256")]
    Hs256,
    /// RSA (PKCS#1 1.5) with SHA-256; the key file holds the public key as PEM.
    #[value(name = "RS256", alias = "rs256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256; the key file holds the public key as PEM.
    #[value(name = "ES256", alias = "es256")]
    Es256,
    /// Ed25519; the key file holds the public key as PEM.
    #[value(name = "EdDSA", alias = "eddsa")]
    EdDsa,
}

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text for people.
    Text,
    /// One JSON object a line for machines.
    Json,
}

/// Takes what is missing from the layer below.
trait Layered {
    fn or_lower(self, lower: Self) -> Self;
}

impl<T> Layered for Option<T> {
    fn or_lower(self, lower: Self) -> Self {
        self.or(lower)
    }
}

impl<T> Layered for Vec<T> {
    fn or_lower(self, lower: Self) -> Self {
        if self.is_empty() { lower } else { self }
    }
}

macro_rules! layered_args {
    ($(#[$struct_meta:meta])* pub struct ServeArgs { $( $(#[$meta:meta])* $field:ident: $kind:ty, )* }) => {
        $(#[$struct_meta])*
        pub struct ServeArgs {
            $( $(#[$meta])* pub $field: $kind, )*
            /// Limits.
            #[command(flatten)]
            pub limits: LimitArgs,
        }

        impl ServeArgs {
            /// What is missing here is taken from `lower`; a list is taken whole or not at all.
            pub(crate) fn or(self, lower: Self) -> Self {
                Self { $( $field: self.$field.or_lower(lower.$field), )* limits: self.limits.or(lower.limits) }
            }
        }
    };
}

const EXAMPLES: &str = "\
Settings
  A flag wins over the environment (TIDEGATE_<NAME>, lists separated by commas), that over the
  config file, that over the default. The file has the same names:

      public = \"0.0.0.0:8080\"
      app = \"ws://127.0.0.1:3000\"
      peer = [\"http://10.0.0.12:8081\"]
      session-ttl = \"2m\"

  Durations have a unit: 500ms, 15s, 1m30s. Sizes may have one: 65536, 64KiB, 1MiB.

Examples
  One hub beside its app; sessions are parked on disk over a restart:
      tidegate serve --app ws://127.0.0.1:3000

  Two hubs that hand sessions to each other. Make the key once, the same on both:
      head -c 32 /dev/urandom | base64 > cluster.key
      tidegate serve --app ws://127.0.0.1:3000 --private 10.0.0.11:8081 \\
          --private-token-file private.token --cluster-key-file cluster.key \\
          --peer http://10.0.0.12:8081

  Users known by a JWT, one web origin only:
      tidegate serve --auth jwt --jwt-key-file public.pem --jwt-algorithm ES256 \\
          --jwt-issuer https://id.example.com --allowed-origin https://app.example.com

Exit: 0 stopped as asked; 2 a setting is wrong (which one, and what would be right, on stderr); 1 anything else.";

layered_args! {
    /// Settings of `tidegate serve` as typed; what is absent is `None` or empty.
    #[derive(Args, Clone, Debug, Default, PartialEq)]
    #[command(after_long_help = EXAMPLES, after_help = "Limits and examples: --help")]
    pub struct ServeArgs {
        /// Read settings from this file (TOML, the names below as keys)
        #[arg(long, value_name = "FILE.toml")]
        config: Option<PathBuf>,

        /// Listen here for clients [default: 0.0.0.0:8080]
        #[arg(long, value_name = "ADDR", value_parser = value::addr, help_heading = "Listeners")]
        public: Option<SocketAddr>,
        /// Listen here for apps, the trigger, peers, metrics and health [default: 127.0.0.1:8081]
        #[arg(long, value_name = "ADDR", value_parser = value::addr, help_heading = "Listeners")]
        private: Option<SocketAddr>,
        /// Certificate chain of the public listener (PEM), reread on SIGHUP; absent: plain, for a balancer in front
        #[arg(long, value_name = "FILE", help_heading = "Listeners")]
        tls_cert: Option<PathBuf>,
        /// Private key of that certificate (PEM)
        #[arg(long, value_name = "FILE", help_heading = "Listeners")]
        tls_key: Option<PathBuf>,
        /// Certificate chain of the private listener (PEM), reread on SIGHUP
        #[arg(long, value_name = "FILE", help_heading = "Listeners")]
        private_tls_cert: Option<PathBuf>,
        /// Private key of that certificate (PEM)
        #[arg(long, value_name = "FILE", help_heading = "Listeners")]
        private_tls_key: Option<PathBuf>,
        /// Bearer token of the private API, first line of this file; needed off loopback
        #[arg(long, value_name = "FILE", help_heading = "Listeners")]
        private_token_file: Option<PathBuf>,
        /// Allow a private listener off loopback without a token
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
              value_parser = value::switch, help_heading = "Listeners")]
        insecure_private: Option<bool>,

        /// The app behind: each session is relayed over a WebSocket of its own; absent: push only
        #[arg(long, value_name = "URL", value_parser = value::ws_url, help_heading = "App")]
        app: Option<Uri>,
        /// Where the app takes events, by HTTP POST
        #[arg(long, value_name = "URL", value_parser = value::http_url, help_heading = "App")]
        app_events: Option<Uri>,
        /// HTTP status by which the app refuses a client for good, answering a dial or an event; repeatable;
        /// any other but success is tried again; `none`: all are [default: 400, 401, 410]
        #[arg(long, value_name = "STATUS", value_parser = value::final_status, help_heading = "App")]
        app_final_status: Vec<u16>,

        /// What clients must show [default: none]
        #[arg(long, value_enum, value_name = "MODE", help_heading = "Clients")]
        auth: Option<AuthMode>,
        /// Key that JWTs are checked with: a public key as PEM, or the shared secret for HS256
        #[arg(long, value_name = "FILE", help_heading = "Clients")]
        jwt_key_file: Option<PathBuf>,
        /// How JWTs must be signed [default: what fits the key file]
        #[arg(long, value_enum, value_name = "NAME", help_heading = "Clients")]
        jwt_algorithm: Option<JwtAlgorithm>,
        /// Claim `iss` that JWTs must have; absent: any
        #[arg(long, value_name = "TEXT", help_heading = "Clients")]
        jwt_issuer: Option<String>,
        /// Claim `aud` that JWTs must have; absent: none
        #[arg(long, value_name = "TEXT", help_heading = "Clients")]
        jwt_audience: Option<String>,
        /// Web origin that may connect; repeatable; absent: any. Requests without Origin are allowed
        #[arg(long, value_name = "ORIGIN", value_parser = value::origin, help_heading = "Clients")]
        allowed_origin: Vec<String>,
        /// How a client reaches this very hub, if it can; absent: clients come back by the URL they used
        #[arg(long, value_name = "URL", value_parser = value::ws_url, help_heading = "Clients")]
        public_url: Option<Uri>,
        /// How long a session waits for its client [default: 2m]
        #[arg(long, value_name = "DUR", value_parser = value::duration_ms, help_heading = "Clients")]
        session_ttl: Option<u64>,
        /// How long a client waits for a silent owner before its session is reset [default: 30s]
        #[arg(long, value_name = "DUR", value_parser = value::duration_ms, help_heading = "Clients")]
        orphan_after: Option<u64>,

        /// Private base URL of another hub; repeatable; a DNS name stands for all its addresses
        #[arg(long, value_name = "URL", value_parser = value::base_url, help_heading = "Peers")]
        peer: Vec<Uri>,
        /// The same, one a line, watched
        #[arg(long, value_name = "FILE", help_heading = "Peers")]
        peers_file: Option<PathBuf>,
        /// How peers reach this hub; --peer needs it, or a --private that is not loopback
        #[arg(long, value_name = "URL", value_parser = value::base_url, help_heading = "Peers")]
        peer_url: Option<Uri>,
        /// A silent hub is forgotten after this; one that said goodbye at once [default: 10m]
        #[arg(long, value_name = "DUR", value_parser = value::duration_ms, help_heading = "Peers")]
        peer_forget_after: Option<u64>,
        /// Certificates that https peers are checked against (PEM); absent: those of the system
        #[arg(long, value_name = "FILE", help_heading = "Peers")]
        peer_ca_file: Option<PathBuf>,
        /// Key that seals tokens and records and authenticates peers; the same on all hubs. One key a line, at
        /// most two (in any order, while it is changed), each at least 32 bytes as hex, base64 or plain text
        #[arg(long, value_name = "FILE", help_heading = "Peers")]
        cluster_key_file: Option<PathBuf>,

        /// Parked sessions, hub id, generated key, last drain report [default: ./tidegate-data]
        #[arg(long, value_name = "DIR", help_heading = "Running")]
        data_dir: Option<PathBuf>,
        /// How long SIGTERM may take to hand over or park all sessions [default: 25s]
        #[arg(long, value_name = "DUR", value_parser = value::duration_ms, help_heading = "Running")]
        stop_deadline: Option<u64>,
        /// After a deployment without a load balancer, serve again after this if nothing said so [default: 10m; 1m
        /// without --app]
        #[arg(long, value_name = "DUR", value_parser = value::duration_ms, help_heading = "Running")]
        return_after: Option<u64>,
        /// /healthz/ready turns 503 in a drain; many load balancers then cut every connection at once. A health check
        /// of /healthz/ready?draining=404 gets 404 in any case
        #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
              value_parser = value::switch, help_heading = "Running")]
        unready_when_draining: Option<bool>,
        /// What log lines on stderr look like [default: text]
        #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Running")]
        log_format: Option<LogFormat>,
        /// How much is logged: off, error, warn, info, debug, trace, or by module [default: info]
        #[arg(long, value_name = "LEVEL", value_parser = value::log_level, help_heading = "Running")]
        log_level: Option<String>,
    }
}
