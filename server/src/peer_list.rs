//! Which hubs to call: the seeds from `--peer` and `--peers-file`, as addresses.
//!
//! A name stands for all its addresses, looked up again every ten seconds; the file is read every
//! second. What cannot be looked up or read keeps its last good answer, and is told once per change.

use crate::config::Config;
use crate::world::World;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::{Authority, Scheme};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tidegate_protocol::position::Millis;

#[cfg(test)]
mod tests;

/// How often [`PeerList::refresh`] should be called: the file is read each time.
pub const REFRESH_EVERY_MS: u64 = 1_000;
/// How long the addresses of a name are good for.
const LOOKUP_EVERY_MS: u64 = 10_000;
/// Time for one look-up; then the last answer stays.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Names looked up at a time.
const LOOKUPS_AT_A_TIME: usize = 16;
/// Bytes of a peers file that are read; 256 long URLs fit.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// Looks up a host and a port. A parameter, so that simulated networks can bring their own names.
pub type Lookup = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// The look-up of this world.
pub fn world_lookup(world: World) -> Lookup {
    Arc::new(move |host, port| world.look_up(host, port))
}

/// By which name an address was found, for the check of its certificate. Clones share one table; it
/// holds no more than the list does.
#[derive(Clone, Debug, Default)]
pub struct PeerNames(Arc<RwLock<BTreeMap<String, String>>>);

impl PeerNames {
    /// The name behind the address in a URL.
    pub fn name_of(&self, uri: &Uri) -> Option<String> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(uri.authority()?.as_str()).cloned()
    }

    /// Says that `address` (host and port as in its URL) was found by `name`.
    pub fn learn(&self, address: &str, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), name.to_owned());
    }

    fn replace(&self, table: BTreeMap<String, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = table;
    }
}

/// What is known of one name.
#[derive(Debug, Default)]
struct Resolved {
    addresses: Vec<SocketAddr>,
    /// When it is to be looked up next; `None`: at once.
    due: Option<Millis>,
}

/// The current list of seeds.
pub struct PeerList {
    given: Vec<Uri>,
    file: Option<PathBuf>,
    from_file: Vec<Uri>,
    names: BTreeMap<(String, u16), Resolved>,
    shared_names: PeerNames,
    lookup: Lookup,
    limit: usize,
    /// What was told last about a source, so that it is not told every second.
    told: BTreeMap<String, String>,
}

impl PeerList {
    /// The list that these settings ask for; nothing is read or looked up before the first refresh.
    pub fn new(config: &Config, lookup: Lookup) -> Self {
        Self {
            given: config.peers.clone(),
            file: config.peers_file.clone(),
            from_file: Vec::new(),
            names: BTreeMap::new(),
            shared_names: PeerNames::default(),
            lookup,
            limit: usize::try_from(config.limits.peers).unwrap_or(usize::MAX),
            told: BTreeMap::new(),
        }
    }

    /// By which names the addresses were found; for the connector.
    pub fn names(&self) -> PeerNames {
        self.shared_names.clone()
    }

    /// Whether the last refresh could read and look up everything.
    pub fn is_complete(&self) -> bool {
        self.told.is_empty()
    }

    /// Reads the file, looks up names that are due, and answers with the base URLs of all seeds: hosts are
    /// addresses, sorted, no two alike, at most `--limit-peers`. This hub itself may be among them (a name
    /// stands for all hubs); it is known by its id once it answers.
    pub async fn refresh(&mut self, now: Millis) -> Vec<Uri> {
        self.read_file().await;
        let seeds: Vec<Uri> = self.given.iter().chain(&self.from_file).take(self.limit).cloned().collect();
        self.look_up(&seeds, now).await;
        let mut table = BTreeMap::new();
        let mut urls = BTreeMap::new();
        for seed in &seeds {
            let (Some(host), Some(scheme)) = (seed.host(), seed.scheme()) else { continue };
            let port = port_of(seed);
            let addresses = match literal(host) {
                Some(ip) => vec![SocketAddr::new(ip, port)],
                None => self.names.get(&(host.to_owned(), port)).map(|name| name.addresses.clone()).unwrap_or_default(),
            };
            for address in addresses {
                let Some(url) = url_of(scheme, address) else { continue };
                if literal(host).is_none() {
                    table.insert(address.to_string(), host.to_owned());
                }
                urls.insert(url.to_string(), url);
            }
        }
        self.shared_names.replace(table);
        let too_many = urls.len().saturating_sub(self.limit);
        let complaint =
            (too_many > 0).then(|| format!("{too_many} peers beyond --limit-peers {} are left out", self.limit));
        self.tell("--peer", complaint);
        urls.into_values().take(self.limit).collect()
    }

