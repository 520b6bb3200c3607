//! `GET /v1/hub`: what this hub says of itself.

use super::Api;
use super::input::NoParams;
use axum::Json;
use axum::extract::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_protocol::control::HubInfo;

/// `GET /v1/hub`.
pub(super) async fn describe(State(api): State<Arc<Api>>, _: NoParams) -> Json<HubInfo> {
    let hub = &api.hub;
    let held = hub.all_cells().iter().filter(|cell| super::sessions::is_held(cell.lock().session.state())).count();
    let mut limits = hub.config.limits;
    // As they hold within the descriptors of this process.
    limits.sessions = hub.capacity.sessions;
    limits.half_open = hub.capacity.half_open;
    limits.http_connections = hub.capacity.http;
    limits.private_connections = hub.capacity.private;
    let limits = serde_json::to_value(limits).and_then(serde_json::from_value::<BTreeMap<String, u64>>);
    Json(HubInfo {
        id: hub.id,
        incarnation: hub.incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: hub.drain.hub_state(),
        public_url: hub.peers.own_public_url().map(str::to_owned),
        sessions: (held + hub.store.stats().parked) as u64,
        connections: hub.connection_count() as u64,
        room: hub.places(),
        peers: hub.peers.describe(),
        parked_elsewhere: hub.peers.parked_elsewhere(),
        limits: limits.expect("every limit is a whole number under its name"),
    })
}
