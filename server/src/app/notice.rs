//! News of a drain, for every session's app.

use super::events::Kind;
use super::link;
use super::side::Stage;
use crate::hub::Hub;
use crate::hub::cell::{Cell, Inner};
use std::sync::Arc;
use tidegate_protocol::id::DrainId;
use tidegate_protocol::session::State;

/// Sessions that are told of a drain between two breaths.
const NOTIFY_BURST: usize = 256;

/// What every session's app is told of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This hub hands its sessions on.
    Drain {
        /// Which drain.
        drain: DrainId,
        /// The operator's word for it.
        reason: String,
        /// When it ends, in milliseconds from now.
        deadline_ms: u64,
    },
    /// It does not any more.
    Recalled {
        /// Which drain.
        drain: DrainId,
    },
}

/// Tells the app of every session that is served here. Best effort: a session whose queue is full, or
/// that is on the move, is left out.
pub fn notify_all(hub: &Arc<Hub>, notice: &Notice) {
    if hub.config.app_events.is_none() {
        return;
    }
    let kind = match notice.clone() {
        Notice::Drain { drain, reason, deadline_ms } => Kind::Drain { drain, reason, deadline_ms },
        Notice::Recalled { drain } => Kind::Recalled { drain },
    };
    let hub = hub.clone();
    tokio::spawn(async move {
        for (told, cell) in hub.all_cells().into_iter().enumerate() {
            notify(&hub, &cell, &kind);
            if told % NOTIFY_BURST == NOTIFY_BURST - 1 {
                tokio::task::yield_now().await;
            }
        }
    });
}

fn notify(hub: &Arc<Hub>, cell: &Arc<Cell>, kind: &Kind) {
    let mut inner = cell.lock();
    let Inner { session, app, .. } = &mut *inner;
    let (Some(side), State::Serving { .. }) = (app, session.state()) else { return };
    if side.events.is_full(hub) {
        tracing::debug!(session = %cell.id, "too many events wait for the app: it is not told of the drain");
        return;
    }
    match side.stage {
        Stage::Resting => {
            side.events.push(session, kind.clone());
            side.stage = Stage::Binding { resumed: true, alone: false };
            link::start(hub, cell, side, None);
        }
        Stage::Binding { .. } | Stage::Open => side.events.push(session, kind.clone()),
        Stage::Settling { .. } | Stage::Ending { .. } | Stage::Away => return,
    }
    side.bell.ring();
}
