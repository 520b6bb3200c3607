//! A network of machines for one test, with addresses, users, ports and files of their own, so that what
//! `deploy/` ships runs as it is shipped: as its user, at its path, on its port.
//!
//! [`lab`] runs the calling test once more inside namespaces of its own (mounts, network, processes). Nothing of it
//! reaches the machine that runs the tests, and nothing of it is left when the test ends.

use crate::program::{Program, binary};
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Set for the run inside.
const INSIDE: &str = "TIDEGATE_LAB";
/// Where the machines' file systems are, inside.
const ROOTS: &str = "/mnt";
/// The address of the test itself in the network of the machines.
pub const OWN_ADDRESS: &str = "10.0.1.1";
/// Programs of ours that every machine has in `/usr/local/bin`.
const PROGRAMS: [&str; 3] = ["tidegate", "tidegate-hook", "tidegate-kitchen"];
/// What of the real system every machine sees, read-only.
const SHARED: [&str; 5] = ["usr", "bin", "sbin", "lib", "lib64"];

/// Whether this is the run inside. Outside it runs the test of this name there, to its end.
///
/// # Panics
/// When the namespaces cannot be made (they need root), or the test fails inside.
pub fn lab(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes users, mounts and networks in namespaces of its own, which needs root"
    );
    let own = std::env::current_exe().expect("a running program has a path");
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc", "--"])
        // A shell is the first process: it takes note of the ends of orphans.
        .args(["sh", "-c", "\"$0\" \"$@\"; exit $?"])
        .arg(own)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("unshare (Debian's util-linux) cannot be started: {error}"));
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success() && said.contains("1 passed"),
        "{test} failed inside its namespaces: {}\n{said}\n{}",
        status.status,
        String::from_utf8_lossy(&status.stderr)
    );
    false
}

/// The network inside, and its machines.
#[derive(Debug)]
pub struct Lab(());

impl Lab {
    /// Makes the network. Only inside.
    ///
    /// # Panics
    /// When a step fails: with the command.
    pub fn start() -> Self {
        assert!(std::env::var_os(INSIDE).is_some(), "a lab is made inside namespaces of its own");
        sh("ip link set lo up");
        sh(&format!("mount -t tmpfs lab {ROOTS} && mount -t tmpfs lab /run && mkdir /run/netns"));
        sh(&format!("ip link add lab type bridge && ip addr add {OWN_ADDRESS}/24 dev lab && ip link set lab up"));
        // The machines' `/usr/local/bin`, copied, for their users may not look into the directory of the build.
        std::fs::create_dir(format!("{ROOTS}/bin")).expect("the tmpfs is new");
        for program in PROGRAMS {
            let copied = std::fs::copy(binary(program), format!("{ROOTS}/bin/{program}"));
            copied.unwrap_or_else(|error| panic!("{program} cannot be copied: {error}"));
        }
        Self(())
    }

    /// A machine with this name and address, like a fresh Debian with our programs installed.
    ///
    /// # Panics
    /// When a step fails: with the command.
    pub fn machine(&self, name: &str, address: &str) -> Machine {
        let root = PathBuf::from(ROOTS).join(name);
        let dir = root.display();
        let mut steps = format!(
            "mkdir -p {dir}/etc {dir}/var/lib {dir}/var/log {dir}/run {dir}/tmp {dir}/root {dir}/home {dir}/proc {dir}/dev {dir}/srv\n\
             chmod 1777 {dir}/tmp; chmod 700 {dir}/root\n"
        );
        for part in SHARED {
            // Some of them are links into usr.
            let _ = writeln!(
                steps,
                "if [ -L /{part} ]; then cp -P /{part} {dir}/{part}; elif [ -d /{part} ]; then \
                 mkdir {dir}/{part} && mount --bind /{part} {dir}/{part} && mount -o remount,bind,ro {dir}/{part}; fi"
            );
        }
        let _ = write!(
            steps,
            "mount --bind {ROOTS}/bin {dir}/usr/local/bin\n\
             for device in null zero random urandom; do touch {dir}/dev/$device; mount --bind /dev/$device {dir}/dev/$device; done\n\
             mount -t proc proc {dir}/proc\n\
             cp /etc/login.defs /etc/nsswitch.conf {dir}/etc/\n\
             printf 'root:x:0:0:root:/root:/bin/sh\\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\\n' >{dir}/etc/passwd\n\
             printf 'root:x:0:\\nnogroup:x:65534:\\n' >{dir}/etc/group\n\
             printf 'root:*:19000::::::\\n' >{dir}/etc/shadow; chmod 600 {dir}/etc/shadow\n\
             printf '127.0.0.1 localhost\\n{address} {name}\\n' >{dir}/etc/hosts\n\
             ip netns add {name}\n\
             ip link add {name}-out type veth peer name eth0 netns {name}\n\
             ip link set {name}-out master lab up\n\
             ip -n {name} link set lo up; ip -n {name} link set eth0 up; ip -n {name} addr add {address}/24 dev eth0\n"
        );
        sh(&format!("set -e\n{steps}"));
        Machine { name: name.to_owned(), address: address.to_owned(), root }
    }
}

/// One machine of a [`Lab`].
#[derive(Debug)]
pub struct Machine {
    name: String,
    /// Its address in the network of the lab.
    pub address: String,
    root: PathBuf,
}

impl Machine {
    /// Where a file of this machine is for the test.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Writes a file, and the directories above it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, mode: u32, text: &str) {
        let file = self.path(path);
        let written = std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))
            .and_then(|()| std::fs::write(&file, text))
            .and_then(|()| std::fs::set_permissions(&file, Permissions::from_mode(mode)));
        written.unwrap_or_else(|error| panic!("{}: {path} cannot be written: {error}", self.name));
    }

    /// Puts a script in the place of a program of the system, on this machine only.
    ///
    /// # Panics
    /// When the system has no such program.
    pub fn replace_program(&self, path: &str, script: &str) {
        let own = format!("/srv/{}", path.rsplit('/').next().unwrap_or(path));
        self.write(&own, 0o755, script);
        sh(&format!("mount --bind {} {}", self.path(&own).display(), self.path(path).display()));
    }

    /// A command on this machine: as root, in an environment with nothing but PATH and HOME.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "chroot"]).arg(&self.root).arg(program).args(args);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", "/root").stdin(Stdio::null());
        command
    }

    /// Runs a shell script as root.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn sh(&self, script: &str) -> Output {
        let output = self.command("/bin/sh", &["-euc", script]).output();
        output.unwrap_or_else(|error| panic!("{}: no shell: {error}", self.name))
    }

    /// Runs a shell script as root, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// When it fails: with what it said.
    pub fn must(&self, script: &str) -> String {
        let output = self.sh(script);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on {}: {script}\n{}: {said}\n{errors}", self.name, output.status);
        said
    }

    /// Starts a command and leaves it running.
    pub fn start(&self, program: &str, args: &[&str]) -> Program {
        Program::spawn(&format!("{program} on {}", self.name), self.command(program, args))
    }
}

/// A step of the lab's own construction.
fn sh(script: &str) {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("sh cannot be started: {error}"));
    assert!(output.status.success(), "{script}\n{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}
