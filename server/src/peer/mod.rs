//! Other hubs: who they are, what they say, and the link to them.

use crate::hub::calls::{Call, CallError, Reply};
use crate::message::Message;
use tidegate_protocol::id::{HubId, SessionId};
use tidegate_protocol::peer::PeerMessage;

/// The peers of this hub.
#[derive(Debug, Default)]
pub struct Peers {}

impl Peers {
    /// The peers that the settings name. `public` and `private` are the addresses that were bound.
    ///
    /// # Errors
    /// A setting that is wrong, such as a CA file that cannot be read.
    pub fn new(
        _config: &crate::config::Config,
        _keys: &crate::keys::ClusterKeys,
        _own: HubId,
        _incarnation: tidegate_protocol::id::Incarnation,
        _public: std::net::SocketAddr,
        _private: std::net::SocketAddr,
    ) -> Result<Self, crate::config::SettingError> {
        Ok(Self {})
    }
    /// Says goodbye to every peer, bounded in time.
    pub async fn goodbye(&self) {}
    /// Sends a message to a hub, sooner or later or never: the machines live with loss. Never blocks.
    pub fn say(&self, _to: HubId, _message: PeerMessage<Message>) {}
    /// Sends a message to every known hub.
    pub fn say_all(&self, _message: PeerMessage<Message>) {}
    /// Every other hub that is not forgotten, silent ones included.
    pub fn known(&self) -> Vec<HubId> {
        Vec::new()
    }
    /// Whether this hub once was known and is forgotten now (goodbye, or silent for too long).
    pub fn is_forgotten(&self, _hub: HubId) -> bool {
        false
    }
    /// The hubs that may take sessions over.
    pub fn successors(&self) -> Vec<tidegate_protocol::drain::Successor> {
        Vec::new()
    }
    /// Tells every peer what this hub is doing.
    pub fn set_state(&self, _state: tidegate_protocol::control::HubState) {}
    /// How a client reaches that very hub, if it can.
    pub fn public_url(&self, _hub: HubId) -> Option<String> {
        None
    }
    /// Has another hub carry out a call for a session that it owns.
    ///
    /// # Errors
    /// What that hub said, or [`CallError::Unreachable`].
    pub async fn call(&self, to: HubId, _session: SessionId, _call: &Call) -> Result<Reply, CallError> {
        Err(CallError::Unreachable(to))
    }
}

/// Starts the link's tasks.
pub fn spawn(_hub: &std::sync::Arc<crate::hub::Hub>) {}
