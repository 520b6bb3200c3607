//! The coordinator's side: generators as processes, orders to all of them, their figures put together.

use super::clock::now_ns;
use super::orders::{Dialect, Order, Progress, Setup, Told, Traffic};
use super::tally::Figures;
use crate::report::complain;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// Connections of one generator: below the 20,000 files that a process can often have at most.
const PER_GENERATOR: u32 = 19_000;

/// How long a generator may take to tell its figures: a turn of its loop, and a busy machine.
const FIGURES_WAIT: Duration = Duration::from_secs(20);

/// How long sessions may take to end in order.
const GOODBYES_WAIT: Duration = Duration::from_secs(20);

/// How often waiting looks at the counts.
const LOOK: Duration = Duration::from_millis(10);

/// Time between giving an order and its beginning, so that all generators begin together.
const LEAD_NS: u64 = 20_000_000;

/// Whom a crew loads.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// Path and query.
    pub(crate) path: String,
    /// How a connection is opened.
    pub(crate) dialect: Dialect,
    /// Receive buffer of each client in bytes, if not the kernel's default.
    pub(crate) receive_buffer: Option<u32>,
    /// Whether the server goes on after the run: sessions are ended in order then, for it would wait for their
    /// clients to come back, and its next run would find them.
    pub(crate) runs_on: bool,
}

/// All generators that load one target.
pub(crate) struct Crew {
    workers: Vec<Worker>,
    /// Figures that were taken only to be sure of the counts; they belong to the next `collect`.
    kept: Option<Figures>,
    /// See [`Target::runs_on`].
    runs_on: bool,
}

struct Worker {
    child: Child,
    stdin: ChildStdin,
    progress: watch::Receiver<Progress>,
    figures: mpsc::Receiver<Figures>,
}

impl Crew {
    /// Starts as many generators as `connections` need. `first` numbers them: crews of one run that
    /// load the same address must not overlap.
    ///
    /// # Errors
    /// In words: this program could not be started again.
    pub(crate) async fn start(target: &Target, connections: u32, first: u8) -> Result<Self, String> {
        check_open_files(connections.min(PER_GENERATOR))?;
        let mut workers = Vec::new();
        for nth in 0..connections.div_ceil(PER_GENERATOR).max(1) {
            let number = u8::try_from(u32::from(first) + nth).map_err(|_| "more than 255 generators".to_owned())?;
            let setup = Setup {
                target: target.address,
                host: target.address.to_string(),
                path: target.path.clone(),
                dialect: target.dialect,
                number,
                receive_buffer: target.receive_buffer,
            };
            workers.push(Worker::start(&setup).await?);
        }
        Ok(Self { workers, kept: None, runs_on: target.runs_on })
    }

    /// Process ids of the generators.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.workers.iter().filter_map(|worker| worker.child.id()).collect()
    }

    /// Counts of all generators together, as last told.
    pub(crate) fn progress(&self) -> Progress {
        self.workers.iter().map(|worker| *worker.progress.borrow()).fold(Progress::default(), Progress::plus)
    }

    /// Orders `count` connections, evenly from all generators. The moment at which the first is due.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn connect(&mut self, count: u32, per_s: Option<f64>, in_flight: u32) -> Result<u64, String> {
        let begin_ns = now_ns() + LEAD_NS;
        let among = self.workers.len() as u32;
        for (nth, worker) in self.workers.iter_mut().enumerate() {
            let count = share(count, among, nth as u32);
            let per_s = per_s.map(|per_s| per_s / f64::from(among));
            let in_flight = share(in_flight, among, nth as u32).max(1);
            worker.order(&Order::Connect { count, per_s, in_flight, begin_ns }).await?;
        }
        Ok(begin_ns)
    }

    /// Orders the goodbyes of `count` connections.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn disconnect(&mut self, count: u32, per_s: Option<f64>) -> Result<(), String> {
        let begin_ns = now_ns() + LEAD_NS;
        let among = self.workers.len() as u32;
        for (nth, worker) in self.workers.iter_mut().enumerate() {
            let count = share(count, among, nth as u32);
            let per_s = per_s.map(|per_s| per_s / f64::from(among));
            worker.order(&Order::Disconnect { count, per_s, begin_ns }).await?;
        }
        Ok(())
    }

    /// Orders traffic for `time`; sessions and rate are shared out among the generators.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn traffic(&mut self, all: Traffic, time: Duration) -> Result<(), String> {
        let begin_ns = now_ns() + LEAD_NS;
        let until_ns = begin_ns + time.as_nanos() as u64;
        let among = self.workers.len() as u32;
        for (nth, worker) in self.workers.iter_mut().enumerate() {
            let sessions = share(all.sessions, among, nth as u32);
            let per_s = all.per_s.map(|per_s| per_s / f64::from(among));
            worker.order(&Order::Traffic(Traffic { sessions, per_s, begin_ns, until_ns, ..all })).await?;
        }
        Ok(())
    }

    /// The first `count` connections are not read from now on.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn stall(&mut self, count: u32) -> Result<(), String> {
        let among = self.workers.len() as u32;
        for (nth, worker) in self.workers.iter_mut().enumerate() {
            worker.order(&Order::Stall { count: share(count, among, nth as u32) }).await?;
        }
        Ok(())
    }

    /// All figures since the last time.
    ///
    /// # Errors
    /// A generator is gone, or does not answer.
    pub(crate) async fn collect(&mut self) -> Result<Figures, String> {
        let figures = self.collect_new().await?;
        let Some(mut all) = self.kept.take() else { return Ok(figures) };
        all.progress = Progress::default();
        all.add(&figures);
        Ok(all)
    }

    /// After traffic has ended: waits until what was sent is back, or for `wait`.
    ///
    /// # Errors
    /// As [`Crew::collect`].
    pub(crate) async fn settle(&mut self, wait: Duration) -> Result<(), String> {
        // Counts are told some times a second, and so may be old; figures come with the counts of now.
        let figures = self.collect().await?;
        self.kept = Some(figures);
        self.until(wait, |_| {}, |now| now.sending == 0 && now.echoed >= now.sent).await?;
        Ok(())
    }

    async fn collect_new(&mut self) -> Result<Figures, String> {
        for worker in &mut self.workers {
            worker.order(&Order::Collect).await?;
        }
        let mut all = Figures::default();
        for worker in &mut self.workers {
            match timeout(FIGURES_WAIT, worker.figures.recv()).await {
                Ok(Some(figures)) => all.add(&figures),
                Ok(None) => return Err("a generator ended; see its message above".to_owned()),
                Err(_) => return Err(format!("a generator told no figures within {FIGURES_WAIT:?}")),
            }
        }
        Ok(all)
    }

    /// Waits until the counts are as wanted; false if `wait` passed before. `each` sees every look.
    ///
    /// # Errors
    /// A generator is gone.
    pub(crate) async fn until(
        &mut self,
        wait: Duration,
        mut each: impl FnMut(Progress),
        done: impl Fn(Progress) -> bool,
    ) -> Result<bool, String> {
        let end = Instant::now() + wait;
        loop {
            let progress = self.progress();
            each(progress);
            if done(progress) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            for worker in &mut self.workers {
                worker.check()?;
            }
            sleep(LOOK).await;
        }
    }

    /// Ends all generators. Their connections just break, where the server ends with the run, too.
    pub(crate) async fn end(mut self) {
        if self.runs_on {
            let open = u32::try_from(self.progress().open).unwrap_or(u32::MAX);
            if self.disconnect(open, None).await.is_ok() {
                let _ = self.until(GOODBYES_WAIT, |_| {}, |now| now.open == 0 && now.closing == 0).await;
            }
        }
        for worker in &mut self.workers {
            // One that is gone needs no order.
            let _ = worker.order(&Order::Quit).await;
        }
        for worker in &mut self.workers {
            let _ = timeout(Duration::from_secs(5), worker.child.wait()).await;
        }
    }
}

