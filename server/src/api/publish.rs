//! `POST /v1/publish`: a message to a session, a user, a channel or everybody, answered when its owner
//! has numbered it.

use super::Api;
use super::input::{self, JsonBody, NoParams};
use super::problem::Refusal;
use super::repeats::{self, Ticket, Turn};
use crate::auth;
use crate::hub::calls::{Call, CallError};
use crate::message::Message;
use crate::peer::{self, FanOutcome};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use tidegate_protocol::control::{Payload, PublishAnswer, PublishRequest, Scope, Target};
use tidegate_protocol::id::SessionId;

/// How often a repeat waits for a first one that then was not done.
const TURNS_MAX: usize = 4;

/// `POST /v1/publish`.
pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    _: NoParams,
    body: JsonBody,
) -> Result<Json<PublishAnswer>, Refusal> {
    let request: PublishRequest = body.parse().map_err(|refusal| unreadable(&body, refusal))?;
    check_names(&request.to)?;
    let message = message(&request.payload, api.hub.config.limits.message_bytes)?;
    let Some(key) = &request.idempotency_key else {
        return run(&api, request.to, message, request.scope, None).await.map(Json);
    };
    let written = serde_json::to_vec(&request)
        .map_err(|error| Refusal::bad_request(format!("the body cannot be written again: {error}")))?;
    let fingerprint = repeats::fingerprint(&written);
    for _ in 0..TURNS_MAX {
        match api.repeats.turn(key, fingerprint)? {
            Turn::First(ticket) => return run(&api, request.to, message, request.scope, Some(ticket)).await.map(Json),
            Turn::Repeat(mut answer) => {
                // An error means that the first one was not done: this one may be the first now.
                if let Ok(kept) = answer.wait_for(Option::is_some).await {
                    return match kept.clone() {
                        Some(Ok(answer)) => Ok(Json(answer)),
                        Some(Err(owner)) => Err(unknown_outcome(owner)),
                        None => Err(Refusal::busy("the first publish with this key is under way", 1_000)),
                    };
                }
            }
        }
    }
    Err(Refusal::busy("publishes with this key fail one after the other", 1_000))
}

/// A session id that is no id is a session that nobody knows; everything else is a bad request.
fn unreadable(body: &JsonBody, refusal: Refusal) -> Refusal {
    #[derive(Deserialize)]
    struct Named {
        to: To,
    }
    #[derive(Deserialize)]
    struct To {
        session: String,
    }
    let named = serde_json::from_slice::<Named>(&body.0).ok();
    named.and_then(|named| input::session(&named.to.session).err()).unwrap_or(refusal)
}

fn check_names(to: &Target) -> Result<(), Refusal> {
    let (field, name) = match to {
        Target::All | Target::Session(_) => return Ok(()),
        Target::User(name) => ("to.user", name),
        Target::Channel(name) => ("to.channel", name),
    };
    auth::check_name(name).map_err(|right| {
        Refusal::bad_request(format!(
            "`{field}` has {} bytes, {:?}: give {right}",
            name.len(),
            name.chars().take(40).collect::<String>()
        ))
    })
}

fn message(payload: &Payload, limit: u64) -> Result<Message, Refusal> {
    let message = match payload {
        Payload::Text(text) => Message::text(text),
        Payload::Json(json) => Message::text(json.get()),
        Payload::Base64(text) => {
            let bytes = STANDARD.decode(text).map_err(|error| {
                Refusal::bad_request(format!(
                    "`base64` cannot be read: {error}; give the standard alphabet with padding"
                ))
            })?;
            Message::binary(&bytes)
        }
    };
    let given = message.bytes().len() as u64;
    if given > limit {
        Err(Refusal::too_large("the message", given, limit, "--limit-message-bytes"))
    } else {
        Ok(message)
    }
}

/// Publishes in a task of its own: a caller that goes away in the middle must not leave a message stamped
/// here and never handed to the peers.
async fn run(
    api: &Arc<Api>,
    to: Target,
    message: Message,
    scope: Scope,
    ticket: Option<Ticket>,
) -> Result<PublishAnswer, Refusal> {
    let stopped = || Refusal::busy("this hub is stopping", 1_000);
    // As many as there may be connections: callers that go away and come back cannot pile up tasks.
    let permit = api.publishes.clone().acquire_owned().await.map_err(|_| stopped())?;
    let api = api.clone();
    let task = tokio::spawn(async move {
        let outcome = match to {
            Target::Session(session) => to_session(&api, session, message).await,
            to @ (Target::All | Target::User(_) | Target::Channel(_)) => Ok(to_many(&api, to, message, scope).await),
        };
        if let Some(ticket) = ticket {
            match &outcome {
                Ok(answer) => ticket.answered(Ok(answer.clone())),
                Err(CallError::Unreachable(owner)) => ticket.answered(Err(*owner)),
                // It was not done, so a repeat may do it.
                Err(CallError::Unknown(_) | CallError::Busy { .. } | CallError::TooMuch { .. }) => drop(ticket),
            }
        }
        drop(permit);
        outcome
    });
    Ok(task.await.map_err(|_| stopped())??)
}

async fn to_session(api: &Api, session: SessionId, message: Message) -> Result<PublishAnswer, CallError> {
    api.hub.call(session, Call::Publish(message), true).await?;
    Ok(PublishAnswer { sessions: 1, hubs: 1, unreachable: Vec::new() })
}

async fn to_many(api: &Api, to: Target, message: Message, scope: Scope) -> PublishAnswer {
    let hub = &api.hub;
    match scope {
        Scope::Fleet => {
            let FanOutcome { sessions, hubs, unreachable } = peer::publish_everywhere(hub, to, message).await;
            PublishAnswer { sessions, hubs, unreachable: unreachable.iter().map(ToString::to_string).collect() }
        }
        Scope::Hub => {
            let mut fan = hub.fan.lock();
            let entry = fan.stamp_staying(to, message);
            PublishAnswer { sessions: fan.apply(hub, entry) as u64, hubs: 1, unreachable: Vec::new() }
        }
    }
}

/// The first one with this key was passed to a hub that did not answer. It is not sent again: it may have
/// arrived, and the key is the promise that nothing doubles.
fn unknown_outcome(owner: tidegate_protocol::id::HubId) -> Refusal {
    let detail = format!(
        "the first publish with this idempotency_key went to hub {owner}, which did not answer: whether it arrived is not known, and a repeat \
         is not sent, so that it cannot double; to send it again in any case, use a new key"
    );
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "owner-silent", "The session's hub did not answer", detail)
        .with("hub", owner.to_string())
}
