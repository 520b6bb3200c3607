//! The scenarios that thin clients play. Each measures a server it is handed and returns what it found,
//! so that `compare` can play the same one against a peer.

pub(crate) mod broadcast;
pub(crate) mod churn;
pub(crate) mod connect;
mod growth;
pub(crate) mod idle;
pub(crate) mod live;
pub(crate) mod publish;
pub(crate) mod relay;
pub(crate) mod slow;
mod stage;
pub(crate) mod storm;

pub(crate) use stage::Stage;
