//! Pictures of any kind as PPM, one after the other, on standard output; for what can't be read a line `ERROR` with the
//! reason. `tests/pictures.py` compares them with PIL's.
//!
//! ```text
//! cargo run -q -p nunatak-data --example ppm -- [--exif] FILE… > pictures.ppm
//! ```

use nunatak_data::decode::{Options, read_with};
use std::io::{self, BufWriter, Write};

fn main() -> io::Result<()> {
    let mut options = Options::new();
    let mut out = BufWriter::new(io::stdout().lock());
    for argument in std::env::args_os().skip(1) {
        if argument == "--exif" {
            options = options.with_exif(true);
            continue;
        }
        match read_with(argument.as_ref(), options) {
            Ok(picture) => {
                writeln!(out, "P6 {} {} 255", picture.width, picture.height)?;
                out.write_all(&picture.pixels)?;
            }
            Err(e) => writeln!(out, "ERROR {e}")?,
        }
    }
    out.flush()
}
