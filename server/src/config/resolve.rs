//! From settings as typed to a [`Config`]: defaults, and the rules between settings.

use super::args::{AuthMode, ServeArgs};
use super::{AuthConfig, Config, JwtConfig, LogFormat, SettingError, TlsFiles};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use tidegate_protocol::app::FinalAnswers;

/// Defaults of what is not a limit; limits have theirs in `limits.rs`. The help repeats them.
const PUBLIC: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
const PRIVATE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
const DATA_DIR: &str = "./tidegate-data";
const SESSION_TTL_MS: u64 = 120_000;
const ORPHAN_AFTER_MS: u64 = 30_000;
const STOP_DEADLINE_MS: u64 = 25_000;
const PEER_FORGET_AFTER_MS: u64 = 600_000;
const RETURN_AFTER_MS: u64 = 600_000;
/// Without an app there is nothing to wait for.
const RETURN_AFTER_WITHOUT_APP_MS: u64 = 60_000;
const LOG_LEVEL: &str = "info";

type Checked<T> = Result<T, SettingError>;

/// Fills in defaults and checks settings against each other.
pub(crate) fn resolve(args: ServeArgs) -> Checked<Config> {
    let public = args.public.unwrap_or(PUBLIC);
    let private = args.private.unwrap_or(PRIVATE);
    check_listeners(public, private)?;
    check_private_token(&args, private)?;
    check_peers(&args, private)?;
    let auth = auth(&args)?;
    let limits = args.limits.resolve().and_then(|limits| limits.check().map(|()| limits));
    let limits = limits.map_err(|(flag, given, expected)| SettingError::new(&format!("--{flag}"), given, expected))?;
    let return_after_ms = if args.app.is_some() { RETURN_AFTER_MS } else { RETURN_AFTER_WITHOUT_APP_MS };
    Ok(Config {
        config_file: args.config,
        public,
        private,
        app: args.app,
        app_events: args.app_events,
        app_finals: match args.app_final_status.is_empty() {
            true => FinalAnswers::default(),
            false => FinalAnswers::of(args.app_final_status),
        },
        public_url: args.public_url,
        peers: args.peer,
        peers_file: args.peers_file,
        peer_url: args.peer_url,
        peer_forget_after_ms: at_least("--peer-forget-after", args.peer_forget_after, PEER_FORGET_AFTER_MS, 1_000)?,
        peer_ca_file: args.peer_ca_file,
        data_dir: args.data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
        cluster_key_file: args.cluster_key_file,
        auth,
        allowed_origins: args.allowed_origin,
        public_tls: tls_files(["--tls-cert", "--tls-key"], args.tls_cert, args.tls_key)?,
        private_tls: tls_files(
            ["--private-tls-cert", "--private-tls-key"],
            args.private_tls_cert,
            args.private_tls_key,
        )?,
        private_token_file: args.private_token_file,
        insecure_private: args.insecure_private.unwrap_or(false),
        session_ttl_ms: at_least("--session-ttl", args.session_ttl, SESSION_TTL_MS, 1_000)?,
        orphan_after_ms: at_least("--orphan-after", args.orphan_after, ORPHAN_AFTER_MS, 100)?,
        stop_deadline_ms: at_least("--stop-deadline", args.stop_deadline, STOP_DEADLINE_MS, 100)?,
        return_after_ms: at_least("--return-after", args.return_after, return_after_ms, 1_000)?,
        unready_when_draining: args.unready_when_draining.unwrap_or(false),
        log_format: args.log_format.unwrap_or(LogFormat::Text),
        log_level: args.log_level.unwrap_or_else(|| LOG_LEVEL.into()),
        limits,
    })
}

fn at_least(option: &str, given: Option<u64>, default: u64, least_ms: u64) -> Checked<u64> {
    match given {
        None => Ok(default),
        Some(ms) if ms >= least_ms => Ok(ms),
        Some(ms) => Err(SettingError::new(option, format!("{ms}ms"), format!("expected {least_ms}ms or more"))),
    }
}

fn check_listeners(public: SocketAddr, private: SocketAddr) -> Checked<()> {
    if public == private && public.port() != 0 {
        return Err(SettingError::new(
            "--private",
            private,
            "expected another address than --public: clients must not reach the private API",
        ));
    }
    Ok(())
}

fn check_private_token(args: &ServeArgs, private: SocketAddr) -> Checked<()> {
    let guarded = args.private_token_file.is_some() || args.insecure_private == Some(true);
    if private.ip().is_loopback() || guarded {
        return Ok(());
    }
    Err(SettingError::new(
        "--private",
        private,
        "expected --private-token-file FILE beside an address off loopback (or --insecure-private, where nobody else can reach it)",
    ))
}

fn check_peers(args: &ServeArgs, private: SocketAddr) -> Checked<()> {
    let (option, given) = match (args.peer.first(), &args.peers_file) {
        (Some(peer), _) => ("--peer", peer.to_string()),
        (None, Some(file)) => ("--peers-file", file.display().to_string()),
        (None, None) => return Ok(()),
    };
    if args.cluster_key_file.is_none() {
        return Err(SettingError::new(
            option,
            given,
            "expected --cluster-key-file FILE beside it: hubs know each other by a key that is the same on all",
        ));
    }
    if args.peer_url.is_none() && private.ip().is_loopback() {
        let expected = format!(
            "expected --peer-url URL beside it, or a --private that is not loopback: peers cannot reach {private}"
        );
        return Err(SettingError::new(option, given, expected));
    }
    Ok(())
}

fn auth(args: &ServeArgs) -> Checked<AuthConfig> {
    let stray = [
        ("--jwt-key-file", args.jwt_key_file.as_ref().map(|path| path.display().to_string())),
        ("--jwt-algorithm", args.jwt_algorithm.map(|algorithm| format!("{algorithm:?}"))),
        ("--jwt-issuer", args.jwt_issuer.clone()),
        ("--jwt-audience", args.jwt_audience.clone()),
    ];
    match args.auth.unwrap_or(AuthMode::None) {
        AuthMode::None => match stray.into_iter().find_map(|(option, given)| Some((option, given?))) {
            None => Ok(AuthConfig::None),
            // Somebody who names a key wants tokens checked; to start without would be an open door.
            Some((option, given)) => Err(SettingError::new(option, given, "expected --auth jwt beside it")),
        },
        AuthMode::Jwt => match args.jwt_key_file.clone() {
            None => Err(SettingError::new("--auth", "jwt", "expected --jwt-key-file FILE beside it")),
            Some(key_file) => Ok(AuthConfig::Jwt(JwtConfig {
                key_file,
                algorithm: args.jwt_algorithm,
                issuer: args.jwt_issuer.clone(),
                audience: args.jwt_audience.clone(),
            })),
        },
    }
}

fn tls_files(options: [&str; 2], cert: Option<PathBuf>, key: Option<PathBuf>) -> Checked<Option<TlsFiles>> {
    let [cert_option, key_option] = options;
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (Some(cert), None) => {
            Err(SettingError::new(cert_option, cert.display(), format!("expected {key_option} FILE beside it")))
        }
        (None, Some(key)) => {
            Err(SettingError::new(key_option, key.display(), format!("expected {cert_option} FILE beside it")))
        }
    }
}
