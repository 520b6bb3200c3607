//! The scenario `idle`: what one idle, resumable session costs the server, and whether that grows.

use super::Stage;
use super::growth::{self, After, Growth};
use super::stage::fits;
use crate::args::{duration, percent, sessions};
use crate::measure::{About, Gates, Line, Point, settled_pss, steps};
use crate::progress::Progress;
use crate::report::{Chart, Figure, Findings, Series};
use crate::target::{Publisher, Server};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Calls to the private API under way at a time.
const CALLS: usize = 16;

/// Options of `idle`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    /// Sessions at the first measuring point.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = sessions())]
    pub(crate) from: u32,
    /// Sessions at the last one.
    #[arg(long, default_value_t = 15_000, value_name = "N", value_parser = sessions())]
    pub(crate) to: u32,
    /// Measuring points, the first and the last included.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) steps: u32,
    /// Channels that each session joins [default: 2 where the private API is known, else 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=32))]
    pub(crate) channels: Option<u32>,
    /// After the last point, do this and measure how much memory stays; repeatable.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(crate) after: Vec<After>,
    /// After the last point, leave all sessions alone so long and measure processor time.
    #[arg(long, default_value = "0s", value_name = "DUR", value_parser = duration)]
    pub(crate) idle_for: Duration,
    /// Fail with exit 1 above so many bytes for each session.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_bytes: Option<u64>,
    /// Fail with exit 1 if memory grows by more than this after any of --after.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) max_growth: Option<f64>,
    /// At most so many sessions are being opened at a time.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) connecting: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "10m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &IdleArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    if args.from >= args.to {
        return Err(format!("--from {} must be below --to {}", args.from, args.to));
    }
    fits(args.idle_for, args.give_up_after)?;
    if args.after.iter().collect::<BTreeSet<_>>().len() < args.after.len() {
        return Err("--after names one thing twice: each can be done once".to_owned());
    }
    if server.pids.is_empty() {
        return Err("memory is read from the server's process: give --pid".to_owned());
    }
    let channels = match (args.channels, &server.publisher) {
        (Some(channels), _) => channels,
        (None, Publisher::Hub(_)) => 2,
        (None, Publisher::None | Publisher::Raw(..)) => 0,
    };
    let mut stage = Stage::set(server, args.to, args.give_up_after, progress).await?;
    let what = format!("idle sessions, {} to {}, {channels} channels each", args.from, args.to);
    stage.progress.step(&format!("{} (process {:?}): {what}", server.name, server.pids));
    stage.begin_part().await?;
    let points = climb(args, channels, &mut stage).await?;
    let line = Line::through(&points).ok_or("the points have no slope: measure at two different numbers")?;
    let missing = u64::from(args.to);
    stage.end_part(|figures| missing.saturating_sub(figures.progress.open)).await?;
    let mut figures = memory_figures(&line);
    let mut faults = too_much(args.max_bytes, &line);
    for after in &args.after {
        let growth = growth::after(*after, &mut stage, u64::from(args.to), args.connecting, &line).await?;
        faults.extend(grew_too_much(args.max_growth, &growth));
        figures.push(growth.figure());
    }
    if args.idle_for > Duration::ZERO {
        figures.extend(idle_cpu(args, &mut stage).await?);
    }
    let charts = vec![memory_chart(&points, &line)];
    let how = format!(
        "{what}; proportional set size at {} points, line by least squares with 95 % confidence, \
         without the kernel's part of a socket",
        points.len()
    );
    let gates = Gates { about: About::Memory, ..stage.end().await };
    Ok(Findings { server: server.name.clone(), how, figures, charts, gates, faults, ..Findings::default() })
}

/// Opens sessions step by step, and reads the memory at each.
async fn climb(args: &IdleArgs, channels: u32, stage: &mut Stage<'_>) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for target in steps(u64::from(args.from), u64::from(args.to), u64::from(args.steps)) {
        stage.open(target, args.connecting).await?;
        if channels > 0 {
            join_channels(stage.server, channels).await?;
        }
        let pss_bytes = settled_pss(&stage.server.pids).await?;
        let open = stage.crew.progress().open;
        if open != target {
            return Err(format!("{} of {target} sessions ended while the memory was read", target - open));
        }
        stage.progress.step(&format!("{target} sessions: {} KiB", pss_bytes / 1024));
        points.push(Point { sessions: target, pss_bytes });
    }
    Ok(points)
}

