//! The last drain report in the data directory: small JSON that outlives the process, replaced as a whole.

use super::DataDirError;
use super::dir::file_error;
use super::own_files::OwnFiles;
use std::path::PathBuf;

const NAME: &str = "last-report.json";
/// A report with all its stages and some thousand successors is far below.
const BYTES_MAX: u64 = 1 << 20;

/// Where the last report is kept.
#[derive(Clone, Debug)]
pub struct ReportFile {
    dir: PathBuf,
    files: OwnFiles,
}

impl ReportFile {
    pub(super) fn new(dir: PathBuf, files: OwnFiles) -> Self {
        Self { dir, files }
    }

    /// What was kept last, if anything. Blocks.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn read(&self) -> Result<Option<String>, DataDirError> {
        self.files.read(NAME, BYTES_MAX).map_err(file_error(&self.dir.join(NAME), "read it"))
    }

    /// Keeps this text in the place of the last one: synced, and after a crash either there in full or not at all. Blocks.
    ///
    /// # Errors
    /// The file system refuses, or the text is above the megabyte that is read again.
    pub fn write(&self, text: &str) -> Result<(), DataDirError> {
        if text.len() as u64 >= BYTES_MAX {
            let why = format!("a report of {} bytes is not kept: at most {BYTES_MAX}", text.len());
            return Err(DataDirError::Damaged { path: self.dir.join(NAME), why });
        }
        self.files.replace(NAME, text).map_err(file_error(&self.dir.join(NAME), "write it"))
    }
}
