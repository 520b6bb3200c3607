//! A plain balancer in front of hubs: the real programs, as Debian ships them.

use crate::ports::free_address;
use crate::program::{Program, Signal};
use crate::wait::{wait_until, within};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How often another port is taken when somebody else was faster.
const PORTS_TRIED: u32 = 5;
/// How long a balancer has to take its workers down with it.
const GOODBYE: Duration = Duration::from_secs(3);

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
}

/// Where it sends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// To the next hub.
    ByTurns,
    /// To the hub that the client's address stands for, always.
    BySource,
    /// To the hub with the fewest connections.
    ByLoad,
    /// The same (HAProxy), but nobody new to a hub that answers 404 to `/healthz/ready?draining=404`.
    ByLoadIfReady,
}

/// A running balancer. It ends when it is dropped, and its workers with it.
#[derive(Debug)]
pub struct Balancer {
    kind: Kind,
    rule: Rule,
    directory: TempDir,
    hubs: Vec<SocketAddr>,
    /// Where it listens.
    pub address: SocketAddr,
    program: Program,
}

impl Balancer {
    /// Starts it in front of these public addresses and waits until it listens.
    ///
    /// # Panics
    /// When the program is not installed, or does not come to listen.
    pub async fn start(kind: Kind, rule: Rule, hubs: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for a balancer: {error}"));
        for _ in 0..PORTS_TRIED {
            let address = free_address();
            write(&kind.config_file(directory.path()), &kind.config(rule, directory.path(), address, hubs, None));
            let program = kind.launch(directory.path());
            if listens(&program, address).await {
                return Self { kind, rule, directory, hubs: hubs.to_vec(), address, program };
            }
        }
        panic!("{kind:?} found its port taken {PORTS_TRIED} times");
    }

