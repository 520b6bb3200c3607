//! What goes to the client: orders, then messages, then an ack if one is due.

use super::connection::{End, Held, Life, Serving, Worker};
use super::reading;
use crate::app;
use crate::hub::Hub;
use crate::hub::conn::{By, Conn, Order, Pumped};
use crate::ws::{self, frame};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tidegate_protocol::frame::ServerFrame;
use tidegate_protocol::position::Offset;
use tidegate_protocol::session::Receipt;
use tokio::time::Instant;

impl Worker {
    /// Writes all there is. Ready: the kernel has it, and this says whether more may be read.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        loop {
            let ordered = ready!(self.write_orders(cx))?;
            let Life::Serving(serving) = &mut self.life else {
                if ordered {
                    continue;
                }
                return Poll::Ready(Ok(true));
            };
            retry_held(&self.hub, &self.conn, serving)?;
            let (is_done, may_read) = write_messages(&self.hub, &self.conn, serving);
            if is_done && !ordered {
                return Poll::Ready(Ok(may_read));
            }
        }
    }

    /// Waits for the kernel to take what waits, then puts the orders of the lane. Says whether there were some.
    fn write_orders(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        let Self { hub, conn, life, .. } = self;
        let mut line = conn.line();
        ready!(line.socket.poll_flush(cx)).map_err(|_| End::Gone)?;
        let Some(first) = line.next_order() else { return Poll::Ready(Ok(false)) };
        let mut next = Some(first);
        let ended = ws::with_scratch(|batch| {
            let mut ended = Ok(true);
            while let Some(order) = next.take() {
                match order {
                    Order::Frame(text) => frame::text(batch, &text),
                    Order::Ping => frame::ping(batch),
                    Order::Welcome(cell, text) => {
                        frame::text(batch, &text);
                        hub.admitted(conn.since_greeted_ms(hub.now()));
                        *life = Life::Serving(Serving::begin(cell));
                    }
                    Order::Close(code, why) => {
                        ended = Err(End::Close(code, why));
                        break;
                    }
                }
                next = line.next_order();
            }
            line.socket.put(batch);
            ended
        });
        Poll::Ready(ended)
    }
}

/// Puts messages, behind an ack if one is due. Says whether that was all, and whether more may be read.
fn write_messages(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving) -> (bool, bool) {
    let cell = serving.cell.clone();
    let mut inner = cell.lock();
    app::relay(hub, &mut inner);
    let (taken, has_room) = inner.upstream(hub);
    if taken.is_none() {
        // Frozen: nothing is acked before it thaws, and a moment that has passed would be waited for in vain.
        serving.ack_at = None;
    }
    let ack = taken.filter(|taken| is_ack_due(hub, serving, *taken));
    let mut before = Vec::new();
    if let Some(taken) = ack {
        frame::text(&mut before, &ServerFrame::Ack { received: taken }.encode());
    }
    let pumped = conn.pump(hub, &mut inner, By::Task, &before);
    if let (Some(taken), Pumped::Done | Pumped::More) = (ack, pumped) {
        (serving.acked, serving.ack_at) = (taken, None);
    }
    let listens = match inner.session.listens_to(conn.id) {
        Receipt::Counted => true,
        // Frozen: what the client sends waits in the socket. Deaf: a close is on its way in the lane.
        Receipt::Hold | Receipt::Deaf => false,
    };
    (pumped == Pumped::Done, listens && has_room && serving.held.is_none())
}

/// What the app has taken is acked at once after so many messages, or if the client waits for it; else after a short time.
fn is_ack_due(hub: &Hub, serving: &mut Serving, taken: Offset) -> bool {
    let fresh = taken.since(serving.acked);
    if fresh == 0 {
        serving.ack_at = None;
        return false;
    }
    let limits = &hub.config.limits;
    if fresh >= limits.ack_messages || serving.acked < serving.ack_asked {
        return true;
    }
    let now = Instant::now();
    now >= *serving.ack_at.get_or_insert_with(|| now + Duration::from_millis(limits.ack_ms))
}

/// A message that came when the session had just frozen is offered again.
fn retry_held(hub: &Arc<Hub>, conn: &Conn, serving: &mut Serving) -> Result<(), End> {
    match serving.held.take().map(|held| *held) {
        None => Ok(()),
        Some(Held::App(message)) => reading::take_message(hub, conn, serving, message).map(|_| ()),
        Some(Held::Frame(json)) => reading::take_frame(hub, conn, serving, &json).map(|_| ()),
    }
}
