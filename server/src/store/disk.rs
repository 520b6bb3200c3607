//! The few file operations that the store uses, as a trait, so that tests can crash at each of them.

use super::own_files::{For, OwnFiles};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files are readable and writable by the hub's user alone.
pub(super) const FILE_MODE: u32 = 0o600;

/// One directory of flat files. Names are plain file names. Every call blocks, so call it off the async threads.
///
/// What an implementation promises is what a POSIX file system promises: bytes survive a crash after [`Disk::sync`],
/// names (created, renamed, removed) survive it after [`Disk::sync_dir`], and nothing else is certain.
pub trait Disk: Send + Sync + 'static {
    /// Length in bytes; `None` if there is no such file.
    fn size_bytes(&self, name: &str) -> io::Result<Option<u64>>;
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, name: &str) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, which is the end of the file. After an error any part of them may be there.
    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the file's bytes and length durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Errs if the file that is written to is not what the next process will find by this name.
    fn check_in_place(&self, name: &str) -> io::Result<()> {
        let _ = name;
        Ok(())
    }
    /// Cuts the file to `len_bytes`.
    fn truncate(&self, name: &str, len_bytes: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset`, and says how many bytes there were: fewer only at the end of the file.
    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Gives the file another name, replacing what had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; fine if there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// A directory of the machine's own file system.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    own: OwnFiles,
    // Open files by name: at most the log and the one being rewritten.
    open: Mutex<HashMap<String, Arc<File>>>,
}

impl RealDisk {
    /// The files in `dir`, reached by `own`.
    pub(super) fn new(dir: impl Into<PathBuf>, own: OwnFiles) -> Self {
        Self { dir: dir.into(), own, open: Mutex::default() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<File>>> {
        // The map is whole between any two statements, so a panic elsewhere did not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut files = self.files();
        if let Some(file) = files.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.own.file(name, For::Writing)?.ok_or(io::ErrorKind::NotFound)?);
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

impl Disk for RealDisk {
    fn size_bytes(&self, name: &str) -> io::Result<Option<u64>> {
        self.own.size_bytes(name)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let file = self.own.file(name, For::Making)?.ok_or(io::ErrorKind::NotFound)?;
        // Not while it is opened: only what was found to be ours is emptied.
        file.set_len(0)?;
        self.files().insert(name.to_owned(), Arc::new(file));
        Ok(())
    }

    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_all()
    }

    fn check_in_place(&self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let ours = self.file(name)?.metadata()?;
        // By the path: the next process comes by it, also if somebody has put another directory there.
        let by_path = match std::fs::symlink_metadata(&path) {
            Ok(there) => Some((there.dev(), there.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if by_path == Some((ours.dev(), ours.ino())) {
            return Ok(());
        }
        let why = format!(
            "{} was removed or replaced while the hub ran, so nothing can be parked: hand the sessions to another hub before \
             this one is restarted",
            path.display()
        );
        Err(io::Error::new(io::ErrorKind::NotFound, why))
    }

    fn truncate(&self, name: &str, len_bytes: u64) -> io::Result<()> {
        self.file(name)?.set_len(len_bytes)
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.file(name)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.own.rename(from, to)?;
        let mut files = self.files();
        files.remove(to);
        if let Some(file) = files.remove(from) {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        self.own.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.own.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_somebody_removed_moved_or_replaced_is_not_in_its_place() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (disk, path) =
            (RealDisk::new(dir.path(), OwnFiles::open(dir.path()).expect("it is there")), dir.path().join("log"));
        let told = |disk: &RealDisk| disk.check_in_place("log").map_err(|error| error.to_string());
        disk.create("log").expect("created");
        assert_eq!(told(&disk), Ok(()));
        fs::rename(&path, dir.path().join("elsewhere")).expect("moved away");
        assert!(told(&disk).is_err_and(|why| why.contains("was removed or replaced while the hub ran")));
        fs::write(&path, b"another").expect("replaced");
        assert!(told(&disk).is_err(), "another file has its name");
        fs::rename(dir.path().join("elsewhere"), &path).expect("put back");
        assert_eq!(told(&disk), Ok(()));
        fs::remove_file(&path).expect("removed");
        assert!(told(&disk).is_err());
    }
}
