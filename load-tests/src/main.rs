//! Load and measuring tool for Tidegate hubs.
//!
//! ```text
//! main ── args ── drain ── swarm ── client ── wire        clients over the protocol's own machine
//!          │        │         └────── ledger              what came, what did not; pure
//!          │        ├── hub_api                           the hub's status and report
//!          │        └── report                            both accounts compared; pure
//!          └───── idle ── slope · started                 memory per session
//! ```

mod args;
mod client;
mod drain;
mod hub_api;
mod idle;
mod ledger;
mod progress;
mod report;
mod slope;
mod started;
mod swarm;
mod wire;

use args::{Cli, Scenario};
use clap::Parser;
use std::process::ExitCode;

/// A run that is interrupted ends as programs do that a signal ended.
const INTERRUPTED: u8 = 130;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let scenario = async {
        match Cli::parse().scenario {
            Scenario::Drain(args) => drain::run(args).await,
            Scenario::Idle(args) => idle::run(args).await,
        }
    };
    let outcome = tokio::select! {
        outcome = scenario => outcome,
        () = interrupted() => return ExitCode::from(INTERRUPTED),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("tidegate-load: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM. Leaving in an orderly way ends a hub that this run has started.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
