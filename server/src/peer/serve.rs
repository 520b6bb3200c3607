//! What other hubs ask of this one: taken if it is signed, fresh and for us, answered with a signature.

use super::calling;
use super::post::{CAUSE, CAUSE_CLOCK, CAUSE_KEY, base_url, json};
use super::rounds;
use super::standing::{By, Heard};
use super::wire::{self, Calling, Goodbye, Hello, Messages, OnDisk, Publish, Published, Taken};
use crate::fault::{self, Place};
use crate::hub::Hub;
use crate::hub::calls::{CallError, Reply};
use crate::hub::fan::Applied;
use crate::keys::PeerAuthError;
use crate::message::Message;
use crate::telemetry::Rejected;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use tidegate_protocol::control::Problem;
use tidegate_protocol::id::{HubId, Incarnation};
use tidegate_protocol::peer::PeerMessage;

/// The peers' routes on the private listener. They ask for no bearer token: each call is signed with
/// the cluster key. Mount them where the path stays as it is, for the path is signed, too.
pub fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route(wire::HELLO, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, hello)))
        .route(wire::MESSAGES, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, messages)))
        .route(wire::CALL, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, call)))
        .route(wire::PUBLISH, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, publish)))
        .route(wire::PARKED, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, on_disk)))
        .route(wire::GOODBYE, post(|State(hub): State<Arc<Hub>>, request: Request| believed(hub, request, goodbye)))
}

async fn believed<In, Out, Done>(
    hub: Arc<Hub>,
    request: Request,
    carry_out: impl FnOnce(Arc<Hub>, In) -> Done,
) -> Response
where
    In: DeserializeOwned,
    Out: Serialize,
    Done: Future<Output = Result<Out, Problem>>,
{
    let (head, body) = request.into_parts();
    let peers = &hub.peers;
    let path = head.uri.path_and_query().map_or(head.uri.path(), |path| path.as_str());
    // Before anything of the body is read: who is not believed fills no memory.
    let believed = match peers.post.auth().verify_request(&head.method, path, &head.headers, peers.post.unix_ms()) {
        Ok(believed) => believed,
        Err(error) => return not_believed(&hub, &error),
    };
    let limit = peers.post.body_bytes_max();
    let Ok(body) = to_bytes(body, limit).await else {
        return refused(&Problem::new(
            413,
            "too-large",
            "Too large",
            format!(
                "expected a body of at most {limit} bytes (--limit-peer-body-bytes), within {} ms (--limit-body-time)",
                hub.config.limits.body_ms
            ),
        ));
    };
    if let Err(error) = believed.fits(&body) {
        return not_believed(&hub, &error);
    }
    let (status, kind, body) = match serde_json::from_slice::<In>(&body) {
        Ok(asked) => match carry_out(hub.clone(), asked).await {
            Ok(answer) => (StatusCode::OK, "application/json", json(&answer)),
            Err(problem) => problem_parts(&problem),
        },
        Err(error) => {
            problem_parts(&Problem::new(400, "malformed", "Malformed", format!("not what a hub posts here: {error}")))
        }
    };
    let mut response = answer(status, kind, body.clone());
    peers.post.auth().sign_response(believed.nonce, status, &body, peers.post.unix_ms(), response.headers_mut());
    response
}

fn not_believed(hub: &Hub, error: &PeerAuthError) -> Response {
    hub.metrics.rejected.of(Rejected::PeerCall).increment(1);
    let (status, title) = match error {
        PeerAuthError::Addressee(_) => (421, "Misdirected"),
        PeerAuthError::Header(_) | PeerAuthError::Clock { .. } | PeerAuthError::Signature | PeerAuthError::Replay => {
            (401, "Not believed")
        }
    };
    if status == 401 && hub.peers.is_news("calls", sort(error)) {
        tracing::warn!(%error, "a call to the peer link is not believed (told once per reason; tidegate_rejected_total counts them)");
    }
    let problem = Problem::new(status, "peer-auth", title, error.to_string());
    refused(&match error {
        PeerAuthError::Signature => {
            hub.peers.stranger_called();
            problem.with(CAUSE, CAUSE_KEY)
        }
        PeerAuthError::Clock { .. } => problem.with(CAUSE, CAUSE_CLOCK),
        PeerAuthError::Header(_) | PeerAuthError::Replay | PeerAuthError::Addressee(_) => problem,
    })
}

fn sort(error: &PeerAuthError) -> u16 {
    match error {
        PeerAuthError::Header(_) => 0,
        PeerAuthError::Clock { .. } => 1,
        PeerAuthError::Signature => 2,
        PeerAuthError::Replay => 3,
        PeerAuthError::Addressee(_) => 4,
    }
}

fn problem_parts(problem: &Problem) -> (StatusCode, &'static str, Bytes) {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Problem::CONTENT_TYPE, json(problem))
}

