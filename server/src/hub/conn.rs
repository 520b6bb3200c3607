//! One client connection as the rest of the hub sees it: its socket, an order lane and a bell. Orders
//! stand in the lane until they are written; messages stay in the session until the socket takes them,
//! so orders are never behind them.
//!
//! The connection's task drives the socket. But whoever gives a session a message may write it at once
//! ([`Conn::pump`]), without waking the task, as long as nothing is in the way: no order, and nothing that
//! the kernel has not taken.

use super::Hub;
use super::cell::{Cell, Inner};
use crate::app;
use crate::telemetry::Direction;
use crate::ws::{self, Socket, frame};
use futures_util::task::AtomicWaker;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::Waker;
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::position::Millis;
use tidegate_protocol::session::Item;

/// Orders that may wait for one connection. The hub sends a handful in a connection's life, so a full
/// lane means that its client reads nothing: it is closed as a slow consumer.
const ORDERS_MAX: usize = 64;
/// Messages below this size are copied into one write, in bytes; larger ones are written as they are.
const GATHERED_BYTES: usize = 4096;

/// What a connection is told to do.
#[derive(Debug)]
pub enum Order {
    /// Write this frame (a whole text message).
    Frame(String),
    /// Send a WebSocket ping: nothing was heard for a while.
    Ping,
    /// Write this frame and serve this session from now on.
    Welcome(Arc<Cell>, String),
    /// Write what waits before it, close with this code and reason, and be done.
    Close(u16, Cow<'static, str>),
}

/// The lane. Once `Closing`, nothing more is taken; once `Gone`, the task has ended.
///
/// ```text
///   Open ── close ordered, or lane full ──► Closing ── task ends ──► Gone
///    └──────────────────────── task ends ──────────────────────────►
/// ```
#[derive(Debug)]
enum Lane {
    Open(VecDeque<Order>),
    Closing(VecDeque<Order>),
    Gone,
}

/// What the connection's lock guards: below the cell's in the order of locks.
#[derive(Debug)]
pub struct Line {
    lane: Lane,
    /// The client's socket.
    pub socket: Socket,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The connection's own task: it waits for the kernel if need be.
    Task,
    /// Anybody else: writes only what the kernel takes right now.
    Passer,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing was put: something is in the way.
    Blocked,
    /// Something was put, and there is more to do.
    More,
    /// Nothing is left to be done.
    Done,
}

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    /// Its number in this process.
    pub id: ConnectionId,
    line: Mutex<Line>,
    bell: AtomicWaker,
    heard_s: AtomicU32,
    asked: AtomicU32,
    /// When its hello was read, in milliseconds of the hub's clock that wrap around; a welcome is measured by it.
    greeted_ms: AtomicU32,
    /// In which second after the hub's start, counted from 1, it last showed a newer JWT.
    renewed_s: AtomicU32,
}

impl Conn {
    /// A new connection, heard just now.
    pub fn new(id: ConnectionId, socket: Socket, now_s: u32) -> Self {
        Self {
            id,
            line: Mutex::new(Line { lane: Lane::Open(VecDeque::new()), socket }),
            bell: AtomicWaker::new(),
            heard_s: AtomicU32::new(now_s),
            asked: AtomicU32::new(0),
            greeted_ms: AtomicU32::new(0),
            renewed_s: AtomicU32::new(0),
        }
    }

    /// It shows a newer JWT. False: it did so in this very second already.
    pub fn may_renew(&self, now_s: u32) -> bool {
        self.renewed_s.swap(now_s.saturating_add(1), Ordering::Relaxed) != now_s.saturating_add(1)
    }

    /// Its hello was read.
    pub fn greeted(&self, now: Millis) {
        self.greeted_ms.store(now.0 as u32, Ordering::Relaxed);
    }

    /// How long ago its hello was read, in milliseconds.
    pub fn since_greeted_ms(&self, now: Millis) -> u64 {
        u64::from((now.0 as u32).wrapping_sub(self.greeted_ms.load(Ordering::Relaxed)))
    }

