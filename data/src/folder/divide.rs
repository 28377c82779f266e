//! A part of each class put aside for validation.

use std::path::Path;

use nunatak_core::rng::Generator;

use super::{FolderError, ImageFolder, Sample, SplitOptions, error};

impl ImageFolder {
    /// Samples ordered by class, of which the same part of every class is put aside.
    pub(super) fn divided(dir: &Path, classes: Vec<String>, samples: Vec<Sample>, options: &SplitOptions) -> Result<Self, FolderError> {
        let fraction = options.val_fraction;
        if !(0.0..1.0).contains(&fraction) {
            return error(
                dir,
                format!(
                    "can't put the fraction {fraction} aside for validation; \
                     it must be at least 0 and below 1"
                ),
            );
        }
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for one_class in samples.chunk_by(|a, b| a.label == b.label) {
            let n = one_class.len();
            let name = &classes[one_class[0].label];
            let aside = set_aside(n, fraction, options.seed, name, one_class)?;
            for (sample, aside) in one_class.iter().zip(aside) {
                if aside { &mut val } else { &mut train }.push(sample.clone());
            }
        }
        Ok(Self { classes, train, val, notes: Vec::new() })
    }
}

/// Which of a class's images are put aside. Seeded by the class's name too, so that a new
/// class leaves the division of the others as it was.
fn set_aside(n: usize, fraction: f64, seed: u64, class: &str, samples: &[Sample]) -> Result<Vec<bool>, FolderError> {
    let mut aside = vec![false; n];
    if n < 2 || fraction == 0.0 {
        return Ok(aside);
    }
    if u32::try_from(n).is_err() {
        return error(&samples[0].path, format!("class of {n} images; 2^32 at most"));
    }
    let wanted = ((n as f64 * fraction).round() as usize).clamp(1, n - 1);
    let mut order = vec![0; n];
    // Any fixed hash would do, but it must stay the same for ever.
    let mixed = crate::loader::mix(seed ^ nunatak_core::fnv::fnv(class.as_bytes()));
    Generator::manual_seed(mixed).permutation(&mut order);
    for &i in &order[..wanted] {
        aside[i as usize] = true;
    }
    Ok(aside)
}
