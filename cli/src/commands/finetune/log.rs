//! `--log FILE`: a line of JSON for everything that happens; or, to a `FILE.csv`, a row for every epoch, with the columns of
//! timm's `summary.csv`: epochs are counted from 0, shares are in a hundred.

use crate::failure::Failure;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The columns of a table.
const COLUMNS: &str = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr";

/// Whether a log of this name is a table.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv"))
}

/// The row of an epoch's event; nothing of other events.
fn row(event: &Value) -> Option<String> {
    let epoch = event["epoch"].as_u64().filter(|_| event["event"] == "epoch")?.checked_sub(1)?;
    let cell = |key: &str, times: f64| event[key].as_f64().map_or(String::new(), |number| (times * number).to_string());
    let [train, val, lr] = [cell("train_loss", 1.0), cell("val_loss", 1.0), cell("lr", 1.0)];
    Some(format!("{epoch},{train},{val},{},{},{lr}", cell("val_top1", 100.0), cell("val_top5", 100.0)))
}

/// The log, or none.
pub(super) struct Log {
    file: Option<File>,
    /// Whether it is a table.
    table: bool,
    path: PathBuf,
    /// Why it ended before the run did.
    ended: Option<String>,
}

impl Log {
    /// Opens it. Nothing in it changes yet.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub(super) fn open(path: Option<&Path>) -> Result<Log, Failure> {
        let Some(path) = path else { return Ok(Log { file: None, table: false, path: PathBuf::new(), ended: None }) };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| unwritable(path, &e))?;
        Ok(Log { file: Some(file), table: is_table(path), path: path.to_owned(), ended: None })
    }

    /// A new run's log begins: what an earlier one left in it goes.
    ///
    /// # Errors
    /// [`Failure`] that names the file.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        match &self.file {
            // A pipe and a terminal have nothing that could go.
            Some(file) if self.path.is_file() => file.set_len(0).map_err(|e| unwritable(&self.path, &e)),
            _ => Ok(()),
        }
    }

    /// Adds a line, with the time of day (UTC, RFC 3339). A log that can't be written any more is no reason to end a
    /// training: it ends itself, and what is to be said is returned.
    pub(super) fn line(&mut self, mut value: Value) -> Option<String> {
        let file = self.file.as_mut()?;
        let text = if self.table {
            let empty = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0);
            // Of a run that goes on in a new file too.
            let head = if empty { format!("{COLUMNS}\n") } else { String::new() };
            format!("{head}{}", row(&value)?)
        } else {
            value["time"] = time_text(SystemTime::now()).into();
            value.to_string()
        };
        // One write per line, so that a reader never sees half a line unless the disk is full.
        let error = file.write_all(format!("{text}\n").as_bytes()).err()?;
        self.file = None;
        self.ended = Some(error.to_string());
        Some(format!("warning: {}: the log ends here, it can't be written: {error}; the run goes on", self.path.display()))
    }

    /// Whether all of the run is in it.
    ///
    /// # Errors
    /// [`Failure`] that names the file and says why it ended.
    pub(super) fn whole(&self) -> Result<(), Failure> {
        let fail = |why: &String| Failure::with(self.path.display(), format_args!("the log is not whole, it could not be written: {why}"));
        self.ended.as_ref().map_or(Ok(()), |why| Err(fail(why)))
    }
}

fn unwritable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::with(path.display(), format_args!("can't be written: {e}"))
}

/// A time of day as text. A clock that was never set is before 1970, and a broken one after 9999: these are then told.
fn time_text(time: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(time.clamp(UNIX_EPOCH, last)).to_string()
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
    fn clocks_of_any_time_are_told() {
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        assert_eq!(time_text(now), "2027-01-15T08:00:00.123Z");
        assert_eq!(time_text(UNIX_EPOCH - Duration::from_secs(86_400)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(now + Duration::from_secs(1 << 40)), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn epochs_are_rows() {
        let event = serde_json::json!({
            "event": "epoch", "epoch": 3, "train_loss": 0.5, "val_loss": 0.25, "val_top1": 0.75, "val_top5": 1.0, "lr": 0.01,
        });
        assert_eq!(row(&event).unwrap(), "2,0.5,0.25,75,100,0.01");
        assert_eq!(COLUMNS.split(',').count(), row(&event).unwrap().split(',').count());
        let alone = serde_json::json!({"event": "epoch", "epoch": 1, "train_loss": 2.0, "val_loss": null, "lr": 1e-7});
        assert_eq!(row(&alone).unwrap(), "0,2,,,,0.0000001");
        for other in [serde_json::json!({"event": "step", "epoch": 1}), serde_json::json!({"event": "epoch", "epoch": 0})] {
            assert_eq!(row(&other), None);
        }
        assert!(is_table(Path::new("a/summary.CSV")) && !is_table(Path::new("csv")));
    }

    #[test]
    fn numbers_have_the_digits_that_people_gave() {
        assert_eq!(serde_json::json!({"lr": short(0.02)}).to_string(), "{\"lr\":0.02}");
        assert_eq!([short(1e-30), short(0.1), short(3.0)], [1e-30, 0.1, 3.0]);
        assert_eq!(short_json(&[0.02_f32]).to_string(), "[0.02]");
        assert_eq!([loss_text(1.23456), loss_text(1.5e31), loss_text(f64::NAN)], ["1.2346", "1.500e31", "NaN"]);
    }
}