    /// The lock. Keep it for a few steps, never across an await.
    pub fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order. False if the connection is closing or gone, so that nobody counts on it.
    pub fn order(&self, order: Order) -> bool {
        let mut line = self.line();
        let Lane::Open(queue) = &mut line.lane else { return false };
        let full = queue.len() >= ORDERS_MAX;
        let last = matches!(order, Order::Close(..)) || full;
        queue.push_back(if full { close(Close::SlowConsumer, "orders were not read") } else { order });
        if last {
            line.lane = Lane::Closing(std::mem::take(queue));
        }
        drop(line);
        self.ring();
        !full
    }

    /// Asks for a sign of life: right here if nothing is in the way, so that no task is woken for it.
    pub fn ping(&self) {
        let mut line = self.line();
        let is_free = matches!(&line.lane, Lane::Open(queue) if queue.is_empty()) && line.socket.is_direct();
        if !is_free {
            drop(line);
            self.order(Order::Ping);
            return;
        }
        ws::with_scratch(|batch| {
            frame::ping(batch);
            line.socket.put(batch);
        });
        let is_written = line.socket.is_clean();
        drop(line);
        if !is_written {
            self.ring();
        }
    }

    /// Orders a frame.
    pub fn send(&self, frame: &ServerFrame) -> bool {
        self.order(Order::Frame(frame.encode()))
    }

    /// Orders a close with one of the table's codes.
    pub fn close(&self, code: Close, why: impl Into<Cow<'static, str>>) -> bool {
        self.order(close(code, why))
    }

    /// Wakes the connection's task: there is something to read, to write or to do.
    pub fn ring(&self) {
        self.bell.wake();
    }

    /// Who is woken by the next [`Conn::ring`]. Listen first, then look: a ring in between is not lost.
    pub fn listen(&self, waker: &Waker) {
        self.bell.register(waker);
    }

    /// Writes what the session has for its client, after `before`, as far as the socket takes it.
    /// Unless it is done, the connection's task has to go on: ring for it.
    pub fn pump(&self, hub: &Hub, inner: &mut Inner, by: By, before: &[u8]) -> Pumped {
        let mut line = match (by, self.line.try_lock()) {
            (_, Ok(line)) => line,
            (_, Err(TryLockError::Poisoned(line))) => line.into_inner(),
            (By::Task, Err(TryLockError::WouldBlock)) => self.line(),
            // Somebody else is at it: the task looks again when it is rung for.
            (By::Passer, Err(TryLockError::WouldBlock)) => return Pumped::Blocked,
        };
        let Lane::Open(queue) = &line.lane else { return Pumped::Done };
        let may_write = if by == By::Task { line.socket.is_clean() } else { line.socket.is_direct() };
        if !may_write || !queue.is_empty() {
            return Pumped::Blocked;
        }
        let drained = ws::with_scratch(|batch| {
            batch.extend_from_slice(before);
            let drained = self.fill(hub, inner, &mut line.socket, batch);
            line.socket.put(batch);
            drained
        });
        if drained && line.socket.is_clean() { Pumped::Done } else { Pumped::More }
    }

    /// Gathers small messages in `batch`, and puts large ones as they are. True: there are no more.
    fn fill(&self, hub: &Hub, inner: &mut Inner, socket: &mut Socket, batch: &mut Vec<u8>) -> bool {
        let room = hub.config.limits.write_buffer_bytes.max(1) as usize;
        let (mut messages, mut bytes, mut put) = (0, 0, 0);
        let mut drained = false;
        while put + batch.len() < room {
            match inner.session.next_for(self.id) {
                Some(Item::Message(message)) => {
                    messages += 1;
                    bytes += message.bytes().len() as u64;
                    if message.frame().len() < GATHERED_BYTES {
                        batch.extend_from_slice(message.frame());
                    } else {
                        socket.put(batch);
                        socket.put(message.frame());
                        put += batch.len() + message.frame().len();
                        batch.clear();
                    }
                }
                Some(Item::Gap { from, to }) => {
                    hub.metrics.gaps.increment(1);
                    let gap = ServerFrame::Gap { from, to, why: "slow_consumer".into() };
                    frame::text(batch, &gap.encode());
                }
                None => {
                    drained = true;
                    break;
                }
            }
        }
        if messages > 0 {
            inner.active_at = hub.now();
            hub.metrics.messages.of(Direction::ToClient).increment(messages);
            hub.metrics.bytes.of(Direction::ToClient).increment(bytes);
        }
        if drained {
            app::caught_up(inner);
        }
        drained
    }

