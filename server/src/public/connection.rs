//! One client connection's task: orders first, then messages, and reading only while what is read can count.
//!
//! ```text
//!   Waiting ── hello ──► Greeted ── welcome ordered ──► Serving ── close ordered, either side gone ──► done
//!      └── hello_ms passed, or anything else ──► done      │ a message read while the session is frozen is
//!                                                          └ held here until it thaws, or dropped as deaf
//! ```

use super::hello;
use super::stream::Stream;
use super::wire;
use crate::app;
use crate::hub::Hub;
use crate::hub::cell::Cell;
use crate::hub::conn::{Conn, Order};
use crate::message::Message;
use crate::telemetry::{Direction, Rejected};
use futures_util::{SinkExt, StreamExt};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tidegate_protocol::close::{self, Close, client_ends_session};
use tidegate_protocol::frame::{ClientFrame, Hello, ServerFrame, Text, sort};
use tidegate_protocol::id::ResumeToken;
use tidegate_protocol::position::Offset;
use tidegate_protocol::session::{Event, Item, Receipt};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message as WsMessage, Utf8Bytes};

/// How long a write may make no progress before the client counts as a slow consumer, in milliseconds.
const WRITE_STALL_MS: u64 = 30_000;
/// How long a greeted connection waits for its answer, in milliseconds: longer than any claim.
const ANSWER_MS: u64 = 15_000;

/// What of the upgrade request belongs to the session.
#[derive(Debug)]
pub struct Request {
    /// Its path.
    pub path: String,
    /// Its query.
    pub query: Option<String>,
    /// The headers that the app gets to see.
    pub headers: BTreeMap<String, String>,
    /// A JWT in `Authorization`.
    pub bearer: Option<ResumeToken>,
}

type Socket = WebSocketStream<Stream>;

