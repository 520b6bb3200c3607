//! The stateful example app, as a process.

use crate::program::{Exit, Program, Signal};
use serde_json::Value;
use std::net::SocketAddr;

/// A running kitchen. Its `/ledger` counts: `u <n>` is answered by `d <m> <n>`, `sum` by
/// `sum <received> <first missing> <doubled> <reordered> <sent>`.
#[derive(Debug)]
pub struct Kitchen {
    program: Program,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Kitchen {
    /// Starts a kitchen that pushes on `/ledger` every 50 ms.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, &["--ledger-push-ms", "50"]).await
    }

    /// Starts a kitchen with further arguments.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start_with(name: &str, args: &[&str]) -> Self {
        // The hub's address is for the page, which nobody opens here.
        let fixed = ["--listen", "127.0.0.1:0", "--hub-url", "ws://127.0.0.1:9", "--name", name];
        let args: Vec<String> = fixed.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let program = Program::start(&format!("kitchen {name}"), "tidegate-kitchen", &args, &[]);
        let line = program.first_line().await;
        let address =
            serde_json::from_str::<Value>(&line).ok().and_then(|ready| ready["address"].as_str()?.parse().ok());
        let address = address.unwrap_or_else(|| panic!("kitchen {name} began with {line:?}, not with its ready line"));
        Self { program, address }
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        self.program.kill();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits for its end.
    pub async fn exit(&self) -> Exit {
        self.program.exit().await
    }
}
