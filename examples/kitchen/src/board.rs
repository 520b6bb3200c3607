//! The board over the stoves: tickets that wait, cook and are ready. Pure: the time is handed in, in milliseconds
//! since whatever moment the caller chose. Away from the board (in a packed state) no time passes for a ticket.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::menu;

/// How many tickets cook at the same time.
pub const BURNERS: usize = 2;
/// How many tickets may hang on one board; the next order is refused until one is picked up.
pub const TICKETS_MAX: usize = 48;
/// How long the text of an order may be, in characters.
pub const ORDER_MAX_CHARS: usize = 80;

/// One ticket: what was ordered and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ticket {
    id: u32,
    order: String,
    cook_ms: u32,
    stage: Stage,
}

/// The life of a ticket.
///
/// ```text
///   order ──► Queued ──a burner is free──► Cooking ──its time is over──► Ready ──picked up──► (gone)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a burner.
    Queued,
    /// On a burner until this moment.
    Cooking { ready_at_ms: u64 },
    /// Waits to be picked up.
    Ready,
}

/// Where a ticket stands, as told to the page and kept in the packed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Waits for a burner.
    Queued,
    /// On a burner.
    Cooking,
    /// Waits to be picked up.
    Ready,
}

/// A ticket as others see it: free of clocks, so it can travel to the page and to another instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketView {
    /// Its number, counted per session from 1.
    pub id: u32,
    /// What was ordered, as typed.
    pub order: String,
    /// How far it is.
    pub state: Step,
    /// How long the dish takes in all, in milliseconds.
    pub cook_ms: u32,
    /// How long it still needs on a burner, in milliseconds.
    pub remaining_ms: u32,
}

/// Why the board did not take something. The text is shown to the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing but blanks was ordered.
    #[error("the order is empty; type what you would like, for example soup")]
    Empty,
    /// The text of the order is too long.
    #[error("the order has {chars} characters; at most {ORDER_MAX_CHARS} fit on a ticket")]
    TooLong {
        /// How long it is.
        chars: usize,
    },
    /// No room on the board.
    #[error("the board is full with {TICKETS_MAX} tickets; pick up a ready one first")]
    Full,
    /// There is no such ticket, or it is not ready.
    #[error("ticket {id} is not ready to be picked up")]
    NotReady {
        /// The number that was asked for.
        id: u32,
    },
}

/// All tickets of one session.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Board {
    last_id: u32,
    picked_up: u32,
    tickets: VecDeque<Ticket>,
}

/// A board on its way: what [`Board::pack`] makes and [`PackedBoard::unpack`] takes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PackedBoard {
    /// The number of the newest ticket ever.
    pub last_id: u32,
    /// How many were picked up.
    pub picked_up: u32,
    /// What hangs there, oldest first.
    pub tickets: Vec<TicketView>,
}

