//! Precision, recall and F1 of every class, as scikit-learn's `precision_recall_fscore_support` defines them.

use super::answers::Answers;
use super::html::{Cell, table};
use std::fmt::Write;

/// What is counted of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// Images of the class.
    pub images: u64,
    /// Images that are taken for the class.
    pub said: u64,
    /// Both.
    pub right: u64,
}

/// A quotient; none where its divisor is 0.
fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl Score {
    /// Of what is taken for the class, how much is of it.
    pub fn precision(&self) -> Option<f64> {
        share(self.right, self.said)
    }
    /// Of the class, how much is taken for it.
    pub fn recall(&self) -> Option<f64> {
        share(self.right, self.images)
    }
    /// The harmonic mean of both: none only where the class neither was there nor was said.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.right, self.images + self.said)
    }
    /// Whether the class was there, or was said.
    fn is_there(&self) -> bool {
        self.images + self.said > 0
    }
}

/// The scores of all classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores(pub Vec<Score>);

/// A mean of precision, recall and F1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// Of the precision.
    pub precision: f64,
    /// Of the recall.
    pub recall: f64,
    /// Of the F1.
    pub f1: f64,
}

impl Scores {
    /// Counts answers over so many classes.
    pub fn of(answers: &Answers, classes: usize) -> Scores {
        let mut scores = vec![Score::default(); classes];
        for answer in &answers.0 {
            scores[answer.truth].images += 1;
            scores[answer.said].said += 1;
            scores[answer.truth].right += u64::from(answer.is_right());
        }
        Scores(scores)
    }

    /// The mean with `weight` for each class; what divides by zero counts 0.
    fn mean(&self, weight: impl Fn(&Score) -> f64) -> Mean {
        let all: f64 = self.0.iter().map(&weight).sum();
        let mean = |of: fn(&Score) -> Option<f64>| {
            self.0.iter().map(|score| weight(score) * of(score).unwrap_or(0.0)).sum::<f64>() / if all > 0.0 { all } else { 1.0 }
        };
        Mean { precision: mean(Score::precision), recall: mean(Score::recall), f1: mean(Score::f1) }
    }

    /// Every class that was there or was said counts the same: scikit-learn's `average="macro"`.
    pub fn macro_mean(&self) -> Mean {
        self.mean(|score| if score.is_there() { 1.0 } else { 0.0 })
    }

    /// Every image counts the same: scikit-learn's `average="weighted"`.
    pub fn weighted_mean(&self) -> Mean {
        self.mean(|score| score.images as f64)
    }

    /// The table, with these names.
    pub fn table(&self, names: &[String]) -> String {
        let number = |n: u64| Cell::Number(n.to_string());
        let row = |(score, name): (&Score, &String)| {
            let shares = [score.precision(), score.recall(), score.f1()].map(Cell::Share);
            let counts = [number(score.images), number(score.said), number(score.right)];
            std::iter::once(Cell::Text(name.clone())).chain(shares).chain(counts).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<Cell>> = self.0.iter().zip(names).map(row).collect();
        let head = ["class", "precision", "recall", "F1", "images", "answers", "right"];
        let [images, right] = [|s: &Score| s.images, |s: &Score| s.right].map(|of| self.0.iter().map(of).sum::<u64>());
        let mut sums = String::new();
        for (name, mean) in [("mean of the classes", self.macro_mean()), ("mean of the images", self.weighted_mean())] {
            let Mean { precision, recall, f1 } = mean;
            let _ = write!(sums, "<tr class=\"sum\"><td>{name}</td>");
            for value in [precision, recall, f1] {
                let _ = write!(sums, "<td class=\"n\">{value:.3}</td>");
            }
            let _ = writeln!(sums, "<td class=\"n\">{images}</td><td class=\"n\">{images}</td><td class=\"n\">{right}</td></tr>");
        }
        table("classes", &head, &rows).replace("</tbody>", &format!("{sums}</tbody>"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::*;

    pub(crate) fn answers(pairs: &[(usize, usize)]) -> Answers {
        let answer = |(index, &(truth, said))| Answer { index, truth, said, confidence: 0.5, loss: 0.1 };
        Answers(pairs.iter().enumerate().map(answer).collect())
    }

    /// sklearn: `precision_recall_fscore_support([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0], zero_division=0)` gives
    /// [1/2, 1/2, 0], [2/3, 1/2, 0], [4/7, 1/2, 0]; macro 1/3, 7/18, 5/14; weighted 5/12, 1/2, 19/42.
    #[test]
    fn scores_are_those_of_scikit_learn() {
        let scores = Scores::of(&answers(&[(0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 0)]), 4);
        let [a, b, c, d] = scores.0[..] else { panic!("four classes") };
        assert_eq!((a.precision(), a.recall(), a.f1()), (Some(0.5), Some(2.0 / 3.0), Some(4.0 / 7.0)));
        assert_eq!((b.precision(), b.recall(), b.f1()), (Some(0.5), Some(0.5), Some(0.5)));
        assert_eq!((c.precision(), c.recall(), c.f1()), (None, Some(0.0), Some(0.0)));
        assert_eq!((d.precision(), d.recall(), d.f1()), (None, None, None));
        let near = |mean: Mean, [p, r, f]: [f64; 3]| {
            assert!((mean.precision - p).abs() < 1e-12 && (mean.recall - r).abs() < 1e-12 && (mean.f1 - f).abs() < 1e-12, "{mean:?}");
        };
        near(scores.macro_mean(), [1.0 / 3.0, 7.0 / 18.0, 5.0 / 14.0]);
        near(scores.weighted_mean(), [5.0 / 12.0, 0.5, 19.0 / 42.0]);
        let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
        let html = scores.table(&names);
        assert_eq!(html.matches('–').count(), 4, "{html}");
        assert_eq!(html.matches("<tr").count(), 7, "{html}");
    }

    #[test]
    fn no_answers_have_no_scores() {
        let scores = Scores::of(&Answers::default(), 2);
        assert_eq!((scores.macro_mean(), scores.weighted_mean()), (Mean::default(), Mean::default()));
    }
}
