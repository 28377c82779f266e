//! `--max-mem`: steps that are planned to fit.

use crate::commands::finetune::Accumulate;
use crate::failure::Failure;
use crate::output::say;
use crate::setup::{Plan, Setup};
use nunatak_nn::{Error, Memory, Update};
use std::str::FromStr;

/// Bytes from a text like `200K`, `110M`, `4G` or `131072`; K, M and G are powers of 1024.
///
/// # Errors
/// A text that says what was expected.
pub fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(['K', 'k', 'M', 'm', 'G', 'g']);
    let unit: usize = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err(format!("{text:?} is no number of bytes")),
    };
    let bytes = digits.parse().ok().and_then(|n: usize| n.checked_mul(unit)).filter(|n| *n > 0);
    bytes.ok_or_else(|| format!("{text:?} is no number of bytes: expected 200K, 110M, 4G or a plain number above 0"))
}

/// Options that bound a step's memory.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct MaxMem {
    /// Plan the step so that it takes at most BYTES (110M, 4G; powers of 1024), program and block: values of the forward walk
    /// are computed again in the backward walk instead of being kept, which takes longer and gives the same bits
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_mem: Option<usize>,
    /// With --max-mem: where that is not enough, by algorithms of --memory small and tiny too, which round otherwise
    #[arg(long, requires = "max_mem")]
    pub allow_other_bits: bool,
}

impl MaxMem {
    /// Plans the step, and notes in `setup` what was chosen.
    ///
    /// # Errors
    /// [`Failure`]: where nothing fits, with the bytes that the smallest plan of each kind takes.
    pub fn plan(&self, setup: &mut Setup) -> Result<Plan, Failure> {
        setup.max_mem = self.max_mem;
        let Some(most) = self.max_mem else { return Ok(setup.plan()?) };
        let mut least = Vec::new();
        for memory in self.settings(setup.memory).iter().copied() {
            let tried = Setup { memory, ..setup.clone() };
            match tried.plan() {
                Ok(plan) => {
                    if memory != setup.memory {
                        say(format_args!("note: --max-mem: the step's algorithms are those of --memory {}", name(memory)));
                    }
                    setup.memory = memory;
                    return Ok(plan);
                }
                Err(Error::Budget { least: bytes, .. }) => least.push((memory, bytes)),
                Err(other) => return Err(other.into()),
            }
        }
        Err(self.nothing_fits(setup, most, &least))
    }

    /// The memory settings that may be tried.
    fn settings(&self, asked: Memory) -> &'static [Memory] {
        match (asked, self.allow_other_bits) {
            (Memory::Fast, true) => &[Memory::Fast, Memory::Small, Memory::Tiny],
            (Memory::Small, true) => &[Memory::Small, Memory::Tiny],
            (Memory::Fast, false) => &[Memory::Fast],
            (Memory::Small, false) => &[Memory::Small],
            (Memory::Tiny, _) => &[Memory::Tiny],
        }
    }

    fn nothing_fits(&self, setup: &Setup, most: usize, least: &[(Memory, usize)]) -> Failure {
        let mut lines = vec![format!("--max-mem {most}: no plan fits that was found. The smallest takes, in bytes:")];
        let mut line = |what: &str, bytes: usize| lines.push(format!("  {bytes:>14}  {what}"));
        for (memory, bytes) in least {
            line(&format!("with the algorithms of --memory {}", name(*memory)), *bytes);
        }
        // What no plan fits is answered by the least that is possible.
        let smallest = |setup: &Setup| match (Setup { max_mem: Some(1), ..setup.clone() }).plan() {
            Err(Error::Budget { least, .. }) => Some(least),
            _ => None,
        };
        if !self.allow_other_bits {
            let tiny = Setup { memory: Memory::Tiny, ..setup.clone() };
            if let Some(bytes) = smallest(&tiny) {
                line("with --allow-other-bits", bytes);
            }
        }
        for part in [2, 1].into_iter().filter(|part| *part < setup.batch) {
            if let Some(bytes) = smallest(&setup.with_batch(part)) {
                line(&format!("of {part} image{} at a time (--micro-batch {part})", if part > 1 { "s" } else { "" }), bytes);
            }
        }
        Failure::Failed(lines.join("\n"))
    }
}

