//! The scenario `relay`: messages through the server to an app and back.

use super::Stage;
use super::stage::{errors, fits};
use crate::args::{duration, rate, sessions};
use crate::measure::{Cpu, Used, cpu_of};
use crate::progress::Progress;
use crate::report::{Distribution, Figure, Findings};
use crate::target::Server;
use crate::thin::{Figures, Kind, Traffic};
use clap::Args;
use std::time::Duration;
use tokio::time::sleep;

/// Time for the last answers to come back.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why there is nothing to tell.
const NOTHING_BACK: &str = "not one message came back: the server needs an app behind it that sends each message back \
                            (with --start: --echo-app), or be asked itself with --ping";

/// Options of `relay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RelayArgs {
    /// Sessions that send.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = sessions())]
    pub(crate) sessions: u32,
    /// Bytes of each message.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=65_536))]
    pub(crate) payload: u32,
    /// Messages per second of all together, in an open loop: each is due at its time, and its way counts from
    /// there. Without it each session sends the next when the last is back.
    #[arg(long, value_name = "PER_S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// For so long.
    #[arg(long, default_value = "10s", value_name = "DUR", value_parser = duration)]
    pub(crate) time: Duration,
    /// Before that, for so long without being measured.
    #[arg(long, default_value = "1s", value_name = "DUR", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Ask the server itself by WebSocket pings, instead of an app behind it.
    #[arg(long)]
    pub(crate) ping: bool,
    /// At most so many sessions are being opened at a time.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) connecting: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

impl RelayArgs {
    fn traffic(&self) -> Traffic {
        Traffic {
            kind: if self.ping { Kind::Ping } else { Kind::Echo },
            sessions: self.sessions,
            per_s: self.rate,
            payload: self.payload,
            begin_ns: 0,
            until_ns: 0,
        }
    }
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &RelayArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    fits(args.warm_up + args.time, args.give_up_after)?;
    let mut stage = Stage::set(server, args.sessions, args.give_up_after, progress).await?;
    let loop_is = args.rate.map_or_else(|| "closed loop".to_owned(), |rate| format!("open loop at {rate} per second"));
    let how = format!("{} sessions, {} bytes there and back, {loop_is}, {:?}", args.sessions, args.payload, args.time);
    stage.progress.step(&format!("{}: {how}", server.name));
    stage.open(u64::from(args.sessions), args.connecting).await?;
    flow(args, args.warm_up, &mut stage).await?;
    let counts = stage.crew.progress();
    if counts.sent > 0 && counts.received + counts.echoed == 0 {
        return Err(NOTHING_BACK.to_owned());
    }
    stage.progress.step(&format!("messages flow for {:?}", args.time));
    stage.begin_part().await?;
    let apps: Vec<u32> = server.apps.iter().map(|app| app.pid).collect();
    let (before, app_before) = (stage.cpu()?, cpu_of(&apps)?);
    let sent_before = stage.crew.progress().sent;
    flow(args, args.time, &mut stage).await?;
    let used = stage.cpu_since(&before)?;
    let app_used = (!apps.is_empty()).then(|| cpu_of(&apps).map(|now: Cpu| now.since(&app_before))).transpose()?;
    let figures = stage.end_part(|seen| (seen.progress.sent - sent_before).saturating_sub(seen.echo.count())).await?;
    if figures.echo.count() == 0 && figures.wrong == 0 {
        return Err(NOTHING_BACK.to_owned());
    }
    let lost = figures.progress.lost;
    let faults = (lost > 0).then(|| format!("{lost} sessions were lost{}", errors(&figures)));
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: told(&figures, used, app_used, args.time),
        distributions: Distribution::of("there and back", &figures.echo).into_iter().collect(),
        charts: Vec::new(),
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
    })
}

/// Lets messages flow for a time, and waits for the last ones.
async fn flow(args: &RelayArgs, time: Duration, stage: &mut Stage<'_>) -> Result<(), String> {
    if time.is_zero() {
        return Ok(());
    }
    stage.crew.traffic(args.traffic(), time).await?;
    sleep(time).await;
    // Whoever has not answered by then is missing, and the gates say so.
    stage.crew.settle(LAST_ANSWERS).await
}

fn told(figures: &Figures, used: Option<Used>, app_used: Option<Used>, time: Duration) -> Vec<Figure> {
    let echoes = figures.echo.count();
    let ms = |part| figures.echo.ms(part);
    let each = |used: Option<Used>| used.and_then(|used| used.us_each(echoes));
    vec![
        Figure::new("cpu_us_per_echo", each(used), "us", "processor time of the server for one message there and back"),
        Figure::new("kernel_percent", used.map(|used| used.kernel_part * 100.0), "%", "part of that in the kernel"),
        Figure::new("app_cpu_us_per_echo", each(app_used), "us", "of the app behind it"),
        Figure::new("echoes_per_s", echoes as f64 / time.as_secs_f64(), "/s", "there and back"),
        Figure::new("echo_ms_p50", ms(0.5), "ms", "there and back, half of them"),
        Figure::new("echo_ms_p99", ms(0.99), "ms", "99 of 100"),
        Figure::new("echo_ms_max", ms(1.0), "ms", "the slowest"),
    ]
}
