//! ResNet18 in burn and in candle. Speaks the protocol of `../worker.py`:
//!
//!     rust-peers burn|candle BATCH SIZE train|head|infer THREADS
//!
//! Each is written as its own documentation writes networks. Threads come from `RAYON_NUM_THREADS`, which
//! whoever starts it sets.

mod in_burn;
mod in_candle;

use std::io::{BufRead, Write};
use std::time::Instant;

/// What one step is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forward, (prediction − labels).sum(), backward, SGD with momentum where there is one.
    Train,
    /// The same with all frozen but an fc of 10 classes; batchnorms in train mode.
    Head,
    /// Forward in eval mode.
    Infer,
}

/// Which step.
#[derive(Clone, Copy)]
pub struct Task {
    pub batch: usize,
    pub size: usize,
    pub mode: Mode,
}

impl Task {
    pub fn classes(&self) -> usize {
        if self.mode == Mode::Head { 10 } else { 1000 }
    }
}

/// A residual block's numbers: name, channels in and out, stride. ResNet18's eight.
pub fn blocks() -> impl Iterator<Item = (String, usize, usize, usize)> {
    [(1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)].into_iter().flat_map(|(layer, inputs, outputs)| {
        let stride = if inputs == outputs { 1 } else { 2 };
        [(format!("layer{layer}.0"), inputs, outputs, stride), (format!("layer{layer}.1"), outputs, outputs, 1)]
    })
}

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [peer, batch, size, mode, _threads] = &args[..] else {
        return Err("expected: rust-peers burn|candle BATCH SIZE train|head|infer THREADS".into());
    };
    let mode = match mode.as_str() {
        "train" => Mode::Train,
        "head" => Mode::Head,
        "infer" => Mode::Infer,
        other => return Err(format!("{other}: expected train, head or infer").into()),
    };
    let task = Task { batch: batch.parse()?, size: size.parse()?, mode };
    match peer.as_str() {
        "burn" => serve("0.22.1 (flex)", in_burn::step(task)),
        "candle" => serve("0.11.1", in_candle::step(task)?),
        other => Err(format!("{other}: expected burn or candle").into()),
    }
}

/// Answers numbers with so many times.
fn serve(version: &str, mut step: impl FnMut() -> Result<(), Error>) -> Result<(), Error> {
    step()?;
    let mut out = std::io::stdout();
    writeln!(out, "ready {version}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            step()?;
            times.push(format!("{:.9}", start.elapsed().as_secs_f64()));
        }
        writeln!(out, "{}", times.join(" "))?;
        out.flush()?;
    }
    Ok(())
}