/// Why the connection's work is over.
enum End {
    /// Say this and close.
    Close(u16, Cow<'static, str>),
    /// The peer closed, or the socket broke; code and reason of a close that ends the session.
    Gone(Option<(u16, String)>),
}

/// Where the connection is in its life; the picture stands at the top.
#[derive(Debug)]
enum Life {
    Waiting { until: Instant, request: Box<Request> },
    Greeted { until: Instant },
    Serving(Serving),
}

/// A served session's small change.
#[derive(Debug)]
struct Serving {
    cell: Arc<Cell>,
    /// Up to where taken messages were acked.
    acked: Offset,
    /// When the next ack is due, if one is.
    ack_at: Option<Instant>,
    /// A message that was read when the session had just frozen.
    held: Option<WsMessage>,
}

/// Everything of one connection, in one allocation: what an async function takes by value it would
/// keep twice.
#[derive(Debug)]
pub struct Worker {
    hub: Arc<Hub>,
    conn: Arc<Conn>,
    socket: Socket,
    life: Life,
}

impl Worker {
    /// A connection that was just upgraded.
    pub fn new(hub: Arc<Hub>, conn: Arc<Conn>, socket: Socket, request: Request) -> Box<Self> {
        let until = Instant::now() + Duration::from_millis(hub.config.limits.hello_ms);
        Box::new(Self { hub, conn, socket, life: Life::Waiting { until, request: Box::new(request) } })
    }
}

/// Serves one connection to its end.
pub async fn run(mut worker: Box<Worker>) {
    let Worker { hub, conn, socket, life } = &mut *worker;
    let end = work(hub, conn, socket, life).await;
    let cell = match life {
        Life::Serving(serving) => Some(serving.cell.clone()),
        Life::Waiting { .. } | Life::Greeted { .. } => None,
    };
    if let (End::Gone(Some((code, reason))), Some(cell)) = (&end, &cell) {
        app::client_bye(&mut cell.lock(), conn.id, *code, reason.clone());
        cell.feed(hub, Event::Bye { conn: conn.id });
    }
    // The session is told first, so that its client, quick to come back, finds it detached.
    hub.disconnect(conn, cell.as_ref());
    match end {
        End::Close(code, why) => Box::pin(say_goodbye(hub, socket, code, &why)).await,
        // The answer to a close waits in the socket's buffer.
        End::Gone(_) => {
            let flush = tokio::time::timeout(Duration::from_millis(hub.config.limits.close_ms), socket.flush());
            drop(Box::pin(flush).await);
        }
    }
}

async fn say_goodbye(hub: &Hub, socket: &mut Socket, code: u16, why: &str) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from(close::reason(why)) };
    let closing = async {
        if socket.send(WsMessage::Close(Some(frame))).await.is_ok() {
            // What still arrives is not counted: the connection is deaf. Reading lets the close through.
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A client that does not answer loses its socket; the session is safe elsewhere by now.
    drop(tokio::time::timeout(Duration::from_millis(hub.config.limits.close_ms), closing).await);
}

async fn work(hub: &Arc<Hub>, conn: &Arc<Conn>, socket: &mut Socket, life: &mut Life) -> End {
    loop {
        match write(hub, conn, socket, life).await {
            Ok(()) => {}
            Err(end) => return end,
        }
        let may_read = match life {
            Life::Waiting { .. } | Life::Greeted { .. } => true,
            Life::Serving(serving) => match retry_held(hub, conn, serving) {
                Ok(may_read) => may_read,
                Err(end) => return end,
            },
        };
        let until = life.deadline();
        tokio::select! {
            biased;
            () = conn.rung() => {}
            read = socket.next(), if may_read => {
                conn.hear(hub.now_s());
                if let Err(end) = on_read(hub, conn, life, read).await {
                    return end;
                }
            }
            () = at(until) => {
                if let Some(end) = life.late(hub) {
                    return end;
                }
            }
        }
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Life {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Waiting { until, .. } | Self::Greeted { until } => Some(*until),
            Self::Serving(serving) => serving.ack_at,
        }
    }

    fn late(&mut self, hub: &Hub) -> Option<End> {
        match self {
            Self::Waiting { .. } => {
                hub.metrics.rejected.of(Rejected::HelloTimeout).increment(1);
                Some(close(Close::HelloTimeout, format!("no hello within {} ms", hub.config.limits.hello_ms)))
            }
            Self::Greeted { .. } => Some(close(Close::Later, "no answer from the hub that has the session")),
            // The ack is written at the top of the loop.
            Self::Serving(_) => None,
        }
    }
}

fn close(code: Close, why: impl Into<Cow<'static, str>>) -> End {
    End::Close(code.code(), why.into())
}

/// Orders, then messages, then an ack if one is due: encoded into one batch, written in one go.
async fn write(hub: &Arc<Hub>, conn: &Arc<Conn>, socket: &mut Socket, life: &mut Life) -> Result<(), End> {
    loop {
        let mut batch = Vec::new();
        let mut last = None;
        while last.is_none()
            && let Some(order) = conn.next_order()
        {
            match order {
                Order::Frame(text) => wire::text(&mut batch, &text),
                Order::Ping => wire::ping(&mut batch),
                Order::Welcome(cell, text) => {
                    wire::text(&mut batch, &text);
                    hub.admitted(conn.since_greeted_ms(hub.now()));
                    // `welcome.received` says what was counted. What was taken is acked here once more: the ack
                    // that told it may have been lost with the connection before, or with the hub before.
                    *life = Life::Serving(Serving { cell, acked: Offset(0), ack_at: None, held: None });
                }
                Order::Close(code, why) => last = Some(End::Close(code, why)),
            }
        }
        if let (None, Life::Serving(serving)) = (&last, &mut *life) {
            while batch.len() < hub.config.limits.write_buffer_bytes.max(1) as usize
                && let Some(item) = serving.cell.next_for(conn.id, hub.now())
            {
                write_item(hub, &mut batch, item);
            }
            ack(hub, &mut batch, serving);
        }
        if !batch.is_empty() {
            stalling(put(socket, &batch)).await?;
        }
        match last {
            Some(end) => return Err(end),
            None if batch.is_empty() => return Ok(()),
            None => {}
        }
    }
}

/// Writes whole frames straight to the stream. Through tungstenite they would leave a buffer of the
/// longest message behind, for every connection and for good. What it has to say itself (pongs) goes
/// first, so that frames never mix.
async fn put(socket: &mut Socket, batch: &[u8]) -> Result<(), WsError> {
    socket.flush().await?;
    let stream = socket.get_mut();
    stream.write_all(batch).await?;
    stream.flush().await?;
    Ok(())
}

fn write_item(hub: &Hub, batch: &mut Vec<u8>, item: Item<Message>) {
    match item {
        Item::Message(message) => {
            hub.metrics.messages.of(Direction::ToClient).increment(1);
            hub.metrics.bytes.of(Direction::ToClient).increment(message.bytes().len() as u64);
            wire::message(batch, &message);
        }
        Item::Gap { from, to } => {
            hub.metrics.gaps.increment(1);
            wire::text(batch, &ServerFrame::Gap { from, to, why: "slow_consumer".into() }.encode());
        }
    }
}

/// A write that makes no progress for long is a slow consumer; its session waits, detached.
async fn stalling(write: impl Future<Output = Result<(), WsError>>) -> Result<(), End> {
    let mut write = std::pin::pin!(write);
    // Nearly always the kernel takes it at once; the timer and its memory exist only while it does not.
    let first = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
    if let Poll::Ready(written) = first {
        return written.map_err(|_| End::Gone(None));
    }
    match Box::pin(tokio::time::timeout(Duration::from_millis(WRITE_STALL_MS), write)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone(None)),
        Err(_) => Err(close(Close::SlowConsumer, "nothing was read for too long")),
    }
}

