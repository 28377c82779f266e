//! Bytes in the program itself, where weights can be used in place.

/// Bytes that begin at a multiple of 64.
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized> {
    /// The bytes.
    pub bytes: T,
}

/// The bytes of a file at compile time, as [`include_bytes!`] gives them, but at a multiple of 64 as
/// weights in place ask for: on a board they lie in flash and take no RAM.
///
/// ```ignore
/// static WEIGHTS: &[u8] = nunatak_nn::include_weights!("backbone.nunatak");
/// ```
#[macro_export]
macro_rules! include_weights {
    ($file:expr) => {{
        static ALIGNED: &$crate::files::native::Aligned<[u8]> = &$crate::files::native::Aligned { bytes: *include_bytes!($file) };
        &ALIGNED.bytes
    }};
}
