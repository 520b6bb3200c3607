//! Whether memory that was used once stays taken: the part of `idle` that comes after the line.

use super::Stage;
use crate::measure::{Line, settled_pss};
use crate::report::Figure;
use crate::thin::{PUBLISHED, now_ns, stamped};

/// The text of the one large broadcast, in bytes.
const BROADCAST_BYTES: usize = 4 * 1024;
/// Messages of a burst to each session, and the bytes of one.
const BURST: u64 = 100;
const BURST_BYTES: usize = 80;
/// How often all sessions end and come anew.
const WAVES: u64 = 3;
/// Messages under way to each session at most: below what a hub keeps for a client without acks.
const AHEAD: u64 = 16;

/// What is done to idle sessions before their memory is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum After {
    /// One text of 4 KiB to all.
    Broadcast,
    /// 100 messages of 80 bytes to each.
    Burst,
    /// All sessions end and as many new ones come, three times.
    Waves,
}

/// How much of it stayed.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    name: &'static str,
    /// After what.
    pub(crate) what: &'static str,
    /// Part of the sessions' memory.
    pub(crate) percent: f64,
}

impl Growth {
    /// As a figure of the report.
    pub(crate) fn figure(&self) -> Figure {
        Figure::new(
            self.name,
            self.percent,
            "%",
            &format!("growth of that memory {}, against what it was just before", self.what),
        )
    }
}

/// Does it, and measures.
///
/// # Errors
/// The server cannot publish, or sessions were lost.
pub(crate) async fn after(
    after: After,
    stage: &mut Stage<'_>,
    sessions: u64,
    connecting: u32,
    line: &Line,
) -> Result<Growth, String> {
    let (name, what) = match after {
        After::Broadcast => ("growth_percent_after_broadcast", "after one broadcast of 4 KiB"),
        After::Burst => ("growth_percent_after_burst", "after 100 messages to each"),
        After::Waves => ("growth_percent_after_waves", "after three waves of new sessions"),
    };
    stage.progress.step(what);
    let before = settled_pss(&stage.server.pids).await?;
    stage.begin_part().await?;
    match after {
        After::Broadcast => publish(stage, sessions, 1, BROADCAST_BYTES).await?,
        After::Burst => publish(stage, sessions, BURST, BURST_BYTES).await?,
        After::Waves => {
            for _ in 0..WAVES {
                stage.close_all().await?;
                stage.open(sessions, connecting).await?;
            }
        }
    }
    let settled = settled_pss(&stage.server.pids).await?;
    stage.end_part(|figures| sessions.saturating_sub(figures.progress.open)).await?;
    let grown = settled as f64 - before as f64;
    Ok(Growth { name, what, percent: grown / (line.slope.max(1.0) * sessions as f64) * 100.0 })
}

async fn publish(stage: &mut Stage<'_>, sessions: u64, messages: u64, bytes: usize) -> Result<(), String> {
    let before = stage.crew.progress().received;
    for sent in 1..=messages {
        stage.server.publish(&stamped(PUBLISHED, now_ns(), bytes), None).await?;
        let floor = before + sessions * sent.saturating_sub(AHEAD);
        stage.until("deliveries", |now| now.received >= floor || now.lost > 0).await?;
    }
    stage.until("deliveries", |now| now.received >= before + sessions * messages || now.lost > 0).await
}
