//! What speaks for a hub that is not where it is looked for. Nobody listening is no reason to fail, for a dead hub holds
//! nobody, and a repair must not be blocked; but a hub that *runs* elsewhere goes on holding its users, who would be cut
//! without a word.
//!
//! ```text
//!   /proc/locks ─► a process with a lock ─► its open files: DIR/lock beside DIR/hub-id ─► its listening sockets
//!   the address of the last success ─► does a hub answer there?
//!   a unit file, a data directory ─► a hub is installed, and none runs: a warning
//! ```

use crate::settings::Settings;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Processes with a lock that are looked at.
const PROCESSES_MAX: usize = 4_096;
/// Open files of one process that are looked at: a hub has one for each session.
const FILES_MAX: usize = 65_536;
/// Listening sockets of one hub that are asked.
const ADDRESSES_MAX: usize = 8;
/// How long one address may take to say whether it is a hub's.
const ASK_WAIT: Duration = Duration::from_millis(1_000);
/// How much of its answer is read.
const ANSWER_MAX_BYTES: usize = 4_096;
/// Where a unit of ours may stand.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/tidegate.service",
    "/usr/lib/systemd/system/tidegate.service",
    "/lib/systemd/system/tidegate.service",
];
/// Where our unit keeps its data.
const DATA_DIR: &str = "/var/lib/tidegate";

/// A hub that runs, though not at the address that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// What speaks for it, in words.
    pub(crate) what: String,
    /// Its private address as a setting, if that could be found.
    pub(crate) url: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// A hub runs elsewhere.
    Elsewhere(Running),
    /// A hub is installed, and no process of it was found; the place that says so.
    Installed(String),
    /// Nothing.
    None,
}

/// Looks for a hub that is not where the settings say.
pub(crate) async fn look(settings: &Settings) -> Evidence {
    if let Some(holder) = holders(settings.data_dir.as_deref()).into_iter().next() {
        return Evidence::Elsewhere(holder.describe().await);
    }
    if let Some(url) = remembered(&settings.state_file, settings.data_dir.as_deref()).filter(|url| *url != settings.hub)
        && let Some(address) = address_of(&url)
        && is_private(address).await
    {
        let what = format!("the hub of the last success answers at {url}");
        return Evidence::Elsewhere(Running { what, url: Some(url) });
    }
    let data_dir = settings.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR)).join("hub-id");
    let places = UNITS.into_iter().map(PathBuf::from).chain([data_dir]);
    let installed = places.into_iter().find(|place| place.exists());
    installed.map_or(Evidence::None, |place| Evidence::Installed(place.display().to_string()))
}

/// Notes where a hub did what it was asked for. Who may not write there does without.
pub(crate) fn remember(settings: &Settings) {
    let path = &settings.state_file;
    let data_dir = settings.data_dir.as_deref();
    if remembered(path, data_dir).as_deref() == Some(&settings.hub) {
        return;
    }
    let lines = format!("{}\n{}\n", settings.hub, data_dir.unwrap_or(Path::new("")).display());
    let Some(dir) = path.parent() else { return };
    let next = path.with_extension("next");
    let _ = fs::create_dir_all(dir).and_then(|()| fs::write(&next, lines)).and_then(|()| fs::rename(&next, path));
}

/// Where the hub of the last success was: its address, then its data directory if the settings named one. Several hubs
/// on a machine may share the file; with a data directory only that hub's counts.
fn remembered(path: &Path, data_dir: Option<&Path>) -> Option<String> {
    let text = crate::file::read_small(path).ok()?;
    let mut lines = text.lines();
    let (url, of) = (lines.next()?, lines.next().unwrap_or_default());
    let is_ours = data_dir.is_none_or(|dir| Path::new(of) == dir);
    (is_ours && !url.is_empty()).then(|| url.to_owned())
}

/// The address in a URL, without looking up names: this may not take long.
fn address_of(url: &str) -> Option<SocketAddr> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let ip = if host == "localhost" { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { host.parse().ok()? };
    Some(SocketAddr::new(ip, uri.port_u16()?))
}

/// A process that holds the lock of a data directory.
struct Holder {
    pid: u32,
    data_dir: PathBuf,
    sockets: BTreeSet<u64>,
}

/// All of them, or the one with this data directory.
fn holders(wanted: Option<&Path>) -> Vec<Holder> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let pids: BTreeSet<u32> = locks.lines().filter_map(owner).take(PROCESSES_MAX).collect();
    let wanted = wanted.map(|dir| fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned()));
    let is_wanted = |holder: &Holder| wanted.as_ref().is_none_or(|dir| holder.data_dir == *dir);
    pids.into_iter().filter_map(holder).filter(is_wanted).collect()
}

/// Who has a lock of the kind that a hub takes, by a line of `/proc/locks`; lines with an arrow wait for one.
fn owner(line: &str) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (kind, _, access, pid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    (kind == "FLOCK" && access == "WRITE").then(|| pid.parse().ok()).flatten()
}