/// Images that are computed at a time, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MicroBatch {
    /// As many as fit into `--max-mem`.
    Auto,
    /// So many.
    Of(u32),
}

impl FromStr for MicroBatch {
    type Err = String;

    fn from_str(text: &str) -> Result<MicroBatch, String> {
        match text {
            "auto" => Ok(MicroBatch::Auto),
            _ => match text.parse() {
                Ok(images @ 1..=65536) => Ok(MicroBatch::Of(images)),
                _ => Err("expected auto or a number from 1 to 65536".into()),
            },
        }
    }
}

impl MicroBatch {
    /// The numbers of images that are to be tried for a step of `batch`, the largest first.
    ///
    /// # Errors
    /// [`Failure::Usage`] where `auto` has no bound.
    pub fn candidates(self, batch: u32, max_mem: Option<usize>) -> Result<Vec<u32>, Failure> {
        match (self, max_mem) {
            (MicroBatch::Of(images), _) => Ok(vec![images]),
            (MicroBatch::Auto, None) => Err(Failure::usage("--micro-batch auto needs --max-mem, the bytes that it is to fit into")),
            (MicroBatch::Auto, Some(_)) => Ok((1..=batch).rev().filter(|part| batch.is_multiple_of(*part)).collect()),
        }
    }
}

/// Options of steps whose gradients are added up over several micro-batches.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Images that are computed at a time, whose gradients are added up to those of --batch; or auto: as many as fit into
    /// --max-mem. Batchnorm sees micro-batches
    #[arg(long, value_name = "IMAGES", conflicts_with_all = ["update", "program"])]
    pub micro_batch: Option<MicroBatch>,
    /// Where gradients of micro-batches are added up [default: gradient]
    #[arg(long, value_enum, requires = "micro_batch")]
    pub accumulate: Option<Accumulate>,
}

impl Parts {
    /// Plans the step in as large parts as fit; gives how many there are.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn plan(&self, setup: &mut Setup, max_mem: &MaxMem) -> Result<(Plan, usize), Failure> {
        let Some(asked) = self.micro_batch else { return Ok((max_mem.plan(setup)?, 1)) };
        let whole = setup.batch;
        let candidates = asked.candidates(u32::try_from(whole).unwrap_or(u32::MAX), max_mem.max_mem)?;
        let summed = self.accumulate == Some(Accumulate::Momentum);
        let mut failure = None;
        for part in candidates {
            if !whole.is_multiple_of(part as usize) {
                return Err(Failure::usage(format_args!("--micro-batch {part}: --batch {whole} is no multiple of it")));
            }
            let update = if summed { Update::Summed } else { Update::After };
            let mut tried = Setup { batch: part as usize, update, ..setup.clone() };
            match max_mem.plan(&mut tried) {
                Ok(plan) => {
                    *setup = tried;
                    if asked == MicroBatch::Auto {
                        say(format_args!("note: --micro-batch auto: {part} of {whole} images are computed at a time"));
                    }
                    return Ok((plan, whole / part as usize));
                }
                Err(e) => failure = Some(e),
            }
        }
        Err(failure.unwrap_or_else(|| Failure::usage("--batch: expected at least 1")))
    }
}

/// What `--memory` calls it.
fn name(memory: Memory) -> &'static str {
    match memory {
        Memory::Fast => "fast",
        Memory::Small => "small",
        Memory::Tiny => "tiny",
    }
}

/// Says what a plan has chosen, where it had to.
pub fn say_again(plan: &Plan) {
    if plan.again > 0 {
        say(format_args!(
            "note: --max-mem: {} results are computed again in the backward walk; by the cost model the step takes {:.2} times as long",
            plan.again, plan.times
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, due) in [("1", 1), ("200K", 200 << 10), ("110m", 110 << 20), ("4G", 4 << 30)] {
            assert_eq!(bytes(text), Ok(due));
        }
        for wrong in ["", "K", "0", "0M", "-1", "1.5M", "1KK", "1T", "99999999999999999999", "1 M"] {
            assert!(bytes(wrong).is_err_and(|e| e.contains(wrong)), "{wrong}");
        }
    }
}
