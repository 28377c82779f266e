//! Files becoming pixels: PIL's answers for good ones, an error for all others.

use std::io::Cursor;

use crate::support::{encode, fnv, golden, golden_bytes, put, tiny_png};
use image::ImageFormat;
use nunatak_data::decode::{MAX_PIXELS, Options, decode, read, read_with};
use proptest::prelude::*;

fn pil(name: &str) -> (Vec<u8>, Vec<u8>) {
    let got = decode(&golden_bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(got.pixels.len(), got.width * got.height * 3, "{name}");
    let want = golden_bytes(&format!("{name}.rgb"));
    assert_eq!(got.pixels.len(), want.len(), "{name}");
    (got.pixels, want)
}

#[test]
fn goldens_are_pils_to_the_byte() {
    for name in [
        "420.jpg",
        "422.jpg",
        "444.jpg",
        "progressive.jpg",
        "restart.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "rotated.jpg",
        "lossy.webp",
        "palette.tif",
        "float.tif",
        "lossless.webp",
        "lzw.tif",
        "bilevel.tif",
        "grey16.tif",
        "palette.bmp",
        "palette.png",
        "interlaced.png",
        "grey16.png",
        "greyalpha16.png",
        "rgb16.png",
        "rgba16.png",
        "grey2.png",
        "grey1.png",
        "palette_trns.png",
        "palette_short.png",
        "rgb_trns.png",
        "16.pgm",
        "100.pgm",
        "16.ppm",
        "100.ppm",
        "text.ppm",
        "cmyk.tif",
    ] {
        let (got, want) = pil(name);
        assert_eq!(got, want, "{name}");
    }
}

/// A small file of every kind that `tests/pictures.py` makes, as PIL sees it, upright too.
#[test]
fn every_kind_is_pils_to_the_byte() {
    let text = String::from_utf8(golden_bytes("kinds/kinds.txt")).unwrap();
    for line in text.lines() {
        let [name, width, height, sum, up_width, up_height, up_sum, kind] = line.splitn(8, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        for (options, want) in [(Options::new(), [width, height, sum]), (Options::new().with_exif(true), [up_width, up_height, up_sum])] {
            let got = read_with(&golden(&format!("kinds/{name}")), options).unwrap_or_else(|e| panic!("{kind}: {e}"));
            let seen = [got.width.to_string(), got.height.to_string(), fnv(got.pixels).to_string()];
            assert_eq!(seen, want, "{kind}: {name}");
        }
    }
    assert!(text.lines().count() > 150);
}

/// Every format that the crate writes, every kind of pixel.
#[test]
fn grey_alpha_and_colour() {
    let encode = |picture: image::DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        decode(&bytes.into_inner()).unwrap().pixels
    };
    let grey = image::GrayImage::from_raw(2, 1, vec![7, 200]).unwrap();
    let veiled = image::GrayAlphaImage::from_raw(2, 1, vec![7, 0, 200, 128]).unwrap();
    let clear = image::RgbaImage::from_raw(2, 1, vec![1, 2, 3, 0, 4, 5, 6, 9]).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
        let got = encode(grey.clone().into(), format);
        assert_eq!(got, [7, 7, 7, 200, 200, 200], "{format:?}");
    }
    assert_eq!(encode(veiled.into(), ImageFormat::Png), [7, 7, 7, 200, 200, 200]);
    for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::WebP] {
        let got = encode(clear.clone().into(), format);
        assert_eq!(got, [1, 2, 3, 4, 5, 6], "{format:?}");
    }
}

#[test]
fn the_content_counts_not_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("really_a_png.jpg");
    put(&path, &tiny_png(3, 2, [9, 8, 7]));
    let got = read(&path).unwrap();
    assert_eq!((got.width, got.height), (3, 2));
    assert_eq!(got.pixels, [9, 8, 7].repeat(6));
}

#[test]
fn errors_say_what_was_found() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "empty"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "broken GIF"),
        (b"\0\0\0\x1cftypavif\0\0", "AVIF format; save it anew"),
        (b"<!DOCTYPE html><html>", "no picture (begins with the bytes [3c, 21"),
        (b"version https://git-lfs.github.com/spec/v1", "no picture"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xFF\xD8\xFF", "cut off after 3 bytes"),
    ];
    for (bytes, want) in cases {
        let error = decode(bytes).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn what_cannot_be_read_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone.jpg");
    let error = read(&gone).unwrap_err();
    assert_eq!(error.path.as_deref(), Some(&*gone));
    assert!(error.to_string().contains("gone.jpg\": cannot be read"), "{error}");
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is not a file"), "{error}");
}

/// A name may hold what a terminal would obey.
#[cfg(unix)]
#[test]
fn a_name_is_printed_harmlessly() {
    let error = read("/nowhere/\u{1b}[2J\n.jpg".as_ref()).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error}");
}

