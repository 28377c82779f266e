//! Batch normalisation, channel by channel, two-pass statistics.

use crate::batchnorm::{BatchNorm, Moving, Running};
use crate::bounds::product;

/// Mean and biased variance of channel `c`.
fn statistics(p: &BatchNorm, x: &[f32], c: usize) -> (f64, f64) {
    let column = || (0..p.rows).map(|r| f64::from(x[r * p.channels + c]));
    let mean = column().sum::<f64>() / p.rows as f64;
    let squares: f64 = column().map(|v| (v - mean) * (v - mean)).sum();
    (mean, squares / p.rows as f64)
}

fn check(p: &BatchNorm, x: &[f32], per_channel: &[usize]) {
    assert!(p.channels > 0, "a batchnorm of no channels");
    assert_eq!(x.len(), product(&[p.rows, p.channels]));
    for len in per_channel {
        assert_eq!(*len, p.channels);
    }
}

/// The tensors of [`forward_batch`].
#[derive(Debug)]
pub struct ForwardBatch<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels: read.
    pub beta: &'a [f32],
    /// Moved towards the batch's mean and unbiased variance: `new = (1 − factor)·old + factor·batch`.
    pub running: Moving<'a, f64>,
    /// rows x channels: overwritten.
    pub y: &'a mut [f64],
    /// 2·channels: overwritten by the means, then the inverse standard deviations.
    pub saved: &'a mut [f64],
}

/// `y = (x − mean) / √(var + eps) · gamma + beta` with the batch's statistics.
pub fn forward_batch(p: &BatchNorm, call: ForwardBatch) {
    let ForwardBatch { x, gamma, beta, running, y, saved } = call;
    let Moving { mean: running_mean, var: running_var, factor } = running;
    check(p, x, &[gamma.len(), beta.len(), running_mean.len(), running_var.len()]);
    assert_eq!(y.len(), x.len());
    assert_eq!(saved.len(), 2 * p.channels);
    for c in 0..p.channels {
        let (mean, var) = statistics(p, x, c);
        let invstd = 1.0 / libm::sqrt(var + f64::from(p.eps));
        saved[c] = mean;
        saved[p.channels + c] = invstd;
        let unbiased = var * p.rows as f64 / (p.rows as f64 - 1.0);
        running_mean[c] = (1.0 - factor) * running_mean[c] + factor * mean;
        running_var[c] = (1.0 - factor) * running_var[c] + factor * unbiased;
        for i in (c..x.len()).step_by(p.channels) {
            y[i] = (f64::from(x[i]) - mean) * invstd * f64::from(gamma[c]) + f64::from(beta[c]);
        }
    }
}

/// The tensors of [`forward_running`].
#[derive(Debug)]
pub struct ForwardRunning<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// channels: read.
    pub gamma: &'a [f32],
    /// channels: read.
    pub beta: &'a [f32],
    /// What is normalised with.
    pub running: Running<'a>,
    /// rows x channels: overwritten.
    pub y: &'a mut [f64],
}

/// The same with given statistics, which stay as they are.
pub fn forward_running(p: &BatchNorm, call: ForwardRunning) {
    let ForwardRunning { x, gamma, beta, running, y } = call;
    let Running { mean, var } = running;
    check(p, x, &[gamma.len(), beta.len(), mean.len(), var.len()]);
    assert_eq!(y.len(), x.len());
    for (i, y) in y.iter_mut().enumerate() {
        let c = i % p.channels;
        let invstd = 1.0 / libm::sqrt(f64::from(var[c]) + f64::from(p.eps));
        *y = (f64::from(x[i]) - f64::from(mean[c])) * invstd * f64::from(gamma[c]) + f64::from(beta[c]);
    }
}

/// The tensors of [`backward_batch`] and of [`backward_running`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// rows x channels: read.
    pub x: &'a [f32],
    /// rows x channels: read.
    pub dy: &'a [f32],
    /// channels: read.
    pub gamma: &'a [f32],
    /// rows x channels: overwritten.
    pub dx: &'a mut [f64],
    /// channels: overwritten.
    pub dgamma: &'a mut [f64],
    /// channels: overwritten.
    pub dbeta: &'a mut [f64],
}

/// `dotp = Σ(x−mean)·dy`, `dx = (dy − Σdy/n − (x−mean)·dotp·invstd²/n)·invstd·gamma`,
/// `dgamma = dotp·invstd`, `dbeta = Σdy`, with the batch's own statistics.
pub fn backward_batch(p: &BatchNorm, call: Backward) {
    let Backward { x, dy, gamma, dx, dgamma, dbeta } = call;
    check(p, x, &[gamma.len(), dgamma.len(), dbeta.len()]);
    assert_eq!(dy.len(), x.len());
    assert_eq!(dx.len(), x.len());
    let n = p.rows as f64;
    for c in 0..p.channels {
        let (mean, var) = statistics(p, x, c);
        let invstd = 1.0 / libm::sqrt(var + f64::from(p.eps));
        let (dotp, sum) = dot_and_sum(p, x, dy, mean, c);
        for i in (c..x.len()).step_by(p.channels) {
            let centred = f64::from(x[i]) - mean;
            dx[i] = (f64::from(dy[i]) - sum / n - centred * dotp * invstd * invstd / n) * invstd * f64::from(gamma[c]);
        }
        dgamma[c] = dotp * invstd;
        dbeta[c] = sum;
    }
}

/// `dx = dy·gamma/√(var + eps)`, `dgamma = Σ dy·(x−mean)/√(var + eps)`, `dbeta = Σ dy`.
pub fn backward_running(p: &BatchNorm, running: Running, call: Backward) {
    let Running { mean, var } = running;
    let Backward { x, dy, gamma, dx, dgamma, dbeta } = call;
    check(p, x, &[gamma.len(), mean.len(), var.len(), dgamma.len(), dbeta.len()]);
    assert_eq!(dy.len(), x.len());
    assert_eq!(dx.len(), x.len());
    for c in 0..p.channels {
        let invstd = 1.0 / libm::sqrt(f64::from(var[c]) + f64::from(p.eps));
        let (dotp, sum) = dot_and_sum(p, x, dy, f64::from(mean[c]), c);
        for i in (c..x.len()).step_by(p.channels) {
            dx[i] = f64::from(dy[i]) * invstd * f64::from(gamma[c]);
        }
        dgamma[c] = dotp * invstd;
        dbeta[c] = sum;
    }
}

fn dot_and_sum(p: &BatchNorm, x: &[f32], dy: &[f32], mean: f64, c: usize) -> (f64, f64) {
    let (mut dotp, mut sum) = (0.0, 0.0);
    for i in (c..x.len()).step_by(p.channels) {
        dotp += (f64::from(x[i]) - mean) * f64::from(dy[i]);
        sum += f64::from(dy[i]);
    }
    (dotp, sum)
}
