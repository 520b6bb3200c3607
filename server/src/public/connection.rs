//! One client connection's task: orders first, then messages, and reading only while what is read can count.
//!
//! ```text
//!   Arriving ── a request that is no plain upgrade ──► Parting (hyper answers it)
//!      │ upgraded
//!      ▼
//!   Waiting ── hello ──► Greeting ── judged ──► Greeted ── welcome ordered ──► Serving
//!      │                     │                     │                              │
//!      └── hello_ms passed, anything but a hello, a close ordered, either side gone ──► Parting ──► done
//! ```
//!
//! A message that was read when the session had just frozen is held here until it thaws, or dropped as deaf.
//! The task is a hand-written future: an idle connection is this [`Worker`] and nothing else. `reading`
//! has what comes, `writing` what goes, `arriving` the beginning, `parting` the end.

use super::arriving::Arrival;
use super::parting;
use super::stream::Stream;
use crate::app;
use crate::hub::Hub;
use crate::hub::cell::Cell;
use crate::hub::conn::Conn;
use crate::message::Message;
use crate::telemetry::Rejected;
use crate::ws::{Reader, Role, Socket};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidegate_protocol::close::{Close, client_ends_session};
use tidegate_protocol::id::ResumeToken;
use tidegate_protocol::position::Offset;
use tidegate_protocol::session::Event;
use tidegate_protocol::session::headers::Headers;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// How long a write may make no progress before the client counts as a slow consumer, in milliseconds.
const WRITE_STALL_MS: u64 = 30_000;
/// Rounds, each with one read, after which others have their turn: a client that never pauses would be read for
/// as long as the kernel has something of it, some megabytes, and everybody on this thread would wait.
pub(super) const ROUNDS_PER_TURN: usize = 2;
/// How long a greeted connection waits for its answer, in milliseconds: longer than any claim.
const ANSWER_MS: u64 = 15_000;

/// What of the upgrade request belongs to the session.
#[derive(Debug, Default)]
pub struct Request {
    /// Its path.
    pub path: String,
    /// Its query.
    pub query: Option<String>,
    /// The headers that the app gets to see.
    pub headers: Headers,
    /// A JWT in `Authorization`.
    pub bearer: Option<ResumeToken>,
    /// Its place among those that have sent much of a hello and not all of it.
    pub half_hello: Option<OwnedSemaphorePermit>,
}

/// Why the connection's work is over.
pub(super) enum End {
    /// Say this and close.
    Close(u16, Cow<'static, str>),
    /// The client closed, with this code and reason if it gave one.
    Closed(Option<(u16, String)>),
    /// The socket ended or broke.
    Gone,
}

/// Under way; given up by dropping it.
pub(super) type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the connection is in its life; the picture stands at the top.
pub(super) enum Life {
    Arriving(Box<Arrival>),
    Waiting { until: Instant, request: Box<Request> },
    Greeting(Doing),
    Greeted { until: Instant },
    Serving(Serving),
    Parting(Doing),
}

/// A served session's small change.
pub(super) struct Serving {
    pub(super) cell: Arc<Cell>,
    /// Up to where taken messages were acked.
    pub(super) acked: Offset,
    /// When the next ack is due, if one is.
    pub(super) ack_at: Option<Instant>,
    /// Up to here whatever is taken is acked at once: the client waits for it.
    pub(super) ack_asked: Offset,
    /// Bytes that were counted since an ack was asked for.
    pub(super) fresh_bytes: u64,
    /// A message that was read when the session had just frozen.
    pub(super) held: Option<Box<Held>>,
}

impl Serving {
    /// The client waits for its messages to be taken: what was counted so far is acked as soon as it is.
    pub(super) fn ask_for_ack(&mut self) {
        let counted = self.cell.lock().session.record().map(|record| record.received);
        (self.ack_asked, self.fresh_bytes) = (counted.unwrap_or(self.ack_asked), 0);
    }
}

/// What was read and could not count yet.
pub(super) enum Held {
    App(Message),
    /// The JSON of a frame.
    Frame(String),
}

impl Serving {
    /// Just welcomed. `welcome.received` says what was counted. What was taken is acked here once more: the
    /// ack that told it may have been lost with the connection before, or with the hub before.
    pub(super) fn begin(cell: Arc<Cell>) -> Self {
        Self { cell, acked: Offset(0), ack_at: None, ack_asked: Offset(0), fresh_bytes: 0, held: None }
    }
}

/// Everything of one connection's task.
pub struct Worker {
    pub(super) hub: Arc<Hub>,
    pub(super) conn: Arc<Conn>,
    pub(super) reader: Reader,
    pub(super) life: Life,
    /// The one timer, only while something is due: the hello, the answer, an ack, a write that stands still.
    alarm: Option<Pin<Box<Sleep>>>,
    /// Until when the kernel must take what waits.
    stalled: Option<Instant>,
}

impl Worker {
    /// A connection that was just accepted.
    pub(super) fn new(hub: Arc<Hub>, stream: Stream, remote: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        let arrival = Arrival::new(&hub, remote, permit);
        Self::begin(hub, stream, Vec::new(), Life::Arriving(Box::new(arrival)))
    }

