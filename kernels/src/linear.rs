//! A linear layer, y = x·Wᵀ + b: the convolution of one pixel with a bias.
//!
//! The gradients of x and w are those of the convolution ([`Linear::conv`]): its c are the inputs, its k the outputs.
//! Without the feature `algorithms` (on a board) forward and the weight's gradient have loops of their own, which give the
//! same bits in less code: see `plain`.
//!
//! Reference: [`crate::reference::linear`].

#[cfg(any(test, not(feature = "algorithms")))]
mod plain;

use crate::bounds::product;
#[cfg(feature = "algorithms")]
use crate::conv2d::Finish;
use crate::conv2d::{self, Algorithm, Conv2d, Memory, Pass};
use crate::dispatch::Task;
use crate::isa::Isa;
use crate::parallel::{Chunks, Cpu};
use crate::weights::WeightLayout;
pub use conv2d::{BackwardInput, BackwardWeight};

/// A linear layer's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Linear {
    /// Rows of x and y.
    pub n: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
}

/// The tensors of [`Linear::forward`] and [`Linear::forward_by`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `[n][inputs]`: read.
    pub x: &'a [f32],
    /// As [`Linear::weights`] says: read.
    pub w: &'a [f32],
    /// `[outputs]`, or none: read.
    pub b: Option<&'a [f32]>,
    /// `[n][outputs]`: overwritten.
    pub y: &'a mut [f32],
    /// [`Linear::scratch_len`] numbers: overwritten.
    pub scratch: &'a mut [f32],
}

/// Columns of db that one thread sums.
const COLUMNS: usize = 64;

impl Linear {
    /// The convolution that it is.
    ///
    /// # Panics
    /// If a size is zero, or a tensor does not fit the address space; likewise all that follow.
    pub fn conv(&self) -> Conv2d {
        Conv2d::new([self.n, 1, 1, self.inputs], self.outputs, 1, 1, 0).unwrap_or_else(|cause| panic!("{self:?}: {cause}"))
    }
    /// How w lies.
    pub fn weights(&self) -> WeightLayout {
        self.conv().weights()
    }
    /// How every pass is computed: by `stream` where there are many weights for few rows, else by `gemm`.
    pub fn algorithm(&self) -> Algorithm {
        match self.conv().algorithm(Pass::Forward, Memory::Small) {
            Algorithm::Stream => Algorithm::Stream,
            _ => Algorithm::Gemm,
        }
    }
    /// Numbers of scratch that a pass needs on so many threads.
    pub fn scratch_len(&self, pass: Pass, memory: Memory, threads: usize) -> usize {
        self.conv().scratch_len(pass, self.algorithm(), memory, threads)
    }

    /// Stops where a size is zero, or a tensor does not fit the address space.
    fn check(&self) {
        let Linear { n, inputs, outputs } = *self;
        assert!(n > 0 && inputs > 0 && outputs > 0, "a linear layer of {n} rows, {inputs} columns to {outputs}");
        product(&[n, inputs]);
        product(&[n, outputs]);
        // Weights, in blocks of up to 32 columns.
        product(&[outputs.saturating_add(31), inputs]);
    }

    /// y = x·Wᵀ + b, or without b.
    ///
    /// # Panics
    /// If a size is zero, or a slice has another length than its field says.
    pub fn forward(&self, cpu: &Cpu, call: Forward) {
        self.forward_by(cpu, self.algorithm(), call);
    }

