//! The scenario `broadcast`: one text to everybody, some rounds.

use super::Stage;
use super::idle::join_channels;
use super::stage::{errors, fits};
use crate::args::{duration, sessions};
use crate::measure::median;
use crate::progress::Progress;
use crate::report::{Chart, Distribution, Figure, Findings, Series};
use crate::target::Server;
use crate::thin::{Figures, PUBLISHED, Times, now_ns, stamped};
use clap::Args;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Options of `broadcast`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BroadcastArgs {
    /// How many sessions.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = sessions())]
    pub(crate) clients: u32,
    /// Measured rounds; one more goes before them and is not counted.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// Bytes of the text.
    #[arg(long, default_value_t = 80, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub(crate) payload: u32,
    /// From one round to the next; longer if a round takes longer.
    #[arg(long, default_value = "1s", value_name = "DUR", value_parser = duration)]
    pub(crate) every: Duration,
    /// Publish to a channel that all sessions joined, instead of to all.
    #[arg(long)]
    pub(crate) channel: bool,
    /// At most so many sessions are being opened at a time.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=19_000))]
    pub(crate) connecting: u32,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// One round.
struct Round {
    /// Processor time of each delivery in microseconds, until the last receipt.
    cpu_us: Option<f64>,
    /// The same until the next round, with what comes after a receipt.
    cpu_us_with_acks: Option<f64>,
    kernel_part: Option<f64>,
    /// From the call to the last receipt, in milliseconds.
    last_ms: f64,
    delivery: Times,
    received: u64,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(
    args: &BroadcastArgs,
    server: &Server,
    progress: &mut Progress,
) -> Result<Findings, String> {
    fits(args.every * (args.rounds + 1), args.give_up_after)?;
    let mut stage = Stage::set(server, args.clients, args.give_up_after, progress).await?;
    let how = format!(
        "{} sessions, {} rounds of one {}-byte text to all, every {:?}",
        args.clients, args.rounds, args.payload, args.every
    );
    stage.progress.step(&format!("{}: {how}", server.name));
    stage.open(u64::from(args.clients), args.connecting).await?;
    if args.channel {
        join_channels(server, 1).await?;
    }
    round(args, &mut stage).await?;
    let mut rounds = Vec::new();
    for nth in 1..=args.rounds {
        let round = round(args, &mut stage).await?;
        stage.progress.step(&format!("round {nth}: the last of {} after {:.1} ms", round.received, round.last_ms));
        rounds.push(round);
    }
    let lost = stage.crew.progress().lost;
    let last = stage.crew.collect().await?;
    let faults = (lost > 0).then(|| format!("{lost} sessions were lost{}", errors(&last)));
    let (figures, all) = figures(&rounds);
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures,
        distributions: Distribution::of("from the call to a receipt", &all).into_iter().collect(),
        charts: vec![per_round(&rounds)],
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: Vec::new(),
    })
}

async fn round(args: &BroadcastArgs, stage: &mut Stage<'_>) -> Result<Round, String> {
    let next = Instant::now() + args.every;
    let clients = u64::from(args.clients);
    stage.begin_part().await?;
    let received_before = stage.crew.progress().received;
    let before = stage.cpu()?;
    let begin_ns = now_ns();
    let text = stamped(PUBLISHED, begin_ns, args.payload as usize);
    let numbered = stage.server.publish(&text, args.channel.then_some("load-1")).await?;
    if numbered.is_some_and(|numbered| numbered != clients) {
        return Err(format!(
            "the server numbered it for {} sessions, {clients} are ours",
            numbered.unwrap_or_default()
        ));
    }
    stage.until("receipts", |now| now.received >= received_before + clients || now.lost > 0).await?;
    let used = stage.cpu_since(&before)?;
    let figures: Figures = stage.end_part(|figures| clients.saturating_sub(figures.delivery.count())).await?;
    // What a receipt leads to (acks, above all) belongs to the round too, and is told apart.
    sleep_until(next).await;
    let used_with_acks = stage.cpu_since(&before)?;
    let received = figures.delivery.count();
    Ok(Round {
        cpu_us: used.and_then(|used| used.us_each(received)),
        cpu_us_with_acks: used_with_acks.and_then(|used| used.us_each(received)),
        kernel_part: used_with_acks.map(|used| used.kernel_part),
        last_ms: figures.last_receipt_ns.saturating_sub(begin_ns) as f64 / 1e6,
        delivery: figures.delivery,
        received,
    })
}

fn figures(rounds: &[Round]) -> (Vec<Figure>, Times) {
    let mut all = Times::default();
    rounds.iter().for_each(|round| all.add(&round.delivery));
    let of = |value: fn(&Round) -> Option<f64>| median(&rounds.iter().filter_map(value).collect::<Vec<_>>());
    let ranged = |name, unit, what, value: fn(&Round) -> Option<f64>| {
        let values: Vec<f64> = rounds.iter().filter_map(value).collect();
        let figure = Figure::new(name, median(&values), unit, what);
        match (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max)) {
            (Some(low), Some(high)) => figure.within(low, high),
            _ => figure,
        }
    };
    let kernel = of(|round| round.kernel_part).map(|part| part * 100.0);
    let told = vec![
        ranged(
            "cpu_us_per_delivery",
            "us",
            "processor time of the server for one delivery, until the last receipt: median of the rounds, and their range",
            |round| round.cpu_us,
        ),
        ranged(
            "cpu_us_per_delivery_with_acks",
            "us",
            "the same until the next round, so with the acks that follow",
            |round| round.cpu_us_with_acks,
        ),
        Figure::new("kernel_percent", kernel, "%", "part of that in the kernel"),
        ranged("last_ms", "ms", "from the call to the last receipt: median of the rounds, and their range", |round| {
            Some(round.last_ms)
        }),
        Figure::new("delivery_ms_p50", all.ms(0.5), "ms", "from the call to a receipt, half of them"),
        Figure::new("delivery_ms_p99", all.ms(0.99), "ms", "99 of 100"),
        Figure::new("deliveries", all.count() as f64, "", "in all rounds"),
    ];
    (told, all)
}

fn per_round(rounds: &[Round]) -> Chart {
    let points = rounds.iter().enumerate().map(|(nth, round)| (nth as f64 + 1.0, round.last_ms)).collect();
    Chart {
        title: "The last receipt of each round".to_owned(),
        x: "round",
        y: "ms",
        scattered: true,
        series: vec![Series { name: "last receipt".to_owned(), points }],
    }
}
