//! `--log FILE`: a line of JSON for everything that happens.

use crate::failure::Failure;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

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

    /// Adds a line, with the time of day (UTC, RFC 3339). A log that can't be written any more is no reason to end a
    /// training: it ends itself, and why is returned.
    pub(super) fn line(&mut self, mut value: Value) -> Option<std::io::Error> {
        let file = self.file.as_mut()?;
        value["time"] = humantime::format_rfc3339_millis(SystemTime::now()).to_string().into();
        // One write per line, so that a reader never sees half a line unless the disk is full.
        let error = file.write_all(format!("{value}\n").as_bytes()).err();
        if error.is_some() {
            self.file = None;
        }
        error
    }
}

/// A number of 32 bits with the digits that people gave: 0.02, where its exact value is 0.019999999552965164.
pub(super) fn short(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// Settings as JSON, their numbers short.
pub(super) fn short_json(settings: &impl serde::Serialize) -> Value {
    // Text has the short digits, and text is read as 64 bits.
    serde_json::to_string(settings).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// A loss for people: four digits behind the point, or its size where it is huge.
pub(super) fn loss_text(loss: f64) -> String {
    if loss.abs() < 1e6 { format!("{loss:.4}") } else { format!("{loss:.3e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_people_gave() {
        assert_eq!(serde_json::json!({"lr": short(0.02)}).to_string(), "{\"lr\":0.02}");
        assert_eq!([short(1e-30), short(0.1), short(3.0)], [1e-30, 0.1, 3.0]);
        assert_eq!(short_json(&[0.02_f32]).to_string(), "[0.02]");
        assert_eq!([loss_text(1.23456), loss_text(1.5e31), loss_text(f64::NAN)], ["1.2346", "1.500e31", "NaN"]);
    }
}
