//! The scenario `drain`: join, flow, ready, watch, settle, judge.

mod args;
mod client;
mod fleet;
mod ledger;
mod staged;
mod swarm;
mod timeline;
mod told;
mod verdict;
mod wire;

use crate::args::with_path;
use crate::hub_api::HubApi;
use crate::progress::Progress;
use crate::report::{complain, keep, say};
use crate::target::token;
use crate::thin::{check_open_files, raise_open_files};
pub(crate) use args::{ABOUT, DrainArgs};
use http::Uri;
use std::time::{Duration, SystemTime};
use swarm::{App, Plan, Pulse, Swarm};
use tidegate_protocol::client::Settings;
use tidegate_protocol::control::{DrainReport, DrainStatus, Phase};
use tidegate_protocol::id::DrainId;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use verdict::judge;

/// One question to the hub waits so long for a change.
const WATCH: Duration = Duration::from_millis(1_000);

/// Connections that are under way at a time beside one for each client: as many as a hub moves at once.
const CONNECTIONS_BESIDE: u32 = 512;

/// A hub that does not answer for so long is taken for gone.
const SILENT_MAX: Duration = Duration::from_secs(15);

/// Between two questions.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Runs it. True if everything was clean.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn run(args: DrainArgs) -> Result<bool, String> {
    args.out.check()?;
    // While it moves a client has two connections.
    check_open_files(args.clients.saturating_mul(2).min(args.clients + CONNECTIONS_BESIDE))?;
    raise_open_files().map_err(|error| format!("open files: {error}"))?;
    if let Some(program) = &args.start {
        return staged::run(&args, program).await;
    }
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let (Some(hub), Some(private)) = (&args.hub, &args.private) else {
        return Err("give --hub with --private, or --start".to_owned());
    };
    let give_up = Instant::now() + args.give_up_after;
    let mut progress = Progress::new();
    let api = HubApi::new(private.clone(), token(args.private_token_file.as_ref())?);
    let before = api.status(0, Duration::ZERO).await?;
    if before.phase != Phase::Serving {
        return Err(format!("the hub is {} already: cancel that drain first, or wait for it", before.phase.as_str()));
    }
    let before = api.report().await?.map(|report| report.drain);

    let mut swarm = Swarm::new(plan(&args, hub));
    progress.step(&format!("connecting {} clients to {hub}", args.clients));
    tell(&mut progress, &swarm.pulse.clone(), give_up, "to connect", swarm.join()).await??;
    tell(&mut progress, &swarm.pulse.clone(), give_up, "to see messages flow", swarm.start_traffic()).await??;
    let traffic_until = Instant::now() + args.duration;
    progress.step("messages flow both ways; waiting for the drain");
    say(&serde_json::json!({ "event": "ready", "users": args.clients }));

    let report = match timeout_at(give_up, watch(&api, before, &swarm.pulse, &mut progress)).await {
        Ok(report) => report,
        Err(_) => Err(format!("no drain ended within --give-up-after {:?}", args.give_up_after)),
    };
    progress.step(match &report {
        Ok(_) => "the drain has ended; messages flow on",
        Err(_) => "no more to be seen of the drain; settling what there is",
    });
    sleep_until(traffic_until.max(Instant::now() + args.settle).min(give_up)).await;
    progress.step("settling every account");
    let outcomes = swarm.settle(args.answer).await;
    drop(progress);

    let (verdict, faults) = judge(&outcomes, report.as_ref().map_err(String::as_str));
    for fault in &faults {
        complain(&format!("fault: {fault}"));
    }
    let kept = keep("drain", told::account_alone(&args, hub, &outcomes, &verdict, faults), &args.out, &began);
    say(&verdict);
    kept.map(|()| verdict.is_clean())
}

fn plan(args: &DrainArgs, hub: &Uri) -> Plan {
    let app = if args.start.is_some() { App::None } else { args.app };
    let home = with_path(hub, if app == App::Kitchen { "/ledger" } else { "/connect" });
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |age| age.as_nanos() as u64);
    Plan {
        settings: Settings { foreign_hosts: args.foreign_hosts, ..Settings::new(home.to_string()) },
        home,
        app,
        talking: if args.start.is_some() { args.talking as usize } else { 100 },
        interval: Duration::from_secs_f64(1.0 / args.rate),
        clients: args.clients as usize,
        connecting_max: args.connecting as usize,
        start: Instant::now(),
        seed,
    }
}

/// Waits for a part of the run and shows the figures meanwhile.
async fn tell<T>(
    progress: &mut Progress,
    pulse: &Pulse,
    give_up: Instant,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = sleep(Duration::from_millis(200)) => progress.figures(&pulse.line()),
            () = sleep_until(give_up) => return Err(format!("--give-up-after came while waiting {what}: {}", pulse.line())),
        }
    }
}

/// Follows the hub until a drain other than `before` has its report.
async fn watch(
    api: &HubApi,
    before: Option<DrainId>,
    pulse: &Pulse,
    progress: &mut Progress,
) -> Result<DrainReport, String> {
    let mut status = DrainStatus::default();
    let mut heard = Instant::now();
    loop {
        match look(api, before, &mut status, pulse, progress).await {
            Ok(Some(report)) => return Ok(report),
            Ok(None) => heard = Instant::now(),
            Err(why) if heard.elapsed() >= SILENT_MAX => return Err(why),
            Err(_) => {}
        }
        // A busy drain changes with each session: no need to see every change.
        sleep(ASK_AGAIN).await;
    }
}

/// Asks once; the report if there is a new one. Note that asking renews the drain's lease.
async fn look(
    api: &HubApi,
    before: Option<DrainId>,
    status: &mut DrainStatus,
    pulse: &Pulse,
    progress: &mut Progress,
) -> Result<Option<DrainReport>, String> {
    let next = api.status(status.seq, WATCH).await?;
    if next.phase != status.phase {
        progress.step(&line(&next));
    }
    *status = next;
    progress.figures(&format!("{} · {}", line(status), pulse.line()));
    if !matches!(status.phase, Phase::Drained | Phase::Serving) {
        return Ok(None);
    }
    Ok(api.report().await?.filter(|report| Some(report.drain) != before))
}

fn line(status: &DrainStatus) -> String {
    let phase = status.phase.as_str();
    match &status.sessions {
        Some(counts) => {
            let why = status.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let parked = if counts.parked > 0 { format!(", {} parked", counts.parked) } else { String::new() };
            format!(
                "hub {phase}{why}: {} of {} moved{parked}, {} remain",
                counts.moved, counts.at_start, counts.remaining
            )
        }
        None => format!("hub {phase}"),
    }
}
