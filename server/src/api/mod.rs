//! The private API.

use crate::hub::Hub;
use axum::Router;
use std::sync::Arc;

/// The routes of the private listener.
pub fn router(_hub: Arc<Hub>) -> Router {
    Router::new()
}

/// Serves the private API until the task is dropped.
pub async fn serve(hub: Arc<Hub>, listener: tokio::net::TcpListener, _tls: Option<crate::tls::TlsReloader>) {
    if let Err(error) = axum::serve(listener, router(hub)).await {
        tracing::error!(%error, "the private listener ended");
    }
}
