//! How far a download has come: a bar on a terminal, nothing elsewhere.

use crate::output::{is_quiet, say};
use indicatif::{ProgressBar, ProgressStyle};

/// Columns below which there is no room for a bar.
const NARROW: u16 = 60;

/// Shows bytes.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Of a file of so many bytes.
    pub(super) fn new(name: &str, total: u64) -> Bar {
        let bar = ProgressBar::new(total);
        let wide = console::Term::stderr().size_checked().is_none_or(|(_, columns)| columns >= NARROW);
        let template = if wide {
            "{prefix} {bar:20} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left"
        } else {
            "{decimal_bytes}/{decimal_total_bytes}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name.to_string());
        Bar((!bar.is_hidden() && !is_quiet()).then_some(bar))
    }

    /// So many bytes are there, of `total` where that is known.
    pub(super) fn show(&self, done: u64, total: Option<u64>) {
        let Some(bar) = &self.0 else { return };
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// An attempt begins here: what was there before does not count for its speed.
    pub(super) fn begin(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// A line that stays, above the bar.
    pub(super) fn line(&self, text: impl std::fmt::Display) {
        match &self.0 {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
