//! Those who call the private API: triggers, and callers that publish, one call after the other.

use crate::chance::Chance;
use crate::machine::{Machine, PRIVATE_PORT};
use crate::net::resolve;
use crate::trace::Trace;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidegate_protocol::control::DrainReport;
use tidegate_protocol::id::SessionId;
use tokio::sync::mpsc;
use turmoil::net::TcpStream;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whom a publish is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    All,
    Session(SessionId),
    User(String),
    Channel(String),
}

/// What is asked of a hub.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Drain { hub: usize, policy: Value },
    Cancel { hub: usize },
    Report { hub: usize },
    Publish { hub: usize, to: To, key: bool },
    Join { hub: usize, session: SessionId, channel: String },
    Leave { hub: usize, session: SessionId, channel: String },
}

/// A publish and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) id: u64,
    /// Which hub was asked.
    pub(crate) hub: usize,
    pub(crate) to: To,
    pub(crate) asked_ms: u64,
    pub(crate) answered_ms: u64,
    /// The status and the body, if there was an answer.
    pub(crate) answer: Option<(u16, Value)>,
    /// Every hub that ran before and after had answered.
    pub(crate) everywhere: bool,
    /// It was said again to another process than the first time, which knows nothing of its key.
    pub(crate) may_double: bool,
}

/// What was published, and the reports of drains.
#[derive(Debug, Default)]
pub(crate) struct Records {
    published: Mutex<Vec<Published>>,
    reports: Mutex<Vec<(usize, DrainReport)>>,
}

impl Records {
    pub(crate) fn published(&self) -> MutexGuard<'_, Vec<Published>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reports(&self) -> MutexGuard<'_, Vec<(usize, DrainReport)>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One caller: carries out its orders one after the other.
pub(crate) async fn caller(
    number: usize,
    mut orders: mpsc::Receiver<Order>,
    records: Arc<Records>,
    machines: Vec<Arc<Machine>>,
    trace: Trace,
    mut chance: Chance,
) {
    let mut count = 0;
    while let Some(order) = orders.recv().await {
        let name = format!("caller-{number}");
        trace.note(&name, format_args!("{order:?}"));
        match order {
            Order::Drain { hub, policy } => {
                let answer = call(hub, Method::POST, "/v1/drain", Some(policy)).await;
                trace.note(&name, format_args!("drain of hub {hub}: {}", status_of(&answer)));
            }
            Order::Cancel { hub } => {
                let answer = call(hub, Method::DELETE, "/v1/drain", None).await;
                trace.note(&name, format_args!("cancel at hub {hub}: {}", status_of(&answer)));
            }
            Order::Report { hub } => {
                if let Some((200, body)) = call(hub, Method::GET, "/v1/drain/report", None).await {
                    match serde_json::from_value(body) {
                        Ok(report) => records.reports().push((hub, report)),
                        Err(error) => trace.fault(format_args!("a report that cannot be read: {error}")),
                    }
                }
            }
            Order::Publish { hub, to, key } => {
                count += 1;
                let id = number as u64 * 1_000_000 + count;
                let asked_ms = trace.now_ms();
                let key = key.then(|| format!("key-{id}-{}", chance.next()));
                let run = machines[hub].run_number();
                let running = || machines.iter().filter(|machine| machine.hub().is_some()).count() as u64;
                let before = running();
                let (answer, again) = publish(hub, id, &to, key).await;
                let may_double = again && machines[hub].run_number() > run;
                trace.note(&name, format_args!("publish {id} to {to:?}: {answer:?}"));
                let answered_ms = trace.now_ms();
                let hubs = answer.as_ref().and_then(|(_, body)| body["hubs"].as_u64());
                let everywhere = hubs == Some(before) && hubs == Some(running());
                records.published().push(Published {
                    id,
                    hub,
                    to,
                    asked_ms,
                    answered_ms,
                    answer,
                    everywhere,
                    may_double,
                });
            }
            Order::Join { hub, session, channel } => {
                let answer = call(hub, Method::PUT, &format!("/v1/sessions/{session}/channels/{channel}"), None).await;
                trace.note(&name, format_args!("join: {}", status_of(&answer)));
            }
            Order::Leave { hub, session, channel } => {
                let path = format!("/v1/sessions/{session}/channels/{channel}");
                let answer = call(hub, Method::DELETE, &path, None).await;
                trace.note(&name, format_args!("leave: {}", status_of(&answer)));
            }
        }
    }
}

/// The answer, and whether it was asked for twice.
async fn publish(hub: usize, id: u64, to: &To, key: Option<String>) -> (Option<(u16, Value)>, bool) {
    let (target, letter) = match to {
        To::All => (json!({ "all": true }), "pa"),
        To::Session(session) => (json!({ "session": session }), "ps"),
        To::User(user) => (json!({ "user": user }), "pu"),
        To::Channel(channel) => (json!({ "channel": channel }), "pc"),
    };
    let mut body = json!({ "to": target, "text": format!("{letter} {id}") });
    if let Some(key) = &key {
        body["idempotency_key"] = json!(key);
    }
    let answer = call(hub, Method::POST, "/v1/publish", Some(body.clone())).await;
    match answer {
        // With a key the caller may ask again: it must not double.
        None | Some((503, _)) if key.is_some() => (call(hub, Method::POST, "/v1/publish", Some(body)).await, true),
        answer => (answer, false),
    }
}

fn status_of(answer: &Option<(u16, Value)>) -> String {
    answer.as_ref().map_or_else(|| "no answer".to_owned(), |(status, _)| status.to_string())
}

/// One call over a connection of its own. Nothing: no answer came.
pub(crate) async fn call(hub: usize, method: Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
    tokio::time::timeout(PATIENCE, exchange(hub, method, path, body)).await.ok()?
}

async fn exchange(hub: usize, method: Method, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
    let host = format!("hub-{hub}");
    let tcp = TcpStream::connect((resolve(&host), PRIVATE_PORT)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.ok()?;
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::builder().method(method).uri(path).header("host", format!("{host}:{PRIVATE_PORT}"));
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let answer = sender.send_request(request.body(Full::new(body)).ok()?).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
