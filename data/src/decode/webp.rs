//! WebP, still or the first picture of an animation; alpha is dropped, the colour below it kept, as in PIL.

use super::{DecodeError, Limit, Rgb8};
use image_webp::WebPDecoder;
use std::io::Cursor;

/// Decodes a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, DecodeError> {
    let broken = |e: image_webp::DecodingError| DecodeError::new(format!("broken WebP: {e}"));
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let limit = Limit::new("WebP", width.into(), height.into())?;
    decoder.set_memory_limit(super::MAX_ALLOC as usize);
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let (width, height) = (width as usize, height as usize);
    limit.bytes((width * height * (channels + 3)) as u64)?;
    let mut data = vec![0; width * height * channels];
    if decoder.is_animated() {
        // PIL's canvas is clear black, whatever the file's background.
        decoder.set_background_color([0; 4]).map_err(broken)?;
        decoder.read_frame(&mut data).map_err(broken)?;
    } else {
        decoder.read_image(&mut data).map_err(broken)?;
    }
    if channels == 4 {
        data = data.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect();
    }
    Ok(Rgb8 { width, height, pixels: data })
}
