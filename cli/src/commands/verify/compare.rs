//! How far each tensor is from PyTorch's, in the order of computing.

use super::trace::{Trace, refuse_missing, refuse_unknown};
use crate::failure::Failure;
use crate::output::printable;
use nunatak_nn::files::state::{State, Values};
use std::collections::{BTreeMap, BTreeSet};

/// How far tensors may be from PyTorch's: the largest difference as a share of the largest number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerances {
    /// Those of the first forward.
    pub(super) first: f64,
    /// Gradients, later losses, states and momenta.
    pub(super) rest: f64,
}

/// One tensor, compared.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) numbers: usize,
    /// The largest difference.
    pub(super) difference: f64,
    /// The same as a share of PyTorch's largest number there; of a tensor that is 0 but for rounding, of the largest number
    /// of its kind.
    pub(super) share: f64,
    /// The norm of the difference as a share of PyTorch's norm.
    pub(super) distance: f64,
    pub(super) tolerance: f64,
    /// Where the largest difference is, and both numbers there.
    pub(super) at: usize,
    pub(super) here: f64,
    pub(super) there: f64,
}

impl Row {
    pub(super) fn ok(&self) -> bool {
        self.share <= self.tolerance
    }

    /// Compares numbers of the same count. Where PyTorch's are all at most `zero`, they are 0 but for rounding (so is the
    /// gradient of a shift before a normalisation): then `kind`, the largest number of such tensors, is what shares are of.
    fn of(name: String, here: &[f64], there: &[f64], [zero, kind]: [f64; 2]) -> Row {
        let (difference, share, distance, tolerance) = (0.0, 0.0, 0.0, 0.0);
        let mut row = Row { name, numbers: here.len(), difference, share, distance, tolerance, at: 0, here: 0.0, there: 0.0 };
        let (mut squares, mut norm) = (0.0, 0.0);
        for (at, (&a, &b)) in here.iter().zip(there).enumerate() {
            // The trace's numbers are finite. One that is not, here, is as far away as can be.
            let apart = if a.is_finite() { (a - b).abs() } else { f64::INFINITY };
            if at == 0 || apart > row.difference {
                (row.difference, row.at, row.here, row.there) = (apart, at, a, b);
            }
            squares += apart * apart;
            norm += b * b;
        }
        let part = |far: f64, of: f64| if of > 0.0 { far / of } else { far };
        let own = largest(there);
        let is_zero = own <= zero;
        row.share = part(row.difference, if is_zero { kind } else { own });
        row.distance = part(squares.sqrt(), if is_zero { kind * (there.len() as f64).sqrt() } else { norm.sqrt() });
        row
    }
}

/// The largest size of some numbers.
fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, number| most.max(number.abs()))
}

/// What tensors have in common whose numbers are measured together: the first word of their names.
fn kind(name: &str) -> &str {
    name.split_once('.').map_or(name, |(kind, _)| kind)
}

/// Where a tensor stands in the order of computing. Gradients come from the head backward, so theirs is the reverse of the
/// order in which they were written.
fn rank(name: &str, written: usize) -> (u8, usize) {
    let first = |prefix: &str| name.starts_with(prefix);
    match name {
        _ if first("forward.") => (0, written),
        "features" => (1, 0),
        "prediction" => (2, 0),
        _ if first("loss") => (if name == "loss 1" { 3 } else { 5 }, written),
        _ if first("grad.") => (4, usize::MAX - written),
        _ if first("state.") => (6, written),
        _ => (7, written),
    }
}

