//! One client connection as the rest of the hub sees it: an order lane and a bell. Messages do not
//! pass here (the connection pulls them from its session), so orders are never behind them.

use super::cell::Cell;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidegate_protocol::close::Close;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::position::Millis;
use tokio::sync::Notify;

/// Orders that may wait for one connection. The hub sends a handful in a connection's life, so a full
/// lane means that its client reads nothing: it is closed as a slow consumer.
const ORDERS_MAX: usize = 64;

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

/// One client connection.
#[derive(Debug)]
pub struct Conn {
    /// Its number in this process.
    pub id: ConnectionId,
    /// Where it comes from.
    pub remote: SocketAddr,
    lane: Mutex<Lane>,
    bell: Notify,
    heard_s: AtomicU32,
    asked: AtomicU32,
    /// When its hello was read, in milliseconds of the hub's clock that wrap around; a welcome is measured by it.
    greeted_ms: AtomicU32,
}

impl Conn {
    /// A new connection, heard just now.
    pub fn new(id: ConnectionId, remote: SocketAddr, now_s: u32) -> Self {
        Self {
            id,
            remote,
            lane: Mutex::new(Lane::Open(VecDeque::new())),
            bell: Notify::new(),
            heard_s: AtomicU32::new(now_s),
            asked: AtomicU32::new(0),
            greeted_ms: AtomicU32::new(0),
        }
    }

    /// Its hello was read.
    pub fn greeted(&self, now: Millis) {
        self.greeted_ms.store(now.0 as u32, Ordering::Relaxed);
    }

    /// How long ago its hello was read, in milliseconds.
    pub fn since_greeted_ms(&self, now: Millis) -> u64 {
        u64::from((now.0 as u32).wrapping_sub(self.greeted_ms.load(Ordering::Relaxed)))
    }

    fn lane(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives an order. False if the connection is closing or gone, so that nobody counts on it.
    pub fn order(&self, order: Order) -> bool {
        let mut lane = self.lane();
        let Lane::Open(queue) = &mut *lane else { return false };
        let full = queue.len() >= ORDERS_MAX;
        let last = matches!(order, Order::Close(..)) || full;
        queue.push_back(if full { close(Close::SlowConsumer, "orders were not read") } else { order });
        if last {
            *lane = Lane::Closing(std::mem::take(queue));
        }
        drop(lane);
        self.ring();
        !full
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
        self.bell.notify_one();
    }

    /// Resolves after the next [`Conn::ring`]; one ring is remembered.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The next order.
    pub fn next_order(&self) -> Option<Order> {
        match &mut *self.lane() {
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

    /// Whether a close was ordered.
    pub fn is_closing(&self) -> bool {
        matches!(*self.lane(), Lane::Closing(_) | Lane::Gone)
    }

    /// The task ends. A session that was given to it and not taken comes back, to be told.
    pub fn end(&self) -> Option<Arc<Cell>> {
        let (Lane::Open(queue) | Lane::Closing(queue)) = std::mem::replace(&mut *self.lane(), Lane::Gone) else {
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

fn close(code: Close, why: impl Into<Cow<'static, str>>) -> Order {
    Order::Close(code.code(), why.into())
}
