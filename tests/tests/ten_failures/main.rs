//! The ten commonest failures that users of other systems report around deployments, each as a test that
//! real hubs must pass. The number in a test's comment is the failure's in the table of `tests/README.md`.

mod herd;
mod owners;
mod sockets;