fn refused(problem: &Problem) -> Response {
    let (status, kind, body) = problem_parts(problem);
    answer(status, kind, body)
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Whether a call is for this run. One that was recorded on its way to an earlier run could be played back to this
/// one, which does not remember it; the earlier run's own memory is what refuses it there.
fn meant_for_this_run(hub: &Hub, to: Option<Incarnation>) -> Result<(), Problem> {
    let Some(other) = to.filter(|to| *to != hub.incarnation) else { return Ok(()) };
    let detail = format!("meant for run {other} of this hub, and this is run {}", hub.incarnation);
    Err(Problem::new(409, "other-run", "Other run", detail))
}

/// A word counts only from a run that this hub has met: else neither knows what the other one knows. And only if
/// it is for this run; hubs of the release before do not say for which run their calls are.
fn speaker(hub: &Hub, from: HubId, run: Incarnation, to: Option<Incarnation>) -> Result<(), Problem> {
    meant_for_this_run(hub, to)?;
    let mut book = hub.peers.book();
    let known = book.table.run_of(from);
    if known == Some(run) {
        if to.is_none() && book.table.names_runs(from) {
            let detail = format!("hub {from} says for which run its calls are, and this one does not");
            return Err(Problem::new(409, "no-run", "No run", detail));
        }
        book.table.word(hub.peers.now(), from);
        return Ok(());
    }
    let known = known.map_or_else(|| "no run of it".to_owned(), |run| format!("run {run}"));
    Err(Problem::new(
        409,
        "not-met",
        "Not met",
        format!("hub {} knows {known} of hub {from}, not run {run}: say hello first", hub.id),
    ))
}

async fn hello(hub: Arc<Hub>, hello: Hello) -> Result<Hello, Problem> {
    let url = hello.peer_url.as_deref().and_then(base_url);
    match rounds::hear(&hub, &hello, By::Coming(url)).await {
        // Without a URL it is not known here; it learns who is.
        Heard::Taken(_) | Heard::NoWay => Ok(hub.peers.hello(&hub)),
        Heard::Over => Err(Problem::new(
            409,
            "over",
            "Over",
            format!("run {} of hub {} is over here", hello.incarnation, hello.from),
        )),
        Heard::Full => Err(Problem::new(503, "full", "Full", "this hub knows as many hubs as --limit-peers allows")),
    }
}

async fn messages(hub: Arc<Hub>, batch: Messages) -> Result<Taken, Problem> {
    speaker(&hub, batch.from, batch.incarnation, Some(batch.to))?;
    for message in &batch.messages {
        match serde_json::from_str::<PeerMessage<Message>>(message.get()) {
            Ok(message) => {
                fault::messages(Place::Received, [message.kind()]);
                hub.peer_said(batch.from, message);
            }
            // The next release may say what this one does not know; the machines live with loss.
            Err(error) => tracing::debug!(peer = %batch.from, %error, "a message that cannot be read was left out"),
        }
    }
    Ok(Taken { incarnation: hub.incarnation })
}

async fn call(hub: Arc<Hub>, calling: Calling) -> Result<Result<Reply, CallError>, Problem> {
    speaker(&hub, calling.from, calling.incarnation, calling.to)?;
    Ok(calling::carry_out(hub, calling).await)
}

async fn publish(hub: Arc<Hub>, batch: Publish) -> Result<Published, Problem> {
    speaker(&hub, batch.from, batch.incarnation, batch.to)?;
    if let Some(foreign) = batch.entries.iter().find(|entry| entry.origin != batch.incarnation) {
        let detail = format!("expected stamps of run {}, and one is of run {}", batch.incarnation, foreign.origin);
        return Err(Problem::new(400, "foreign-stamp", "Foreign stamp", detail));
    }
    let mut fan = hub.fan.lock();
    let applied: Vec<Applied> = batch.entries.into_iter().map(|entry| fan.apply(&hub, entry)).collect();
    drop(fan);
    let sessions = applied.iter().map(|one| one.sessions).collect();
    let (moving, came) = applied.into_iter().map(|one| (one.moving, one.came)).unzip();
    Ok(Published { sessions, moving, came })
}

async fn on_disk(hub: Arc<Hub>, said: OnDisk) -> Result<Taken, Problem> {
    speaker(&hub, said.from, said.incarnation, said.to)?;
    if said.first {
        hub.elsewhere.back(said.from);
    }
    hub.parked_at(said.from, &said.sessions);
    Ok(Taken { incarnation: hub.incarnation })
}

async fn goodbye(hub: Arc<Hub>, goodbye: Goodbye) -> Result<Taken, Problem> {
    meant_for_this_run(&hub, goodbye.to)?;
    rounds::goodbye(&hub, goodbye.from, goodbye.incarnation, goodbye.parked).await;
    Ok(Taken { incarnation: hub.incarnation })
}
