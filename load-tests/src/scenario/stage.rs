//! What all scenarios have in common: a server, a crew that loads it, a watch on the machine.

use crate::measure::{Cpu, Gates, Used, Watch, cpu_of};
use crate::progress::Progress;
use crate::target::Server;
use crate::thin::{Crew, Figures, Progress as Counts};
use std::time::Duration;
use tokio::time::Instant;

/// Whether a run of at least this length can end before it gives up.
///
/// # Errors
/// In words: it cannot.
pub(crate) fn fits(needed: Duration, give_up_after: Duration) -> Result<(), String> {
    if needed < give_up_after {
        return Ok(());
    }
    Err(format!(
        "the times that were asked for are {needed:?} together, and --give-up-after comes after {give_up_after:?}"
    ))
}

/// A server under load.
pub(crate) struct Stage<'a> {
    /// The server.
    pub(crate) server: &'a Server,
    /// Its clients.
    pub(crate) crew: Crew,
    /// Where progress is shown.
    pub(crate) progress: &'a mut Progress,
    /// When the run gives up.
    pub(crate) give_up: Instant,
    /// More processes of the run.
    pub(crate) also: Vec<u32>,
    watch: Watch,
    gates: Gates,
}

impl<'a> Stage<'a> {
    /// Generators for so many connections, without any yet.
    ///
    /// # Errors
    /// A generator could not be started.
    pub(crate) async fn set(
        server: &'a Server,
        connections: u32,
        give_up_after: Duration,
        progress: &'a mut Progress,
    ) -> Result<Self, String> {
        let crew = Crew::start(&server.target, connections, 0).await?;
        let watch = Watch::begin(&ours(server, &crew, &[]))?;
        let give_up = Instant::now() + give_up_after;
        Ok(Self { server, crew, progress, give_up, also: Vec::new(), watch, gates: Gates::default() })
    }

    /// Waits for the counts to be as wanted, and shows them meanwhile.
    ///
    /// # Errors
    /// The run gives up, a generator is gone, or connections fail that should not.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(Counts) -> bool) -> Result<(), String> {
        let wait = self.give_up.saturating_duration_since(Instant::now());
        let progress = &mut *self.progress;
        let show = |counts: Counts| progress.figures(&format!("{what}: {}", line(counts)));
        if self.crew.until(wait, show, done).await? {
            return Ok(());
        }
        let counts = self.crew.progress();
        let figures = self.crew.collect().await?;
        Err(format!("--give-up-after came while waiting for {what}: {}{}", line(counts), errors(&figures)))
    }

    /// Opens connections until so many are open, without looking at the time it takes.
    ///
    /// # Errors
    /// As [`Stage::until`], or a connection was refused or lost.
    pub(crate) async fn open(&mut self, target: u64, in_flight: u32) -> Result<(), String> {
        let before = self.crew.progress();
        let more = u32::try_from(target.saturating_sub(before.open)).unwrap_or(u32::MAX);
        self.crew.connect(more, None, in_flight).await?;
        self.until("connections", |now| now.open >= target || now.failed > before.failed || now.lost > before.lost)
            .await?;
        let now = self.crew.progress();
        if now.open >= target {
            return Ok(());
        }
        let figures = self.crew.collect().await?;
        Err(format!("{} of {target} connections are open{}", now.open, errors(&figures)))
    }

    /// Closes all connections and waits until their sockets are gone.
    ///
    /// # Errors
    /// As [`Stage::until`].
    pub(crate) async fn close_all(&mut self) -> Result<(), String> {
        let open = u32::try_from(self.crew.progress().open).unwrap_or(u32::MAX);
        self.crew.disconnect(open, None).await?;
        self.until("goodbyes", |now| now.open == 0 && now.closing == 0).await
    }

    /// A new part of the run that the gates look at; what was before does not count.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn begin_part(&mut self) -> Result<(), String> {
        self.crew.collect().await?;
        self.watch = Watch::begin(&ours(self.server, &self.crew, &self.also))?;
        Ok(())
    }

    /// The end of such a part: what the generators saw. `missing` tells what they should have seen.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn end_part(&mut self, missing: impl FnOnce(&Figures) -> u64) -> Result<Figures, String> {
        let figures = self.crew.collect().await?;
        let gates = self.watch.end(&figures, missing(&figures))?;
        self.gates = std::mem::take(&mut self.gates).worst(&gates);
        Ok(figures)
    }

    /// Processor time of the server until now.
    ///
    /// # Errors
    /// One of its processes is gone.
    pub(crate) fn cpu(&self) -> Result<Cpu, String> {
        cpu_of(&self.server.pids)
    }

    /// Processor time of the server since then; nothing if its processes are not known.
    ///
    /// # Errors
    /// One of its processes is gone.
    pub(crate) fn cpu_since(&self, then: &Cpu) -> Result<Option<Used>, String> {
        if self.server.pids.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.cpu()?.since(then)))
    }

    /// Figures of another crew count at the gates too.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub(crate) fn also_seen(&mut self, figures: &Figures, missing: u64) -> Result<(), String> {
        let gates = self.watch.end(figures, missing)?;
        // The kernel's counters are the machine's: the end of the part counts them.
        let gates = Gates { listen_overflows: 0, listen_drops: 0, retransmits: 0, receive_drops: 0, ..gates };
        self.gates = std::mem::take(&mut self.gates).worst(&gates);
        Ok(())
    }

    /// The gates of all parts; the generators end.
    pub(crate) async fn end(self) -> Gates {
        self.crew.end().await;
        self.gates
    }
}

fn ours(server: &Server, crew: &Crew, also: &[u32]) -> Vec<u32> {
    let apps = server.apps.iter().map(|app| app.pid);
    server.pids.iter().copied().chain(crew.pids()).chain(apps).chain(also.iter().copied()).collect()
}

/// The counts in a line.
fn line(counts: Counts) -> String {
    let Counts { open, opening, failed, lost, received, echoed, .. } = counts;
    let mut words = vec![format!("{open} open")];
    let more = [(opening, "under way"), (received, "received"), (echoed, "echoed"), (failed, "failed"), (lost, "lost")];
    words.extend(more.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")));
    words.join(" · ")
}

/// What went wrong, as the end of a sentence.
pub(crate) fn errors(figures: &Figures) -> String {
    figures.errors.iter().map(|(why, count)| format!("; {count} times: {why}")).collect()
}
