//! Printing to stdout without a panic when nobody reads any more.

use crate::failure::Failure;
use std::fmt;
use std::io::Write;

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

/// `println!` that returns an error instead of panicking.
#[macro_export]
macro_rules! outln {
    ($($part:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($part)*))) };
}
