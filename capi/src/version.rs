//! The version, in the header and at run time.

use core::ffi::c_char;

/// Major version of the header: a program built with another one must be built anew.
pub const NUNATAK_VERSION_MAJOR: u32 = 0;
/// Minor version of the header. While the major version is 0, a change of it may need changes in programs.
pub const NUNATAK_VERSION_MINOR: u32 = 1;
/// Patch version of the header.
pub const NUNATAK_VERSION_PATCH: u32 = 0;

const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The library's version: major · 65536 + minor · 256 + patch. Compare it with the header's
/// `NUNATAK_VERSION_…` where the library is shared. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_version() -> u32 {
    NUNATAK_VERSION_MAJOR << 16 | NUNATAK_VERSION_MINOR << 8 | NUNATAK_VERSION_PATCH
}

/// The library's version as a text: "0.1.0". The text is constant. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn nunatak_version_text() -> *const c_char {
    TEXT.as_ptr().cast()
}
