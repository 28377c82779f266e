//! Cross entropy of a softmax, PyTorch's `cross_entropy`, for class indices and for class
//! probabilities, with class weights and label smoothing.
//!
//! Every row has weighted targets `q[c] = (t[c]·(1−ε) + ε/C)·weight[c]`, where t is 1 at the target's
//! index (or the given probabilities) and ε the label smoothing. Then
//!
//! ```text
//! loss = Σ_rows Σ_c −q[c]·log_softmax(logits)[c] / divisor
//! dlogits[c] = dloss · (softmax(logits)[c]·Σq − q[c]) / divisor
//! ```
//!
//! The divisor of the mean is `Σ weight[target]` over rows that are not ignored, for probabilities
//! the number of rows; of the sum it is 1. All in `f64`, rounded once, so that logits of ±10000 are
//! exact. Forward leaves dlogits for dloss = 1 in `saved`, and backward multiplies.
//!
//! Reference: [`crate::reference::cross_entropy`].

use crate::bounds::product;
use crate::lanes::as_f64;
use crate::{Cpu, elementwise, parallel::Chunks};
use core::fmt;

/// How rows become one number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// Divided by the weight of the targets that count (of losses without targets' weights: by the
    /// number of elements).
    Mean,
    /// Added up.
    Sum,
}

impl Reduction {
    /// What a sum over `len` elements is divided by.
    pub(crate) fn divisor(self, len: usize) -> f64 {
        match self {
            Reduction::Mean => len as f64,
            Reduction::Sum => 1.0,
        }
    }
}

/// What the network should have said.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Targets<'a> {
    /// One class per row: `[n]`.
    Indices(&'a [i64]),
    /// A probability per class: `[n][classes]`.
    Probabilities(&'a [f32]),
}

/// A cross entropy's numbers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CrossEntropy {
    /// Rows.
    pub n: usize,
    /// Classes.
    pub classes: usize,
    /// How much of the target is spread over all classes: 0 to 1.
    pub label_smoothing: f32,
    /// Rows with this index as target count nothing: −100 in PyTorch.
    pub ignore_index: i64,
    /// How rows become one number.
    pub reduction: Reduction,
}

impl CrossEntropy {
    /// PyTorch's defaults: mean, no smoothing, −100 is ignored.
    pub const fn new(n: usize, classes: usize) -> CrossEntropy {
        CrossEntropy { n, classes, label_smoothing: 0.0, ignore_index: -100, reduction: Reduction::Mean }
    }

    /// Scratch in `f32` for [`forward`] (64-byte aligned): one `f64` per row.
    pub const fn scratch_len(&self) -> usize {
        product(&[2, self.n])
    }

    /// Numbers in `saved`, as in the logits.
    pub const fn saved_len(&self) -> usize {
        product(&[self.n, self.classes])
    }
}

/// A target that is no class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetOutOfRange {
    /// The row, from 0.
    pub row: usize,
    /// Its target.
    pub target: i64,
    /// The number of classes.
    pub classes: usize,
}

impl fmt::Display for TargetOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the target of row {} is {}, but the classes are 0 to {}", self.row, self.target, self.classes as i128 - 1)
    }
}

impl core::error::Error for TargetOutOfRange {}

