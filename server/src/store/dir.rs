//! The data directory: one process at a time, and the few things that outlive it.

use super::own_files::{For, OwnFiles};
use super::{Disk, RealDisk, ReportFile};
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_protocol::id::{HubId, Incarnation};
use tokio::time::Instant;

const DIR_MODE: u32 = 0o700;
/// Whoever may do this in a directory may take our files away and put others in their place.
const WORLD_WRITES: u32 = 0o002;
/// Beginning of the names of files that another process makes and removes at its start.
const PROBE: &str = "probe-";
/// Set on directories that many share, such as /tmp.
const STICKY: u32 = 0o1000;
/// What a new file system has in it.
const LOST_AND_FOUND: &str = "lost+found";
const LOCK_NAME: &str = "lock";
const HUB_ID_NAME: &str = "hub-id";
const HUB_ID_NEXT_NAME: &str = "hub-id.next";
const INCARNATION_NAME: &str = "incarnation";
/// Low bits of an incarnation that are drawn at random: hubs of a fleet are often started in the same
/// millisecond, and stamps of fleet-wide messages are told apart by the incarnation alone.
const INCARNATION_RANDOM_BITS: u32 = 20;
/// How often a process that waits for the directory looks again.
const LOCK_RETRY: Duration = Duration::from_millis(100);
/// How often it says that it waits.
const LOCK_SAID_EVERY: Duration = Duration::from_secs(10);
/// Most bytes that a small file may have; the lock's, the ids', a key's are far below.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refuses.
    #[error("--data-dir {path}: cannot {doing}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Another process kept it for the whole wait.
    #[error(
        "--data-dir {path} is in use by {holder}, waited {waited_ms} ms; stop that process, or give another directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// `process N`, or `another process`.
        holder: String,
        /// How long was waited.
        waited_ms: u128,
    },
    /// It is, or may be, somebody else's. Nothing of it was changed.
    #[error(
        "--data-dir {path} cannot be a hub's own: {why}; give a directory for this hub alone, it is made if there is none"
    )]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// What is there.
        why: String,
    },
    /// A file of it does not hold what it should. Nothing overwrites it: someone should look first.
    #[error("--data-dir: {path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// Fills its argument with random bytes.
pub type Random<'a> = &'a mut (dyn FnMut(&mut [u8]) + Send);

/// An open data directory, locked until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    files: OwnFiles,
    hub: HubId,
    incarnation: Incarnation,
    // The lock is the open file's; the kernel drops it with the process, however that ends.
    _lock: File,
}

/// The next run of a hub: above every earlier one, also when the clock went back, and unlike any other hub's.
pub fn next_incarnation(last: Option<Incarnation>, now_unix_ms: u64, random: Random<'_>) -> Incarnation {
    let mut drawn = [0; 8];
    random(&mut drawn);
    let low = u64::from_le_bytes(drawn) & ((1 << INCARNATION_RANDOM_BITS) - 1);
    let fresh = now_unix_ms << INCARNATION_RANDOM_BITS | low;
    Incarnation(last.map_or(fresh, |last| fresh.max(last.0.saturating_add(1))))
}

