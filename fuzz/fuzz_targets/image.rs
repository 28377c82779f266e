//! Pictures: any bytes through every decoder, and what a training step makes of the pixels. With `--cfg fuzzing`, as
//! cargo-fuzz builds, pictures of more than 2^18 pixels are refused, so that an input takes milliseconds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nunatak_core::rng::Generator;
use nunatak_data::decode::{Options, decode_with};
use nunatak_data::{Evaluation, Rgb8, Training};

fuzz_target!(|bytes: &[u8]| {
    let plain = decode_with(bytes, Options::new());
    let turned = decode_with(bytes, Options::new().with_exif(true));
    match (plain, turned) {
        (Ok(plain), Ok(turned)) => {
            whole(&plain);
            whole(&turned);
            let swapped = (turned.height, turned.width);
            assert!((turned.width, turned.height) == (plain.width, plain.height) || swapped == (plain.width, plain.height));
            if plain.width.max(plain.height) <= 512 {
                let mut out = vec![0; 3 * 8 * 8];
                Evaluation::new(8).apply(&plain, &mut out);
                Training::new(8).apply(&plain, &mut Generator::manual_seed(bytes.len() as u64), &mut out);
            }
        }
        (Err(one), Err(other)) => {
            assert_eq!(one, other);
            let text = one.to_string();
            assert!(text.len() < 400 && !text.contains(|c: char| c.is_control()), "{text}");
        }
        (one, other) => panic!("with orientation {other:?}, without {one:?}"),
    }
});

fn whole(picture: &Rgb8) {
    assert!(picture.width > 0 && picture.height > 0);
    assert_eq!(picture.pixels.len(), picture.width * picture.height * 3);
}
