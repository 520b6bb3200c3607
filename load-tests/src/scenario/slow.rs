//! The scenario `slow`: some clients stop reading; what do the others notice, and what does it cost?

use super::Stage;
use super::stage::errors;
use crate::args::{duration, sessions};
use crate::measure::settled_pss;
use crate::progress::Progress;
use crate::report::{Distribution, Figure, Findings};
use crate::target::Server;
use crate::thin::{Crew, PUBLISHED, Target, now_ns, stamped};
use clap::Args;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The generator of the slow ones, apart from the others' source addresses.
const NUMBER: u8 = 240;
/// Receive buffer of a slow client in bytes: the kernel's own would hide it for long.
const RECEIVE_BUFFER: u32 = 4_096;
/// Time for the slow ones to open.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// Options of `slow`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SlowArgs {
    /// Sessions that read.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = sessions())]
    pub(crate) clients: u32,
    /// Sessions that stop reading.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = sessions())]
    pub(crate) stalled: u32,
    /// Rounds of a text to everybody before they stop, and as many after.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// Bytes of the text.
    #[arg(long, default_value_t = 4_096, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(24..=1_000_000))]
    pub(crate) payload: u32,
    /// From one round to the next.
    #[arg(long, default_value = "100ms", value_name = "DUR", value_parser = duration)]
    pub(crate) every: Duration,
    /// The whole run ends after this, whatever has happened.
    #[arg(long, default_value = "5m", value_name = "DUR", value_parser = duration)]
    pub(crate) give_up_after: Duration,
}

/// Measures.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn measure(args: &SlowArgs, server: &Server, progress: &mut Progress) -> Result<Findings, String> {
    let SlowArgs { clients, stalled, rounds, payload, .. } = *args;
    let how = format!(
        "{clients} sessions that read and {stalled} that stop; {rounds} rounds of {payload} bytes before and after"
    );
    let mut stage = Stage::set(server, clients, args.give_up_after, progress).await?;
    stage.progress.step(&format!("{}: {how}", server.name));
    stage.open(u64::from(clients), 128).await?;
    let mut slow = open_slow(server, stalled).await?;
    stage.also = slow.pids();
    stage.begin_part().await?;
    publish(args, &mut stage).await?;
    let all = u64::from(clients) * u64::from(rounds);
    let before = stage.end_part(|figures| all.saturating_sub(figures.delivery.count())).await?;
    let memory = pss(server).await?;
    slow.stall(stalled).await?;
    stage.progress.step(&format!("{stalled} sessions stop reading"));
    stage.begin_part().await?;
    publish(args, &mut stage).await?;
    let after = stage.end_part(|figures| all.saturating_sub(figures.delivery.count())).await?;
    let held = memory.zip(pss(server).await?).map(|(before, now)| (now as f64 - before as f64) / f64::from(stalled));
    let written = u64::from(rounds) * u64::from(payload);
    let lost_slow = slow.progress().lost;
    slow.end().await;
    let lost = after.progress.lost;
    let faults = (lost > 0).then(|| format!("{lost} sessions that read were lost{}", errors(&after)));
    let (p99_before, p99_after) = (before.delivery.ms(0.99), after.delivery.ms(0.99));
    let ratio = p99_before.zip(p99_after).map(|(before, after)| after / before);
    let told = vec![
        Figure::new("delivery_ms_p99_before", p99_before, "ms", "from the call to a receipt while all read, 99 of 100"),
        Figure::new("delivery_ms_p99_after", p99_after, "ms", "the same for those who read, when some do not"),
        Figure::new("others_ratio", ratio, "", "the one over the other"),
        Figure::new("held_bytes_per_stalled", held, "B", "memory of the server for each that does not read"),
        Figure::new("sent_bytes_per_stalled", written as f64, "B", "were published to each that does not read"),
        Figure::new("stalled_closed", lost_slow as f64, "", "of those the server had closed by the end"),
    ];
    let never_slow = (lost_slow == 0).then(|| {
        format!(
            "no slow session was closed: {written} bytes to each stay below what the server keeps for one, and what the kernel \
             holds for it; more --rounds or --payload would reach the limit"
        )
    });
    let distributions =
        [Distribution::of("all read", &before.delivery), Distribution::of("some do not", &after.delivery)];
    Ok(Findings {
        server: server.name.clone(),
        how,
        figures: told,
        distributions: distributions.into_iter().flatten().collect(),
        gates: stage.end().await,
        faults: faults.into_iter().collect(),
        warnings: never_slow.into_iter().collect(),
        charts: Vec::new(),
    })
}

async fn pss(server: &Server) -> Result<Option<u64>, String> {
    if server.pids.is_empty() { Ok(None) } else { settled_pss(&server.pids).await.map(Some) }
}

async fn open_slow(server: &Server, stalled: u32) -> Result<Crew, String> {
    let target = Target { receive_buffer: Some(RECEIVE_BUFFER), ..server.target.clone() };
    let mut slow = Crew::start(&target, stalled, NUMBER).await?;
    slow.connect(stalled, None, 64).await?;
    let wanted = u64::from(stalled);
    if slow.until(OPEN_WAIT, |_| {}, |now| now.open >= wanted || now.failed > 0).await?
        && slow.progress().open >= wanted
    {
        return Ok(slow);
    }
    let figures = slow.collect().await?;
    Err(format!("{} of {stalled} slow sessions are open{}", slow.progress().open, errors(&figures)))
}

async fn publish(args: &SlowArgs, stage: &mut Stage<'_>) -> Result<(), String> {
    let before = stage.crew.progress().received;
    let mut next = Instant::now();
    for _ in 0..args.rounds {
        sleep_until(next).await;
        next += args.every;
        stage.server.publish(&stamped(PUBLISHED, now_ns(), args.payload as usize), None).await?;
    }
    let wanted = before + u64::from(args.clients) * u64::from(args.rounds);
    stage.until("deliveries", |now| now.received >= wanted || now.lost > 0).await
}