/// Every tensor that was computed here, beside PyTorch's.
///
/// # Errors
/// [`Failure`] where the trace lacks one, has another shape of one, or one more.
pub(super) fn rows(trace: &Trace, here: &State, tolerances: Tolerances) -> Result<Vec<Row>, Failure> {
    let known: BTreeSet<&str> = here.tensors.iter().map(|(name, ..)| name.as_str()).collect();
    let missing: Vec<String> = here.tensors.iter().filter(|(name, ..)| trace.get(name).is_none()).map(|(name, ..)| name.clone()).collect();
    refuse_missing(&trace.path, &missing)?;
    if let Some(name) = trace.computed().find(|name| !known.contains(name)) {
        refuse_unknown(&trace.path, name, trace.arch())?;
    }
    let mut there = Vec::new();
    let mut kinds = BTreeMap::<&str, f64>::new();
    for (name, shape, _) in &here.tensors {
        let numbers = numbers(trace, name, shape)?;
        let most = kinds.entry(kind(name)).or_default();
        *most = most.max(largest(&numbers));
        there.push(numbers);
    }
    let mut rows = Vec::new();
    for (written, ((name, _, values), there)) in here.tensors.iter().zip(&there).enumerate() {
        let (here, exact): (Vec<f64>, bool) = match values {
            Values::F32(numbers) => (numbers.iter().map(|number| f64::from(*number)).collect(), false),
            Values::I64(numbers) => (numbers.iter().map(|number| *number as f64).collect(), true),
            Values::I32(words) => (words.iter().map(|word| f64::from(*word)).collect(), true),
        };
        let most = kinds.get(kind(name)).copied().unwrap_or(0.0);
        if name == "loss" {
            for (step, (here, there)) in here.iter().zip(there).enumerate() {
                let name = format!("loss {}", step + 1);
                rows.push((rank(&name, step), Row::of(name, &[*here], &[*there], [0.0, 0.0]), false));
            }
        } else {
            rows.push((rank(name, written), Row::of(name.clone(), &here, there, [trace.zero() * most, most]), exact));
        }
    }
    rows.sort_by_key(|(rank, ..)| *rank);
    let of = |(rank, row, exact): ((u8, usize), Row, bool)| {
        let tolerance = if rank.0 <= 3 { tolerances.first } else { tolerances.rest };
        Row { tolerance: if exact { 0.0 } else { tolerance }, ..row }
    };
    Ok(rows.into_iter().map(of).collect())
}

/// PyTorch's numbers of a tensor that has this shape here.
fn numbers(trace: &Trace, name: &str, shape: &[usize]) -> Result<Vec<f64>, Failure> {
    let bad = |what: String| Failure::with(trace.path.display(), what);
    let Some(entry) = trace.get(name) else { return Err(bad(format!("there is no {}", printable(name)))) };
    if entry.len() != shape.iter().product::<usize>() || sizes(entry.shape()) != sizes(shape) {
        let (name, arch) = (printable(name), printable(trace.arch()));
        return Err(bad(format!(
            "{name} has the shape {:?}, in {arch} it has {shape:?}: is it a trace of another network, or of another batch?",
            entry.shape()
        )));
    }
    // Counters in full; everything else is as exact as what is compared with it.
    if let Ok(numbers) = entry.read_i64() {
        return Ok(numbers.into_iter().map(|number| number as f64).collect());
    }
    let mut numbers = Vec::new();
    entry.read_f32(&mut numbers).map_err(|e| bad(e.to_string()))?;
    Ok(numbers.into_iter().map(f64::from).collect())
}

/// A shape without the ones, in which PyTorch's and ours may differ.
fn sizes(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|size| *size != 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_definition() {
        let row = Row::of("x".into(), &[1.0, 2.0, -4.5], &[1.0, 1.0, -4.0], [1e-9, 8.0]);
        assert_eq!((row.difference, row.at, row.here, row.there), (1.0, 1, 2.0, 1.0));
        assert_eq!((row.share, row.ok()), (0.25, false));
        assert!(Row { tolerance: 0.25, ..row.clone() }.ok());
        assert!((row.distance - (1.25_f64 / 18.0).sqrt()).abs() < 1e-15);
        // Of nothing a share can't be had: the difference itself counts.
        assert_eq!(Row::of("x".into(), &[1e-9], &[0.0], [0.0; 2]).share, 1e-9);
        // What is 0 but for rounding is measured by its kind.
        let row = Row::of("x".into(), &[1e-8, 0.0, 0.0, 0.0], &[1e-17, 0.0, 0.0, 0.0], [1e-10, 0.5]);
        assert!((row.share - 2e-8).abs() < 1e-12 && (row.distance - 1e-8).abs() < 1e-12, "{row:?}");
        // What is not finite here is never within tolerance.
        for wrong in [f64::NAN, f64::INFINITY] {
            let row = Row::of("x".into(), &[1.0, wrong], &[1.0, 1.0], [0.0; 2]);
            assert!(!Row { tolerance: 1e9, ..row.clone() }.ok() && row.at == 1, "{row:?}");
        }
    }

    #[test]
    fn tensors_stand_in_the_order_of_computing() {
        let names = ["prediction", "forward.a", "forward.b", "grad.a", "grad.b", "loss 1", "loss 2", "state.a", "features", "momentum.a"];
        let mut ranked: Vec<_> = names.iter().enumerate().map(|(written, name)| (rank(name, written), *name)).collect();
        ranked.sort_unstable();
        let order: Vec<_> = ranked.into_iter().map(|(_, name)| name).collect();
        let due = ["forward.a", "forward.b", "features", "prediction", "loss 1", "grad.b", "grad.a", "loss 2", "state.a", "momentum.a"];
        assert_eq!(order, due);
    }
}