/// Every session of the hub joins `load-1`, `load-2`, …
///
/// # Errors
/// The private API is not known, or refuses.
pub(crate) async fn join_channels(server: &Server, channels: u32) -> Result<(), String> {
    let api = server.api()?;
    let names: Vec<String> = (1..=channels).map(|n| format!("load-{n}")).collect();
    let mut calls = Vec::new();
    for info in api.sessions().await? {
        let joined: BTreeSet<&str> = info.channels.iter().map(String::as_str).collect();
        let missing = names.iter().filter(|name| !joined.contains(name.as_str()));
        calls.extend(missing.map(|name| (info.session, name.clone())));
    }
    let joined = calls.into_iter().map(|(session, name)| async move { api.join(session, &name).await });
    stream::iter(joined).buffer_unordered(CALLS).try_collect::<()>().await
}

fn memory_figures(line: &Line) -> Vec<Figure> {
    // A server that gave memory back costs nothing per session; rounding up never flatters.
    let bytes = line.slope.max(0.0).ceil();
    let slope = Figure::new("bytes_per_session", bytes, "B", "user-space memory of one idle session");
    let slope = match line.half_width {
        Some(half) => slope.within(line.slope - half, line.slope + half),
        None => slope,
    };
    vec![
        slope,
        Figure::new("start_bytes", line.start.max(0.0).round(), "B", "memory without sessions, by the same line"),
    ]
}

fn too_much(max_bytes: Option<u64>, line: &Line) -> Vec<String> {
    let bytes = line.slope.max(0.0).ceil() as u64;
    let max_bytes = max_bytes.filter(|max_bytes| bytes > *max_bytes);
    max_bytes
        .map(|max_bytes| format!("{bytes} bytes per session is above --max-bytes {max_bytes}"))
        .into_iter()
        .collect()
}

fn grew_too_much(max_growth: Option<f64>, growth: &Growth) -> Option<String> {
    let max_growth = max_growth.filter(|max_growth| growth.percent > *max_growth)?;
    Some(format!("memory grew by {:.1} % {}, above --max-growth {max_growth}", growth.percent, growth.what))
}

async fn idle_cpu(args: &IdleArgs, stage: &mut Stage<'_>) -> Result<Vec<Figure>, String> {
    let open = stage.crew.progress().open;
    stage.progress.step(&format!("leaving {open} sessions alone for {:?}", args.idle_for));
    stage.begin_part().await?;
    let (before, began) = (stage.cpu()?, Instant::now());
    sleep(args.idle_for).await;
    let used = stage.cpu_since(&before)?.unwrap_or_default();
    let seconds = began.elapsed().as_secs_f64();
    let left = stage.crew.progress().open;
    stage.end_part(|_| open - left.min(open)).await?;
    let us = used.ns as f64 / 1e3 / seconds / open.max(1) as f64;
    Ok(vec![
        Figure::new(
            "idle_cpu_us_per_s",
            us,
            "us/s",
            "processor time of one idle session each second, heartbeats included",
        ),
        Figure::new("idle_for_s", seconds, "s", "for so long"),
    ])
}

fn memory_chart(points: &[Point], line: &Line) -> Chart {
    let mib = |bytes: f64| bytes / 1024.0 / 1024.0;
    let at = |sessions: f64| (sessions, mib(line.start + line.slope * sessions));
    let measured = points.iter().map(|point| (point.sessions as f64, mib(point.pss_bytes as f64))).collect();
    let last = points.last().map_or(0.0, |point| point.sessions as f64);
    Chart {
        title: "Memory of the server".to_owned(),
        x: "sessions",
        y: "MiB",
        scattered: true,
        series: vec![
            Series { name: "measured".to_owned(), points: measured },
            Series { name: "line".to_owned(), points: vec![at(0.0), at(last)] },
        ],
    }
}
