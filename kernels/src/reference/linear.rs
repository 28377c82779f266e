//! y = x·Wᵀ + b, with x `[n][inputs]` and W `[outputs][inputs]`.

use crate::bounds::product;

/// Stops where a size is zero or a tensor has another length.
fn check([n, inputs, outputs]: [usize; 3], lengths: [usize; 3]) {
    assert!(n > 0 && inputs > 0 && outputs > 0, "a linear layer of {n} rows, {inputs} columns to {outputs}");
    assert_eq!(lengths, [product(&[n, inputs]), product(&[outputs, inputs]), product(&[n, outputs])]);
}

/// `y[n][o] = Σ_i x[n][i]·w[o][i] + bias[o]`
pub fn forward(n: usize, inputs: usize, outputs: usize, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f64]) {
    check([n, inputs, outputs], [x.len(), w.len(), y.len()]);
    for row in 0..n {
        for o in 0..outputs {
            let mut sum = bias.map_or(0.0, |b| f64::from(b[o]));
            for (x, w) in x[row * inputs..][..inputs].iter().zip(&w[o * inputs..][..inputs]) {
                sum += f64::from(*x) * f64::from(*w);
            }
            y[row * outputs + o] = sum;
        }
    }
}

/// `dx[n][i] = Σ_o dy[n][o]·w[o][i]`
pub fn backward_input(n: usize, inputs: usize, outputs: usize, dy: &[f32], w: &[f32], dx: &mut [f64]) {
    check([n, inputs, outputs], [dx.len(), w.len(), dy.len()]);
    dx.fill(0.0);
    for row in 0..n {
        for o in 0..outputs {
            let dy = f64::from(dy[row * outputs + o]);
            for (dx, w) in dx[row * inputs..][..inputs].iter_mut().zip(&w[o * inputs..][..inputs]) {
                *dx += dy * f64::from(*w);
            }
        }
    }
}

/// `dw[o][i] = Σ_n dy[n][o]·x[n][i]`
pub fn backward_weight(n: usize, inputs: usize, outputs: usize, x: &[f32], dy: &[f32], dw: &mut [f64]) {
    check([n, inputs, outputs], [x.len(), dw.len(), dy.len()]);
    dw.fill(0.0);
    for row in 0..n {
        for o in 0..outputs {
            let dy = f64::from(dy[row * outputs + o]);
            for (dw, x) in dw[o * inputs..][..inputs].iter_mut().zip(&x[row * inputs..][..inputs]) {
                *dw += dy * f64::from(*x);
            }
        }
    }
}

/// `dbias[o] = Σ_n dy[n][o]`
pub fn backward_bias(n: usize, outputs: usize, dy: &[f32], dbias: &mut [f64]) {
    assert_eq!((dbias.len(), dy.len()), (outputs, product(&[n, outputs])));
    for (o, dbias) in dbias.iter_mut().enumerate() {
        *dbias = (0..n).map(|row| f64::from(dy[row * outputs + o])).sum();
    }
}
