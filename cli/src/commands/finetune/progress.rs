//! What people see: a bar on a terminal, plain lines elsewhere, always on stderr.

use crate::output::{is_quiet, say, warn};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Seconds between plain lines.
const EVERY: Duration = Duration::from_secs(10);
/// Columns below which there is no room for a bar.
const NARROW: u16 = 72;

/// Shows how far an epoch has come.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    head: String,
    total: u64,
    started: Instant,
    said: Instant,
    /// Images since the epoch, or its resumed part, began.
    images: u64,
    /// Batches done when it began.
    first: u64,
    /// Seconds of the last validation.
    validation: f64,
}

impl Progress {
    /// Nothing to show yet.
    pub(super) fn new() -> Progress {
        let now = Instant::now();
        Progress { bar: None, head: String::new(), total: 0, started: now, said: now, images: 0, first: 0, validation: 0.0 }
    }

    /// Begins an epoch (or a validation) of `total` batches, `done` of which are behind us.
    pub(super) fn begin(&mut self, head: String, total: u64, done: u64) {
        self.end();
        (self.started, self.said) = (Instant::now(), Instant::now());
        (self.images, self.first, self.total) = (0, done, total);
        // No colours at all, so NO_COLOR has nothing to forbid. `wide_msg` is cut to the terminal.
        let bar = ProgressBar::new(total).with_position(done);
        let wide = console::Term::stderr().size_checked().is_none_or(|(_, columns)| columns >= NARROW);
        let template = if wide { "{prefix} {bar:10} {pos}/{len}  {wide_msg}" } else { "{wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(head.clone());
        self.head = head;
        self.bar = (!bar.is_hidden() && !is_quiet()).then_some(bar);
    }

    /// After a batch: `done` batches of this epoch, `images` in the last one. `text` says how it goes;
    /// `epochs_left` whole epochs follow this one.
    pub(super) fn step(&mut self, done: u64, images: u64, text: &str, epochs_left: u64) {
        self.images += images;
        let left = self.left(done, epochs_left);
        let speed = self.rate().map_or(String::new(), |rate| format!("  {rate:.1} images/s"));
        let line = format!("{text}  {} left{speed}", clock(left));
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(line);
        } else if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            say(format_args!("{} {done}/{}  {line}", self.head, self.total));
        }
    }

    /// Images per second since the epoch, or its resumed part, began; none where there were none.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.images > 0).then(|| self.images as f64 / self.started.elapsed().as_secs_f64().max(1e-9))
    }

    /// Seconds since the epoch began.
    pub(super) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// How long a validation takes, for the time left.
    pub(super) fn validation_took(&mut self, seconds: f64) {
        self.validation = seconds;
    }

    fn left(&self, done: u64, epochs_left: u64) -> f64 {
        let each = self.started.elapsed().as_secs_f64() / done.saturating_sub(self.first).max(1) as f64;
        let steps = self.total.saturating_sub(done) as f64 + epochs_left as f64 * self.total as f64;
        each * steps + self.validation * (epochs_left + 1) as f64
    }

    /// Takes the bar away.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, above the bar.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// A line that must be seen, above the bar.
    pub(super) fn warn(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| warn(text)),
            None => warn(text),
        }
    }
}

/// Seconds for people: 0:42, 1:02:03.
pub(super) fn clock(seconds: f64) -> String {
    let s = seconds.clamp(0.0, 1e9) as u64;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_readable() {
        assert_eq!([super::clock(42.9), super::clock(3723.0), super::clock(f64::NAN)], ["0:42", "1:02:03", "0:00"]);
    }
}