/// The process, if one of its open files is the lock of a data directory.
fn holder(pid: u32) -> Option<Holder> {
    let proc = Path::new("/proc").join(pid.to_string());
    let (mut data_dir, mut sockets) = (None, BTreeSet::new());
    for entry in fs::read_dir(proc.join("fd")).ok()?.take(FILES_MAX) {
        let Ok(link) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
        if let Some(inode) = link.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')) {
            sockets.extend(inode.parse::<u64>());
        } else if link.file_name().is_some_and(|name| name == "lock") {
            // Its view of the files may be another than ours.
            let inside = |dir: &Path| proc.join("root").join(dir.strip_prefix("/").unwrap_or(dir)).join("hub-id");
            data_dir = link.parent().filter(|dir| inside(dir).exists()).map(Path::to_owned).or(data_dir);
        }
    }
    Some(Holder { pid, data_dir: data_dir?, sockets })
}

impl Holder {
    async fn describe(&self) -> Running {
        let proc = Path::new("/proc").join(self.pid.to_string()).join("net");
        let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(proc.join(table)).unwrap_or_default());
        let mut addresses: Vec<SocketAddr> = tables.iter().flat_map(|table| listening(table, &self.sockets)).collect();
        addresses.truncate(ADDRESSES_MAX);
        let mut private = None;
        for address in &addresses {
            if is_private(*address).await {
                private = Some(*address);
                break;
            }
        }
        let Self { pid, data_dir, .. } = self;
        let known = format!("process {pid} has the data directory {}", data_dir.display());
        match private {
            Some(address) => {
                let what = format!("{known} and listens at {address}");
                Running { what, url: Some(format!("http://{address}")) }
            }
            None if addresses.is_empty() => Running { what: format!("{known} and does not listen yet"), url: None },
            None => {
                let all: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
                Running { what: format!("{known} and listens at {}", all.join(", ")), url: None }
            }
        }
    }
}

/// The addresses at which these sockets listen, by a table of the kernel; one for any address is asked on loopback.
fn listening(table: &str, sockets: &BTreeSet<u64>) -> Vec<SocketAddr> {
    const LISTEN: &str = "0A";
    let one = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let ours = *state == LISTEN && sockets.contains(&inode.parse().ok()?);
        let (ip, port) = local.split_once(':')?;
        let address = SocketAddr::new(ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
        ours.then(|| match address.ip() {
            ip if ip.is_unspecified() && ip.is_ipv4() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
            ip if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
            _ => address,
        })
    };
    table.lines().skip(1).filter_map(one).collect()
}

/// An address as the kernel writes it: words of 32 bits in the machine's own order.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

/// Whether a hub's private API answers there. No token is shown, for who listens there is not known yet; a hub that wants
/// one says so in the words of the API.
async fn is_private(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let call = format!("GET /v1/hub HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(call.as_bytes()).await.ok()?;
        let mut answer = vec![0; ANSWER_MAX_BYTES];
        let mut length = 0;
        while length < answer.len() {
            match stream.read(&mut answer[length..]).await.ok()? {
                0 => break,
                read => length += read,
            }
        }
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let answer = tokio::time::timeout(ASK_WAIT, ask).await.ok().flatten().unwrap_or_default();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    (status == "200" && answer.contains("\"incarnation\""))
        || (status == "401" && answer.contains("/problems/unauthorized"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_lock_is_read_and_who_waits_for_one_is_none() {
        assert_eq!(owner("1: FLOCK  ADVISORY  WRITE 29289 fe:00:6430733 0 EOF"), Some(29_289));
        assert_eq!(owner("1: -> FLOCK  ADVISORY  WRITE 4 fe:00:6430733 0 EOF"), None);
        assert_eq!(owner("2: POSIX  ADVISORY  WRITE 4 fe:00:1 0 EOF"), None);
        assert_eq!(owner("2: FLOCK  ADVISORY  READ  4 fe:00:1 0 EOF"), None);
        assert_eq!(owner(""), None);
    }

    #[test]
    fn listeners_of_a_process_are_found_by_their_sockets() {
        let table = "  sl  local_address rem_address st\n\
            0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1\n\
            1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 78 1\n\
            2: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 79 1\n";
        let ours = listening(table, &BTreeSet::from([77, 78, 79]));
        let expected = ["127.0.0.1:8081", "127.0.0.1:8080"].map(|address| address.parse::<SocketAddr>().unwrap());
        assert_eq!(ours, expected);
        assert_eq!(listening(table, &BTreeSet::from([1])), []);
    }

    #[test]
    fn the_last_success_of_another_hub_on_the_machine_speaks_for_nobody() {
        let dir = std::env::temp_dir().join(format!("tidegate-evidence-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("last-hub");
        let (ours, other) = (Path::new("/data/a"), Path::new("/data/b"));
        fs::write(&file, "http://127.0.0.1:8181\n/data/b\n").unwrap();
        assert_eq!(remembered(&file, Some(ours)), None);
        assert_eq!(remembered(&file, Some(other)).as_deref(), Some("http://127.0.0.1:8181"));
        assert_eq!(remembered(&file, None).as_deref(), Some("http://127.0.0.1:8181"), "nobody says which one is meant");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_addresses_without_a_name_are_asked() {
        assert_eq!(address_of("http://10.0.0.7:8081"), "10.0.0.7:8081".parse().ok());
        assert_eq!(address_of("http://[::1]:8081"), "[::1]:8081".parse().ok());
        assert_eq!(address_of("http://hub.example:8081"), None);
    }
}
