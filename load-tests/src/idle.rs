//! The scenario `idle`: what one idle, resumable session costs the hub in user-space memory.

use crate::args::{IdleArgs, with_path};
use crate::drain::say;
use crate::progress::Progress;
use crate::slope::{Point, bytes_per_session, pss_bytes, steps};
use crate::started::StartedHub;
use crate::swarm::loopback_source;
use crate::wire::{Socket, dial, next_text};
use futures_util::SinkExt;
use http::Uri;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tidegate_protocol::frame::{ClientFrame, Hello, ServerFrame, Text, sort};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::Message;

/// Read buffer of one idle client in bytes: a welcome fits in a few reads.
const READ_BUFFER_BYTES: usize = 512;

/// How long one session may take to open, tries included.
const OPEN_WAIT: Duration = Duration::from_secs(20);

/// Tries per session; a full listener queue or a busy hub is asked again.
const OPEN_TRIES: u32 = 4;

/// Memory counts as settled when it moved by less than this part between two looks.
const SETTLED_PART: u64 = 500;

/// Between two looks, and how many looks at most.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS_MAX: u32 = 20;

/// The last line on stdout.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    idle: &'static str,
    bytes_per_session: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<u64>,
    from: u64,
    to: u64,
    points: &'a [Point],
}

/// Runs it. True if the memory is within `--max-bytes`.
///
/// # Errors
/// In words: what made the run impossible.
pub(crate) async fn run(args: IdleArgs) -> Result<bool, String> {
    if args.from >= args.to {
        return Err(format!("--from {} must be below --to {}", args.from, args.to));
    }
    let give_up_after = args.give_up_after;
    timeout(give_up_after, measure(args))
        .await
        .unwrap_or_else(|_| Err(format!("--give-up-after {give_up_after:?} came before all points were measured")))
}

async fn measure(args: IdleArgs) -> Result<bool, String> {
    check_open_files(u64::from(args.to))?;
    let started = match &args.start {
        Some(program) => Some(StartedHub::start(program).await?),
        None => None,
    };
    let (hub, pid) = match (&started, &args.hub, args.pid) {
        (Some(started), _, _) => (started.public.clone(), started.pid),
        (None, Some(hub), Some(pid)) => (hub.clone(), pid),
        _ => return Err("give --hub and --pid, or --start".to_owned()),
    };
    let crowd = Crowd::new(with_path(&hub, "/connect"), args.connecting as usize);
    let mut progress = Progress::new();
    let mut points = Vec::new();
    let mut sessions = JoinSet::new();
    progress.step(&format!("process {pid} at {hub}: {} to {} idle sessions", args.from, args.to));
    for target in steps(u64::from(args.from), u64::from(args.to), u64::from(args.steps)) {
        crowd.grow(&mut sessions, target, &mut progress).await?;
        let pss_bytes = settled_pss(pid).await?;
        crowd.check(target)?;
        points.push(Point { sessions: target, pss_bytes });
    }
    drop(progress);
    let slope = bytes_per_session(&points).ok_or("the points have no slope: measure at two different numbers")?;
    // A hub that gave memory back costs nothing per session; rounding up never flatters.
    let bytes = slope.max(0.0).ceil() as u64;
    let within = args.max_bytes.is_none_or(|max_bytes| bytes <= max_bytes);
    print_table(&points, bytes);
    if let (false, Some(max_bytes)) = (within, args.max_bytes) {
        eprintln!("fault: {bytes} bytes per session is above --max-bytes {max_bytes}");
    }
    say(&Answer {
        idle: if within { "ok" } else { "too_much" },
        bytes_per_session: bytes,
        max_bytes: args.max_bytes,
        from: u64::from(args.from),
        to: u64::from(args.to),
        points: &points,
    });
    sessions.shutdown().await;
    if let Some(started) = started {
        started.end().await;
    }
    Ok(within)
}