    /// A connection that hyper has upgraded; `early` came right behind the request.
    pub fn upgraded(hub: Arc<Hub>, stream: Stream, early: Vec<u8>, request: Request) -> Self {
        let until = Instant::now() + Duration::from_millis(hub.config.limits.hello_ms);
        let worker = Self::begin(hub, stream, early, Life::Waiting { until, request: Box::new(request) });
        worker.hub.register(worker.conn.clone());
        worker
    }

    fn begin(hub: Arc<Hub>, stream: Stream, early: Vec<u8>, life: Life) -> Self {
        let conn = hub.connect(Socket::new(stream));
        hub.entrance.come();
        Self { hub, conn, reader: Reader::new(Role::Server, early), life, alarm: None, stalled: None }
    }

    /// One round: write what there is, then read, then look at the clock.
    fn round(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        if let Life::Arriving(_) = &self.life {
            if let Poll::Ready(arrived) = self.arrive(cx) {
                return Poll::Ready(arrived);
            }
            ready!(self.poll_alarm(cx));
            return Poll::Ready(self.late());
        }
        if let Life::Greeting(greeting) = &mut self.life {
            ready!(greeting.as_mut().poll(cx));
            self.life = Life::Greeted { until: Instant::now() + Duration::from_millis(ANSWER_MS) };
        }
        let may_read = match self.write(cx)? {
            Poll::Ready(may_read) => {
                self.stalled = None;
                may_read
            }
            // Nothing is read either: who does not take what it is told is not listened to.
            Poll::Pending => {
                self.relay_counted();
                self.stalled.get_or_insert_with(|| Instant::now() + Duration::from_millis(WRITE_STALL_MS));
                false
            }
        };
        if may_read && let Poll::Ready(read) = self.read(cx) {
            return Poll::Ready(read);
        }
        ready!(self.poll_alarm(cx));
        Poll::Ready(self.late())
    }

    fn deadline(&self) -> Option<Instant> {
        let due = match &self.life {
            Life::Arriving(arrival) => Some(arrival.until),
            Life::Waiting { until, .. } | Life::Greeted { until } => Some(*until),
            // While the kernel takes nothing an ack cannot go either: waiting for its moment would be spinning.
            Life::Serving(serving) => serving.ack_at.filter(|_| self.stalled.is_none()),
            Life::Greeting(_) | Life::Parting(_) => None,
        };
        [due, self.stalled].into_iter().flatten().min()
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.deadline() else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }

    fn late(&mut self) -> Result<(), End> {
        if self.stalled.is_some_and(|until| until <= Instant::now()) {
            return Err(close(Close::SlowConsumer, "nothing was read for too long"));
        }
        match &mut self.life {
            Life::Arriving(arrival) => match arrival.has_patience(&self.hub) {
                true => Ok(()),
                false => {
                    self.hub.metrics.rejected.of(Rejected::HandshakeTimeout).increment(1);
                    Err(End::Gone)
                }
            },
            Life::Waiting { .. } => {
                self.hub.metrics.rejected.of(Rejected::HelloTimeout).increment(1);
                Err(close(Close::HelloTimeout, format!("no hello within {} ms", self.hub.config.limits.hello_ms)))
            }
            Life::Greeted { .. } => Err(close(Close::Later, "no answer from the hub that has the session")),
            // The ack is written in the next round.
            Life::Serving(_) | Life::Greeting(_) | Life::Parting(_) => Ok(()),
        }
    }

