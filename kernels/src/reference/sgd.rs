//! Stochastic gradient descent with momentum, one parameter.

use crate::sgd::Sgd;

/// One step; `first` fills the momentum buffer with the gradient.
pub fn step(sgd: &Sgd, p: &mut [f64], grad: &[f32], mut momentum: Option<&mut [f64]>, first: bool) {
    assert_eq!(p.len(), grad.len());
    let (rate, factor) = (f64::from(sgd.lr), f64::from(sgd.momentum));
    for i in 0..p.len() {
        let mut g = f64::from(grad[i]);
        if sgd.maximize {
            g = -g;
        }
        if sgd.weight_decay != 0.0 {
            g += f64::from(sgd.weight_decay) * p[i];
        }
        if sgd.momentum != 0.0 {
            let buffer = &mut momentum.as_deref_mut().expect("a buffer for the momentum")[i];
            *buffer = if first { g } else { factor * *buffer + (1.0 - f64::from(sgd.dampening)) * g };
            g = if sgd.nesterov { g + factor * *buffer } else { *buffer };
        }
        p[i] -= rate * g;
    }
}
