//! Whether a model knows how often it is right: of answers that it gives a probability of 80 %, 80 in 100 should be.
//!
//! The expected calibration error is that of Guo et al. 2017, "On Calibration of Modern Neural Networks": answers are
//! sorted into bins of equal width by their probability, `(0, 0.1]`, `(0.1, 0.2]`, …; it is the mean distance of a
//! bin's right answers from its mean probability, each image counting the same.

use super::answers::Answers;
use super::html::{Cell, details, note, table};
use super::plot::{self, Frame};
use std::fmt::Write;

/// Bins of probabilities.
pub const BINS: usize = 10;

/// The answers whose probability lies in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many.
    pub images: usize,
    /// Right ones.
    pub right: usize,
    /// The sum of their probabilities.
    pub confidence: f64,
}

impl Bin {
    /// Right answers in one; none of none.
    pub fn accuracy(&self) -> Option<f64> {
        (self.images > 0).then(|| self.right as f64 / self.images as f64)
    }
    /// The mean probability; none of none.
    pub fn mean_confidence(&self) -> Option<f64> {
        (self.images > 0).then(|| self.confidence / self.images as f64)
    }
}

/// Answers by their probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration(pub [Bin; BINS]);

impl Calibration {
    /// Sorts answers into bins.
    pub fn of(answers: &Answers) -> Calibration {
        let mut bins = [Bin::default(); BINS];
        for answer in &answers.0 {
            // A bin has its upper end, and not its lower one.
            let bin = &mut bins[((answer.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
            bin.images += 1;
            bin.right += usize::from(answer.is_right());
            bin.confidence += answer.confidence;
        }
        Calibration(bins)
    }

    fn images(&self) -> usize {
        self.0.iter().map(|bin| bin.images).sum()
    }

    /// The expected calibration error.
    pub fn error(&self) -> f64 {
        let distance = |bin: &Bin| (bin.right as f64 - bin.confidence).abs();
        self.0.iter().map(distance).sum::<f64>() / self.images().max(1) as f64
    }

    /// The mean probability minus the part of right answers: above 0 where the model is too sure.
    pub fn excess(&self) -> f64 {
        self.0.iter().map(|bin| bin.confidence - bin.right as f64).sum::<f64>() / self.images().max(1) as f64
    }

    /// The reliability diagram, what it says, and the bins.
    pub fn section(&self) -> String {
        let excess = 100.0 * self.excess();
        let sure = match excess {
            e if e > 0.05 => format!("The model is too sure: its probabilities are {e:.1} points above its right answers, in the mean."),
            e if e < -0.05 => {
                format!("The model is not sure enough: its probabilities are {:.1} points below its right answers, in the mean.", -e)
            }
            _ => "The mean probability is that of a right answer.".into(),
        };
        let words = note(&format!("Expected calibration error {:.4}, over {BINS} bins of equal width. {sure}", self.error()))
            + &note(
                "A bar shows how many of the answers with such a probability are right, the line across it their mean \
                 probability. The nearer the bar ends to its line, the better a probability can be trusted.",
            );
        let rows: Vec<Vec<Cell>> = self
            .0
            .iter()
            .enumerate()
            .map(|(i, bin)| {
                let [from, to] = [i, i + 1].map(|i| i as f64 / BINS as f64);
                let range = Cell::Text(format!("{from:.1} – {to:.1}"));
                vec![range, Cell::Number(bin.images.to_string()), Cell::Share(bin.mean_confidence()), Cell::Share(bin.accuracy())]
            })
            .collect();
        let bins = table("list", &["probability", "images", "mean probability", "right"], &rows);
        format!(
            "<div class=\"two\">\n<figure>{}{}</figure>\n<div>{words}{}</div>\n</div>\n",
            self.diagram(),
            KEY,
            details("The bins", &bins)
        )
    }

    fn diagram(&self) -> String {
        let frame = Frame::new([0.0, 1.0], [0.0, 1.0]);
        let mut out = frame.begin("Reliability diagram");
        let ticks: Vec<f64> = (0..=5).map(|i| f64::from(i) / 5.0).collect();
        out += &frame.axes(&ticks, &ticks, plot::percent, plot::percent, "probability of the answer", "right answers");
        for (i, bin) in self.0.iter().enumerate() {
            let (Some(accuracy), Some(confidence)) = (bin.accuracy(), bin.mean_confidence()) else { continue };
            let [from, to] = [i, i + 1].map(|i| frame.x(i as f64 / BINS as f64));
            let (left, width) = (from + 1.5, to - from - 3.0);
            let (top, bottom, middle) = (frame.y(accuracy), frame.y(0.0), frame.y(confidence));
            let title = format!("{} images, {:.1} % right, mean probability {:.1} %", bin.images, 100.0 * accuracy, 100.0 * confidence);
            let _ = writeln!(
                out,
                "<rect class=\"a pale\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{title}</title></rect>",
                bottom - top
            );
            let _ = writeln!(
                out,
                "<line class=\"due\" x1=\"{left:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\"><title>{title}</title></line>",
                left + width
            );
        }
        let [x0, x1, y0, y1] = [frame.x(0.0), frame.x(1.0), frame.y(0.0), frame.y(1.0)];
        let _ = writeln!(out, "<line class=\"ideal\" x1=\"{x0:.1}\" y1=\"{y0:.1}\" x2=\"{x1:.1}\" y2=\"{y1:.1}\"/></svg>");
        out
    }
}

const KEY: &str = "<div class=\"key\"><span><i class=\"a\"></i>right answers</span><span><i class=\"b\"></i>mean probability</span></div>";

#[cfg(test)]
mod tests {
    use super::super::answers::Answer;
    use super::*;

    fn answers(list: &[(f64, bool)]) -> Answers {
        let answer = |(index, &(confidence, right)): (usize, &(f64, bool))| Answer {
            index,
            truth: 0,
            said: usize::from(!right),
            confidence,
            loss: 1.0,
        };
        Answers(list.iter().enumerate().map(answer).collect())
    }

    /// By hand: (0.8, 0.9] has 3 answers, 2 right, of 2.6 in all; (0.5, 0.6] has 2, none right, of 1.2:
    /// (|2 − 2.6| + |0 − 1.2|) / 5 = 0.36
    #[test]
    fn the_error_is_that_of_a_calculation_by_hand() {
        let calibration = Calibration::of(&answers(&[(0.9, true), (0.85, true), (0.85, false), (0.6, false), (0.6, false)]));
        assert_eq!((calibration.0[8].images, calibration.0[8].right, calibration.0[5].images), (3, 2, 2));
        assert!((calibration.error() - 0.36).abs() < 1e-12 && (calibration.excess() - 0.36).abs() < 1e-12);
        let html = calibration.section();
        assert!(html.contains("0.3600") && html.contains("too sure: its probabilities are 36.0 points"), "{html}");
        assert_eq!(html.matches("class=\"a pale\"").count(), 2, "{html}");
    }

    /// Errors of two bins do not cancel each other; ends belong to the bin below.
    #[test]
    fn ends_and_signs() {
        let calibration = Calibration::of(&answers(&[(1.0, false), (0.5, true)]));
        assert_eq!((calibration.0[9].images, calibration.0[4].images), (1, 1));
        assert!((calibration.error() - 0.75).abs() < 1e-12 && (calibration.excess() - 0.25).abs() < 1e-12);
        assert_eq!(Calibration::of(&Answers::default()).error(), 0.0);
        assert_eq!(Calibration::of(&answers(&[(0.0, true)])).0[0].images, 1);
    }
}