    /// Whether a close was ordered.
    pub fn is_closing(&self) -> bool {
        !matches!(self.line().lane, Lane::Open(_))
    }

    /// The task ends. A session that was given to it and not taken comes back, to be told.
    pub fn end(&self) -> Option<Arc<Cell>> {
        let (Lane::Open(queue) | Lane::Closing(queue)) = std::mem::replace(&mut self.line().lane, Lane::Gone) else {
            return None;
        };
        queue.into_iter().find_map(|order| match order {
            Order::Welcome(cell, _) => Some(cell),
            Order::Frame(_) | Order::Ping | Order::Close(..) => None,
        })
    }

    /// Notes a sign of life.
    pub fn hear(&self, now_s: u32) {
        self.heard_s.store(now_s, Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
    }

    /// How long nothing was heard, in seconds.
    pub fn silent_s(&self, now_s: u32) -> u32 {
        now_s.saturating_sub(self.heard_s.load(Ordering::Relaxed))
    }

    /// Counts the pings since the last sign of life, and says which this is.
    pub fn ask(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How many pings are unanswered.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Line {
    /// The next order.
    pub fn next_order(&mut self) -> Option<Order> {
        match &mut self.lane {
            Lane::Open(queue) => {
                let order = queue.pop_front();
                if queue.is_empty() {
                    *queue = VecDeque::new();
                }
                order
            }
            Lane::Closing(queue) => queue.pop_front(),
            Lane::Gone => None,
        }
    }
}

/// Writes what the session has for its client right here, if nothing is in the way, else wakes the task
/// that will.
pub fn deliver(hub: &Hub, inner: &mut Inner) {
    if let Some(conn) = inner.conn.clone()
        && conn.pump(hub, inner, By::Passer, &[]) != Pumped::Done
    {
        conn.ring();
    }
}

fn close(code: Close, why: impl Into<Cow<'static, str>>) -> Order {
    Order::Close(code.code(), why.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::public::stream::Stream;
    use std::sync::atomic::AtomicBool;
    use std::task::Wake;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    /// Whether a connection's task was woken, or asked for its next turn.
    #[derive(Default)]
    pub(crate) struct Woken(AtomicBool);

    impl Woken {
        pub(crate) fn is_woken(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// A connection over a real socket, its client, and whether its task was woken.
    async fn pair() -> (Conn, TcpStream, Arc<Woken>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("accepted");
        stream.writable().await.expect("a new socket takes bytes");
        let conn = Conn::new(ConnectionId(1), Socket::new(Stream::Tcp(stream)), 0);
        let woken = Arc::new(Woken::default());
        conn.listen(&woken.clone().into());
        (conn, client.expect("connected"), woken)
    }

    #[tokio::test]
    async fn a_ping_goes_out_without_waking_the_task_unless_something_is_in_its_way() {
        let (conn, mut client, woken) = pair().await;
        conn.ping();
        let mut frame = [0; 2];
        client.read_exact(&mut frame).await.expect("the ping");
        assert_eq!((frame, woken.is_woken()), ([0x89, 0], false));
        // The kernel takes no more: now the task must see to it.
        while conn.line().socket.is_clean() {
            conn.line().socket.put(&[0; 64 << 10]);
        }
        conn.ping();
        assert!(woken.is_woken());
        assert!(matches!(conn.line().next_order(), Some(Order::Ping)));
    }

    #[tokio::test]
    async fn nothing_is_said_after_a_close_was_ordered() {
        let (conn, client, _) = pair().await;
        conn.close(Close::Restart, "moved");
        conn.ping();
        assert!(matches!(conn.line().next_order(), Some(Order::Close(..))));
        assert!(conn.line().next_order().is_none());
        assert!(client.try_read(&mut [0; 2]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
}
