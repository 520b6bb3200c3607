//! The peers that `compare` knows how to start, each with one process or thread of work, no TLS, no
//! compression, no log.

mod debian;

use crate::started::Started;
use crate::target::{Publisher, Server, target};
use crate::thin::Dialect;
use std::path::{Path, PathBuf};

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// The plain hub that people would write with axum (load-tests/baseline).
    Baseline,
    /// `ws` on Node (load-tests/peers/ws).
    Ws,
    /// uWebSockets, bare C++ (load-tests/peers/uws).
    Uws,
    /// nchan, a module of nginx.
    Nchan,
    /// HAProxy before an app; for what is relayed.
    Haproxy,
    /// nginx before an app; for what is relayed.
    Nginx,
}

impl Peer {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Ws => "ws",
            Self::Uws => "uws",
            Self::Nchan => "nchan",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it only passes on what an app says.
    pub(crate) const fn relays(self) -> bool {
        matches!(self, Self::Haproxy | Self::Nginx)
    }

    /// Starts it.
    ///
    /// # Errors
    /// In words: what is missing, with the command that would bring it, or why it did not start.
    pub(crate) async fn start(self, peers_dir: &Path) -> Result<Server, String> {
        match self {
            Self::Baseline => {
                let program = beside_us("tidegate-load-baseline", "cargo build --release -p tidegate-load-baseline")?;
                ours("axum baseline", Started::program(&program, [], Vec::new()).await?).await
            }
            Self::Ws => {
                let directory = peers_dir.join("ws");
                if !directory.join("node_modules/ws").exists() {
                    let shown = directory.display();
                    return Err(format!("--peer ws needs its module: `npm ci --prefix {shown}` first"));
                }
                let script = directory.join("server.mjs");
                ours("ws", Started::program(Path::new("node"), [script.into()], Vec::new()).await?).await
            }
            Self::Uws => {
                let program = beside_us("tidegate-load-peer-uws", "load-tests/peers/uws/build.sh")?;
                ours("uWebSockets", Started::program(&program, [], Vec::new()).await?).await
            }
            Self::Nchan => debian::nchan().await,
            Self::Haproxy => debian::haproxy().await,
            Self::Nginx => debian::nginx().await,
        }
    }
}

/// A peer that prints a ready line and publishes what is posted to `/publish`.
async fn ours(name: &str, peer: Started) -> Result<Server, String> {
    let url = format!("ws://{}/connect", peer.ready.public);
    let publish = format!("http://{}/publish", peer.ready.public);
    let read = |text: &str| text.parse().map_err(|error| format!("{name} is ready on \"{text}\": {error}"));
    Ok(Server {
        name: name.to_owned(),
        target: target(&read(&url)?, Dialect::Plain).await?,
        pids: vec![peer.pid],
        publisher: Publisher::raw(&read(&publish)?)?,
        started: vec![peer],
        apps: Vec::new(),
        warnings: Vec::new(),
    })
}

/// A program in our own directory, or the command that builds it there.
fn beside_us(name: &str, build: &str) -> Result<PathBuf, String> {
    let us = std::env::current_exe().map_err(|error| format!("this program's own file: {error}"))?;
    let program = us.with_file_name(name);
    if program.exists() {
        return Ok(program);
    }
    Err(format!("there is no {}: `{build}` first", program.display()))
}