impl DataDir {
    /// Opens the directory, made with mode 0700 if there is none, and locks it. If another process has it, says so in the log, at once and
    /// every ten seconds, and waits for it, at most `wait`; dropping the future ends the wait too. `now_unix_ms` is the wall clock, for the incarnation.
    ///
    /// Errors: see [`DataDirError`].
    pub async fn open(path: &Path, wait: Duration, now_unix_ms: u64, random: Random<'_>) -> Result<Self, DataDirError> {
        make_dir(path)?;
        let files = OwnFiles::open(path).map_err(io_error(path, "open it"))?;
        let lock = lock(path, &files, wait).await?;
        let hub = match read_small(path, &files, HUB_ID_NAME)? {
            Some(text) => parse(&path.join(HUB_ID_NAME), &text)?,
            None => {
                let mut bytes = [0; 8];
                random(&mut bytes);
                let hub = HubId(u64::from_le_bytes(bytes));
                write_small(path, &files, HUB_ID_NAME, &hub.to_string())?;
                hub
            }
        };
        let last: Option<Incarnation> = match read_small(path, &files, INCARNATION_NAME)? {
            Some(text) => Some(parse(&path.join(INCARNATION_NAME), &text)?),
            None => None,
        };
        // Higher than the last one even if the clock went back.
        let incarnation = next_incarnation(last, now_unix_ms, random);
        write_small(path, &files, INCARNATION_NAME, &incarnation.to_string())?;
        Ok(Self { path: path.to_owned(), files, hub, incarnation, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who this hub is: chosen at random when the directory was made.
    pub fn hub(&self) -> HubId {
        self.hub
    }

    /// Which run of the hub this is: higher than each before.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The directory's files, for [`super::Store::open`].
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::new(&self.path, self.files.clone()))
    }

    /// Where the last drain report is kept.
    pub fn report_file(&self) -> ReportFile {
        ReportFile::new(self.path.clone(), self.files.clone())
    }

    /// The secret of `len_bytes` bytes in file `name`, made at random and synced if there is no such file. Blocks.
    ///
    /// Errors: the file system refuses, or the file holds something else (it is not overwritten).
    pub fn read_or_create_secret(
        &self,
        name: &str,
        len_bytes: usize,
        random: Random<'_>,
    ) -> Result<Vec<u8>, DataDirError> {
        let path = self.path.join(name);
        if let Some(text) = read_small(&self.path, &self.files, name)? {
            // The text is a secret, so the error does not show it.
            return unhex(text.trim_end()).filter(|secret| secret.len() == len_bytes).ok_or_else(|| DataDirError::Damaged {
                path,
                why: format!("expected {} hexadecimal digits; put the right ones back, or remove the file to have a new secret made", len_bytes * 2),
            });
        }
        let mut secret = vec![0; len_bytes];
        random(&mut secret);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        write_small(&self.path, &self.files, name, &hex)?;
        Ok(secret)
    }
}

fn io_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> DataDirError {
    move |error| DataDirError::Io { path: path.to_owned(), doing, error }
}

fn make_dir(path: &Path) -> Result<(), DataDirError> {
    match fs::metadata(path) {
        Ok(meta) => fits(path, &meta)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(path)
                .map_err(io_error(path, "make the directory"))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync_dir(parent)?;
        }
        Err(error) => return Err(io_error(path, "look at it")(error)),
    }
    tighten(path)
}

/// Whether what is there may be a hub's own: its mode is about to be changed, which nobody else may suffer from.
fn fits(path: &Path, meta: &fs::Metadata) -> Result<(), DataDirError> {
    let unfit = |why: String| Err(DataDirError::Unfit { path: path.to_owned(), why });
    if !meta.is_dir() {
        return unfit("it is no directory".into());
    }
    let mode = meta.permissions().mode() & 0o7777;
    if mode & STICKY != 0 {
        return unfit(format!("it is shared by many (mode {mode:o})"));
    }
    if path.join(HUB_ID_NAME).symlink_metadata().is_ok() {
        return Ok(());
    }
    // A hub that died in its first moment leaves no more than its lock and a half-written id.
    for entry in fs::read_dir(path).map_err(io_error(path, "list it"))? {
        let name = entry.map_err(io_error(path, "list it"))?.file_name();
        let is_probe = name.to_string_lossy().starts_with(PROBE);
        if name != LOST_AND_FOUND && name != LOCK_NAME && name != HUB_ID_NEXT_NAME && !is_probe {
            return unfit(format!("it holds nothing of a hub's, and other things such as {}", name.display()));
        }
    }
    Ok(())
}

