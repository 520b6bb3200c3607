//! The private API: what apps, the trigger and operators call. The driver of each call lives elsewhere;
//! here requests are judged and answers put into words.
//!
//! ```text
//!   accept (serve.rs) ──► Host, token (guard.rs) ──► content type ──► the call ──► JSON, or a problem
//! ```

mod body;
mod drain;
mod guard;
mod health;
mod hub;
mod input;
mod problem;
mod publish;
mod repeats;
mod serve;
mod sessions;
#[cfg(test)]
mod tests;
mod words;

pub use serve::serve;

use crate::config::{Config, SettingError};
use crate::hub::Hub;
use crate::keys::PrivateToken;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use http::{Method, StatusCode, Uri};
use problem::Refusal;
use repeats::Repeats;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the calls share.
#[derive(Debug)]
struct Api {
    hub: Arc<Hub>,
    /// What callers must show, if anything.
    token: Option<PrivateToken>,
    repeats: Arc<Repeats>,
    /// Publishes under way.
    publishes: Arc<Semaphore>,
}

/// Reads the bearer token of the private API, if one is configured.
///
/// # Errors
/// The file cannot be read or holds no token; names the option and the file.
pub fn token(config: &Config) -> Result<Option<PrivateToken>, SettingError> {
    config.private_token_file.as_deref().map(PrivateToken::from_file).transpose()
}

/// The routes of the private listener. `token`: what callers must show.
pub fn router(hub: Arc<Hub>, token: Option<PrivateToken>) -> Router {
    let limits = &hub.config.limits;
    let api = Arc::new(Api {
        repeats: Repeats::new(limits.idempotency_keys as usize),
        publishes: Arc::new(Semaphore::new(hub.capacity.private as usize)),
        token,
        hub,
    });
    let json = Router::new()
        .route("/v1/publish", post(publish::publish))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/{id}", get(sessions::get).delete(sessions::evict))
        .route("/v1/sessions/{id}/channels/{name}", put(sessions::join).delete(sessions::leave))
        .route("/v1/drain/plan", post(drain::plan))
        .route("/v1/drain", post(drain::start).get(drain::status).delete(drain::cancel))
        .route("/v1/drain/continue", post(drain::go_on))
        .route("/v1/drain/report", get(drain::report))
        .route("/v1/hub", get(hub::describe))
        .route("/healthz/live", get(health::live))
        .route("/healthz/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route_layer(from_fn_with_state(api.clone(), guard::json_only));
    let opaque = Router::new()
        .route("/v1/sessions/{id}/state", get(sessions::state).put(sessions::set_state))
        .route_layer(from_fn_with_state(api.clone(), guard::opaque_only));
    let peers = crate::peer::routes().with_state(api.hub.clone());
    json.merge(opaque)
        .merge(peers)
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(from_fn_with_state(api.clone(), guard::admit))
        .with_state(api)
}

async fn unknown_path(uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(120).collect();
    let clients = if path == crate::public::CONNECT_PATH { "; clients connect to the --public listener" } else { "" };
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown-path",
        "Unknown path",
        format!(
            "there is no {path} here: calls begin with /v1/, health is /healthz/live and /healthz/ready, numbers are /metrics{clients}"
        ),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path: String = uri.path().chars().take(120).collect();
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong-method",
        "Method not allowed",
        format!("{path} does not take {method}: see the Allow header"),
    )
}
