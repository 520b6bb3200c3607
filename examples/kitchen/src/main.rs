//! `tidegate-kitchen`: see the library for what it is.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tidegate_kitchen::{Sdk, Settings, guests, listen, serve};
use tokio::signal::unix::{SignalKind, signal};

/// A small stateful app behind a Tidegate hub: guests order, a board cooks.
///
/// Give the hub in front `--app ws://ADDRESS` and `--app-events http://ADDRESS/tidegate/events`. When ready it prints
/// one JSON line on stdout; logs go to stderr. It ends on SIGTERM, and what is in its memory goes with it.
#[derive(Debug, Parser)]
#[command(name = "tidegate-kitchen", version)]
struct Args {
    /// Where to listen, for the hub and for pages; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value_t = tidegate_kitchen::DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// The public URL of the hub in front of this kitchen, ws:// or wss://, as a browser reaches it.
    #[arg(long, value_name = "URL", value_parser = hub_url)]
    hub_url: String,
    /// The name of this kitchen, shown on the page.
    #[arg(long, default_value = "A")]
    name: String,
    /// The built SDK, served to the page; without it there is no page, only the sockets.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// How often the app pushes on /ledger, in milliseconds; 0: never.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    ledger_push_ms: u64,
    /// How many sessions this kitchen holds at most.
    #[arg(long, value_name = "N", default_value_t = guests::GUESTS_MAX)]
    max_sessions: usize,
}

fn hub_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("ws://").or_else(|| text.strip_prefix("wss://"));
    match rest {
        Some(rest) if !rest.trim_matches('/').is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("a WebSocket URL is needed, for example ws://127.0.0.1:8080".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let sdk = args.sdk.as_deref().map(Sdk::read).transpose()?.unwrap_or_default();
    let listener = listen(args.listen).map_err(|why| format!("cannot listen on {}: {why}", args.listen))?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ready = json!({
        "event": "ready",
        "address": address.to_string(),
        "page": format!("http://{address}/"),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ready}").and_then(|()| stdout.flush())?;
    let settings = Settings {
        name: args.name,
        hub_url: args.hub_url,
        ledger_push_ms: args.ledger_push_ms,
        sessions_max: args.max_sessions,
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(listener, settings, sdk, stop).await?;
    Ok(())
}