    /// What the last read brought is the app's, also if no round follows in which it would be written to it: the
    /// read brought the end as well, or the client takes nothing more.
    fn relay_counted(&self) {
        if let Life::Serving(serving) = &self.life {
            app::relay(&self.hub, &mut serving.cell.lock());
        }
    }

    /// The connection's work is over: the session is told, then the client.
    fn part(&mut self, end: End) {
        let cell = match &self.life {
            Life::Serving(serving) => Some(serving.cell.clone()),
            Life::Arriving(_) | Life::Waiting { .. } | Life::Greeting(_) | Life::Greeted { .. } | Life::Parting(_) => {
                None
            }
        };
        self.relay_counted();
        // Here, because who is too slow is found by the clock as well as by a lane that is full.
        if matches!(end, End::Close(code, _) if code == Close::SlowConsumer.code()) {
            self.hub.metrics.rejected.of(Rejected::SlowConsumer).increment(1);
        }
        if let (End::Closed(Some((code, reason))), Some(cell)) = (&end, &cell)
            && client_ends_session(*code)
        {
            app::client_bye(&mut cell.lock(), self.conn.id, *code, reason.clone());
            cell.feed(&self.hub, Event::Bye { conn: self.conn.id });
        }
        // The session is told first, so that its client, quick to come back, finds it detached.
        self.hub.disconnect(&self.conn, cell.as_ref());
        let reader = std::mem::replace(&mut self.reader, Reader::new(Role::Server, Vec::new()));
        let close_ms = self.hub.config.limits.close_ms;
        (self.alarm, self.stalled) = (None, None);
        self.life = Life::Parting(Box::pin(parting::part(self.conn.clone(), reader, end, close_ms)));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.hub.entrance.go();
    }
}

impl Future for Worker {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let worker = self.get_mut();
        worker.conn.listen(cx.waker());
        for _ in 0..ROUNDS_PER_TURN {
            if let Life::Parting(parting) = &mut worker.life {
                return parting.as_mut().poll(cx);
            }
            if let Err(end) = ready!(worker.round(cx)) {
                worker.part(end);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub(super) fn close(code: Close, why: impl Into<Cow<'static, str>>) -> End {
    End::Close(code.code(), why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::conn::tests::Woken;
    use crate::ws::frame;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// A client that pings without a pause, and takes whatever is answered.
    struct Flood {
        frames: Vec<u8>,
        reads: Arc<AtomicUsize>,
    }

    impl AsyncRead for Flood {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let reads = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
            assert!(reads < 1_000, "nobody else would ever have a turn");
            into.put_slice(&self.frames);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Flood {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_client_that_never_pauses_lets_others_have_their_turn_and_goes_on_after_them() {
        let (hub, _dir) = crate::app::tests::harness::hub(&[]).await;
        let (mut frames, reads) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        frame::ping(&mut frames);
        // A client's frames are masked: an empty payload stays as it is.
        frames[1] |= 0x80;
        frames.extend_from_slice(&[0; 4]);
        let stream = Stream::Other(Box::new(Flood { frames: frames.repeat(1_000), reads: reads.clone() }));
        let mut worker = Box::pin(Worker::upgraded(hub, stream, Vec::new(), Request::default()));
        for turn in 1..=3 {
            let asked = Arc::new(Woken::default());
            assert!(worker.as_mut().poll(&mut Context::from_waker(&asked.clone().into())).is_pending());
            assert!(asked.is_woken(), "it asks for its next turn");
            assert_eq!(reads.load(Ordering::Relaxed), turn * ROUNDS_PER_TURN);
        }
        worker.part(close(Close::ProtocolError, "enough"));
        for turn in 4..=6 {
            let asked = Arc::new(Woken::default());
            assert!(worker.as_mut().poll(&mut Context::from_waker(&asked.clone().into())).is_pending());
            assert!(asked.is_woken(), "also while its close is on the way");
            assert_eq!(reads.load(Ordering::Relaxed), turn * ROUNDS_PER_TURN);
        }
    }

    #[test]
    fn an_idle_connection_is_one_small_future_and_no_more() {
        let worker = size_of::<Worker>();
        assert!(worker <= 160, "the connection's future has {worker} bytes; at most 160");
        let conn = size_of::<Conn>();
        assert!(conn <= 192, "its handle has {conn} bytes; at most 192");
    }
}