/// Large enough for many KiB, and nothing that packs well.
fn rustling(format: ImageFormat) -> Vec<u8> {
    let mut x = 1_u32;
    let picture = image::RgbImage::from_fn(90, 70, |_, _| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, a, b, c] = x.to_le_bytes();
        image::Rgb([a, b, c])
    });
    if format == ImageFormat::Pnm {
        return [b"P6 90 70 255\n", &picture.into_raw()[..]].concat();
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn cut_at_every_kib_is_an_error() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Pnm] {
        let bytes = rustling(format);
        assert!(bytes.len() > 5 * 1024, "{format:?}: {}", bytes.len());
        decode(&bytes).unwrap();
        for cut in (0..bytes.len() - 16).step_by(1024) {
            let got = decode(&bytes[..cut]);
            assert!(got.is_err(), "{format:?} cut after {cut}: {got:?}");
        }
    }
    // JPEG at its very end too: PIL wants the end mark.
    let jpeg = rustling(ImageFormat::Jpeg);
    for cut in 1..40 {
        decode(&jpeg[..jpeg.len() - cut]).unwrap_err();
    }
}

/// What other formats do with the rest is their business; they must not panic.
#[test]
fn every_prefix_of_small_files_is_survived() {
    for name in ["420.jpg", "progressive.jpg", "cmyk.jpg", "lossy.webp", "lossless.webp", "interlaced.png", "palette.bmp", "lzw.tif"] {
        let bytes = golden_bytes(name);
        for cut in (0..bytes.len()).step_by(bytes.len().div_ceil(300)) {
            let _ = decode(&bytes[..cut]);
        }
    }
}

/// A JPEG whose header says so: start, frame 65500 x 65500 with one component, end.
#[test]
fn a_huge_claim_is_refused_before_anything_is_reserved() {
    let side = 65_500_u16.to_be_bytes();
    let mut jpeg = b"\xFF\xD8\xFF\xC0\x00\x0B\x08".to_vec();
    jpeg.extend([side[0], side[1], side[0], side[1], 1, 1, 0x11, 0]);
    jpeg.extend(b"\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00\x00\xFF\xD9");
    let error = decode(&jpeg).unwrap_err().to_string();
    assert!(error.contains("65500 x 65500"), "{error}");
    assert!(error.contains(&MAX_PIXELS.to_string()), "{error}");

    // PNG, BMP, PNM with the same claim.
    let mut png = tiny_png(1, 1, [0; 3]);
    png[16..24].copy_from_slice(&[0, 0, 0xFF, 0xDC, 0, 0, 0xFF, 0xDC]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut bmp = encode(1, 1, [0; 3], ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xDC, 0xFF, 0, 0, 0xDC, 0xFF, 0, 0]);
    let pnm = b"P6 65500 65500 255\n\0\0\0".to_vec();
    for bytes in [png, bmp, pnm] {
        let error = decode(&bytes).unwrap_err().to_string();
        assert!(error.contains("65500"), "{error}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1))))
}

/// Below the limit of pixels, but the file has nothing of what it claims.
#[test]
fn a_bomb_below_the_limit_is_an_error() {
    let error = decode(b"P6 13000 13000 255\n\0\0\0").unwrap_err().to_string();
    assert!(error.contains("PPM"), "{error}");
}

#[test]
fn a_side_of_zero_is_an_error() {
    let mut png = tiny_png(1, 1, [0; 3]);
    png[16..20].fill(0);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut jpeg = golden_bytes("420.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0);
    for bytes in [&png[..], &jpeg, b"P5 0 5 255\n"] {
        decode(bytes).unwrap_err();
    }
}

#[test]
fn one_by_n_and_n_by_one() {
    for (w, h) in [(1, 5000), (5000, 1)] {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let got = decode(&encode(w, h, [200; 3], format)).unwrap();
            assert_eq!((got.width, got.height), (w as usize, h as usize));
            assert!(got.pixels.iter().all(|p| p.abs_diff(200) < 2));
        }
    }
}

/// What follows the end of a JPEG is nobody's business, as in PIL.
#[test]
fn bytes_after_the_end_are_ignored() {
    let mut bytes = golden_bytes("420.jpg");
    let clean = decode(&bytes).unwrap();
    bytes.extend([0; 100]);
    assert_eq!(decode(&bytes).unwrap(), clean);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_files_never_panic(
        which in 0_usize..8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let name = ["420.jpg", "progressive.jpg", "cmyk.jpg", "lossy.webp",
            "interlaced.png", "palette.bmp", "lzw.tif", "text.ppm"][which];
        let mut bytes = golden_bytes(name);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(p) = decode(&bytes) {
            prop_assert_eq!(p.pixels.len(), p.width * p.height * 3);
        }
    }
}

/// A small JPEG that claims much and ends properly has too few bytes for its blocks.
#[test]
fn a_jpeg_that_claims_more_than_it_can_hold_is_an_error() {
    for name in ["420.jpg", "progressive.jpg"] {
        let mut jpeg = golden_bytes(name);
        let frame = jpeg.windows(2).position(|w| w[0] == 0xFF && (w[1] == 0xC0 || w[1] == 0xC2)).unwrap();
        let side = 13_000_u16.to_be_bytes();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[side[0], side[1], side[0], side[1]]);
        let error = decode(&jpeg).unwrap_err().to_string();
        assert!(error.contains("13000 x 13000") && error.contains("too few"), "{error}");
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_unreadable_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.png");
        put(&path, &tiny_png(1, 1, [0; 3]));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        // To root everything is readable.
        if std::fs::read(&path).is_err() {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("cannot be read"), "{error}");
        }
    }

    /// Not opened at all: a pipe would wait for ever, a device would never end.
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zero.jpg");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("is not a file"), "{error}");
    }
}
