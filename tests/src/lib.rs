//! What the black-box tests stand on: real processes, well-behaved and odd clients, odd apps, and
//! waits on conditions. Everything that a test starts ends with the value that stands for it.
//!
//! ```no_run
//! # async fn example() {
//! use tidegate_tests::{Client, Kitchen, Setup};
//!
//! let kitchen = Kitchen::start("A").await;
//! let hub = Setup::new("A").app(&kitchen.address).start().await;
//! let client = Client::connect(&hub.url("/ledger")).await;
//! client.send("u 1").await;
//! client.wait("the answer to its first message", |seen| !seen.received.is_empty()).await;
//! # }
//! ```

mod balancer;
mod books;
mod client;
mod crowd;
mod fake_app;
mod hook;
mod hub;
mod kitchen;
mod lab;
mod pair;
mod peer_link;
mod ports;
mod private;
mod program;
mod raw;
mod relay;
mod seen;
mod traffic;
mod wait;
mod wire;

pub use balancer::{Balancer, Kind, Rule};
pub use books::{Books, Fate, Verdict};
pub use client::Client;
pub use crowd::{Crowd, Fleet};
pub use fake_app::{AppSocket, FakeApp};
pub use hook::{Hook, HookEnd, RunningHook, hook};
pub use hub::{Hub, Setup, cluster_key};
pub use kitchen::Kitchen;
pub use lab::{Lab, Machine, OWN_ADDRESS, lab};
pub use pair::{Owners, Pair, acquainted, at_once, connect_all, drain, report, unheard};
pub use peer_link::{Loss, Manner, PeerLink};
pub use ports::free_address;
pub use private::{Answer, Private};
pub use program::{Exit, Program, Signal, Surroundings, binary};
pub use raw::{Heard, RawClient, Refused};
pub use relay::Relay;
pub use seen::Seen;
pub use traffic::{Ended, Traffic};
pub use wait::{WAIT, wait_until, within};
