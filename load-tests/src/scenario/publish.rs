//! The scenario `publish`: messages to single sessions, of few and of many; does it matter how many there are?

use super::Stage;
use super::stage::errors;
use crate::args::{duration, sessions};
use crate::measure::steps;
use crate::progress::Progress;
use crate::report::{Chart, Distribution, Figure, Findings, Series};
use crate::target::Server;
use crate::thin::{PUBLISHED, Times, now_ns, stamped};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use tidegate_protocol::control::PublishAnswer;
use tidegate_protocol::id::SessionId;

/// Options of `publish`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PublishArgs {
    /// Sessions at the first measuring point.
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = sessions())]
    pub(crate) from: u32,
    /// Sessions at the last one.
    #[arg(long, default_value_t = 18_000, value_name = "N", value_parser = sessions())]
    pub(crate) to: u32,
    /// Measuring points, the first and the last included.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100))]
    pub(crate) steps: u32,
    /// Messages at each point, one after the other, spread over all sessions.
    #[arg(long, default_value_t = 4_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) publishes: u32,
    /// Bytes of each.
    #[arg(long, default_value_t = 80, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub(crate) payload: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// A prime above any number of sessions that one tool opens: each turn through the list meets each session once.
const SPREAD: usize = 1_000_003;

/// What one measuring point gave.
struct Point {
    sessions: u64,
    cpu_us: Option<f64>,
    answer: Times,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &PublishArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    if args.from >= args.to {
        return Err(format!("--from {} must be below --to {}", args.from, args.to));
    }
    let how = format!(
        "{} messages of {} bytes to single sessions, one after the other, with {} to {} sessions open",
        args.publishes, args.payload, args.from, args.to
    );
    let mut stage = Stage::set(server, args.to, args.give_up_after, progress).await?;
    stage.progress.step(&format!("{}: {how}", server.name));
    let mut points = Vec::new();
    for target in steps(u64::from(args.from), u64::from(args.to), u64::from(args.steps)) {
        stage.open(target, 128).await?;
        let point = point(args, &mut stage).await?;
        let cpu_us = point.cpu_us.map_or("?".to_owned(), |us| format!("{us:.1}"));
        stage.progress.step(&format!("{target} sessions: {cpu_us} us of the server for each"));
        points.push(point);
    }
    let lost = stage.crew.progress().lost;
    let last = stage.crew.collect().await?;
    let faults = (lost > 0).then(|| format!("{lost} sessions were lost{}", errors(&last)));
    let of_last =
        points.last().and_then(|point| Distribution::of("until the answer, at the last point", &point.answer));
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: figures(&points),
        distributions: of_last.into_iter().collect(),
        charts: vec![by_sessions(&points)],
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
    })
}

async fn point(args: &PublishArgs, stage: &mut Stage<'_>) -> Result<Point, String> {
    let api = stage.server.api()?;
    let ids: Vec<SessionId> = api.sessions().await?.into_iter().map(|info| info.session).collect();
    if ids.is_empty() {
        return Err("the hub lists no session".to_owned());
    }
    let sessions = ids.len() as u64;
    let count = u64::from(args.publishes);
    stage.begin_part().await?;
    let received_before = stage.crew.progress().received;
    let before = stage.cpu()?;
    let mut answer = Times::default();
    for nth in 0..args.publishes as usize {
        // Spread over all of them as evenly as there are messages, whatever their order in the list means.
        let to = ids[nth % ids.len() * SPREAD % ids.len()];
        let began_ns = now_ns();
        let text = stamped(PUBLISHED, began_ns, args.payload as usize);
        let body: Value = json!({ "to": { "session": to }, "text": text });
        let told: PublishAnswer = api.post("/v1/publish", &body).await?;
        if told.sessions != 1 {
            return Err(format!("a publish to {to} was numbered for {} sessions", told.sessions));
        }
        answer.note(now_ns() - began_ns);
    }
    stage.until("receipts", |now| now.received >= received_before + count || now.lost > 0).await?;
    let used = stage.cpu_since(&before)?;
    stage.end_part(|figures| count.saturating_sub(figures.delivery.count())).await?;
    Ok(Point { sessions, cpu_us: used.and_then(|used| used.us_each(count)), answer })
}

fn figures(points: &[Point]) -> Vec<Figure> {
    let (first, last) = (points.first(), points.last());
    let cpu = |point: Option<&Point>| point.and_then(|point| point.cpu_us);
    let ms = |point: Option<&Point>| point.and_then(|point| point.answer.ms(0.5));
    let over = |last: Option<f64>, first: Option<f64>| Some(last? / first.filter(|first| *first > 0.0)?);
    vec![
        Figure::new(
            "cpu_us_per_publish_first",
            cpu(first),
            "us",
            "processor time of the server for one, at the first point",
        ),
        Figure::new("cpu_us_per_publish_last", cpu(last), "us", "the same at the last point"),
        Figure::new("ratio_cpu", over(cpu(last), cpu(first)), "", "the last over the first"),
        Figure::new(
            "answer_ms_p50_first",
            ms(first),
            "ms",
            "from the call to the answer, half of them, at the first point",
        ),
        Figure::new("answer_ms_p50_last", ms(last), "ms", "the same at the last point"),
        Figure::new("ratio_answer", over(ms(last), ms(first)), "", "the last over the first"),
    ]
}

fn by_sessions(points: &[Point]) -> Chart {
    let points = points.iter().filter_map(|point| Some((point.sessions as f64, point.cpu_us?))).collect();
    Chart {
        title: "A publish to one session".to_owned(),
        x: "sessions",
        y: "us of the server",
        scattered: true,
        series: vec![Series { name: "processor time".to_owned(), points }],
    }
}
