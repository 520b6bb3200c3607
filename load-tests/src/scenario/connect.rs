//! The scenario `connect`: what it costs the server to accept a session, and how long a client waits.

use super::Stage;
use super::stage::errors;
use crate::args::{duration, rate, sessions};
use crate::progress::Progress;
use crate::report::{Chart, Distribution, Figure, Findings, Series};
use crate::target::Server;
use crate::thin::Figures;
use clap::Args;
use std::time::Duration;

/// Options of `connect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    /// How many sessions.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = sessions())]
    pub(crate) count: u32,
    /// Sessions per second, in an open loop: each is due at its time, and waits count from there.
    /// Without it, --in-flight are kept under way.
    #[arg(long, value_name = "PER_S", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Without --rate: so many are under way at a time.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) in_flight: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &ConnectArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    let mut stage = Stage::set(server, args.count, args.give_up_after, progress).await?;
    let count = u64::from(args.count);
    let how = match args.rate {
        Some(rate) => format!("{count} sessions, open loop at {rate} per second"),
        None => format!("{count} sessions, {} under way at a time", args.in_flight),
    };
    stage.progress.step(&format!("{}: {how}", server.name));
    stage.begin_part().await?;
    let before = stage.cpu()?;
    let begin_ns = match args.rate {
        Some(_) => stage.crew.connect(args.count, args.rate, args.count).await?,
        None => stage.crew.connect(args.count, None, args.in_flight).await?,
    };
    stage.until("sessions", |now| now.open + now.failed + now.lost >= count).await?;
    let used = stage.cpu_since(&before)?;
    let figures = stage.end_part(|figures| count.saturating_sub(figures.progress.open)).await?;
    let opened = figures.opening.count();
    let seconds = figures.last_open_ns.saturating_sub(begin_ns) as f64 / 1e9;
    let ms = |part| figures.opening.ms(part);
    let told = vec![
        Figure::new(
            "cpu_us_per_session",
            used.and_then(|used| used.us_each(opened)),
            "us",
            "processor time of the server for one accepted session",
        ),
        Figure::new("kernel_percent", used.map(|used| used.kernel_part * 100.0), "%", "part of that in the kernel"),
        Figure::new("sessions_per_s", (seconds > 0.0).then(|| opened as f64 / seconds), "/s", "accepted"),
        Figure::new("open_ms_p50", ms(0.5), "ms", "from when a session was due until it was open, half of them"),
        Figure::new("open_ms_p99", ms(0.99), "ms", "99 of 100"),
        Figure::new("open_ms_max", ms(1.0), "ms", "the slowest"),
        Figure::new("retried", figures.retried as f64, "", "were told to come again later"),
    ];
    let faults = (figures.progress.lost > 0)
        .then(|| format!("{} open sessions were lost{}", figures.progress.lost, errors(&figures)));
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: told,
        distributions: Distribution::of("until a session is open", &figures.opening).into_iter().collect(),
        charts: vec![admission(&figures, begin_ns)],
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
    })
}

/// Sessions per second in each tenth of one.
pub(crate) fn admission(figures: &Figures, begin_ns: u64) -> Chart {
    let mut tenths = std::collections::BTreeMap::<u64, u64>::new();
    for (at, count) in &figures.opened_by_10ms {
        *tenths.entry((at * 10_000_000).saturating_sub(begin_ns) / 100_000_000).or_default() += count;
    }
    let last = tenths.keys().last().copied().unwrap_or(0);
    let opened = |tenth| tenths.get(&tenth).copied().unwrap_or(0) as f64 * 10.0;
    // The last tenth is not a whole one.
    let points = (0..last.max(1)).map(|tenth| (tenth as f64 / 10.0, opened(tenth))).collect();
    Chart {
        title: "Admission".to_owned(),
        x: "seconds",
        y: "sessions per second",
        scattered: false,
        series: vec![Series { name: "accepted".to_owned(), points }],
    }
}
