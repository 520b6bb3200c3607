//! Child processes with an end: started, listened to, signalled, waited for, and never left behind.

use crate::wait::{WAIT, wait_until};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many lines of each stream are kept for the message of a failure.
const LINES_KEPT: usize = 500;

/// A signal that a test sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop in order.
    Term,
    /// Stop, as Ctrl-\\ says it.
    Quit,
    /// Read certificates again.
    Hup,
    /// Means nothing to a hub.
    Usr1,
    /// Kept for later use.
    Usr2,
    /// A timer that nobody has set.
    Alrm,
    /// What a write into a closed pipe brings.
    Pipe,
    /// Freeze.
    Stop,
    /// Go on.
    Cont,
    /// Die at once.
    Kill,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Alrm => "ALRM",
            Self::Pipe => "PIPE",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
            Self::Kill => "KILL",
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote to stdout, as far as it was kept.
    pub stdout: Vec<String>,
    /// All that it wrote to stderr, as far as it was kept.
    pub stderr: Vec<String>,
}

/// Where a program of ours is: in the directory that `TIDEGATE_BIN_DIR` names, or beside the tests.
///
/// # Panics
/// When it is not there.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("TIDEGATE_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let tests = std::env::current_exe().expect("a running program has a path");
        let directory = tests.parent().expect("a program stands in a directory");
        // Tests stand in a subdirectory of the programs; the soak is a program itself.
        let is_beside = directory.file_name().is_none_or(|name| name != "deps");
        if is_beside { directory } else { directory.parent().expect("deps stand in a directory") }.to_owned()
    });
    let path = directory.join(name);
    assert!(
        path.exists(),
        "there is no {}: build it (cargo build --workspace), or name its directory in TIDEGATE_BIN_DIR",
        path.display()
    );
    path
}

/// What is around a program. By default the test listens to it, and it may have what the test may have.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Standard output, if it goes elsewhere.
    pub stdout: Option<Stdio>,
    /// Standard error, if it goes elsewhere.
    pub stderr: Option<Stdio>,
    /// How many files it may have open: softly, and at most.
    pub open_files: Option<[u64; 2]>,
}

#[derive(Debug, Default)]
struct Said {
    stdout: VecDeque<String>,
    stderr: VecDeque<String>,
}

/// A running program. Killed when it is dropped; what it said is shown when the test is failing.
#[derive(Debug)]
pub struct Program {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    said: Arc<Mutex<Said>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Program {
    /// Starts the program `binary` and calls it `name` in messages. The environment is empty but for
    /// what programs need to live, so that whoever runs the tests does not steer what is tested.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, program: &str, args: &[String], env: &[(String, String)]) -> Self {
        Self::start_into(name, program, args, env, Surroundings::default())
    }

