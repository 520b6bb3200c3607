//! The scenario `storm`: everybody comes at once, while a few are at work.

use super::Stage;
use super::connect::admission;
use super::live::{self, Live};
use super::stage::{errors, fits};
use crate::args::{duration, rate, sessions};
use crate::progress::Progress;
use crate::report::{Distribution, Figure, Findings};
use crate::target::Server;
use clap::Args;
use std::time::Duration;

/// Options of `storm`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    /// How many come.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = sessions())]
    pub(crate) count: u32,
    /// Live sessions meanwhile.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) live: u32,
    /// Questions per second from each live session.
    #[arg(long, default_value_t = 10.0, value_name = "PER_S", value_parser = rate)]
    pub(crate) live_rate: f64,
    /// How long the live ones are timed before the storm.
    #[arg(long, default_value = "5s", value_name = "DUR", value_parser = duration)]
    pub(crate) quiet: Duration,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &StormArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    let count = u64::from(args.count);
    let how = format!("{count} sessions at once, {} live ones meanwhile", args.live);
    fits(args.quiet, args.give_up_after)?;
    let mut stage = Stage::set(server, args.count, args.give_up_after, progress).await?;
    stage.progress.step(&format!("{}: {how}", server.name));
    let mut live = Live::open(server, args.live, args.live_rate).await?;
    stage.also = live.pids();
    let quiet = live.quiet(args.quiet).await?;
    live.begin().await?;
    stage.begin_part().await?;
    let before = stage.cpu()?;
    let begin_ns = stage.crew.connect(args.count, None, args.count).await?;
    stage.until("sessions", |now| now.open + now.failed + now.lost >= count).await?;
    let used = stage.cpu_since(&before)?;
    let (during, missing) = live.end().await?;
    stage.also_seen(&during, missing)?;
    let figures = stage.end_part(|figures| count.saturating_sub(figures.progress.open)).await?;
    let lost = figures.progress.lost;
    let faults = (lost > 0).then(|| format!("{lost} open sessions were lost{}", errors(&figures)));
    let within = |part| figures.opened_within_s(begin_ns, part);
    let mut told = vec![
        Figure::new("s_to_99_percent", within(0.99), "s", "until 99 of 100 were in"),
        Figure::new("s_to_all", within(1.0), "s", "until all were in"),
        Figure::new("admitted_peak_per_s", figures.opened_peak_per_s() as f64, "/s", "the busiest second"),
        Figure::new(
            "open_ms_p50",
            figures.opening.ms(0.5),
            "ms",
            "from a client's dial until its session was open, half of them",
        ),
        Figure::new("open_ms_p99", figures.opening.ms(0.99), "ms", "99 of 100"),
        Figure::new("retried", figures.retried as f64, "", "were told to come again later"),
        Figure::new(
            "cpu_us_per_session",
            used.and_then(|used| used.us_each(figures.opening.count())),
            "us",
            "processor time of the server for each, live ones included",
        ),
    ];
    told.extend(live::compared(&quiet.echo, &during.echo));
    let distributions = [
        Distribution::of("until a session is open", &figures.opening),
        Distribution::of("live, quiet", &quiet.echo),
        Distribution::of("live, in the storm", &during.echo),
    ];
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: told,
        distributions: distributions.into_iter().flatten().collect(),
        charts: vec![admission(&figures, begin_ns)],
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
    })
}
