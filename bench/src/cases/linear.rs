//! ResNet18's last layer: 512 features to 1000 classes, or to 10.

use crate::buffer::Buffers;
use crate::case::{Case, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::linear::{BackwardInput, BackwardWeight, Forward};
use nunatak_kernels::{Cpu, Linear, Memory, Pass, reference};

/// The cases of all cells.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    let mut rows: Vec<usize> = settings.cells.iter().map(|cell| cell.n).collect();
    rows.sort_unstable();
    rows.dedup();
    for n in rows {
        for (name, outputs) in [("fc", 1000), ("fc of 10", 10)] {
            let size = Linear { n, inputs: 512, outputs };
            for pass in Pass::ALL {
                list.push(Case {
                    group: format!("{n}/{name}/{pass}"),
                    variant: String::new(),
                    flops: 2 * (n * size.inputs * outputs) as u64,
                    bytes: bytes_of(&[n * size.inputs, size.weights().len(), n * outputs, outputs]),
                    with: Box::new(move |cpu, time| one(size, pass, cpu, time)),
                });
            }
        }
    }
    list
}

fn one(size: Linear, pass: Pass, cpu: &Cpu, time: Timer) {
    let Linear { n, inputs, outputs } = size;
    let layout = size.weights();
    let mut new = Buffers::default();
    let (x, dy, b) = (&new.random(n * inputs, 1), &new.random(n * outputs, 2), &new.random(outputs, 3));
    let oi = new.random(outputs * inputs, 4);
    let mut w = new.zeros(layout.len());
    layout.pack(&oi, &mut w);
    let w = &w;
    let mut scratch = new.zeros(size.scratch_len(pass, Memory::Fast, cpu.threads.count()));
    let (mut y, mut dx, mut dw, mut db) = (new.zeros(n * outputs), new.zeros(n * inputs), new.zeros(layout.len()), new.zeros(outputs));
    let mut run = || match pass {
        Pass::Forward => size.forward(cpu, Forward { x, w, b: Some(b), y: &mut y, scratch: &mut scratch }),
        Pass::BackwardInput => size.backward_input(cpu, BackwardInput { w, dy, dx: &mut dx, add: false, scratch: &mut scratch }),
        Pass::BackwardWeight => {
            size.backward_weight(cpu, BackwardWeight { x, dy, dw: &mut dw, add: false, scratch: &mut scratch });
            size.backward_bias(cpu, dy, &mut db, false);
        }
    };
    run();
    match pass {
        Pass::Forward => {
            let mut truth = vec![0.0; n * outputs];
            reference::linear::forward(n, inputs, outputs, x, &oi, Some(b), &mut truth);
            compare("linear forward", &y, &truth, TOLERANCE);
        }
        Pass::BackwardInput => {
            let mut truth = vec![0.0; n * inputs];
            reference::linear::backward_input(n, inputs, outputs, dy, &oi, &mut truth);
            compare("linear backward_input", &dx, &truth, TOLERANCE);
        }
        Pass::BackwardWeight => {
            let (mut truth, mut bias, mut got) = (vec![0.0; outputs * inputs], vec![0.0; outputs], vec![0.0; outputs * inputs]);
            reference::linear::backward_weight(n, inputs, outputs, x, dy, &mut truth);
            reference::linear::backward_bias(n, outputs, dy, &mut bias);
            layout.unpack(&dw, &mut got);
            compare("linear backward_weight", &got, &truth, TOLERANCE);
            compare("linear backward_bias", &db, &bias, TOLERANCE);
        }
    }
    time(&mut || match pass {
        Pass::Forward => size.forward(cpu, Forward { x, w, b: Some(b), y: &mut y, scratch: &mut scratch }),
        Pass::BackwardInput => size.backward_input(cpu, BackwardInput { w, dy, dx: &mut dx, add: false, scratch: &mut scratch }),
        Pass::BackwardWeight => {
            size.backward_weight(cpu, BackwardWeight { x, dy, dw: &mut dw, add: false, scratch: &mut scratch });
            size.backward_bias(cpu, dy, &mut db, false);
        }
    });
}
