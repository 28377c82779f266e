//! Printing without a panic where nobody reads any more, or the disk behind stdout or stderr is full.

use crate::failure::Failure;
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether notes and progress are left out.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on results, warnings and errors alone are written: `--quiet`.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether notes and progress are left out.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Writes text to stdout.
///
/// # Errors
/// [`Failure::OutputClosed`] where the reader has gone.
pub fn write(text: fmt::Arguments) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()?;
    Ok(())
}

/// Writes a note to stderr, unless notes are left out.
pub fn say(text: impl fmt::Display) {
    if !is_quiet() {
        warn(text);
    }
}

/// Writes a line to stderr that must be seen. Where that can't be done there is nobody left to tell.
pub fn warn(text: impl fmt::Display) {
    // One write, so that lines of several threads are not mixed.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Text from a file or a folder, made fit for a terminal: control characters and the like are escaped.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// `println!` that returns an error instead of panicking.
#[macro_export]
macro_rules! outln {
    ($($part:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($part)*))) };
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_cannot_command_the_terminal() {
        assert_eq!(printable("layer1.0 \"Füße\" a\\b"), "layer1.0 \"Füße\" a\\b");
        assert_eq!(printable("a\x1b[31m\u{202e}\nb"), "a\\u{1b}[31m\\u{202e}\\nb");
    }
}
