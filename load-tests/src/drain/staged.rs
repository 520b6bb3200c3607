//! `drain --start`: the whole of it by ourselves. Two hubs, clients with and without traffic, numbered
//! messages from the hub's API to all of them, live sessions on the successor, and the drain.

use super::args::{DrainArgs, PolicyArgs};
use super::fleet::Fleet;
use super::swarm::{Pulse, Swarm};
use super::told::{Seen, told};
use super::verdict::judge;
use super::{plan, tell, watch};
use crate::measure::{Watch, cpu_of};
use crate::progress::Progress;
use crate::report;
use crate::scenario::live::Live;
use crate::target::Server;
use crate::thin::Figures;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};
use tidegate_protocol::control::PlanAnswer;
use tokio::sync::watch as signal;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

/// Live sessions on the successor, and the questions of each per second.
const LIVE: u32 = 50;
const LIVE_PER_S: f64 = 10.0;
/// How long they are timed before the drain.
const QUIET: Duration = Duration::from_secs(5);

/// Runs it. True if everything was clean.
///
/// # Errors
/// In words: what made the run impossible.
pub(super) async fn run(args: &DrainArgs, program: &Path) -> Result<bool, String> {
    let began = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let give_up = Instant::now() + args.give_up_after;
    let mut progress = Progress::new();
    let fleet = Fleet::start(program, &args.start_arg).await?;
    let mut swarm = Swarm::new(plan(args, &fleet.hub));
    progress.step(&format!("connecting {} clients to {}", args.clients, fleet.hub));
    tell(&mut progress, &swarm.pulse.clone(), give_up, "to connect", swarm.join()).await??;
    let mut live = Live::open(&fleet.successor, LIVE, LIVE_PER_S).await?;
    swarm.start_traffic().await?;
    let (stop, stopped) = signal::channel(false);
    let push = push(&fleet.successor, args.push_rate, &swarm.pulse, stopped);
    let drained = async {
        let seen = drain(args, &fleet, &mut live, &swarm.pulse, give_up, &mut progress).await;
        sleep_until((Instant::now() + args.settle).min(give_up)).await;
        stop.send_replace(true);
        seen
    };
    let (pushed, seen) = tokio::join!(push, drained);
    let pushed = pushed?;
    swarm.pulse.pushed.store(pushed, Relaxed);
    progress.step("settling every account");
    let (pulse, pids) = (swarm.pulse.clone(), fleet.pids.clone());
    let outcomes = swarm.settle(args.answer).await;
    let (during, missing) = live.end().await?;
    let mut seen = seen?;
    seen.gates = std::mem::take(&mut seen.gates).worst(&seen.watch.end(&during, missing)?);
    seen.during = during;
    drop(progress);
    fleet.end().await;
    let (verdict, faults) = judge(&outcomes, Ok(&seen.report));
    let findings = told(args, &seen, &outcomes, &pulse, &verdict, faults, pids.len());
    let fine = report::finish("drain", findings, &args.out, &began)?;
    Ok(fine && verdict.is_clean())
}

/// Plans the drain, starts it, and follows it to its end.
async fn drain(
    args: &DrainArgs,
    fleet: &Fleet,
    live: &mut Live,
    pulse: &Pulse,
    give_up: Instant,
    progress: &mut Progress,
) -> Result<Seen, String> {
    progress
        .step(&format!("messages flow; {LIVE} live sessions on the successor, timed for {QUIET:?} before the drain"));
    let quiet = live.quiet(QUIET).await?;
    let policy = policy(&args.policy);
    let plan: PlanAnswer = fleet.api.post("/v1/drain/plan", &policy).await?;
    let ours: Vec<u32> = fleet.pids.iter().copied().chain(live.pids()).collect();
    let (watched, cpu) = (Watch::begin(&ours)?, cpu_of(&fleet.pids)?);
    let own = cpu_of(&[std::process::id()])?;
    live.begin().await?;
    let began_s = pulse.start.elapsed().as_secs_f64();
    let _: Value = fleet.api.post("/v1/drain", &policy).await?;
    let report = timeout_at(give_up, watch(&fleet.api, None, pulse, progress))
        .await
        .unwrap_or_else(|_| Err(format!("no drain ended within --give-up-after {:?}", args.give_up_after)))?;
    progress.step("the drain has ended; messages flow on");
    Ok(Seen {
        began_s,
        plan,
        report,
        quiet,
        during: Figures::default(),
        hubs_cpu: cpu_of(&fleet.pids)?.since(&cpu),
        clients_cpu: cpu_of(&[std::process::id()])?.since(&own),
        watch: watched,
        gates: crate::measure::Gates::default(),
    })
}

/// The body of `POST /v1/drain`: what was given, and nothing else.
fn policy(args: &PolicyArgs) -> Value {
    let given = [
        ("notice_ms", args.notice),
        ("window_ms", args.window),
        ("settle_ms", args.drain_settle),
        ("deadline_ms", args.deadline),
    ];
    let ms = |time: Duration| Value::from(time.as_millis() as u64);
    let mut policy: Map<String, Value> =
        given.iter().filter_map(|(name, time)| time.map(|time| ((*name).to_owned(), ms(time)))).collect();
    if let Some(max) = args.max_in_flight {
        policy.insert("max_in_flight".to_owned(), max.into());
    }
    Value::Object(policy)
}

/// Publishes `p 1`, `p 2`, … to everybody until told to stop; how many the hub has numbered.
async fn push(server: &Server, per_s: f64, pulse: &Pulse, mut stop: signal::Receiver<bool>) -> Result<u64, String> {
    let mut pushed = 0;
    if per_s <= 0.0 {
        // Nothing to do until the end.
        let _ = stop.wait_for(|stop| *stop).await;
        return Ok(pushed);
    }
    let mut due = interval(Duration::from_secs_f64(1.0 / per_s));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => {
                server.publish_everywhere(&format!("p {}", pushed + 1)).await?;
                pushed += 1;
                pulse.pushed.store(pushed, Relaxed);
            }
            _ = stop.wait_for(|stop| *stop) => {
                // The last one is on its way to hubs that are told of it only.
                sleep(Duration::from_millis(500)).await;
                return Ok(pushed);
            }
        }
    }
}
