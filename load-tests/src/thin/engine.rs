//! The generator: one thread, one epoll, one read buffer, thousands of connections.
//!
//! What is due is done at its time by a timer of nanosecond resolution, and late work counts from when
//! it was due: a slow server cannot slow the load down, and so cannot hide how slow it was.

use super::clock::{cpu_ns, now_ns};
use super::conn::{Conn, Phase, opening};
use super::orders::{Dialect, Order, Setup, Told};
use super::schedule::Schedule;
use super::tally::Figures;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tidegate_protocol::frame::{ClientFrame, Hello, SUBPROTOCOL};

/// Events taken from the kernel in one turn.
const EVENTS: usize = 1_024;
/// The shared read buffer to begin with, in bytes.
const BUFFER: usize = 64 * 1024;
/// The timer's and the orders' place among the events.
/// Less wall time than this does not tell how busy a generator is.
const BUSY_WALL_NS_MIN: u64 = 250_000_000;

const TIMER: Token = Token(usize::MAX);
const ORDERS: Token = Token(usize::MAX - 1);

/// One generator.
pub(super) struct Engine {
    pub(super) setup: Setup,
    poll: Poll,
    timer: OwnedFd,
    armed_ns: Option<u64>,
    /// Connections by slot. A slot is used again after its connection has gone.
    pub(super) conns: Vec<Option<Conn>>,
    pub(super) free: Vec<u32>,
    generation: u32,
    /// The request that opens a connection, first frame included.
    pub(super) request: Vec<u8>,
    /// What its answer must contain.
    pub(super) accept: String,
    /// What is due when.
    pub(super) schedule: Schedule,
    /// Connections that are not read.
    pub(super) stalled: usize,
    /// A message that comes back has at least so many bytes.
    pub(super) echo_bytes: usize,
    pub(super) figures: Figures,
    pub(super) buffer: Vec<u8>,
    /// Frames being built.
    pub(super) out: Vec<u8>,
    /// Next mask.
    key: u64,
    /// The first turn since the last `Collect` that did something: wall and processor time.
    began: Option<(u64, u64)>,
    /// Whether this turn did something worth measuring.
    pub(super) active: bool,
    told_ns: u64,
    told: super::orders::Progress,
}

