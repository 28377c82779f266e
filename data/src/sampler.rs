//! In which order an epoch visits its samples.
//!
//! | function | PyTorch |
//! |---|---|
//! | [`sequential`] | `DataLoader(samples)` |
//! | [`shuffled`] | `DataLoader(samples, shuffle=True)` |
//! | [`balanced`] | `DataLoader(samples, sampler=WeightedRandomSampler(weights, len(samples)))`, weights 1 / count of the class |

use nunatak_core::rng::{self, Generator};

use crate::folder::Sample;

/// The order `0, 1, …, n − 1`.
pub fn sequential(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

/// The order of `DataLoader(shuffle=True)` in the next epoch, given PyTorch's global
/// generator.
pub fn shuffled(global: &mut Generator, n: usize) -> Vec<u32> {
    let mut order = vec![0; n];
    rng::epoch_permutation(global, &mut order);
    order
}

/// As many samples as there are, drawn with replacement so that every class with samples comes as often as the others: the order
/// of PyTorch's `DataLoader` with a `WeightedRandomSampler` in the next epoch, given its global generator. A sample's
/// weight is 1 / (samples of its class).
///
/// Draws 2 for the base seed of the loader's workers, which nothing here uses, and 2 for each sample.
pub fn balanced(global: &mut Generator, samples: &[Sample]) -> Vec<u32> {
    let _worker_seed = global.random64();
    let classes = samples.iter().map(|sample| sample.label + 1).max().unwrap_or(0);
    let mut counts = vec![0_usize; classes];
    samples.iter().for_each(|sample| counts[sample.label] += 1);
    let sums = cumulative(samples.iter().map(|sample| 1.0 / counts[sample.label] as f64));
    samples.iter().map(|_| at(&sums, global.rand_f64())).collect()
}

/// Sums of the weights up to each sample, of which the last is 1: `torch.multinomial` computes them so, in double.
fn cumulative(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sums: Vec<f64> = weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let Some(&all) = sums.last() else { return sums };
    sums.iter_mut().for_each(|sum| *sum /= all);
    // Where a sum of rounded numbers is below 1 a draw above it would name no sample.
    if let Some(last) = sums.last_mut() {
        *last = 1.0;
    }
    sums
}

/// The first sample whose sum is not below a number from 0 to 1.
fn at(sums: &[f64], number: f64) -> u32 {
    sums.partition_point(|sum| *sum < number) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counts: &[usize]) -> Vec<Sample> {
        let of = |(label, count): (usize, &usize)| vec![Sample { path: "x".into(), label }; *count];
        counts.iter().enumerate().flat_map(of).collect()
    }

    /// PyTorch 2.15.0: `w = [1 / 6] * 6 + [1 / 3] * 3 + [1.0]; torch.manual_seed(7)`, then twice the samples of
    /// `DataLoader(range(10), batch_size=4, sampler=WeightedRandomSampler(w, 10))`, and `torch.rand(1)`
    #[test]
    fn balanced_orders_are_those_of_torch() {
        let mut global = Generator::manual_seed(7);
        let samples = samples(&[6, 3, 1]);
        assert_eq!(balanced(&mut global, &samples), [4, 9, 8, 9, 9, 5, 8, 9, 9, 1]);
        assert_eq!(balanced(&mut global, &samples), [3, 0, 2, 9, 0, 9, 1, 9, 9, 9]);
        assert_eq!(global.rand_f32(), 0.957_538_1);
    }

    /// Of n draws a class of probability p has n p, give or take five deviations of the binomial distribution; so has a
    /// sample of it.
    #[test]
    fn classes_come_as_often_as_one_another() {
        let counts = [1, 10, 989, 0, 1000];
        let samples = samples(&counts);
        let (mut drawn, mut of_first) = ([0_usize; 5], 0_usize);
        let mut global = Generator::manual_seed(1);
        for _ in 0..20 {
            let order = balanced(&mut global, &samples);
            assert_eq!(order.len(), samples.len());
            order.iter().for_each(|i| drawn[samples[*i as usize].label] += 1);
            of_first += order.iter().filter(|i| **i == 1).count();
        }
        let n = 20.0 * samples.len() as f64;
        let near = |count: usize, p: f64| (count as f64 - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt();
        assert_eq!(drawn[3], 0, "a class without samples");
        assert!([0, 1, 2, 4].iter().all(|class| near(drawn[*class], 0.25)), "{drawn:?}");
        assert!(near(of_first, 0.025), "the first sample of the second class came {of_first} times");
    }

    #[test]
    fn orders_depend_on_the_seed_alone() {
        let samples = samples(&[5, 2]);
        let of = |seed: u64| balanced(&mut Generator::manual_seed(seed), &samples);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        // The generator goes on where an epoch was begun anew.
        let mut whole = Generator::manual_seed(3);
        balanced(&mut whole, &samples);
        assert_eq!(balanced(&mut whole, &samples), balanced(&mut Generator::resume(3, 2 + 2 * 7), &samples));
        assert!(balanced(&mut whole, &[]).is_empty());
    }

    #[test]
    fn every_number_names_a_sample() {
        let sums = cumulative([0.1; 10].into_iter());
        assert_eq!([at(&sums, 0.0), at(&sums, 0.1), at(&sums, 0.101), at(&sums, 1.0 - f64::EPSILON), at(&sums, 1.0)], [0, 0, 1, 9, 9]);
    }
}
