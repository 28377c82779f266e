//! `--log FILE`: a line of JSON for everything that happens.

use crate::failure::Failure;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// The log, or none.
pub(super) struct Log {
    file: Option<File>,
}

impl Log {
    /// Opens it; a resumed run adds to what is there.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub(super) fn open(path: Option<&Path>, resume: bool) -> Result<Log, Failure> {
        let Some(path) = path else { return Ok(Log { file: None }) };
        let mut options = OpenOptions::new();
        options.create(true).append(resume).write(true).truncate(!resume);
        let file = options.open(path).map_err(|e| Failure::with(path.display(), format_args!("can't be written: {e}")))?;
        Ok(Log { file: Some(file) })
    }

    /// Adds a line. A log that can't be written any more is no reason to end a training: it ends
    /// itself, and why is returned.
    pub(super) fn line(&mut self, value: &Value) -> Option<std::io::Error> {
        let file = self.file.as_mut()?;
        // One write per line, so that a reader never sees half a line unless the disk is full.
        let error = file.write_all(format!("{value}\n").as_bytes()).err();
        if error.is_some() {
            self.file = None;
        }
        error
    }
}
