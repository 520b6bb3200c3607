//! The sockets that the hub dials, one per session.
//!
//! On `/kitchen` (and any path under it) JSON texts pass. From the guest: `{"order":"soup"}`, `{"pick_up":3}`. To the
//! guest: `{"type":"board",…}` once per socket, `{"type":"ticket",…}` per change, `{"type":"picked_up",…}` and
//! `{"type":"refused",…}`. On `/ledger` the load tool counts, see [`crate::ledger`].

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Kitchen;
use crate::board::{PackedBoard, Refusal, TicketView};
use crate::guests::Serving;
use crate::ledger::Line;

/// How many bytes a message from a guest may have.
const MESSAGE_MAX_BYTES: usize = 4 * 1024;
/// The buffer that each socket reads into. Small, for there may be thousands.
const READ_BUFFER_BYTES: usize = 1024;
/// How much may wait in a socket that the hub does not read, in bytes; after that we wait with it.
const WRITE_BUFFER_MAX_BYTES: usize = 64 * 1024;
/// How long a hub may leave a socket unread before we give the socket up.
const SEND_WAIT: Duration = Duration::from_secs(30);
/// How long we wait for our answer to a close to be written.
const CLOSE_WAIT: Duration = Duration::from_millis(250);
/// The close code of a socket whose session is served by another one.
const REPLACED: u16 = 4000;

/// What a guest says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Ask {
    /// Write a ticket.
    Order(String),
    /// Take a ready ticket off the board.
    PickUp(u32),
}

/// What a guest hears.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Tell<'a> {
    /// The whole board; first on each socket.
    Board {
        /// Which instance serves the session now.
        kitchen: &'a str,
        /// The id of the hub in front of it, if it said so.
        hub: Option<String>,
        /// False when the hub came back with a session that this kitchen knows nothing of.
        remembered: bool,
        tickets: &'a [TicketView],
        picked_up: u32,
    },
    /// One ticket is new, or has become something else.
    Ticket { ticket: &'a TicketView },
    /// A ticket is gone.
    PickedUp { id: u32, picked_up: u32 },
    /// Something was not done.
    Refused { why: &'a str, order: Option<&'a str> },
}

impl Tell<'_> {
    fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and strings are always JSON")
    }
}

/// A socket has to end: it broke, was closed, or its session is elsewhere.
struct Over;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// `/kitchen`: orders and tickets.
pub(crate) async fn kitchen(State(kitchen): State<Kitchen>, headers: HeaderMap, upgrade: Upgrade) -> Response {
    let name = kitchen.settings.name.clone();
    accept(&kitchen, &headers, upgrade, async move |mut socket, serving, remembered| {
        if let Err(Over) = wait_on(&mut socket, &serving, &name, remembered).await {
            close(socket, serving).await;
        }
    })
}

/// `/ledger`: numbers.
pub(crate) async fn ledger(State(kitchen): State<Kitchen>, headers: HeaderMap, upgrade: Upgrade) -> Response {
    let every = Duration::from_millis(kitchen.settings.ledger_push_ms);
    accept(&kitchen, &headers, upgrade, async move |mut socket, serving, _| {
        if let Err(Over) = count(&mut socket, &serving, every).await {
            close(socket, serving).await;
        }
    })
}

/// Takes the session's place before the upgrade is answered, so that a `moving` right behind it finds a socket to wait
/// for.
fn accept<F, Fut>(kitchen: &Kitchen, headers: &HeaderMap, upgrade: Upgrade, serve: F) -> Response
where
    F: FnOnce(WebSocket, Serving, bool) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(why) => return why.into_response(),
    };
    let Some(session) = header(headers, "tidegate-session") else {
        let why = "the header Tidegate-Session is missing: this address is for the hub, pages connect to the hub\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let (serving, known) = match kitchen.guests.serve(session) {
        Ok(served) => served,
        Err(full) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{full}\n")).into_response(),
    };
    let remembered = known || header(headers, "tidegate-resumed") != Some("1");
    tracing::debug!(session, remembered, "dialled");
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
        .max_message_size(MESSAGE_MAX_BYTES)
        .max_frame_size(MESSAGE_MAX_BYTES)
        .on_upgrade(move |socket| serve(socket, serving, remembered))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Serves one guest until the socket ends.
