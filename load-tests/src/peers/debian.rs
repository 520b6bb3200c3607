//! Peers from Debian's packages, with configurations of our own in a directory of the run.

use crate::started::Started;
use crate::target::{Publisher, Server, echo_app, target};
use crate::thin::Dialect;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// How long a peer may take to listen.
const READY_WAIT: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Where Debian puts nginx's modules.
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// What every nginx of ours is told: one worker, no log, nothing outside of its directory.
const NGINX_MAIN: &str = "daemon off;\nworker_processes 1;\nerror_log stderr crit;\npid nginx.pid;\n\
                          worker_rlimit_nofile 20000;\nevents { worker_connections 19900; }\n";
const NGINX_HTTP: &str = "access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
                          uwsgi_temp_path u; scgi_temp_path s; keepalive_timeout 600s; keepalive_requests 1000000;\n";

/// nchan as a hub: everybody subscribes to one channel.
pub(super) async fn nchan() -> Result<Server, String> {
    let nginx = program("nginx", "nginx libnginx-mod-nchan").await?;
    if !Path::new(NCHAN_MODULE).exists() {
        install("libnginx-mod-nchan").await?;
    }
    let port = free_port()?;
    let config = format!(
        "load_module {NCHAN_MODULE};\n{NGINX_MAIN}http {{ {NGINX_HTTP} server {{ listen 127.0.0.1:{port} backlog=4096;\n\
         location /connect {{ nchan_subscriber websocket; nchan_channel_id all; nchan_message_buffer_length 0; }}\n\
         location /publish {{ nchan_publisher; nchan_channel_id all; nchan_message_buffer_length 0; }} }} }}\n"
    );
    let url = format!("http://127.0.0.1:{port}/publish").parse().map_err(|error| format!("nchan: {error}"))?;
    let server = run("nchan", nginx, "nginx.conf", &config, port).await?;
    Ok(Server { publisher: Publisher::raw(&url)?, ..server })
}

/// nginx as a relay before the echo app.
pub(super) async fn nginx() -> Result<Server, String> {
    let nginx = program("nginx", "nginx").await?;
    let app = echo_app().await?;
    let port = free_port()?;
    let config = format!(
        "{NGINX_MAIN}http {{ {NGINX_HTTP} server {{ listen 127.0.0.1:{port} backlog=4096;\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; proxy_read_timeout 1h; proxy_send_timeout 1h; }} }} }}\n",
        app.ready.public
    );
    let server = run("nginx", nginx, "nginx.conf", &config, port).await?;
    Ok(Server { apps: vec![app], ..server })
}

/// HAProxy as a relay before the echo app.
pub(super) async fn haproxy() -> Result<Server, String> {
    let haproxy = program("haproxy", "haproxy").await?;
    let app = echo_app().await?;
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 9900\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n\
         \x20 timeout server 1h\n  timeout tunnel 1h\nfrontend in\n  bind 127.0.0.1:{port} backlog 4096\n  default_backend app\n\
         backend app\n  server app {}\n",
        app.ready.public
    );
    let server = run("haproxy", haproxy, "haproxy.cfg", &config, port).await?;
    Ok(Server { apps: vec![app], ..server })
}

/// Starts it in a directory of its own, and waits until it listens.
async fn run(name: &str, program: PathBuf, file: &str, config: &str, port: u16) -> Result<Server, String> {
    let directory = TempDir::new().map_err(|error| format!("no directory for {name}: {error}"))?;
    let path = directory.path().join(file);
    std::fs::write(&path, config).map_err(|error| format!("{}: {error}", path.display()))?;
    let prefix = format!("{}/", directory.path().display());
    let args: Vec<String> = match name {
        "haproxy" => vec!["-db".into(), "-f".into(), path.display().to_string()],
        _ => vec!["-p".into(), prefix, "-c".into(), path.display().to_string()],
    };
    let started = Started::silent(&program, args, directory)?;
    let end = Instant::now() + READY_WAIT;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if Instant::now() >= end {
            return Err(format!("{name} did not listen within {READY_WAIT:?}; see its message above"));
        }
        sleep(LOOK).await;
    }
    // nginx listens before its worker is there, and the worker is what does the work.
    while name != "haproxy" && family(started.pid).len() < 2 {
        if Instant::now() >= end {
            return Err(format!("{name} had no worker within {READY_WAIT:?}; see its message above"));
        }
        sleep(LOOK).await;
    }
    let url = format!("ws://127.0.0.1:{port}/connect").parse().map_err(|error| format!("{name}: {error}"))?;
    Ok(Server {
        name: name.to_owned(),
        target: target(&url, Dialect::Plain).await?,
        pids: family(started.pid),
        publisher: Publisher::None,
        started: vec![started],
        apps: Vec::new(),
        warnings: Vec::new(),
    })
}

/// A process and its children: nginx works in one.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    [pid].into_iter().chain(children.split_whitespace().filter_map(|word| word.parse().ok())).collect()
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// Finds a program, and has it installed if need be and allowed.
async fn program(name: &str, packages: &str) -> Result<PathBuf, String> {
    if let Some(found) = find(name) {
        return Ok(found);
    }
    install(packages).await?;
    find(name).ok_or_else(|| format!("{name} is not there even after `apt-get install {packages}`"))
}

/// Debian puts them where only root's PATH looks.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/usr/local/sbin"])
        .map(|part| Path::new(part).join(name))
        .find(|path| path.exists())
}

async fn install(packages: &str) -> Result<(), String> {
    let wanted = format!("`apt-get install {packages}` (as root) first");
    if !rustix::process::geteuid().is_root() {
        return Err(wanted);
    }
    crate::report::complain(&format!("tidegate-load: installing Debian packages: {packages}"));
    let status = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages.split(' '))
        .env("DEBIAN_FRONTEND", "noninteractive")
        // The peers are started by the run; their services are not to be.
        .env("RUNLEVEL", "1")
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .map_err(|error| format!("{wanted}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{wanted}; here it ended with {status}")) }
}
