//! ResNet18's convolutions by layer and pass, by every algorithm that accepts them.
//!
//! The reference computes one image: of forward and backward_input the last one of the batch is
//! compared; backward_weight is compared with all of dy zero but the last image.

use crate::buffer::{Buffer, Buffers};
use crate::case::{Case, TOLERANCE, Timer, bytes_of, compare};
use crate::settings::Settings;
use nunatak_kernels::conv2d::{BackwardInput, BackwardWeight, Forward};
use nunatak_kernels::{Algorithm, Conv2d, Cpu, Finish, Memory, Pass, reference};
use std::sync::{Arc, OnceLock};

/// The cases of all cells; in short runs only the algorithm that is chosen.
pub fn cases(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        for (layer, conv) in cell.convolutions() {
            for pass in Pass::ALL {
                let truth = Arc::new(OnceLock::new());
                let chosen = conv.algorithm(pass, Memory::Fast);
                let wanted = |a: &&Algorithm| conv.accepts(pass, **a) && (!settings.short || **a == chosen);
                for &algorithm in Algorithm::ALL.iter().filter(wanted) {
                    list.push(case(format!("{cell}/{layer}/{pass}"), conv, pass, algorithm, truth.clone()));
                }
            }
        }
    }
    list
}

/// The cases of all cells by the algorithm that is chosen.
pub fn chosen(settings: &Settings) -> Vec<Case> {
    let mut list = Vec::new();
    for cell in &settings.cells {
        for (layer, conv) in cell.convolutions() {
            for pass in Pass::ALL {
                let algorithm = conv.algorithm(pass, Memory::Fast);
                let case = case(format!("{cell}/{layer}/{pass}"), conv, pass, algorithm, Arc::default());
                // Named without it: a record outlives the choice.
                list.push(Case { variant: String::new(), ..case });
            }
        }
    }
    list
}

/// A forward pass by the algorithm that is chosen, named after it.
pub(super) fn forward(group: String, conv: Conv2d) -> Case {
    case(group, conv, Pass::Forward, conv.algorithm(Pass::Forward, Memory::Fast), Arc::default())
}

/// Truth of one image, computed when first asked for and shared by algorithms and levels.
type Truth = Arc<OnceLock<Vec<f64>>>;

fn case(group: String, conv: Conv2d, pass: Pass, algorithm: Algorithm, truth: Truth) -> Case {
    let tensors = [conv.x_len(), conv.weights().len(), conv.y_len()];
    let with = move |cpu: &Cpu, time: Timer| {
        let mut t = Tensors::new(&conv, pass, algorithm, cpu);
        t.check(&conv, cpu, pass, algorithm, &truth);
        time(&mut || t.run(&conv, cpu, pass, algorithm));
    };
    Case { group, variant: algorithm.name().into(), flops: 2 * conv.products(), bytes: bytes_of(&tensors), with: Box::new(with) }
}

struct Tensors {
    /// In PyTorch's order, for the reference.
    oihw: Vec<f32>,
    x: Buffer,
    w: Buffer,
    /// y or dy.
    y: Buffer,
    /// dx or dw.
    out: Buffer,
    scratch: Buffer,
}

impl Tensors {
    fn new(conv: &Conv2d, pass: Pass, algorithm: Algorithm, cpu: &Cpu) -> Tensors {
        let mut new = Buffers::default();
        let layout = conv.weights();
        let oihw = new.random(layout.numbers(), 3).to_vec();
        let mut w = new.zeros(layout.len());
        layout.pack(&oihw, &mut w);
        Tensors {
            oihw,
            x: new.random(conv.x_len(), 1),
            w,
            y: new.random(conv.y_len(), 2),
            out: new.zeros(match pass {
                Pass::Forward => 0,
                Pass::BackwardInput => conv.x_len(),
                Pass::BackwardWeight => layout.len(),
            }),
            scratch: new.zeros(conv.scratch_len(pass, algorithm, Memory::Fast, cpu.threads.count())),
        }
    }

    fn run(&mut self, conv: &Conv2d, cpu: &Cpu, pass: Pass, algorithm: Algorithm) {
        let Tensors { x, w, y, out, scratch, .. } = self;
        match pass {
            Pass::Forward => conv.forward(cpu, algorithm, Forward { x, w, y, add: false, finish: Finish::None, scratch }),
            Pass::BackwardInput => conv.backward_input(cpu, algorithm, BackwardInput { w, dy: y, dx: out, add: false, scratch }),
            Pass::BackwardWeight => conv.backward_weight(cpu, algorithm, BackwardWeight { x, dy: y, dw: out, add: false, scratch }),
        }
    }

    fn check(&mut self, conv: &Conv2d, cpu: &Cpu, pass: Pass, algorithm: Algorithm, truth: &Truth) {
        let one = conv.with_images(1).expect("fewer images");
        let (x_at, y_at) = (conv.x_len() - one.x_len(), conv.y_len() - one.y_len());
        let (x, dy) = (self.x[x_at..].to_vec(), self.y[y_at..].to_vec());
        let truth = truth.get_or_init(|| {
            let mut truth = Vec::new();
            match pass {
                Pass::Forward => {
                    truth.resize(dy.len(), 0.0);
                    reference::conv2d::forward(&one, &x, &self.oihw, &mut truth);
                }
                Pass::BackwardInput => {
                    truth.resize(x.len(), 0.0);
                    reference::conv2d::backward_input(&one, &dy, &self.oihw, &mut truth);
                }
                Pass::BackwardWeight => {
                    truth.resize(self.oihw.len(), 0.0);
                    reference::conv2d::backward_weight(&one, &x, &dy, &mut truth);
                }
            }
            truth
        });
        let what = format!("{conv:?} {pass} {algorithm} {}", cpu.level);
        let all = self.y.to_vec();
        if pass == Pass::BackwardWeight {
            self.y[..y_at].fill(0.0);
        }
        self.scratch.fill(f32::NAN);
        self.out.fill(f32::NAN);
        self.run(conv, cpu, pass, algorithm);
        match pass {
            Pass::Forward => compare(&what, &self.y[y_at..], truth, TOLERANCE),
            Pass::BackwardInput => compare(&what, &self.out[x_at..], truth, TOLERANCE),
            Pass::BackwardWeight => {
                let mut dw = vec![0.0; truth.len()];
                conv.weights().unpack(&self.out, &mut dw);
                compare(&what, &dw, truth, TOLERANCE);
            }
        }
        self.y.copy_from_slice(&all);
        self.scratch.fill(0.0);
    }
}
