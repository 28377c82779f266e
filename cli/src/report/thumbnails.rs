//! Small pictures inside the page, of the pixels that the network saw.

use super::html::text;
use nunatak_data::resize::{Axis, Source, resize};
use nunatak_data::{Batch, Loader};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// The longest side of a picture, in pixels.
pub const MOST: usize = 128;
/// Images of a page that are shown with a picture: a page of more would take a browser's memory.
pub const PICTURES: usize = 500;
/// The side of such a picture, in pixels.
pub const SIDE: usize = 112;
/// Pictures of this side or less are shown with their pixels as squares.
const SMALL: usize = 64;

/// A picture as the address of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    side: usize,
    data: String,
}

impl Thumbnail {
    /// Of a square of pixels, red, green and blue of each; made smaller where it is larger than `most`. None where these
    /// are no pixels of a square.
    pub fn of(pixels: &[u8], most: usize) -> Option<Thumbnail> {
        let side = (pixels.len() / 3).isqrt();
        if side == 0 || pixels.len() != 3 * side * side {
            return None;
        }
        if side <= most {
            return Some(Thumbnail { side, data: base64(&png(pixels, side)?) });
        }
        let axis = Axis::all(most);
        Some(Thumbnail { side: most, data: base64(&png(&resize(Source::new(pixels, side, side), axis, axis), most)?) })
    }

    /// As markup.
    fn html(&self) -> String {
        let small = if self.side <= SMALL { " class=\"small\"" } else { "" };
        format!("<img{small} alt=\"\" width=\"{0}\" height=\"{0}\" src=\"data:image/png;base64,{1}\"/>", self.side, self.data)
    }
}

/// The pixels of the images of a batch, with the number of each sample.
pub fn pixels(batch: &Batch) -> impl Iterator<Item = (usize, &[u8])> {
    let image = batch.pixels.len() / batch.indices.len().max(1);
    batch.indices.iter().copied().zip(batch.pixels.chunks_exact(image.max(1)))
}

/// Reads these samples again. Those that can't be read any more are not there.
pub fn read_again(loader: &Loader, samples: &[usize]) -> BTreeMap<usize, Thumbnail> {
    let order = samples.iter().filter_map(|i| u32::try_from(*i).ok()).collect();
    let Ok(batches) = loader.epoch(order, 0, 0) else { return BTreeMap::new() };
    let mut pictures = BTreeMap::new();
    for batch in batches {
        pictures.extend(pixels(&batch).filter_map(|(index, pixels)| Some((index, Thumbnail::of(pixels, MOST)?))));
    }
    pictures
}

/// Pictures side by side; each has a caption, which is markup.
pub fn gallery(pictures: impl IntoIterator<Item = (Option<Thumbnail>, String)>) -> String {
    let mut out = "<div class=\"pictures\">\n".to_string();
    for (picture, caption) in pictures {
        let picture = picture.map_or_else(|| "<div class=\"none\">no picture</div>".into(), |picture| picture.html());
        let _ = writeln!(out, "<figure>{picture}<figcaption>{caption}</figcaption></figure>");
    }
    out + "</div>\n"
}

/// A path below a caption.
pub fn path_line(path: &str) -> String {
    format!("<div class=\"path\">{}</div>", text(path))
}

/// A caption: where an image lies, and what a model says of it: classes and their probabilities.
pub fn answered(path: &Path, answers: impl IntoIterator<Item = (String, f64)>) -> String {
    let mut caption = format!("{}<ul class=\"answers\">", path_line(&path.to_string_lossy()));
    for (class, p) in answers {
        let (name, percent) = (text(&class), 100.0 * p);
        let _ = write!(caption, "<li><span>{name}</span><span>{percent:.1} %</span><i style=\"width:{percent:.1}%\"></i></li>");
    }
    caption + "</ul>"
}

/// A square of pixels, red, green and blue of each, as a PNG. None where these are no pixels of a square of this side.
pub fn png(pixels: &[u8], side: usize) -> Option<Vec<u8>> {
    let (mut bytes, side) = (Vec::new(), u32::try_from(side).ok()?);
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(pixels).ok()?;
    writer.finish().ok()?;
    Some(bytes)
}

/// Base64 of RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0_usize, |bits, (i, byte)| bits | usize::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            out.push(if i <= three.len() { char::from(SIGNS[bits >> (18 - 6 * i) & 63]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648.
    #[test]
    fn bytes_become_text() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn pictures_are_no_larger_than_asked_for() {
        let pixels: Vec<u8> = (0..200 * 200 * 3).map(|i| (i % 251) as u8).collect();
        assert_eq!(Thumbnail::of(&pixels, MOST).map(|t| t.side), Some(MOST));
        assert_eq!(Thumbnail::of(&pixels[..32 * 32 * 3], MOST).map(|t| t.side), Some(32));
        assert_eq!(Thumbnail::of(&pixels[..31], MOST), None);
        assert_eq!(Thumbnail::of(&[], MOST), None);
        let html = gallery([(Thumbnail::of(&pixels, 8), String::new()), (None, text("<b>"))]);
        assert!(html.contains("data:image/png;base64,iVBORw0KGgo") && html.contains("no picture") && html.contains("&lt;b&gt;"), "{html}");
    }
}
