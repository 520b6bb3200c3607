//! A disk in memory that forgets, tears and refuses on demand: for crash tests and simulations, never for a hub that serves.
//!
//! It keeps what a program sees apart from what would survive a power cut. [`FaultyDisk::reboot`] gives the disk that the next process
//! would find, in one of the ways that file systems are known to behave.

use super::Disk;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What happens at the operation that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has no effect; a write leaves half of its bytes behind. Later ones work.
    Refuse,
    /// As `Refuse`, but a sync did its work all the same.
    RefuseLate,
    /// It fails, and so does everything after it: the process is gone before it took effect.
    CrashBefore,
    /// The same, but it took effect before the process was gone.
    CrashAfter,
}

/// What a crash leaves of the things that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// Nothing: the page cache was lost.
    Synced,
    /// All: the process died, the machine did not.
    All,
    /// Names but not bytes.
    Names,
    /// Bytes but not names.
    Bytes,
    /// All, but of what was written last only the first half, and the second half as zeros.
    Torn,
}

impl Survives {
    /// Each of them.
    pub const EVERY: [Self; 5] = [Self::Synced, Self::All, Self::Names, Self::Bytes, Self::Torn];
}

#[derive(Clone, Debug, Default)]
struct File {
    seen: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<File>,
    seen_names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    ops: u64,
    fault: Option<(u64, Fault)>,
    broken: bool,
    capacity_bytes: Option<usize>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct FaultyDisk {
    state: Mutex<State>,
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `nth` changing operation from now (0 is the next one) meets `fault`.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.ops + nth, fault));
    }

    /// Whether the fault that was asked for has not happened yet.
    pub fn fault_is_ahead(&self) -> bool {
        self.state().fault.is_some()
    }

    /// Whether there is a limit to what may lie on it.
    pub fn is_limited(&self) -> bool {
        self.state().capacity_bytes.is_some()
    }

    /// How many changing operations there were.
    pub fn operations(&self) -> u64 {
        self.state().ops
    }

    /// How many bytes all files may have together; `None`: no limit.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<usize>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// The process is started anew and the machine never stopped: nothing is lost, and nothing more is synced.
    pub fn restart_process(&self) {
        let mut state = self.state();
        state.broken = false;
        state.fault = None;
    }

    /// The disk that a process after this one finds.
    pub fn reboot(&self, survives: Survives) -> Self {
        let state = self.state();
        let names = match survives {
            Survives::Synced | Survives::Bytes => &state.synced_names,
            Survives::All | Survives::Names | Survives::Torn => &state.seen_names,
        };
        let bytes = |file: &File| match survives {
            Survives::Synced | Survives::Names => file.synced.clone(),
            Survives::All | Survives::Bytes => file.seen.clone(),
            Survives::Torn => {
                let mut torn = file.seen.clone();
                let unsynced = torn.len().saturating_sub(file.synced.len());
                let len = torn.len();
                torn[len - unsynced / 2..].fill(0);
                torn
            }
        };
        let mut next = State::default();
        for (name, file) in names {
            let bytes = bytes(&state.files[*file]);
            next.seen_names.insert(name.clone(), next.files.len());
            next.files.push(File { seen: bytes.clone(), synced: bytes });
        }
        next.synced_names = next.seen_names.clone();
        Self { state: Mutex::new(next) }
    }

    /// The bytes of a file as a program sees them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.seen_names.get(name).map(|file| state.files[*file].seen.clone())
    }

    /// Puts a file there, durable.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(File { seen: bytes.clone(), synced: bytes });
        state.seen_names.insert(name.to_owned(), file);
        state.synced_names.insert(name.to_owned(), file);
    }

    /// Does `change`, unless a fault is due. `partly` is what a refused one leaves behind.
    fn change(
        &self,
        partly: impl FnOnce(&mut State, Fault),
        change: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        let gone = || io::Error::other("the process is gone");
        if state.broken {
            return Err(gone());
        }
        let op = state.ops;
        state.ops += 1;
        let Some((_, fault)) = state.fault.take_if(|(at, _)| *at == op) else { return change(&mut state) };
        match fault {
            Fault::Refuse | Fault::RefuseLate => {
                partly(&mut state, fault);
                Err(io::Error::other("input/output error"))
            }
            Fault::CrashBefore => {
                state.broken = true;
                Err(gone())
            }
            Fault::CrashAfter => {
                let _ = change(&mut state);
                state.broken = true;
                Err(gone())
            }
        }
    }
}

impl State {
    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let file = self.seen_names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(&mut self.files[*file])
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let used: usize = self.seen_names.values().map(|file| self.files[*file].seen.len()).sum();
        let room = self.capacity_bytes.map_or(usize::MAX, |capacity| capacity.saturating_sub(used));
        let file = self.file(name)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if offset > file.seen.len() {
            return Err(ErrorKind::InvalidInput.into());
        }
        let growth = (offset + bytes.len()).saturating_sub(file.seen.len());
        let fits = bytes.len() - growth.saturating_sub(room);
        file.seen.resize(file.seen.len().max(offset + fits), 0);
        file.seen[offset..offset + fits].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn size_bytes(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.bytes(name).map(|bytes| bytes.len() as u64))
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.change(
            |_, _| {},
            |state| {
                if let Ok(file) = state.file(name) {
                    file.seen.clear();
                    return Ok(());
                }
                state.seen_names.insert(name.to_owned(), state.files.len());
                state.files.push(File::default());
                Ok(())
            },
        )
    }

    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let half = &bytes[..bytes.len() / 2];
        self.change(|state, _| drop(state.write(name, offset, half)), |state| state.write(name, offset, bytes))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let sync = |state: &mut State| {
            let file = state.file(name)?;
            file.synced.clone_from(&file.seen);
            Ok(())
        };
        let late = |state: &mut State, fault: Fault| {
            if fault == Fault::RefuseLate {
                // Refused either way.
                let _ = sync(state);
            }
        };
        self.change(late, sync)
    }

    fn truncate(&self, name: &str, len_bytes: u64) -> io::Result<()> {
        let len = usize::try_from(len_bytes).map_err(io::Error::other)?;
        self.change(|_, _| {}, |state| state.file(name).map(|file| file.seen.resize(len, 0)))
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let file = state.file(name)?;
        let rest = file.seen.get(usize::try_from(offset).map_err(io::Error::other)?..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(
            |_, _| {},
            |state| {
                let file = state.seen_names.remove(from).ok_or(ErrorKind::NotFound)?;
                state.seen_names.insert(to.to_owned(), file);
                Ok(())
            },
        )
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(
            |_, _| {},
            |state| {
                state.seen_names.remove(name);
                Ok(())
            },
        )
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(
            |_, _| {},
            |state| {
                state.synced_names = state.seen_names.clone();
                Ok(())
            },
        )
    }
}