/// Takes away what others may do in the directory. Where that is refused (it is root's, and ours by its group; a file
/// system without modes) it will do as long as not everybody may write there: what is written is for us alone.
fn tighten(path: &Path) -> Result<(), DataDirError> {
    let mode =
        || fs::metadata(path).map(|meta| meta.permissions().mode() & 0o7777).map_err(io_error(path, "look at it"));
    let found = mode()?;
    if found & 0o777 & !DIR_MODE == 0 {
        return Ok(());
    }
    let tightened = fs::set_permissions(path, Permissions::from_mode(DIR_MODE));
    let left = mode()?;
    if left & WORLD_WRITES != 0 {
        let why = tightened.err().map_or_else(|| "it stays".to_owned(), |error| error.to_string());
        let why = format!(
            "everybody may write in it (mode {left:o}), and that cannot be changed ({why}). \
             A directory in it will do, such as {}",
            path.join("hub").display()
        );
        return Err(DataDirError::Unfit { path: path.to_owned(), why });
    }
    if left == found {
        tracing::warn!(path = %path.display(), "its mode is {found:o} and cannot be changed: who has rights by it sees the names of files, and with write rights can remove them; what is in them is for this user alone");
    } else {
        tracing::warn!(path = %path.display(), "mode was {found:o}, set to {left:o}: parked sessions and keys are nobody else's business");
    }
    Ok(())
}

async fn lock(dir: &Path, files: &OwnFiles, wait: Duration) -> Result<File, DataDirError> {
    let path = dir.join(LOCK_NAME);
    let opened = files.file(LOCK_NAME, For::Making).map_err(file_error(&path, "open the lock"))?;
    let mut file = opened.ok_or_else(|| io_error(&path, "make the lock")(io::ErrorKind::NotFound.into()))?;
    let since = Instant::now();
    let mut said_at = None;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(io_error(&path, "lock it")(error)),
        }
        let waited = since.elapsed();
        if waited >= wait {
            let holder = holder(dir, files)?;
            return Err(DataDirError::InUse { path: dir.to_owned(), holder, waited_ms: waited.as_millis() });
        }
        if said_at.is_none_or(|at| waited.saturating_sub(at) >= LOCK_SAID_EVERY) {
            tracing::warn!(
                waited_s = waited.as_secs(),
                gives_up_after_s = wait.as_secs(),
                "--data-dir {} is in use by {}: this hub does not serve, it waits for that process to end. \
                 Stop that process, or stop this one and give it another --data-dir",
                dir.display(),
                holder(dir, files)?
            );
            said_at = Some(waited);
        }
        tokio::time::sleep(LOCK_RETRY.min(wait - waited)).await;
    }
    if said_at.is_some() {
        tracing::info!("--data-dir {} is free now, after {} s", dir.display(), since.elapsed().as_secs());
    }
    // Only so that the next one can name us; it need not be durable.
    let named = file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    named.map_err(io_error(&path, "write to the lock"))?;
    Ok(file)
}

/// Who has the lock, as far as the file tells. It may still name an earlier process, so one that is gone is not named.
fn holder(dir: &Path, files: &OwnFiles) -> Result<String, DataDirError> {
    let pid = read_small(dir, files, LOCK_NAME)?.and_then(|text| text.trim().parse::<u32>().ok());
    let lives = |pid: &u32| !Path::new("/proc/self").exists() || Path::new("/proc").join(pid.to_string()).exists();
    Ok(pid.filter(lives).map_or("another process".to_owned(), |pid| format!("process {pid}")))
}

fn read_small(dir: &Path, files: &OwnFiles, name: &str) -> Result<Option<String>, DataDirError> {
    files.read(name, SMALL_FILE_BYTES_MAX).map_err(file_error(&dir.join(name), "read it"))
}

/// Writes a whole file so that after a crash it is either there in full or not at all.
fn write_small(dir: &Path, files: &OwnFiles, name: &str, text: &str) -> Result<(), DataDirError> {
    files.replace(name, text).map_err(file_error(&dir.join(name), "write it"))
}

/// What a file of the directory that cannot be used is called in an error.
pub(super) fn file_error(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> DataDirError {
    move |error| match error.kind() {
        io::ErrorKind::InvalidData => DataDirError::Damaged { path: path.to_owned(), why: error.to_string() },
        _ => io_error(path, doing)(error),
    }
}

fn sync_dir(dir: &Path) -> Result<(), DataDirError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error(dir, "sync the directory"))
}

fn parse<T: FromStr>(path: &Path, text: &str) -> Result<T, DataDirError>
where
    T::Err: std::fmt::Display,
{
    text.trim_end().parse().map_err(|why: T::Err| DataDirError::Damaged { path: path.to_owned(), why: why.to_string() })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}
