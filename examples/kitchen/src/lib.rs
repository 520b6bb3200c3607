//! A kitchen: a small stateful app that stands behind a Tidegate hub.
//!
//! Guests type orders, a board cooks them, and everything about a session lives in the memory of this process: the
//! hardest case for a deployment. What it takes for the session to go on elsewhere is in [`guests`] and `events`: pack
//! the table when the hub says `moving`, set it again when another hub says `resumed`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use axum::serve::ListenerExt as _;
use tokio::net::{TcpListener, TcpSocket};

pub mod board;
mod events;
pub mod guests;
pub mod ledger;
pub mod menu;
mod page;
mod socket;
pub mod table;

pub use page::{Sdk, SdkError};

/// How many dialled connections may wait to be accepted: a hub that takes over dials thousands at once.
const BACKLOG: u32 = 4096;
/// How often what nobody has come back for is forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What this kitchen is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, shown on the page.
    pub name: String,
    /// The public URL of the hub in front, told to the page.
    pub hub_url: String,
    /// How often the app pushes on `/ledger`, in milliseconds; 0: never.
    pub ledger_push_ms: u64,
    /// How many sessions it holds at most.
    pub sessions_max: usize,
}

/// What all handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Kitchen {
    guests: Arc<guests::Guests>,
    settings: Arc<Settings>,
    sdk: Arc<Sdk>,
}

/// Opens the listener, with room for a hub that dials thousands of sessions at once.
///
/// # Errors
/// When the address cannot be bound.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` completes. What is in memory is gone then: a hub that was drained before has everything.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    sdk: Sdk,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let guests = Arc::new(guests::Guests::new(settings.sessions_max));
    let kitchen = Kitchen { guests: Arc::clone(&guests), settings: Arc::new(settings), sdk: Arc::new(sdk) };
    let listener = listener.tap_io(|stream| {
        if let Err(why) = stream.set_nodelay(true) {
            tracing::debug!(%why, "a connection keeps small writes back");
        }
    });
    let sweep = async {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            guests.sweep();
        }
    };
    tokio::select! {
        served = axum::serve(listener, routes(kitchen)) => served?,
        () = sweep => {}
        () = stop => tracing::info!(sessions = guests.len(), "stopping; what is in memory goes with this process"),
    }
    Ok(())
}

fn routes(kitchen: Kitchen) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/style.css", get(page::style))
        .route("/js/{name}", get(page::module))
        .route("/config.json", get(page::config))
        .route("/sdk/{*path}", get(page::sdk))
        .route("/healthz", get(async || "ok\n"))
        .route("/tidegate/events", post(events::take).layer(DefaultBodyLimit::max(events::EVENT_MAX_BYTES)))
        .route("/kitchen", any(socket::kitchen))
        .route("/kitchen/{*rest}", any(socket::kitchen))
        .route("/ledger", any(socket::ledger))
        .route("/ledger/{*rest}", any(socket::ledger))
        .with_state(kitchen)
}

/// The address to listen on when none is given: this machine only, any free port.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
