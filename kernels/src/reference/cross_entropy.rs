//! Cross entropy of a softmax.

use crate::cross_entropy::{CrossEntropy, Reduction, TargetOutOfRange, Targets};

/// The loss: `−Σ q·log softmax(logits)` over rows and classes, divided as the reduction says; `q` is
/// the smoothed and weighted target.
///
/// # Errors
/// [`TargetOutOfRange`] for an index that is neither a class nor the ignored one.
pub fn forward(p: &CrossEntropy, logits: &[f32], targets: Targets, weights: Option<&[f32]>) -> Result<f64, TargetOutOfRange> {
    check(p, logits.len(), targets)?;
    let mut sum = 0.0;
    for row in (0..p.n).filter(|row| !ignored(p, targets, *row)) {
        let logits = &logits[row * p.classes..][..p.classes];
        let log_sum = log_sum_exp(logits);
        for (class, logit) in logits.iter().enumerate() {
            let q = target(p, targets, weights, row, class);
            // Of indices only the named class counts: 0 · ∞ is not computed.
            if q != 0.0 || matches!(targets, Targets::Probabilities(_)) {
                sum -= q * (f64::from(*logit) - log_sum);
            }
        }
    }
    Ok(sum / divisor(p, targets, weights))
}

/// `dlogits = dloss · (softmax·Σq − q) / divisor`; 0 in ignored rows.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    p: &CrossEntropy,
    logits: &[f32],
    targets: Targets,
    weights: Option<&[f32]>,
    dloss: f32,
    dlogits: &mut [f64],
) -> Result<(), TargetOutOfRange> {
    check(p, logits.len(), targets)?;
    assert_eq!(dlogits.len(), logits.len());
    let factor = f64::from(dloss) / divisor(p, targets, weights);
    dlogits.fill(0.0);
    for row in (0..p.n).filter(|row| !ignored(p, targets, *row)) {
        let logits = &logits[row * p.classes..][..p.classes];
        let log_sum = log_sum_exp(logits);
        let total: f64 = (0..p.classes).map(|class| target(p, targets, weights, row, class)).sum();
        for (class, logit) in logits.iter().enumerate() {
            let softmax = libm::exp(f64::from(*logit) - log_sum);
            dlogits[row * p.classes + class] = factor * (softmax * total - target(p, targets, weights, row, class));
        }
    }
    Ok(())
}

fn check(p: &CrossEntropy, logits: usize, targets: Targets) -> Result<(), TargetOutOfRange> {
    assert!(p.classes > 0, "a choice among no classes");
    assert_eq!(logits, p.saved_len());
    match targets {
        Targets::Indices(t) => {
            assert_eq!(t.len(), p.n);
            for (row, target) in t.iter().enumerate() {
                if *target != p.ignore_index && !(0..p.classes as i64).contains(target) {
                    return Err(TargetOutOfRange { row, target: *target, classes: p.classes });
                }
            }
        }
        Targets::Probabilities(t) => assert_eq!(t.len(), p.saved_len()),
    }
    Ok(())
}

fn ignored(p: &CrossEntropy, targets: Targets, row: usize) -> bool {
    matches!(targets, Targets::Indices(t) if t[row] == p.ignore_index)
}

/// What class `class` of a row weighs in the loss.
fn target(p: &CrossEntropy, targets: Targets, weights: Option<&[f32]>, row: usize, class: usize) -> f64 {
    let smoothing = f64::from(p.label_smoothing);
    let t = match targets {
        Targets::Indices(t) => f64::from(u8::from(t[row] == class as i64)),
        Targets::Probabilities(t) => f64::from(t[row * p.classes + class]),
    };
    (t * (1.0 - smoothing) + smoothing / p.classes as f64) * weights.map_or(1.0, |w| f64::from(w[class]))
}

fn divisor(p: &CrossEntropy, targets: Targets, weights: Option<&[f32]>) -> f64 {
    match (p.reduction, targets) {
        (Reduction::Sum, _) => 1.0,
        (Reduction::Mean, Targets::Probabilities(_)) => p.n as f64,
        (Reduction::Mean, Targets::Indices(t)) => {
            t.iter().filter(|t| **t != p.ignore_index).map(|t| weights.map_or(1.0, |w| f64::from(w[*t as usize]))).sum()
        }
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().fold(f64::NEG_INFINITY, |m, v| if f64::from(*v) > m { f64::from(*v) } else { m });
    max + libm::log(logits.iter().map(|v| libm::exp(f64::from(*v) - max)).sum())
}