    /// The same, in other surroundings.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_into(
        name: &str,
        program: &str,
        args: &[String],
        env: &[(String, String)],
        around: Surroundings,
    ) -> Self {
        let command = match around.open_files {
            None => Command::new(binary(program)),
            Some([soft, hard]) => {
                let mut shell = Command::new("sh");
                let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limits]).arg(binary(program));
                shell
            }
        };
        Self::spawn_into(name, dressed(command, args, env), around)
    }

    /// Starts a program that is not one of ours, or a copy of one that is.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_at(name: &str, program: &Path, args: &[String], env: &[(String, String)]) -> Self {
        Self::spawn(name, dressed(Command::new(program), args, env))
    }

    /// Starts any command and calls it `name` in messages; its streams are read here.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(name: &str, command: Command) -> Self {
        Self::spawn_into(name, command, Surroundings::default())
    }

    fn spawn_into(name: &str, mut command: Command, around: Surroundings) -> Self {
        command.stdin(Stdio::null());
        command.stdout(around.stdout.unwrap_or_else(Stdio::piped)).stderr(around.stderr.unwrap_or_else(Stdio::piped));
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let said = Arc::new(Mutex::new(Said::default()));
        let stdout = child.stdout.take().map(|stdout| listen(stdout, said.clone(), |said| &mut said.stdout));
        let stderr = child.stderr.take().map(|stderr| listen(stderr, said.clone(), |said| &mut said.stderr));
        let readers = stdout.into_iter().chain(stderr).collect();
        Self { name: name.to_owned(), pid: child.id(), child: Mutex::new(child), said, readers: Mutex::new(readers) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it said on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        lock(&self.said).stdout.iter().cloned().collect()
    }

    /// What it said on stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        lock(&self.said).stderr.iter().cloned().collect()
    }

    /// Waits for the first line on stdout, which our programs print when they are ready.
    ///
    /// # Panics
    /// When it does not come in time, or the program ends before: with what the program said.
    pub async fn first_line(&self) -> String {
        wait_until(&format!("{} is ready and says so on stdout", self.name), || async {
            let over = self.over();
            // The lock is let go before the arms, which take it again.
            let first = lock(&self.said).stdout.front().cloned();
            match first {
                Some(line) => Ok(line),
                None if over.is_some() => {
                    panic!("{} ended before it was ready:\n{}", self.name, self.stderr().join("\n"))
                }
                None => Err(format!("stderr so far:\n{}", self.stderr().join("\n"))),
            }
        })
        .await
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it cannot be sent, for instance because the program has ended.
    pub fn signal(&self, signal: Signal) {
        assert!(self.over().is_none(), "{} has ended already; SIG{} cannot be sent", self.name, signal.name());
        // The shell's own `kill`: it is there wherever a shell is.
        let sent =
            Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal.name(), &self.pid.to_string()]).status();
        let sent = sent.unwrap_or_else(|error| panic!("sh cannot be started: {error}"));
        assert!(sent.success(), "SIG{} could not be sent to {}", signal.name(), self.name);
        if matches!(signal, Signal::Stop) {
            self.wait_stopped();
        }
    }

    /// On a busy machine the signal is out long before the last thread has stopped, and till then the
    /// program goes on answering.
    fn wait_stopped(&self) {
        let end = Instant::now() + WAIT;
        loop {
            let running = running_threads(self.pid);
            if running == 0 {
                return;
            }
            assert!(Instant::now() < end, "expected within {WAIT:?}: {} to stop; {running} threads run on", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills it and waits until it is gone. Nothing that it holds outlives this.
    pub fn kill(&self) {
        let mut child = lock(&self.child);
        // It may have ended by itself.
        drop(child.kill());
        drop(child.wait());
    }

    /// How it ended, if it has.
    pub fn over(&self) -> Option<ExitStatus> {
        lock(&self.child).try_wait().unwrap_or_else(|error| panic!("{} cannot be waited for: {error}", self.name))
    }

    /// Waits for its end by itself.
    ///
    /// # Panics
    /// When it does not end in time: with what it said.
    pub async fn exit(&self) -> Exit {
        let status = wait_until(&format!("{} ends", self.name), || async {
            self.over().ok_or_else(|| format!("it runs; stderr so far:\n{}", self.stderr().join("\n")))
        })
        .await;
        // Its pipes are closed now, so the readers come to their end.
        for reader in std::mem::take(&mut *lock(&self.readers)) {
            drop(reader.join());
        }
        Exit { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for (stream, lines) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                for line in lines {
                    eprintln!("{} {stream}: {line}", self.name);
                }
            }
        }
    }
}

/// A command with its arguments, and of our environment only what every program needs.
fn dressed(mut command: Command, args: &[String], env: &[(String, String)]) -> Command {
    command.args(args).env_clear();
    for kept in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.envs(env.iter().map(|(key, value)| (key, value)));
    command
}

fn listen(
    stream: impl Read + Send + 'static,
    said: Arc<Mutex<Said>>,
    side: fn(&mut Said) -> &mut VecDeque<String>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            let mut said = lock(&said);
            let lines = side(&mut said);
            lines.push_back(String::from_utf8_lossy(&line).into_owned());
            if lines.len() > LINES_KEPT {
                // The first line is the ready line, which is asked for later.
                lines.remove(1);
            }
        }
    })
}

/// A failed assertion elsewhere must not hide what this program said.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads of a process that are not stopped (state `T` in `/proc/PID/task/TID/stat`, behind the name in brackets).
fn running_threads(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    states.filter(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))).count()
}
