//! Running statistics that no training could have left.

use nunatak_core::program::EntryKind;

/// What is wrong with the numbers of an entry of this kind, if anything is: running statistics are finite, and
/// variances not negative. A network with others predicts NaN, and a damaged file is the usual cause.
pub(crate) fn wrong_statistics(kind: EntryKind, mut numbers: impl Iterator<Item = f32>) -> Option<&'static str> {
    match kind {
        EntryKind::RunningMean => (!numbers.all(f32::is_finite)).then_some("a running mean is NaN or infinite; the file is damaged"),
        EntryKind::RunningVar => {
            (!numbers.all(|v| v.is_finite() && v >= 0.0)).then_some("a running variance is negative, NaN or infinite; the file is damaged")
        }
        EntryKind::Parameter | EntryKind::Count | EntryKind::Words => None,
    }
}
