//! The update of ResNet18's parameters: one small, one large, and as many as the whole network has.

use crate::buffer::Buffers;
use crate::case::{Case, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::sgd::{self, Sgd};
use nunatak_kernels::{Cpu, reference};

/// The cases; they depend on no cell.
pub fn cases(_: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for (name, len) in [("bn1.weight", 64), ("layer1.0.conv1.weight", 36_864), ("layer4.0.conv2.weight", 2_359_296), ("all", 11_689_512)] {
        for (variant, momentum, passes) in [("momentum", 0.9, 5), ("plain", 0.0, 3)] {
            let settings = Sgd { momentum, weight_decay: 1e-4, ..Sgd::new(1e-5) };
            list.push(Case {
                group: format!("sgd/{name}"),
                variant: variant.into(),
                flops: 0,
                bytes: bytes_of(&[passes * len]),
                with: Box::new(move |cpu, time| update(settings, len, cpu, time)),
            });
        }
    }
    list
}

fn update(settings: Sgd, len: usize, cpu: &Cpu, time: Timer) {
    let mut new = Buffers::default();
    let (mut p, gradient, mut momentum) = (new.random(len, 1), new.random(len, 2), new.random(len, 3));
    let wide = |numbers: &[f32]| numbers.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (mut true_p, mut true_momentum) = (wide(&p), wide(&momentum));
    reference::sgd::step(&settings, &mut true_p, &gradient, Some(&mut true_momentum), false);
    sgd::step(cpu, &settings, &mut p, &gradient, Some(&mut momentum), false);
    compare("sgd: parameter", &p, &true_p, TOLERANCE);
    compare("sgd: momentum", &momentum, &true_momentum, TOLERANCE);
    time(&mut || sgd::step(cpu, &settings, &mut p, &gradient, Some(&mut momentum), false));
}