/// Files that a generator needs beside its connections.
const FILES_BESIDE: u64 = 100;

/// Whether a process may have so many connections.
///
/// # Errors
/// In words: it may not, and what to do.
pub(crate) fn check_open_files(connections: u32) -> Result<(), String> {
    let needed = u64::from(connections) + FILES_BESIDE;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit >= needed {
        return Ok(());
    }
    Err(format!(
        "{connections} connections need {needed} open files, the limit is {limit}: `ulimit -n {needed}` first, or fewer"
    ))
}

/// The part of the `nth` of `among`.
fn share(count: u32, among: u32, nth: u32) -> u32 {
    count / among + u32::from(nth < count % among)
}

impl Worker {
    async fn start(setup: &Setup) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
        let mut child = Command::new(program)
            .arg("generator")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("no generator could be started: {error}"))?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else { return Err("a generator has no pipes".to_owned()) };
        let (progress_to, progress) = watch::channel(Progress::default());
        let (figures_to, figures) = mpsc::channel(1);
        tokio::spawn(listen(stdout, progress_to, figures_to));
        let mut worker = Self { child, stdin, progress, figures };
        worker.line(setup).await?;
        Ok(worker)
    }

    async fn order(&mut self, order: &Order) -> Result<(), String> {
        self.line(order).await
    }

    async fn line(&mut self, line: &impl serde::Serialize) -> Result<(), String> {
        let mut text = serde_json::to_string(line).map_err(|error| error.to_string())?;
        text.push('\n');
        let gone = |error| format!("a generator is gone: {error}");
        self.stdin.write_all(text.as_bytes()).await.map_err(gone)?;
        self.stdin.flush().await.map_err(gone)
    }

    fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("a generator ended with {status}")),
            Err(error) => Err(format!("a generator cannot be watched: {error}")),
        }
    }
}

/// Takes in what one generator tells, until it ends.
async fn listen(stdout: ChildStdout, progress: watch::Sender<Progress>, figures: mpsc::Sender<Figures>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Told>(&line) {
            Ok(Told::Progress(counts)) => drop(progress.send_replace(counts)),
            Ok(Told::Figures(all)) => {
                let _ = progress.send_replace(all.progress);
                if figures.send(*all).await.is_err() {
                    return;
                }
            }
            // Ending here shows as a generator that is gone, instead of as one that is silent.
            Err(error) => return complain(&format!("tidegate-load: a generator said \"{line}\": {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for (count, among) in [(0, 1), (7, 3), (18_000, 1), (190_001, 11)] {
            let shares: Vec<u32> = (0..among).map(|nth| share(count, among, nth)).collect();
            assert_eq!(shares.iter().sum::<u32>(), count);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
        }
    }
}