/// The loss, and in `saved` its gradient.
///
/// | name | shape | |
/// |---|---|---|
/// | `logits` | n x classes | read |
/// | `targets` | n, or n x classes | read |
/// | `weights` | classes, or none: all 1 | read |
/// | `saved` | n x classes | overwritten |
/// | `scratch` | [`CrossEntropy::scratch_len`] | overwritten |
///
/// Where all targets are ignored the mean is NaN and its gradient 0, as in PyTorch.
///
/// # Errors
/// [`TargetOutOfRange`] for an index that is neither a class nor the ignored one; nothing is written.
///
/// # Panics
/// If a length is wrong.
pub fn forward(
    cpu: &Cpu,
    p: &CrossEntropy,
    logits: &[f32],
    targets: Targets,
    weights: Option<&[f32]>,
    saved: &mut [f32],
    scratch: &mut [f32],
) -> Result<f32, TargetOutOfRange> {
    assert_eq!(logits.len(), p.saved_len(), "logits for {} rows of {} classes", p.n, p.classes);
    assert_eq!(saved.len(), p.saved_len(), "saved for {} rows of {} classes", p.n, p.classes);
    if let Some(weights) = weights {
        assert_eq!(weights.len(), p.classes, "weights for {} classes", p.classes);
    }
    assert!(scratch.len() >= p.scratch_len(), "scratch of {} numbers, {} are needed", scratch.len(), p.scratch_len());
    let divisor = divisor(p, targets, weights)?;
    let losses: &mut [f64] = as_f64(&mut scratch[..p.scratch_len()]);
    let parts = (Chunks::new(losses, 1, p.n), Chunks::new(saved, p.classes, p.n));
    cpu.run(parts, &mut [], 0, |row, (loss, saved), _| {
        let of_row = row * p.classes..(row + 1) * p.classes;
        let target = match targets {
            Targets::Indices(t) if t[row] == p.ignore_index => {
                loss[0] = 0.0;
                return saved.fill(0.0);
            }
            Targets::Indices(t) => Target::Index(t[row] as usize),
            Targets::Probabilities(t) => Target::Probabilities(&t[of_row.clone()]),
        };
        loss[0] = one_row(p, &logits[of_row], target, weights, divisor, saved);
    });
    Ok((losses.iter().sum::<f64>() / divisor) as f32)
}

/// `dlogits = dloss · saved`
///
/// | name | shape | |
/// |---|---|---|
/// | `saved` | n x classes | read: as [`forward`] left it |
/// | `dlogits` | n x classes | overwritten |
///
/// No scratch.
///
/// # Panics
/// If lengths differ.
pub fn backward_input(cpu: &Cpu, saved: &[f32], dloss: f32, dlogits: &mut [f32]) {
    elementwise::scale(cpu, saved, dloss, dlogits);
}

/// What the sum of losses is divided by, after a look at every target.
fn divisor(p: &CrossEntropy, targets: Targets, weights: Option<&[f32]>) -> Result<f64, TargetOutOfRange> {
    let weight = match targets {
        Targets::Indices(t) => {
            assert_eq!(t.len(), p.n, "targets for {} rows", p.n);
            let mut sum = 0.0;
            for (row, target) in t.iter().enumerate().filter(|(_, t)| **t != p.ignore_index) {
                let class = usize::try_from(*target).ok().filter(|class| *class < p.classes);
                let Some(class) = class else {
                    return Err(TargetOutOfRange { row, target: *target, classes: p.classes });
                };
                sum += weights.map_or(1.0, |w| f64::from(w[class]));
            }
            sum
        }
        Targets::Probabilities(t) => {
            assert_eq!(t.len(), p.saved_len(), "probabilities for {} rows of {} classes", p.n, p.classes);
            p.n as f64
        }
    };
    Ok(match p.reduction {
        Reduction::Mean => weight,
        Reduction::Sum => 1.0,
    })
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Index(usize),
    Probabilities(&'a [f32]),
}

/// The undivided loss of a row; its divided gradient goes to `saved`.
fn one_row(p: &CrossEntropy, logits: &[f32], target: Target, weights: Option<&[f32]>, divisor: f64, saved: &mut [f32]) -> f64 {
    let keep = 1.0 - f64::from(p.label_smoothing);
    let spread = f64::from(p.label_smoothing) / p.classes as f64;
    let q = |class: usize| {
        let t = match target {
            Target::Index(index) => f64::from(u8::from(index == class)),
            Target::Probabilities(t) => f64::from(t[class]),
        };
        (t * keep + spread) * weights.map_or(1.0, |w| f64::from(w[class]))
    };
    let max = f64::from(logits.iter().fold(f32::NEG_INFINITY, |m, v| if *v > m { *v } else { m }));
    let sum: f64 = logits.iter().map(|v| libm::exp(f64::from(*v) - max)).sum();
    let log_sum = max + libm::log(sum);
    let (mut loss, mut total) = (0.0, 0.0);
    for (class, logit) in logits.iter().enumerate() {
        let q = q(class);
        total += q;
        // Of an index without smoothing only one class counts: 0 · ∞ is not computed.
        if q != 0.0 || matches!(target, Target::Probabilities(_)) {
            loss -= q * (f64::from(*logit) - log_sum);
        }
    }
    for (class, (logit, saved)) in logits.iter().zip(saved).enumerate() {
        let softmax = libm::exp(f64::from(*logit) - log_sum);
        *saved = ((softmax * total - q(class)) / divisor) as f32;
    }
    loss
}