    async fn read_file(&mut self) {
        let Some(path) = self.file.clone() else { return };
        let shown = format!("--peers-file {}", path.display());
        // On a thread of its own: a network file system may take its time.
        let read = tokio::task::spawn_blocking(move || read_small(&path)).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        let parsed = read.map_err(|error| error.to_string()).and_then(|text| parse(&text));
        match parsed {
            Ok(urls) => {
                self.from_file = urls;
                self.tell(&shown, None);
            }
            Err(why) => {
                let kept = self.from_file.len();
                self.tell(&shown, Some(format!("{why}; {kept} peers from it stay")));
            }
        }
    }

    async fn look_up(&mut self, seeds: &[Uri], now: Millis) {
        let wanted: BTreeSet<(String, u16)> = seeds
            .iter()
            .filter_map(|seed| Some((seed.host()?.to_owned(), port_of(seed))))
            .filter(|(host, _)| literal(host).is_none())
            .collect();
        self.names.retain(|name, _| wanted.contains(name));
        let is_due =
            |name: &(String, u16)| self.names.get(name).is_none_or(|known| known.due.is_none_or(|due| due <= now));
        let due: Vec<(String, u16)> = wanted.iter().filter(|name| is_due(name)).cloned().collect();
        let lookup = &self.lookup;
        let answers: Vec<_> = futures_util::stream::iter(due)
            .map(|(host, port)| async move {
                let answer = tokio::time::timeout(LOOKUP_TIMEOUT, lookup(host.clone(), port)).await;
                let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                ((host, port), answer)
            })
            .buffer_unordered(LOOKUPS_AT_A_TIME)
            .collect()
            .await;
        for (name, answer) in answers {
            let shown = format!("peer {}:{}", name.0, name.1);
            let known = self.names.entry(name).or_default();
            known.due = Some(now.plus(LOOKUP_EVERY_MS));
            let complaint = match answer {
                Ok(addresses) if !addresses.is_empty() => {
                    known.addresses = addresses;
                    None
                }
                Ok(_) => Some(format!("has no address; {} from before stay", known.addresses.len())),
                Err(error) => {
                    Some(format!("cannot be looked up: {error}; {} addresses from before stay", known.addresses.len()))
                }
            };
            self.tell(&shown, complaint);
        }
    }

    /// Logs what is wrong with a source when that changes, and when it is well again.
    fn tell(&mut self, source: &str, complaint: Option<String>) {
        match complaint {
            Some(complaint) if self.told.get(source) == Some(&complaint) => {}
            Some(complaint) => {
                tracing::warn!("{source}: {complaint}");
                self.told.insert(source.to_owned(), complaint);
            }
            None => {
                if self.told.remove(source).is_some() {
                    tracing::info!("{source}: well again");
                }
            }
        }
    }
}

/// How peers reach this hub, once it is bound: `--peer-url`, or the private address if that is not
/// loopback. A listener on all addresses is reached by the one that the way to a peer begins with.
pub async fn own_peer_url(config: &Config, bound: SocketAddr, towards: Option<SocketAddr>) -> Option<Uri> {
    if let Some(url) = &config.peer_url {
        return Some(with_bound_port(url, bound.port()));
    }
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => local_ip(towards?).await?,
        ip => ip,
    };
    let scheme = if config.private_tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    if ip.is_loopback() { None } else { url_of(&scheme, SocketAddr::new(ip, bound.port())) }
}

/// How clients reach this very hub, once it is bound: `--public-url`.
pub fn own_public_url(config: &Config, bound: SocketAddr) -> Option<Uri> {
    config.public_url.as_ref().map(|url| with_bound_port(url, bound.port()))
}

/// Port 0 in a URL of ours stands for the port that was bound.
fn with_bound_port(url: &Uri, port: u16) -> Uri {
    let bound = || {
        let host = url.host().filter(|_| url.port_u16() == Some(0))?;
        let mut parts = url.clone().into_parts();
        parts.authority = Some(format!("{host}:{port}").parse::<Authority>().ok()?);
        Uri::from_parts(parts).ok()
    };
    bound().unwrap_or_else(|| url.clone())
}

/// The address that this machine would call `to` from. Connecting a UDP socket sends nothing.
async fn local_ip(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = tokio::net::UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(to).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn read_small(path: &std::path::Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("expected at most {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// One URL a line; empty lines and lines that begin with `#` are skipped.
fn parse(text: &str) -> Result<Vec<Uri>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            crate::config::base_url(line).map_err(|expected| format!("line {}: \"{line}\": {expected}", number + 1))
        })
        .collect()
}

fn port_of(url: &Uri) -> u16 {
    let default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    url.port_u16().unwrap_or(default)
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

fn url_of(scheme: &Scheme, address: SocketAddr) -> Option<Uri> {
    Uri::builder().scheme(scheme.clone()).authority(address.to_string()).path_and_query("/").build().ok()
}