fn print_table(points: &[Point], bytes_per_session: u64) {
    use std::io::Write;
    let mut text = format!("{:>10} {:>12} {:>14}\n", "sessions", "PSS KiB", "since last, B");
    let mut last: Option<Point> = None;
    for point in points {
        let since = last.map(|last| {
            (point.pss_bytes as f64 - last.pss_bytes as f64) / (point.sessions - last.sessions).max(1) as f64
        });
        let since = since.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
        text += &format!("{:>10} {:>12} {since:>14}\n", point.sessions, point.pss_bytes / 1024);
        last = Some(*point);
    }
    text += &format!("{bytes_per_session} bytes of user-space memory per idle session (least squares)\n");
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Waits until the memory stands still, then reads it.
async fn settled_pss(pid: u32) -> Result<u64, String> {
    let mut last = pss_bytes(pid)?;
    for _ in 0..LOOKS_MAX {
        sleep(LOOK).await;
        let now = pss_bytes(pid)?;
        if now.abs_diff(last) <= now / SETTLED_PART {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Names the limit before the run stumbles over it.
fn check_open_files(sessions: u64) -> Result<(), String> {
    const SPARE: u64 = 100;
    let limits = std::fs::read_to_string("/proc/self/limits").map_err(|error| format!("/proc/self/limits: {error}"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).and_then(|soft| soft.parse::<u64>().ok());
    match soft {
        Some(soft) if soft < sessions + SPARE => Err(format!(
            "{sessions} sessions need {} open files and the limit is {soft}: `ulimit -n {}` first, or a lower --to",
            sessions + SPARE,
            sessions + SPARE
        )),
        _ => Ok(()),
    }
}

/// The idle clients.
struct Crowd {
    hub: Uri,
    opening: Arc<Semaphore>,
    open: Arc<AtomicU64>,
    asked: AtomicU64,
}

impl Crowd {
    fn new(hub: Uri, connecting: usize) -> Self {
        Self { hub, opening: Arc::new(Semaphore::new(connecting)), open: Arc::default(), asked: AtomicU64::new(0) }
    }

    /// Opens sessions until there are `target`.
    async fn grow(
        &self,
        sessions: &mut JoinSet<Result<(), String>>,
        target: u64,
        progress: &mut Progress,
    ) -> Result<(), String> {
        while self.asked.load(Relaxed) < target {
            let permit = Arc::clone(&self.opening).acquire_owned().await.map_err(|error| error.to_string())?;
            let index = self.asked.fetch_add(1, Relaxed);
            let (hub, open) = (self.hub.clone(), Arc::clone(&self.open));
            sessions.spawn(async move {
                let mut socket = open_session(&hub, index as usize).await?;
                drop(permit);
                open.fetch_add(1, Relaxed);
                let why = stay_idle(&mut socket).await;
                open.fetch_sub(1, Relaxed);
                Err(format!("session {index} did not stay: {why}"))
            });
            self.failed(sessions)?;
            progress.figures(&format!("{} of {target} sessions", self.open.load(Relaxed)));
        }
        while self.open.load(Relaxed) < target {
            self.failed(sessions)?;
            sleep(Duration::from_millis(20)).await;
        }
        progress.step(&format!("{target} sessions are open"));
        Ok(())
    }

    fn failed(&self, sessions: &mut JoinSet<Result<(), String>>) -> Result<(), String> {
        match sessions.try_join_next() {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(format!("a client failed: {error}")),
            None => Ok(()),
        }
    }

    fn check(&self, target: u64) -> Result<(), String> {
        let open = self.open.load(Relaxed);
        if open == target {
            return Ok(());
        }
        Err(format!("{} of {target} sessions ended while the memory was read", target.saturating_sub(open)))
    }
}

/// Opens one session: dial, hello, welcome.
async fn open_session(hub: &Uri, index: usize) -> Result<Socket, String> {
    let mut why = String::new();
    for attempt in 0..OPEN_TRIES {
        // Later tries wait longer, each session at a moment of its own.
        sleep(Duration::from_millis(u64::from(attempt) * (100 + (index as u64 * 37) % 200))).await;
        match timeout(OPEN_WAIT, greet(hub, index)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => why = error,
            Err(_) => why = format!("no welcome within {OPEN_WAIT:?}"),
        }
    }
    Err(format!("session {index} could not be opened in {OPEN_TRIES} tries: {why}"))
}

async fn greet(hub: &Uri, index: usize) -> Result<Socket, String> {
    let mut socket = dial(hub, loopback_source(hub, index), READ_BUFFER_BYTES).await?;
    let hello = ClientFrame::Hello(Hello { attempt: 1, ..Hello::default() }).encode();
    socket.send(Message::text(hello)).await.map_err(|error| error.to_string())?;
    match sort(&next_text(&mut socket).await?) {
        Text::Frame(json) => match ServerFrame::decode(json).map_err(|error| error.to_string())? {
            ServerFrame::Welcome(_) => Ok(socket),
            other => Err(format!("the hub answered hello with {other:?}")),
        },
        Text::App(_) => Err("the hub sent an app message before welcome".to_owned()),
    }
}

/// Answers pings until the session ends; tells why it did.
async fn stay_idle(socket: &mut Socket) -> String {
    loop {
        let text = match next_text(socket).await {
            Ok(text) => text,
            Err(why) => return why,
        };
        if let Text::Frame(json) = sort(&text)
            && let Ok(ServerFrame::Ping {}) = ServerFrame::decode(json)
            && let Err(error) = socket.send(Message::text(ClientFrame::Pong {}.encode())).await
        {
            return error.to_string();
        }
    }
}