    /// The same by an algorithm that [`Linear::conv`] accepts; the input's gradient by an algorithm is that
    /// of the convolution.
    ///
    /// # Panics
    /// As for [`Linear::forward`]; if the convolution does not accept the algorithm.
    pub fn forward_by(&self, cpu: &Cpu, algorithm: Algorithm, call: Forward) {
        let Forward { x, w, b, y, scratch } = call;
        self.check();
        assert_eq!(y.len(), self.n * self.outputs);
        if let Some(b) = b {
            assert_eq!(b.len(), self.outputs);
            y.chunks_exact_mut(self.outputs).for_each(|y| y.copy_from_slice(b));
        }
        #[cfg(not(feature = "algorithms"))]
        {
            let _ = scratch;
            assert!(algorithm == Algorithm::Gemm, "{algorithm} can't do {self:?}");
            plain::forward(self, cpu, x, w, y, b.is_some());
        }
        #[cfg(feature = "algorithms")]
        self.conv().forward(cpu, algorithm, conv2d::Forward { x, w, y, add: b.is_some(), finish: Finish::None, scratch });
    }

    /// dx = dy·W (+ dx where `add`).
    ///
    /// # Panics
    /// If a size is zero, or a slice has another length than its field says.
    pub fn backward_input(&self, cpu: &Cpu, call: BackwardInput) {
        self.check();
        self.conv().backward_input(cpu, self.algorithm(), call);
    }

    /// dw = dyᵀ·x (+ dw where `add`).
    ///
    /// # Panics
    /// If a size is zero, or a slice has another length than its field says.
    pub fn backward_weight(&self, cpu: &Cpu, call: BackwardWeight) {
        self.backward_weight_by(cpu, self.algorithm(), call);
    }

    /// The same by an algorithm that [`Linear::conv`] accepts.
    ///
    /// # Panics
    /// As for [`Linear::backward_weight`]; if the convolution does not accept the algorithm.
    pub fn backward_weight_by(&self, cpu: &Cpu, algorithm: Algorithm, call: BackwardWeight) {
        self.check();
        #[cfg(not(feature = "algorithms"))]
        {
            assert!(algorithm == Algorithm::Gemm, "{algorithm} can't do {self:?}");
            plain::backward_weight(self, cpu, call);
        }
        #[cfg(feature = "algorithms")]
        self.conv().backward_weight(cpu, algorithm, call);
    }

    /// db = the sum of dy's rows (+ db where `add`): `dy` is `[n][outputs]`, read; `db` is `[outputs]`, overwritten or
    /// added to.
    ///
    /// # Panics
    /// If a size is zero, or a slice has another length.
    pub fn backward_bias(&self, cpu: &Cpu, dy: &[f32], db: &mut [f32], add: bool) {
        self.check();
        assert_eq!((dy.len(), db.len()), (self.n * self.outputs, self.outputs));
        cpu.run(Chunks::new(db, COLUMNS, self.outputs.div_ceil(COLUMNS)), &mut [], 0, |i, db, _| {
            cpu.level.run(ColumnSums { dy, stride: self.outputs, first: i * COLUMNS, add, db });
        });
    }
}

struct ColumnSums<'a, 'p> {
    dy: &'a [f32],
    stride: usize,
    first: usize,
    add: bool,
    db: &'p mut [f32],
}

impl Task for ColumnSums<'_, '_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let ColumnSums { dy, stride, first, add, db } = self;
        if !add {
            db.fill(0.0);
        }
        // Rows in groups of 32, each summed from zero: the error of a long sum grows with its length.
        for rows in dy.chunks(stride.saturating_mul(32)) {
            let mut columns = db.chunks_exact_mut(I::LANES);
            for (j, db) in columns.by_ref().enumerate() {
                let mut sum = isa.splat(0.0);
                for row in rows.chunks_exact(stride) {
                    sum = isa.add(sum, isa.load(&row[first + j * I::LANES..]));
                }
                isa.store(isa.add(isa.load(db), sum), db);
            }
            let rest = columns.into_remainder();
            let from = first + db_len(stride, first, rest.len());
            for (j, db) in rest.iter_mut().enumerate() {
                *db += rows.chunks_exact(stride).map(|row| row[from + j]).sum::<f32>();
            }
        }
    }
}

/// Columns before the last `rest` of the part that begins at `first`.
#[inline(always)]
fn db_len(outputs: usize, first: usize, rest: usize) -> usize {
    COLUMNS.min(outputs - first) - rest
}
