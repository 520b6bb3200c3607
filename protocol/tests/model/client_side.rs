//! The client machine, driven: what it is told, and what it does about it.

use crate::ledger::Fault;
use crate::wire::{Down, Note, Pipe, Up};
use crate::world::{LATE, World, settings};
use tidegate_protocol::client::{Action as Do, Conn, Event as Input, Report};
use tidegate_protocol::frame::ClientFrame;
use tidegate_protocol::id::ConnectionId;
use tidegate_protocol::position::{Millis, Offset};

impl World {
    pub fn connect(&mut self, hub: usize) {
        let Some(id) = self.client.dialling.take() else { return };
        self.pipes.push(Pipe::new(id, hub));
        self.client(Input::Opened(Conn(id)));
    }

    pub fn client_timer(&mut self) {
        if self.is_trying() {
            self.budget.impatience = self.budget.impatience.saturating_sub(1);
        } else {
            self.budget.dials = self.budget.dials.saturating_sub(1);
        }
        self.client(Input::Timer);
    }

    /// One event for the client machine, and what it does about it.
    pub fn client(&mut self, event: Input<Note>) {
        for action in self.client.machine.step(&settings(), Millis(0), 0, event) {
            match action {
                Do::Dial { conn, .. } => self.client.dialling = Some(conn.0),
                Do::Send(conn, frame) => {
                    if let ClientFrame::Hello(hello) = &frame {
                        self.client.hellos.push(hello.clone());
                    }
                    self.client_sends(conn, Up::Frame(frame));
                }
                Do::Message(conn, message) => self.client_sends(conn, Up::Message(message)),
                Do::Close(conn, code, _) => {
                    if self.client.dialling == Some(conn.0) {
                        self.client.dialling = None;
                    }
                    if let Some(pipe) = self.pipe_mut(ConnectionId(u64::from(conn.0))) {
                        pipe.client_closes(Up::Close(code));
                    }
                }
                Do::Deliver(message) => {
                    self.ledger.delivered += 1;
                    let right = message.number == self.ledger.delivered
                        && self.client.machine.received() >= Offset(u64::from(message.number));
                    self.ledger.expect(right, Fault::DeliveredOutOfOrder);
                }
                Do::Report(report) => self.report(&report),
            }
        }
    }

    pub fn client_sends(&mut self, conn: Conn, item: Up) {
        if let Some(pipe) = self.pipe_mut(ConnectionId(u64::from(conn.0))) {
            pipe.send(item);
        }
    }

    pub fn report(&mut self, report: &Report<Note>) {
        match report {
            Report::Reset { .. } => self.client.over = true,
            Report::Ended { code, .. } => {
                self.client.over = true;
                // Once the session was replaced, the old one's closes are no matter.
                let excused = self.ledger.may_end() || self.ledger.robbed;
                self.ledger.expect(excused, Fault::ClientEnded(*code));
            }
            Report::Gap { .. } => self.ledger.blame(Fault::FalseGap),
            _ => {}
        }
        if self.client.over {
            for pipe in self.pipes.iter_mut().filter(|pipe| pipe.client_open) {
                pipe.client_closes(Up::Cut);
            }
        }
    }

    pub fn client_reads(&mut self, id: u32) {
        let Some(pipe) = self.pipe_mut(ConnectionId(u64::from(id))) else { return };
        let Some(item) = pipe.down.pop_front() else { return };
        if matches!(item, Down::Close(_) | Down::Cut) {
            pipe.client_open = false;
            pipe.down.clear();
            // A hub that closed does not read any more; one that was cut off still notices.
            if matches!(item, Down::Close(_)) && pipe.hub_open {
                pipe.up.push_back(Up::Cut);
            }
        }
        if id >= LATE {
            return self.thief_reads(id, &item);
        }
        let conn = Conn(id);
        match item {
            Down::Frame(frame) => self.client(Input::Frame(conn, *frame)),
            Down::Message(message) => self.client(Input::App(conn, message)),
            Down::Close(code) => self.client(Input::Closed(conn, Some(code))),
            Down::Cut => self.client(Input::Closed(conn, None)),
        }
    }

    /// Whether an attempt of the client is under way.
    pub fn is_trying(&self) -> bool {
        let live = self.client.machine.connection();
        let under_way = |pipe: &Pipe| pipe.client_open && pipe.id < LATE && live != Some(Conn(pipe.id));
        self.client.dialling.is_some() || self.pipes.iter().any(under_way)
    }
}
