//! The scenario `churn`: sessions end and others come, all the time; does anything pile up?

use super::Stage;
use super::stage::{errors, fits};
use crate::args::{duration, rate, sessions};
use crate::measure::settled_pss;
use crate::progress::Progress;
use crate::report::{Distribution, Figure, Findings};
use crate::target::Server;
use clap::Args;
use std::time::Duration;

/// Options of `churn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChurnArgs {
    /// Sessions that are open at any time.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = sessions())]
    pub(crate) sessions: u32,
    /// So many end each second, and as many come, in an open loop.
    #[arg(long, default_value_t = 500.0, value_name = "PER_S", value_parser = rate)]
    pub(crate) rate: f64,
    /// For so long.
    #[arg(long, default_value = "20s", value_name = "DUR", value_parser = duration)]
    pub(crate) time: Duration,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &ChurnArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    let cycles = (args.rate * args.time.as_secs_f64()).round().max(1.0) as u32;
    let (sessions, wanted) = (u64::from(args.sessions), u64::from(args.sessions) + u64::from(cycles));
    let how = format!("{sessions} sessions, of which {} a second end and come anew, {:?}", args.rate, args.time);
    fits(args.time, args.give_up_after)?;
    let mut stage = Stage::set(server, args.sessions, args.give_up_after, progress).await?;
    stage.progress.step(&format!("{}: {how}", server.name));
    stage.open(sessions, 128).await?;
    let memory_before = if server.pids.is_empty() { None } else { Some(settled_pss(&server.pids).await?) };
    stage.begin_part().await?;
    let before = stage.cpu()?;
    stage.crew.connect(cycles, Some(args.rate), cycles).await?;
    stage.crew.disconnect(cycles, Some(args.rate)).await?;
    let all = u64::from(cycles);
    stage
        .until("cycles", |now| {
            // Who was lost cannot end any more.
            now.closed + now.lost + now.failed >= all
                && now.opening == 0
                && now.closing == 0
                && now.open + now.closed + now.lost + now.failed >= wanted
        })
        .await?;
    let used = stage.cpu_since(&before)?;
    let figures = stage.end_part(|figures| sessions.saturating_sub(figures.progress.open)).await?;
    let grown = match memory_before {
        Some(before) => Some((settled_pss(&server.pids).await? as f64 - before as f64) / sessions as f64),
        None => None,
    };
    let lost = figures.progress.lost;
    let faults = (lost > 0).then(|| format!("{lost} sessions were lost{}", errors(&figures)));
    let cpu = used.and_then(|used| used.us_each(all));
    let told = vec![
        Figure::new(
            "cpu_us_per_cycle",
            cpu,
            "us",
            "processor time of the server for one session that ends and one that comes",
        ),
        Figure::new("kernel_percent", used.map(|used| used.kernel_part * 100.0), "%", "part of that in the kernel"),
        Figure::new(
            "grown_bytes_per_session",
            grown,
            "B",
            "memory afterwards over memory before, for each open session",
        ),
        Figure::new("cycles", f64::from(cycles), "", "in all"),
        Figure::new(
            "open_ms_p50",
            figures.opening.ms(0.5),
            "ms",
            "from when a session was due until it was open, half of them",
        ),
        Figure::new("open_ms_p99", figures.opening.ms(0.99), "ms", "99 of 100"),
        Figure::new("retried", figures.retried as f64, "", "were told to come again later"),
    ];
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: told,
        distributions: Distribution::of("until a session is open", &figures.opening).into_iter().collect(),
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
        charts: Vec::new(),
    })
}
