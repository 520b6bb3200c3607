//! The files of the data directory, reached by the directory's descriptor alone: nobody can lead the hub elsewhere by
//! a link or by another directory in its place, and what is opened must be the hub's own.
//!
//! What is demanded is what is needed, not a mode: we can write, others cannot read what we write, and nobody else
//! wrote it. So a volume that belongs to root and gives the hub rights by its group will do (Kubernetes' `fsGroup`),
//! and so will a server that knows us by another id (NFS with `all_squash`).

use super::disk::FILE_MODE;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// What others may do with a file.
const WORLD: u32 = 0o007;
const ROOT: u32 = 0;

/// A directory, and who we are in it.
#[derive(Clone, Debug)]
pub(super) struct OwnFiles {
    dir: Arc<OwnedFd>,
    /// Our user id, and the one under which this file system keeps what we write.
    ours: [u32; 2],
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Reading,
    Writing,
    /// Writing, and it is made if there is none.
    Making,
}

impl OwnFiles {
    /// Opens the directory, which must exist. It may be reached by a link; what is in it may not.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        let own = rustix::process::geteuid().as_raw();
        let mut files = Self { dir, ours: [own, own] };
        files.ours[1] = files.known_as().unwrap_or(own);
        Ok(files)
    }

    /// The id that the file system gives to what we make: a server may know us by another one than the kernel.
    fn known_as(&self) -> io::Result<u32> {
        let name = format!("probe-{}.next", std::process::id());
        let uid = File::from(self.create_new(&name)?).metadata()?.uid();
        self.remove(&name)?;
        Ok(uid)
    }

    fn create_new(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(FILE_MODE));
        match open() {
            // Left by a crash, or planted: the name goes, whatever it leads to.
            Err(Errno::EXIST) => {
                self.remove(name)?;
                Ok(open()?)
            }
            opened => Ok(opened?),
        }
    }

    /// Opens a file of ours; none if there is none.
    ///
    /// # Errors
    /// The system refuses; of kind `InvalidData`: it is no plain file of ours, and the text says what would be right.
    pub(super) fn file(&self, name: &str, purpose: For) -> io::Result<Option<File>> {
        let how = match purpose {
            For::Reading => OFlags::RDONLY,
            For::Writing => OFlags::RDWR,
            For::Making => OFlags::RDWR | OFlags::CREATE,
        };
        // Whoever opens a pipe would wait for its other end.
        let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(FILE_MODE)) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_ours("expected a plain file, and it is a symbolic link: remove it")),
            Err(Errno::ISDIR | Errno::NXIO) => return Err(not_ours("expected a plain file")),
            Err(error) => return Err(error.into()),
        };
        self.check(&file)?;
        Ok(Some(file))
    }

    fn check(&self, file: &File) -> io::Result<()> {
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(not_ours("expected a plain file"));
        }
        if meta.nlink() > 1 {
            return Err(not_ours(
                "expected a file with one name, and it has another one elsewhere: put a copy in its place",
            ));
        }
        let uid = meta.uid();
        if uid != ROOT && !self.ours.contains(&uid) {
            let own = self.ours[0];
            return Err(not_ours(format!(
                "expected a file of user {own} or of root, and it is user {uid}'s: if it is right, chown it, else remove it"
            )));
        }
        let mode = meta.permissions().mode() & 0o777;
        if mode & !FILE_MODE != 0 {
            let tightened = file.set_permissions(Permissions::from_mode(FILE_MODE));
            let left = file.metadata()?.permissions().mode() & 0o777;
            if left & WORLD != 0 {
                let why = tightened.err().map_or_else(|| "it stays".to_owned(), |error| error.to_string());
                return Err(not_ours(format!(
                    "everybody on this machine may use it (mode {left:03o}), and that cannot be changed ({why}): \
                     chmod it to 600, or give a directory on a file system that keeps modes"
                )));
            }
            if left != mode {
                tracing::warn!("a file of the data directory had mode {mode:03o}, set to {left:03o}");
            }
        }
        Ok(())
    }

    /// The text of a file, as far as it is not longer than this; none if there is none.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<String>> {
        let Some(file) = self.file(name, For::Reading)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes a whole file so that after a crash it is either there in full or not at all.
    pub(super) fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let next = format!("{name}.next");
        let mut file = File::from(self.create_new(&next)?);
        self.check(&file)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_all()?;
        self.rename(&next, name)?;
        self.sync()
    }

    /// How many bytes there are by this name; none if there is nothing.
    pub(super) fn size_bytes(&self, name: &str) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_size.cast_unsigned())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file another name, replacing what had it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    /// Removes a name; fine if there is none.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.dir)?)
    }
}

fn not_ours(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_somebody_else_put_there_is_refused_and_says_whose_it_is() {
        let temp = tempfile::tempdir().expect("a directory");
        std::fs::write(temp.path().join("cluster.key"), "5b5b").expect("writes");
        let mut files = OwnFiles::open(temp.path()).expect("opens");
        let whose = if files.ours[0] == ROOT {
            std::os::unix::fs::chown(temp.path().join("cluster.key"), Some(12_345), None).expect("gives it away");
            12_345
        } else {
            // Only root can give a file away; so this hub is one of another user.
            std::mem::replace(&mut files.ours, [12_345; 2])[0]
        };
        let error = files.read("cluster.key", 100).expect_err("not ours");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let told = error.to_string();
        assert!(told.contains("of root") && told.contains(&format!("it is user {whose}'s")), "{told}");
        files.ours[1] = whose;
        assert!(files.read("cluster.key", 100).is_ok(), "a file system may know us by another id");
    }

    #[test]
    fn a_probe_that_a_crash_left_or_somebody_planted_is_in_nobodys_way() {
        let temp = tempfile::tempdir().expect("a directory");
        let name = format!("probe-{}.next", std::process::id());
        std::fs::write(temp.path().join("precious"), "letters").expect("writes");
        std::os::unix::fs::symlink(temp.path().join("precious"), temp.path().join(&name)).expect("a link");
        let files = OwnFiles::open(temp.path()).expect("opens");
        assert_eq!(files.known_as().expect("it can be made"), rustix::process::geteuid().as_raw());
        assert_eq!(files.size_bytes(&name).expect("looks"), None);
        assert_eq!(std::fs::read_to_string(temp.path().join("precious")).expect("it is there"), "letters");
    }
}
