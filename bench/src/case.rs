//! One thing that is timed: a kernel at a shape, or a whole step.

use nunatak_kernels::Cpu;
use std::fmt;

/// A piece of work that can be repeated.
pub type Run<'a> = &'a mut (dyn FnMut() + Send);

/// What times a piece of work.
pub type Timer<'a> = &'a mut dyn FnMut(Run);

/// Makes the tensors for a `T`, checks one run against the reference, then hands the work over.
pub type Prepare<T> = fn(T, &Cpu, Timer);

/// The same, with the `T` inside.
pub type Prepared = Box<dyn Fn(&Cpu, Timer) + Send + Sync>;

/// What is timed, and how much work it is.
pub struct Case {
    /// Cell, layer and pass: `8x64/layer3.0.conv1/backward_weight`.
    pub group: String,
    /// The algorithm, or nothing where there is one way only.
    pub variant: String,
    /// Multiplications and additions by the definition; 0 where memory counts.
    pub flops: u64,
    /// Bytes of all tensors that it reads or writes, each once.
    pub bytes: u64,
    /// Makes the tensors, checks one run against the reference, then hands the work over.
    pub with: Prepared,
}

impl Case {
    /// Group and variant.
    pub fn name(&self) -> String {
        if self.variant.is_empty() { self.group.clone() } else { format!("{}/{}", self.group, self.variant) }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {} operations, {} bytes", self.name(), self.flops, self.bytes)
    }
}

/// Bytes of tensors of so many numbers.
pub fn bytes_of(tensors: &[usize]) -> u64 {
    4 * tensors.iter().map(|n| *n as u64).sum::<u64>()
}

/// The kernels' tolerance: of the largest value.
pub const TOLERANCE: f64 = 5e-6;

/// Compares a result with the truth.
///
/// # Panics
/// If a number is further off than `tolerance` times the largest, or is not a number.
pub fn compare(what: &str, got: &[f32], truth: &[f64], tolerance: f64) {
    assert_eq!(got.len(), truth.len(), "{what}: numbers of the result");
    let largest = truth.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    for (i, (g, t)) in got.iter().zip(truth).enumerate() {
        let error = (f64::from(*g) - t).abs();
        // A NaN fails too.
        assert!(error <= tolerance * largest, "{what}: {g} instead of {t} at {i}, off by {:.1e} of the largest", error / largest);
    }
}