async fn wait_on(socket: &mut WebSocket, serving: &Serving, name: &str, remembered: bool) -> Result<(), Over> {
    let board = serving.with(|table, now_ms| {
        table.board.advance(now_ms);
        table.board.pack(now_ms)
    });
    let board = board.ok_or(Over)?;
    let PackedBoard { tickets, picked_up, .. } = &board;
    let hello = Tell::Board { kitchen: name, hub: serving.hub(), remembered, tickets, picked_up: *picked_up };
    say(socket, hello.text()).await?;
    loop {
        let changed = serving.changed();
        let due_ms = serving.with(|table, _| table.board.next_due_ms()).ok_or(Over)?;
        let cooked = async {
            match due_ms {
                Some(due_ms) => sleep(serving.until(due_ms)).await,
                None => std::future::pending().await,
            }
        };
        let mut texts = tokio::select! {
            heard = socket.recv() => answer(serving, hear(heard)?.as_deref())?,
            () = cooked => Vec::new(),
            () = changed => Vec::new(),
        };
        texts.extend(cook(serving)?);
        for text in texts {
            say(socket, text).await?;
        }
    }
}

/// Does what a guest asks and says what came of it.
fn answer(serving: &Serving, ask: Option<&str>) -> Result<Vec<String>, Over> {
    let Some(text) = ask else {
        return Ok(Vec::new());
    };
    let done = match serde_json::from_str(text) {
        Ok(Ask::Order(order)) => serving.with(|table, now_ms| {
            let id = table.board.order(&order, now_ms);
            let view = id.map(|id| table.board.view(id, now_ms).expect("the ticket was hung up a line above"));
            view.map(|ticket| Tell::Ticket { ticket: &ticket }.text()).unwrap_or_else(|why| refused(&why, Some(&order)))
        }),
        Ok(Ask::PickUp(id)) => serving.with(|table, now_ms| match table.board.pick_up(id) {
            Ok(()) => Tell::PickedUp { id, picked_up: table.board.pack(now_ms).picked_up }.text(),
            Err(why) => refused(&why, None),
        }),
        Err(_) => {
            let why = r#"not understood; say {"order":"soup"} or {"pick_up":1}"#;
            Some(Tell::Refused { why, order: None }.text())
        }
    };
    Ok(vec![done.ok_or(Over)?])
}

fn refused(why: &Refusal, order: Option<&str>) -> String {
    Tell::Refused { why: &why.to_string(), order }.text()
}

/// Lets the time pass and says which tickets changed.
fn cook(serving: &Serving) -> Result<Vec<String>, Over> {
    let told = serving.with(|table, now_ms| {
        let changed = table.board.advance(now_ms);
        let views = changed.into_iter().filter_map(|id| table.board.view(id, now_ms));
        views.map(|ticket| Tell::Ticket { ticket: &ticket }.text()).collect()
    });
    told.ok_or(Over)
}

/// Counts with one client until the socket ends. `every` zero: no pushes.
async fn count(socket: &mut WebSocket, serving: &Serving, every: Duration) -> Result<(), Over> {
    // Sockets dialled together push at different moments: each begins at its own sixteenth of the period.
    let share = u32::try_from(serving.socket() % 16).unwrap_or(0) + 1;
    let mut next = Instant::now() + every * share / 16;
    loop {
        let changed = serving.changed();
        serving.with(|_, _| ()).ok_or(Over)?;
        let text = tokio::select! {
            heard = socket.recv() => match hear(heard)?.as_deref().map(Line::parse) {
                None => continue,
                Some(None) => Some(r#"not understood; say "u <n>" with n from 1 on, or "sum""#.to_owned()),
                Some(Some(Line::Sum)) => serving.with(|table, _| table.ledger.sum()),
                Some(Some(Line::Up(n))) => serving.with(|table, _| {
                    table.ledger.note(n);
                    format!("d {} {n}", table.ledger.next_sent())
                }),
            },
            () = sleep_until(next), if !every.is_zero() => {
                next = Instant::now() + every;
                serving.with(|table, _| format!("d {} 0", table.ledger.next_sent()))
            }
            () = changed => continue,
        };
        say(socket, text.ok_or(Over)?).await?;
    }
}

/// A text from the hub, nothing for what is not for us, or the end of the socket.
fn hear(heard: Option<Result<Message, axum::Error>>) -> Result<Option<String>, Over> {
    match heard {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Over),
    }
}

async fn say(socket: &mut WebSocket, text: String) -> Result<(), Over> {
    match timeout(SEND_WAIT, socket.send(Message::Text(text.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Over),
    }
}

/// Ends the socket: a close that came is answered first, and only then is the place given up, so that `moving` is
/// answered when everything is read and everything is written.
async fn close(mut socket: WebSocket, serving: Serving) {
    if serving.with(|_, _| ()).is_none() {
        let frame = CloseFrame { code: REPLACED, reason: "another socket serves this session".into() };
        // The other end may be gone already, and then there is nobody to tell.
        let _ = timeout(CLOSE_WAIT, socket.send(Message::Close(Some(frame)))).await;
    }
    let read_to_end = async { while let Some(Ok(_)) = socket.recv().await {} };
    // Over time: the hub does not take our answer, and the state is complete without it.
    let _ = timeout(CLOSE_WAIT, read_to_end).await;
    drop(serving);
}