    /// The URL of a path, for clients.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Sends no new connection to this hub any more, as when it is taken out of service. What is
    /// open stays.
    ///
    /// # Panics
    /// When the balancer does not take the order.
    pub async fn let_go(&self, hub: usize) {
        let directory = self.directory.path();
        match self.kind {
            Kind::Haproxy => {
                let said = runtime(directory, &format!("set server hubs/hub{hub} state maint\n")).await;
                assert_eq!(said.trim(), "", "HAProxy did not take hub {hub} out of service");
            }
            Kind::Nginx => {
                let config = self.kind.config(self.rule, directory, self.address, &self.hubs, Some(hub));
                write(&self.kind.config_file(directory), &config);
                self.program.signal(Signal::Hup);
            }
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Killed, nginx would leave its workers behind.
        if self.program.over().is_none() {
            self.program.signal(Signal::Term);
        }
        let end = Instant::now() + GOODBYE;
        while self.program.over().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Kind {
    fn config_file(self, directory: &Path) -> PathBuf {
        match self {
            Self::Haproxy => directory.join("haproxy.cfg"),
            Self::Nginx => directory.join("nginx.conf"),
        }
    }

    fn launch(self, directory: &Path) -> Program {
        let config = self.config_file(directory).display().to_string();
        let (package, path, args) = match self {
            Self::Haproxy => ("haproxy", "/usr/sbin/haproxy", vec!["-db".to_owned(), "-f".to_owned(), config]),
            Self::Nginx => {
                let prefix = directory.display().to_string();
                let errors = "stderr".to_owned();
                (
                    "nginx",
                    "/usr/sbin/nginx",
                    vec!["-p".to_owned(), prefix, "-c".to_owned(), config, "-e".to_owned(), errors],
                )
            }
        };
        assert!(Path::new(path).exists(), "there is no {path}: install Debian's package {package}");
        Program::start(package, path, &args, &[])
    }

    fn config(
        self,
        rule: Rule,
        directory: &Path,
        address: SocketAddr,
        hubs: &[SocketAddr],
        without: Option<usize>,
    ) -> String {
        match self {
            Self::Haproxy => haproxy(rule, directory, address, hubs),
            Self::Nginx => nginx(rule, directory, address, hubs, without),
        }
    }
}

fn haproxy(rule: Rule, directory: &Path, address: SocketAddr, hubs: &[SocketAddr]) -> String {
    let balance = match rule {
        Rule::ByTurns => "roundrobin",
        Rule::BySource => "source",
        Rule::ByLoad | Rule::ByLoadIfReady => "leastconn",
    };
    let (checks, check) = match rule {
        Rule::ByLoadIfReady => (
            "    option httpchk GET /healthz/ready?draining=404\n    http-check disable-on-404\n",
            " check inter 200ms fall 3 rise 1",
        ),
        Rule::ByTurns | Rule::BySource | Rule::ByLoad => ("", ""),
    };
    let servers: Vec<String> =
        hubs.iter().enumerate().map(|(n, hub)| format!("    server hub{n} {hub}{check}\n")).collect();
    format!(
        "global\n    stats socket {}/runtime.sock mode 600 level admin\n\
         defaults\n    mode http\n    timeout connect 2s\n    timeout client 1h\n    timeout server 1h\n    timeout tunnel 1h\n\
         frontend clients\n    bind {address}\n    default_backend hubs\n\
         backend hubs\n    balance {balance}\n{checks}{}",
        directory.display(),
        servers.concat()
    )
}

fn nginx(rule: Rule, directory: &Path, address: SocketAddr, hubs: &[SocketAddr], without: Option<usize>) -> String {
    let directory = directory.display();
    let sticky = match rule {
        Rule::ByTurns => "",
        Rule::BySource => "ip_hash;",
        Rule::ByLoad => "least_conn;",
        // nginx as Debian ships it has no checks of its own.
        Rule::ByLoadIfReady => panic!("nginx asks no hub whether it is ready"),
    };
    let server = |(n, hub): (usize, &SocketAddr)| {
        let down = if without == Some(n) { " down" } else { "" };
        format!("server {hub} max_fails=0{down}; ")
    };
    let servers: String = hubs.iter().enumerate().map(server).collect();
    let kept: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("    {name}_temp_path {directory}/{name};\n"))
        .concat();
    format!(
        "daemon off;\nworker_processes 1;\npid {directory}/nginx.pid;\nerror_log stderr warn;\nevents {{ worker_connections 1024; }}\n\
         http {{\n    access_log off;\n{kept}    upstream hubs {{ {sticky} {servers}}}\n\
         \x20   server {{\n        listen {address};\n        location / {{\n            proxy_pass http://hubs;\n\
         \x20           proxy_http_version 1.1;\n            proxy_set_header Upgrade $http_upgrade;\n\
         \x20           proxy_set_header Connection \"upgrade\";\n            proxy_set_header Host $host;\n\
         \x20           proxy_read_timeout 1h;\n            proxy_send_timeout 1h;\n        }}\n    }}\n}}\n"
    )
}

/// Asks HAProxy on its runtime socket.
async fn runtime(directory: &Path, order: &str) -> String {
    let asked = async {
        let mut socket = UnixStream::connect(directory.join("runtime.sock")).await?;
        socket.write_all(order.as_bytes()).await?;
        let mut said = String::new();
        socket.read_to_string(&mut said).await?;
        Ok::<_, std::io::Error>(said)
    };
    let said = within("an answer of HAProxy's runtime socket", asked).await;
    said.unwrap_or_else(|error| panic!("HAProxy's runtime socket does not answer: {error}"))
}

/// Whether it came to listen; not when it ended, because somebody else has the port by now.
async fn listens(program: &Program, address: SocketAddr) -> bool {
    wait_until("the balancer listens, or ends", || async {
        match (program.over(), TcpStream::connect(address).await) {
            (Some(_), _) => Ok(false),
            (None, Ok(_)) => Ok(true),
            (None, Err(error)) => Err(error.to_string()),
        }
    })
    .await
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
}