/// Acks what the app has taken: at once after so many messages, else after a short time.
fn ack(hub: &Hub, batch: &mut Vec<u8>, serving: &mut Serving) {
    let (Some(taken), _) = serving.cell.upstream(hub) else { return };
    let fresh = taken.since(serving.acked);
    if fresh == 0 {
        serving.ack_at = None;
        return;
    }
    let limits = &hub.config.limits;
    let due = *serving.ack_at.get_or_insert_with(|| Instant::now() + Duration::from_millis(limits.ack_ms));
    if fresh < limits.ack_messages && Instant::now() < due {
        return;
    }
    serving.acked = taken;
    serving.ack_at = None;
    wire::text(batch, &ServerFrame::Ack { received: taken }.encode());
}

/// A message that came when the session had just frozen is offered again. Says whether to read on.
fn retry_held(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving) -> Result<bool, End> {
    if let Some(held) = serving.held.take() {
        take(hub, conn, serving, held)?;
    }
    let reads = match serving.cell.lock().session.listens_to(conn.id) {
        Receipt::Counted => true,
        // Frozen: what the client sends waits in the socket. Deaf: a close is on its way in the lane.
        Receipt::Hold | Receipt::Deaf => false,
    };
    Ok(serving.held.is_none() && reads && serving.cell.upstream(hub).1)
}

async fn on_read(
    hub: &Arc<Hub>,
    conn: &Arc<Conn>,
    life: &mut Life,
    read: Option<Result<WsMessage, WsError>>,
) -> Result<(), End> {
    let message = match read {
        None => return Err(End::Gone(None)),
        Some(Ok(WsMessage::Close(frame))) => {
            let close = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
            return Err(End::Gone(close.filter(|(code, _)| client_ends_session(*code))));
        }
        Some(Ok(message)) => message,
        Some(Err(error)) => return Err(broken(hub, &error)),
    };
    match life {
        Life::Waiting { request, .. } => {
            if matches!(message, WsMessage::Ping(_) | WsMessage::Pong(_)) {
                return Ok(());
            }
            let hello = first_frame(hub, message)?;
            // Boxed, as are the farewells: rare and large, they must not widen every idle connection's future.
            Box::pin(hello::greet(hub, conn, request, hello)).await;
            *life = Life::Greeted { until: Instant::now() + Duration::from_millis(ANSWER_MS) };
            Ok(())
        }
        Life::Greeted { .. } => match message {
            WsMessage::Ping(_) | WsMessage::Pong(_) => Ok(()),
            WsMessage::Text(text) if matches!(sort(text.as_str()), Text::Frame(json) if is_heartbeat(json)) => Ok(()),
            _ => Err(protocol_error(hub, "nothing may be sent between hello and its answer".into())),
        },
        Life::Serving(serving) => take(hub, conn, serving, message),
    }
}

fn is_heartbeat(json: &str) -> bool {
    matches!(ClientFrame::decode(json), Ok(ClientFrame::Ping {} | ClientFrame::Pong {}))
}

