//! The plain hub that people would write with axum: the socket split in two, a task for each half, a
//! channel to the writing one, all defaults. No session, no resuming, no drain.
//!
//! It is here to be measured against: `tidegate-load compare … --peer baseline` starts it.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, post};
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages that wait for one client; a slow one loses what is beyond.
const QUEUE: usize = 64;

#[derive(Default)]
struct Clients {
    next: AtomicU64,
    all: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let clients = Arc::new(Clients::default());
    let routes = Router::new().route("/connect", any(connect)).route("/publish", post(publish)).with_state(clients);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    println!("{{\"event\":\"ready\",\"public\":\"{address}\",\"private\":\"{address}\"}}");
    axum::serve(listener, routes).await
}

async fn connect(upgrade: WebSocketUpgrade, State(clients): State<Arc<Clients>>) -> Response {
    upgrade.on_upgrade(|socket| serve(socket, clients))
}

async fn serve(socket: WebSocket, clients: Arc<Clients>) {
    let (mut write, mut read) = socket.split();
    let (to_client, mut outgoing) = mpsc::channel::<Message>(QUEUE);
    let id = clients.next.fetch_add(1, Ordering::Relaxed);
    clients.all.lock().unwrap_or_else(PoisonError::into_inner).insert(id, to_client);
    let writer = tokio::spawn(async move {
        while let Some(message) = outgoing.recv().await {
            if write.send(message).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = read.next().await {
        if matches!(message, Message::Close(_)) {
            break;
        }
    }
    clients.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    writer.abort();
}

async fn publish(State(clients): State<Arc<Clients>>, text: String) {
    for client in clients.all.lock().unwrap_or_else(PoisonError::into_inner).values() {
        // One that is too slow loses this message.
        let _ = client.try_send(Message::text(text.clone()));
    }
}
