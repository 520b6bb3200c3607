//! Notices that the agent that runs us has died: its end of our pipe is broken, *and* we have another parent. One alone
//! says little: agent 1.x breaks the pipe of a script that took too long and goes on waiting for it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, getppid};
use std::time::Duration;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Who ran us, as it was at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parent(Option<Pid>);

impl Parent {
    /// The parent as it is now.
    pub(crate) fn now() -> Self {
        Self(getppid())
    }

    /// Waits until it has died.
    pub(crate) async fn died(self) {
        while !(getppid() != self.0 && stdout_is_broken()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether nobody reads what we write. Asks the kernel; writes nothing.
fn stdout_is_broken() -> bool {
    let stdout = std::io::stdout();
    let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut ends, Some(&at_once)).is_ok() && ends[0].revents().contains(PollFlags::ERR)
}