impl Engine {
    /// A generator without connections, and what wakes it up.
    ///
    /// # Errors
    /// The system gives no epoll or timer.
    pub(super) fn new(setup: Setup) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), ORDERS)?);
        let hello = ClientFrame::Hello(Hello { attempt: 1, ..Hello::default() }).encode();
        let request = match setup.dialect {
            Dialect::Tidegate => opening(&setup, Some(SUBPROTOCOL), Some(hello.as_bytes())),
            Dialect::Plain => opening(&setup, None, None),
        };
        let engine = Self {
            echo_bytes: 0,
            key: 0x9e37_79b9_7f4a_7c15 ^ now_ns(),
            accept: super::read::accept(),
            setup,
            poll,
            timer,
            armed_ns: None,
            conns: Vec::new(),
            free: Vec::new(),
            generation: 0,
            request,
            schedule: Schedule::default(),
            stalled: 0,
            figures: Figures::default(),
            buffer: vec![0; BUFFER],
            out: Vec::new(),
            began: None,
            active: false,
            told_ns: 0,
            told: super::orders::Progress::default(),
        };
        Ok((engine, waker))
    }

    /// Works until told to quit, or until whoever gives orders is gone.
    ///
    /// # Errors
    /// The system refuses to wait for events, or nobody reads what is told.
    pub(super) fn run(mut self, orders: &Receiver<Order>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.wait(&mut events)?;
            let woken = now_ns();
            let cpu_before = if self.began.is_none() { cpu_ns() } else { 0 };
            self.active = false;
            let mut ordered = false;
            for event in &events {
                match event.token() {
                    TIMER => self.armed_ns = None,
                    ORDERS => ordered = true,
                    Token(token) => self.happened(token, event),
                }
            }
            self.do_what_is_due(woken);
            self.account(woken, cpu_before);
            if ordered {
                loop {
                    match orders.try_recv() {
                        Ok(Order::Quit) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                        Ok(order) => self.obey(order)?,
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    }
                }
            }
            self.tell_progress()?;
        }
    }

    /// Waits for events, or until something is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = now_ns();
        let may_tell = self.told_ns + super::worker::TELL_EVERY_NS;
        // The end of traffic is told too, when nothing else happens then.
        let ends = (self.told.sending > 0).then(|| self.schedule.sends_until(now).unwrap_or(now).max(may_tell));
        let told_again = (self.told != self.counts(now)).then_some(may_tell);
        let next = [self.schedule.next_ns(self.figures.progress.opening), told_again, ends].into_iter().flatten().min();
        let timeout = match next {
            Some(at) if at <= now => Some(std::time::Duration::ZERO),
            Some(at) => {
                self.arm(at)?;
                None
            }
            None => None,
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    fn arm(&mut self, at: u64) -> io::Result<()> {
        if self.armed_ns.is_some_and(|armed| armed <= at) {
            return Ok(());
        }
        let value = Timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed_ns = Some(at);
        Ok(())
    }

    /// Notes how long this turn took, and how busy the generator is.
    fn account(&mut self, woken: u64, cpu_before: u64) {
        if !self.active {
            return;
        }
        let now = now_ns();
        self.figures.turn.note(now - woken);
        let cpu = cpu_ns();
        let (wall_began, cpu_began) = *self.began.get_or_insert((woken, cpu_before));
        // One turn alone keeps a core busy for as long as it lasts: only who works for a while can be a bottleneck.
        self.figures.busy_wall_ns = (now - wall_began).max(BUSY_WALL_NS_MIN);
        self.figures.busy_cpu_ns = cpu - cpu_began;
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Connect { count, per_s, in_flight, begin_ns } => {
                self.schedule.connect(count, per_s, in_flight, begin_ns);
            }
            Order::Disconnect { count, per_s, begin_ns } => self.schedule.disconnect(count, per_s, begin_ns),
            Order::Traffic(traffic) => self.begin_traffic(traffic),
            Order::Stall { count } => self.stalled = count as usize,
            Order::Collect => {
                let mut figures = std::mem::take(&mut self.figures);
                self.figures.progress = figures.progress;
                figures.progress = self.counts(now_ns());
                self.began = None;
                if figures.busy_wall_ns > 0 {
                    figures.busy_percent = figures.busy_cpu_ns as f64 / figures.busy_wall_ns as f64 * 100.0;
                }
                super::worker::tell(&Told::Figures(Box::new(figures)))?;
            }
            Order::Quit => {}
        }
        Ok(())
    }

    /// The counts of now.
    fn counts(&self, now: u64) -> super::orders::Progress {
        let sending = u64::from(self.schedule.sends_until(now).is_some());
        super::orders::Progress { sending, ..self.figures.progress }
    }

    fn tell_progress(&mut self) -> io::Result<()> {
        let now = now_ns();
        let progress = self.counts(now);
        if progress == self.told {
            return Ok(());
        }
        if now < self.told_ns + super::worker::TELL_EVERY_NS {
            return Ok(());
        }
        (self.told, self.told_ns) = (progress, now);
        super::worker::tell(&Told::Progress(progress))
    }

    /// Dials from a free slot.
    pub(super) fn dial(&mut self, due_ns: u64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() as u32 - 1
        });
        self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
        let dialled = Conn::dial(&self.setup, slot as usize, self.generation, due_ns).and_then(|mut conn| {
            let token = Token((self.generation as usize) << 32 | slot as usize);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(conn.source(), token, interest).map(|()| conn)
        });
        self.figures.progress.opening += 1;
        match dialled {
            Ok(conn) => self.conns[slot as usize] = Some(conn),
            Err(error) => {
                self.free.push(slot);
                self.figures.progress.opening -= 1;
                self.failed(&format!("connect: {error}"));
            }
        }
    }

    /// An attempt came to nothing.
    pub(super) fn failed(&mut self, why: &str) {
        self.figures.progress.failed += 1;
        self.figures.error(why);
    }

    fn happened(&mut self, token: usize, event: &Event) {
        let (slot, generation) = (token & 0xffff_ffff, (token >> 32) as u32);
        // A socket that is watched goes with its connection; only events of this turn can be stale.
        let Some(conn) = self.conns.get_mut(slot).and_then(Option::as_mut) else { return };
        if conn.generation != generation {
            return;
        }
        if event.is_writable() {
            self.writable(slot);
        }
        let ended = event.is_read_closed() || event.is_error();
        if slot < self.stalled {
            // What it was sent is not read; that nothing more will come is noticed all the same.
            if ended {
                self.gone(slot, "the other side ended a connection that did not read");
            }
        } else if event.is_readable() || ended {
            self.readable(slot, ended);
        }
    }

    fn writable(&mut self, slot: usize) {
        let Some(conn) = self.conns[slot].as_mut() else { return };
        let done = match conn.phase {
            Phase::Connecting => match conn.dialled() {
                Ok(()) => {
                    conn.phase = Phase::Upgrading;
                    conn.write(&self.request).map(|_| ())
                }
                Err(error) => Err(error),
            },
            Phase::Upgrading | Phase::Greeting | Phase::Open | Phase::Closing => conn.flush(),
        };
        if let Err(error) = done {
            self.gone(slot, &error.to_string());
        }
    }

    /// Frees a slot, and counts its end by what it was.
    pub(super) fn gone(&mut self, slot: usize, why: &str) {
        let Some(conn) = self.conns[slot].take() else { return };
        self.free.push(slot as u32);
        match conn.phase {
            Phase::Connecting | Phase::Upgrading | Phase::Greeting => {
                self.figures.progress.opening -= 1;
                self.failed(why);
            }
            Phase::Open => {
                self.figures.progress.open -= 1;
                self.figures.progress.lost += 1;
                self.figures.error(why);
            }
            Phase::Closing => self.figures.progress.closing -= 1,
        }
    }

    /// A mask for the next frame: never the same twice in a row, and good enough for what hides nothing.
    pub(super) fn next_key(&mut self) -> [u8; 4] {
        self.key ^= self.key << 13;
        self.key ^= self.key >> 7;
        self.key ^= self.key << 17;
        (self.key as u32).to_ne_bytes()
    }
}
