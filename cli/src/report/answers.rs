//! What a model said to images of which the classes are known.

use crate::engine::{largest, log_softmax};
use std::collections::BTreeMap;

/// The answer to one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Which sample it is.
    pub index: usize,
    /// The class that it is of.
    pub truth: usize,
    /// The class that it is taken for.
    pub said: usize,
    /// The probability of that class.
    pub confidence: f64,
    /// The negative logarithm of the true class's probability.
    pub loss: f64,
}

impl Answer {
    /// From the logits.
    pub fn of(index: usize, truth: usize, logits: &[f32]) -> Answer {
        let said = largest(logits);
        let mut log = log_softmax(logits);
        // In one walk, whichever of the two comes first.
        let (first, second) = (said.min(truth), said.max(truth));
        let low = log.nth(first).unwrap_or(f64::NAN);
        let high = if second == first { low } else { log.nth(second - first - 1).unwrap_or(f64::NAN) };
        let (of_said, of_truth) = if said <= truth { (low, high) } else { (high, low) };
        Answer { index, truth, said, confidence: of_said.exp(), loss: -of_truth }
    }

    /// Whether it is right.
    pub fn is_right(&self) -> bool {
        self.said == self.truth
    }
}

/// Answers, in the order of the images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers(pub Vec<Answer>);

impl Answers {
    /// How many are right.
    pub fn right(&self) -> usize {
        self.0.iter().filter(|answer| answer.is_right()).count()
    }

    /// Right ones in one; 0 of none.
    pub fn top1(&self) -> f64 {
        self.right() as f64 / self.0.len().max(1) as f64
    }

    /// The mean loss; 0 of none.
    pub fn mean_loss(&self) -> f64 {
        self.0.iter().map(|answer| answer.loss).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// How often each class (first) was taken for each (second). Pairs that never occurred are not there: of ten
    /// thousand classes a full table would take a gigabyte.
    pub fn pairs(&self) -> BTreeMap<(usize, usize), u64> {
        let mut pairs = BTreeMap::new();
        self.0.iter().for_each(|answer| *pairs.entry((answer.truth, answer.said)).or_default() += 1);
        pairs
    }

    /// The answers with the largest loss, the largest first; of equals the first image's.
    pub fn worst(&self, most: usize) -> Vec<Answer> {
        let mut all = self.0.clone();
        all.sort_by(|a, b| b.loss.total_cmp(&a.loss).then(a.index.cmp(&b.index)));
        all.truncate(most);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_become_answers() {
        let logits = [0.0, 2.0_f32.ln(), 5.0_f32.ln()];
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        for (truth, p) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            let answer = Answer::of(7, truth, &logits);
            assert!(answer.said == 2 && near(answer.confidence, 0.625) && near(answer.loss, -f64::ln(p)), "{answer:?}");
            assert_eq!(answer.is_right(), truth == 2);
        }
        let answer = Answer::of(0, 2, &[5.0_f32.ln(), 0.0, 2.0_f32.ln()]);
        assert!(answer.said == 0 && near(answer.confidence, 0.625) && near(answer.loss, -0.25_f64.ln()));
    }

    #[test]
    fn the_worst_come_first() {
        let answer = |index, loss| Answer { index, truth: 0, said: 1, confidence: 0.5, loss };
        let answers = Answers(vec![answer(0, 1.0), answer(1, 3.0), answer(2, 3.0), answer(3, 2.0)]);
        assert_eq!(answers.worst(3).iter().map(|a| a.index).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(answers.pairs().get(&(0, 1)), Some(&4));
        assert!((answers.mean_loss() - 2.25).abs() < 1e-12 && answers.right() == 0);
    }
}