fn broken(hub: &Hub, error: &WsError) -> End {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            hub.metrics.rejected.of(Rejected::TooLarge).increment(1);
            close(Close::TooBig, format!("a message of {size} bytes; at most {max_size}"))
        }
        WsError::Utf8(_) => End::Close(1007, "a text message that is not UTF-8".into()),
        WsError::Protocol(error)
            if !matches!(error, tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) =>
        {
            hub.metrics.rejected.of(Rejected::Protocol).increment(1);
            End::Close(1002, error.to_string().into())
        }
        _ => End::Gone(None),
    }
}

fn protocol_error(hub: &Hub, why: String) -> End {
    hub.metrics.rejected.of(Rejected::Protocol).increment(1);
    close(Close::ProtocolError, why)
}

fn first_frame(hub: &Hub, message: WsMessage) -> Result<Hello, End> {
    let WsMessage::Text(text) = &message else {
        return Err(protocol_error(hub, "expected a hello frame first".into()));
    };
    let Text::Frame(json) = sort(text.as_str()) else {
        return Err(protocol_error(hub, "expected a hello frame first".into()));
    };
    match ClientFrame::decode(json) {
        Ok(ClientFrame::Hello(hello)) if hello.attempt >= 1 => Ok(hello),
        Ok(ClientFrame::Hello(_)) => Err(protocol_error(hub, "hello: `try` is 0; expected 1 or more".into())),
        Ok(_) => Err(protocol_error(hub, "expected hello first".into())),
        Err(error) => Err(protocol_error(hub, error.to_string())),
    }
}

/// Takes one message of a served connection: counts it, carries out a frame, or holds it while frozen.
fn take(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving, message: WsMessage) -> Result<(), End> {
    let cell = &serving.cell;
    let app_message = match &message {
        WsMessage::Ping(_) | WsMessage::Pong(_) | WsMessage::Frame(_) | WsMessage::Close(_) => return Ok(()),
        WsMessage::Binary(bytes) => Message::copied_binary(bytes),
        WsMessage::Text(text) => match sort(text.as_str()) {
            Text::App(text) => Message::copied_text(text),
            Text::Frame(json) => {
                let frame = ClientFrame::decode(json).map_err(|error| protocol_error(hub, error.to_string()))?;
                if cell.lock().session.listens_to(conn.id) == Receipt::Hold {
                    serving.held = Some(message);
                    return Ok(());
                }
                return on_frame(hub, conn, serving, frame);
            }
        },
    };
    let bytes = app_message.bytes().len() as u64;
    if bytes > hub.config.limits.message_bytes {
        hub.metrics.rejected.of(Rejected::TooLarge).increment(1);
        return Err(close(
            Close::TooBig,
            format!("a message of {bytes} bytes; at most {}", hub.config.limits.message_bytes),
        ));
    }
    match cell.receive(hub, conn.id, app_message) {
        Receipt::Counted => {
            hub.metrics.messages.of(Direction::FromClient).increment(1);
            hub.metrics.bytes.of(Direction::FromClient).increment(bytes);
        }
        Receipt::Hold => serving.held = Some(message),
        Receipt::Deaf => {}
    }
    Ok(())
}

fn on_frame(hub: &Arc<Hub>, conn: &Conn, serving: &Serving, frame: ClientFrame) -> Result<(), End> {
    let cell = &serving.cell;
    match frame {
        ClientFrame::Hello(_) => return Err(protocol_error(hub, "hello again: it is said once per connection".into())),
        ClientFrame::Ack { received } => cell.feed(hub, Event::Acked { conn: conn.id, received }),
        ClientFrame::Ping {} => {
            conn.send(&ServerFrame::Pong {});
        }
        ClientFrame::Pong {} => {}
        ClientFrame::Ready { drain } => hub.drain.ready(cell.id, drain),
        ClientFrame::Busy { drain, ms, why } => hub.drain.busy(cell.id, drain, ms, why),
        ClientFrame::Bye { code, reason } => {
            let code = code.unwrap_or(1000);
            app::client_bye(&mut cell.lock(), conn.id, code, reason.unwrap_or_default());
            cell.feed(hub, Event::Bye { conn: conn.id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an async function returns, without calling it.
    fn future_bytes<A, F: Future>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_costs_one_small_future_and_one_worker() {
        let (future, worker) = (future_bytes(run), size_of::<Worker>());
        assert!(future <= 896, "the connection's future has {future} bytes; at most 896");
        assert!(worker <= 512, "its worker has {worker} bytes; at most 512");
    }
}