impl Board {
    /// Takes an order and returns the number of its ticket. Starts it at once when a burner is free.
    ///
    /// # Errors
    /// [`Refusal`] when the text is empty or too long, or the board is full; nothing has changed then.
    pub fn order(&mut self, text: &str, now_ms: u64) -> Result<u32, Refusal> {
        let order: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "");
        let chars = order.chars().count();
        if order.is_empty() {
            return Err(Refusal::Empty);
        }
        if chars > ORDER_MAX_CHARS {
            return Err(Refusal::TooLong { chars });
        }
        if self.tickets.len() >= TICKETS_MAX {
            return Err(Refusal::Full);
        }
        self.last_id += 1;
        let cook_ms = menu::cook_ms(&order);
        self.tickets.push_back(Ticket { id: self.last_id, order, cook_ms, stage: Stage::Queued });
        self.light_burners(now_ms);
        Ok(self.last_id)
    }

    /// Takes a ready ticket off the board.
    ///
    /// # Errors
    /// [`Refusal::NotReady`] when there is no such ticket or it still waits or cooks.
    pub fn pick_up(&mut self, id: u32) -> Result<(), Refusal> {
        let at = self.tickets.iter().position(|ticket| ticket.id == id && ticket.stage == Stage::Ready);
        let at = at.ok_or(Refusal::NotReady { id })?;
        self.tickets.remove(at);
        self.picked_up += 1;
        Ok(())
    }

    /// Lets the time pass up to `now_ms` and returns the numbers of the tickets that changed, in the order of their
    /// changes. A ticket that follows on a burner starts when the one before it was ready, however late we are asked.
    pub fn advance(&mut self, now_ms: u64) -> Vec<u32> {
        let mut changed = Vec::new();
        while let Some((at, ready_at_ms)) = self.next_ready().filter(|(_, ready_at_ms)| *ready_at_ms <= now_ms) {
            self.tickets[at].stage = Stage::Ready;
            changed.push(self.tickets[at].id);
            changed.extend(self.light_burners(ready_at_ms));
        }
        changed
    }

    /// When [`advance`](Self::advance) will next have something to do, if ever.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.next_ready().map(|(_, ready_at_ms)| ready_at_ms)
    }

    /// One ticket as it stands at `now_ms`, if it still hangs there.
    pub fn view(&self, id: u32, now_ms: u64) -> Option<TicketView> {
        self.tickets.iter().find(|ticket| ticket.id == id).map(|ticket| ticket.view(now_ms))
    }

    /// The whole board as it stands at `now_ms`: to show it, or to send it elsewhere.
    pub fn pack(&self, now_ms: u64) -> PackedBoard {
        PackedBoard {
            last_id: self.last_id,
            picked_up: self.picked_up,
            tickets: self.tickets.iter().map(|ticket| ticket.view(now_ms)).collect(),
        }
    }

    /// The ticket that is ready next: its place and the moment. On a tie the older one.
    fn next_ready(&self) -> Option<(usize, u64)> {
        let cooking = self.tickets.iter().enumerate().filter_map(|(at, ticket)| match ticket.stage {
            Stage::Cooking { ready_at_ms } => Some((at, ready_at_ms)),
            Stage::Queued | Stage::Ready => None,
        });
        cooking.min_by_key(|(at, ready_at_ms)| (*ready_at_ms, *at))
    }

    /// Puts waiting tickets on free burners at this moment; returns their numbers.
    fn light_burners(&mut self, at_ms: u64) -> Vec<u32> {
        let busy = self.tickets.iter().filter(|ticket| matches!(ticket.stage, Stage::Cooking { .. })).count();
        let waiting = self.tickets.iter_mut().filter(|ticket| ticket.stage == Stage::Queued);
        let started = waiting.take(BURNERS.saturating_sub(busy)).map(|ticket| {
            ticket.stage = Stage::Cooking { ready_at_ms: at_ms + u64::from(ticket.cook_ms) };
            ticket.id
        });
        started.collect()
    }
}

impl Ticket {
    fn view(&self, now_ms: u64) -> TicketView {
        let (state, remaining_ms) = match self.stage {
            Stage::Queued => (Step::Queued, self.cook_ms),
            Stage::Cooking { ready_at_ms } => {
                (Step::Cooking, u32::try_from(ready_at_ms.saturating_sub(now_ms)).unwrap_or(u32::MAX))
            }
            Stage::Ready => (Step::Ready, 0),
        };
        TicketView { id: self.id, order: self.order.clone(), state, cook_ms: self.cook_ms, remaining_ms }
    }
}

impl PackedBoard {
    /// Hangs the tickets up again: those that cooked cook on for what they still needed.
    pub fn unpack(self, now_ms: u64) -> Board {
        let tickets = self.tickets.into_iter().map(|view| Ticket {
            id: view.id,
            order: view.order,
            cook_ms: view.cook_ms,
            stage: match view.state {
                Step::Queued => Stage::Queued,
                Step::Cooking => Stage::Cooking { ready_at_ms: now_ms + u64::from(view.remaining_ms) },
                Step::Ready => Stage::Ready,
            },
        });
        let mut board = Board { last_id: self.last_id, picked_up: self.picked_up, tickets: tickets.collect() };
        board.light_burners(now_ms);
        board
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
