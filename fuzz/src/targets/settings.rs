//! What the operator writes: flags, environment, the config file, the peers file.

use super::{inputs, text};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use tidegate::config::Config;
use tidegate::peer_list::PeerList;
use tidegate_protocol::position::Millis;

thread_local! {
    static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a temporary directory");
}

/// Writes a file of this thread's own, and gives its path.
fn written(name: &str, data: &[u8]) -> String {
    DIRECTORY.with(|directory| {
        let path = directory.path().join(name);
        std::fs::write(&path, data).expect("a file can be written");
        path.to_str().expect("a path in UTF-8").to_owned()
    })
}

/// Lines that begin with `--` are flags, those with `TIDEGATE_` the environment, the rest is the file.
pub(super) fn config(data: &[u8]) {
    let text = text(data);
    let (mut argv, mut env, mut file) = (vec![OsString::from("tidegate"), "serve".into()], Vec::new(), String::new());
    for line in text.lines() {
        match line.split_once('=') {
            _ if line.starts_with("--config") => {}
            _ if line.starts_with("--") => argv.push(line.into()),
            Some((name, value)) if name.starts_with("TIDEGATE_") && name != "TIDEGATE_CONFIG" => {
                env.push((name.to_owned(), value.to_owned()));
            }
            _ => file.extend([line, "\n"]),
        }
    }
    argv.push(format!("--config={}", written("hub.toml", file.as_bytes())).into());
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| OsString::from(value));
    match Config::read(&argv, &lookup) {
        Ok(config) => drop(config.notes()),
        Err(error) => {
            let (code, told) = (error.exit_code(), error.to_string());
            assert!(code == 2 || code == 0, "a wrong setting is exit 2");
            assert!(!told.is_empty(), "and says what is wrong");
            let given = data.len() + 4096;
            assert!(told.len() <= given * 4, "in words, and not in {} of them", told.len());
        }
    }
}

/// Good settings of each kind.
pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    inputs([
        "--public=127.0.0.1:0\n--private=127.0.0.1:0\n--app=ws://127.0.0.1:3000\n--session-ttl=1m30s\n",
        "TIDEGATE_ALLOWED_ORIGIN=https://a, https://b\nTIDEGATE_LOG_FORMAT=json\nTIDEGATE_AUTH=none\n",
        "public = \"127.0.0.1:8080\"\npeer = [\"http://[::1]:81\", \"http://h:1\"]\nlimit-message-bytes = 70000\nunready-when-draining = true\n",
        "session-ttl = 1.5\n[table]\nx = 1979-05-27T07:32:00Z\n",
        "--limit-sessions=18446744073709551615\n--orphan-after=99999999999999999999y\n",
        "--public-url=wss://h:0/connect\n--peer-url=http://h:0\n--cluster-key-file=k\n--peer=http://h:1\n",
    ])
}

/// A file of peers, with names that the world looks up to anything.
pub(super) fn peers_file(data: &[u8]) {
    let argv: Vec<OsString> = [
        "tidegate".to_owned(),
        "serve".to_owned(),
        "--cluster-key-file=k".to_owned(),
        "--peer-url=http://h:1".to_owned(),
        format!("--peers-file={}", written("peers", data)),
    ]
    .map(Into::into)
    .to_vec();
    let config = Config::read(&argv, &|_| None).expect("good flags");
    let limit = config.limits.peers as usize;
    let lookup =
        |host: String, port: u16| -> futures_util::future::BoxFuture<'static, io::Result<Vec<std::net::SocketAddr>>> {
            let found = match host.len() % 3 {
                0 => Err(io::ErrorKind::NotFound.into()),
                many => Ok((0..many as u8).map(|n| std::net::SocketAddr::from(([127, 0, 1, n], port))).collect()),
            };
            Box::pin(async move { found })
        };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut list = PeerList::new(&config, Arc::new(lookup));
    for round in 0..2 {
        let urls = runtime.block_on(list.refresh(Millis(round * 20_000)));
        assert!(urls.len() <= limit, "{} peers, and {limit} are the limit", urls.len());
        assert!(urls.iter().all(|url| url.port_u16().is_some() || url.scheme().is_some()), "{urls:?}");
    }
}

/// Good lists and bad ones.
pub(super) fn peers_seeds() -> Vec<Vec<u8>> {
    inputs([
        "# none\n",
        "http://127.0.0.1:81\nhttps://h.example\n\nhttp://[::1]:1\n",
        "h\nhttp://\n",
        "http://a:1\nhttp://a:1\n",
    ])
}
