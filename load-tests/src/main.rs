//! Load and measuring tool for Tidegate hubs.
//!
//! ```text
//! main ── args ──┬── scenario ── thin       thin clients by the thousand: idle, connect, broadcast, …
//!                │        └───── target     whom: a hub, a hub started for the run, any WebSocket server
//!                ├── compare ── peers      the same scenario against others, in turn
//!                ├── drain                  clients over the protocol's own machine, each with an account
//!                ├── measure                the machine read, the run judged
//!                └── report                 told as a table, JSON, a page
//! ```

mod args;
mod compare;
mod drain;
mod hub_api;
mod measure;
mod peers;
mod progress;
mod report;
mod scenario;
mod started;
mod target;
mod thin;

use args::{Scenario, Thin};
use clap::Args;
use progress::Progress;
use report::Findings;
use std::process::ExitCode;
use std::time::SystemTime;
use target::Server;

/// A run that is interrupted ends as programs do that a signal ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let exit = story();
    report::last_words();
    exit
}

fn story() -> ExitCode {
    let scenario = args::read().scenario;
    match scenario {
        Scenario::Generator => return told(thin::run_worker().map(|()| true)),
        Scenario::EchoApp => return told(thin::run_echo_app().map(|()| true)),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(scenario)),
        Err(error) => told(Err(format!("no threads to work with: {error}"))),
    }
}

async fn run(scenario: Scenario) -> ExitCode {
    let work = async {
        match scenario {
            Scenario::Idle(args) => thin("idle", &args, scenario::idle::measure).await,
            Scenario::Connect(args) => thin("connect", &args, scenario::connect::measure).await,
            Scenario::Broadcast(args) => thin("broadcast", &args, scenario::broadcast::measure).await,
            Scenario::Publish(args) => thin("publish", &args, scenario::publish::measure).await,
            Scenario::Storm(args) => thin("storm", &args, scenario::storm::measure).await,
            Scenario::Churn(args) => thin("churn", &args, scenario::churn::measure).await,
            Scenario::Slow(args) => thin("slow", &args, scenario::slow::measure).await,
            Scenario::Relay(args) => thin("relay", &args, scenario::relay::measure).await,
            Scenario::Compare(args) => compare(&args).await,
            Scenario::Drain(args) => drain::run(args).await,
            Scenario::Generator | Scenario::EchoApp => Ok(true),
        }
    };
    tokio::select! {
        outcome = work => told(outcome),
        () = interrupted() => ExitCode::from(INTERRUPTED),
    }
}

/// Plays one scenario for thin clients against the server that the options name.
async fn thin<T: Args>(
    name: &'static str,
    args: &Thin<T>,
    measure: impl AsyncFn(&T, &Server, &mut Progress) -> Result<Findings, String>,
) -> Result<bool, String> {
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    args.out.check()?;
    let server = Server::from_args(&args.target).await?;
    let mut progress = Progress::new();
    let findings = measure(&args.options, &server, &mut progress).await;
    drop(progress);
    let warnings = server.warnings.clone();
    server.end().await;
    let findings = findings.map(|findings| findings.warned(warnings));
    report::finish(name, findings?, &args.out, &began)
}

async fn compare(args: &compare::CompareArgs) -> Result<bool, String> {
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    args.out.check()?;
    let mut progress = Progress::new();
    let findings = compare::measure(args, &mut progress).await;
    drop(progress);
    report::finish("compare", findings?, &args.out, &began)
}

fn told(outcome: Result<bool, String>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            report::complain(&format!("tidegate-load: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT, SIGTERM or SIGHUP (a terminal that was closed). Leaving in an orderly way ends what this run has started.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut hangup)) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
