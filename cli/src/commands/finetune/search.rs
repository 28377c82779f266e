//! `nunatak lr-find`: steps with a growing learning rate, of which nothing is kept.

use super::features::Part;
use super::layers::Rates;
use super::log::short;
use super::run::Run;
use crate::failure::Failure;
use crate::outln;
use nunatak_data::Batch;
use serde_json::json;
use std::rc::Rc;

/// The search for a learning rate.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The lowest rate.
    pub from: f32,
    /// The highest rate.
    pub to: f32,
    /// Steps from the lowest to the highest.
    pub steps: u32,
    /// Prints JSON.
    pub json: bool,
}

impl Search {
    /// The rate of step `i`: every one the same factor above the one before.
    fn rate(&self, i: u32) -> f32 {
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        (from * (to / from).powf(f64::from(i) / f64::from(self.steps - 1))) as f32
    }
}

/// How much of the smoothed loss is kept in every step.
const KEPT: f64 = 0.9;
/// The search ends where the smoothed loss is so many times its lowest.
const TOO_HIGH: f64 = 4.0;
/// Lines of the plot.
const ROWS: usize = 10;
/// Columns of the plot.
const COLUMNS: usize = 60;

/// What was found.
#[derive(Debug, PartialEq)]
struct Curve {
    /// Rate and smoothed loss of every step.
    points: Vec<(f32, f64)>,
}

impl Curve {
    /// From the losses of the steps.
    fn of(losses: &[(f32, f64)]) -> Curve {
        let (mut average, mut kept) = (0.0, 1.0);
        let points = losses.iter().map(|&(rate, loss)| {
            average = KEPT * average + (1.0 - KEPT) * loss;
            kept *= KEPT;
            (rate, average / (1.0 - kept))
        });
        Curve { points: points.collect() }
    }

    /// The point with the lowest loss.
    fn lowest(&self) -> Option<usize> {
        (0..self.points.len()).min_by(|&a, &b| self.points[a].1.total_cmp(&self.points[b].1))
    }

    /// Where the loss falls most steeply over the logarithm of the rate, before its lowest; none where it never falls.
    fn steepest(&self) -> Option<usize> {
        let slope = |i: &usize| self.points[i + 1].1 - self.points[i - 1].1;
        let inner = 1..self.lowest()?.min(self.points.len().checked_sub(2)?) + 1;
        inner.min_by(|a, b| slope(a).total_cmp(&slope(b))).filter(|i| slope(i) < 0.0)
    }
}

impl Run<'_, '_> {
    /// Takes the steps, prints the curve and the suggestion.
    ///
    /// # Errors
    /// [`Failure`] of the trainer, or where there are too few steps to say anything.
    pub(super) fn find_rate(&mut self, search: Search) -> Result<(), Failure> {
        self.rates = Rc::new(Rates::same(self.settings.sgd(1.0))); // so that a factor is a rate
        let mut losses: Vec<(f32, f64)> = Vec::new();
        self.progress.begin("lr-find".into(), search.steps.into(), 0);
        let mut batch = Batch::default();
        'search: for epoch in 0.. {
            self.position.epoch = epoch; // by which batches are mixed
            self.begin_epoch();
            let order = self.order();
            let mut batches = self.source(Part::Train, &order, epoch, 0)?;
            let before = losses.len();
            while batches.next_into(&mut batch) {
                self.name_skipped(&batch);
                if losses.len() == search.steps as usize {
                    break 'search;
                }
                let rate = search.rate(losses.len() as u32);
                let Some(stepped) = (if batch.labels.is_empty() { None } else { self.advance(&batch, rate)? }) else { continue };
                if stepped.lost.is_some() {
                    break 'search;
                }
                losses.push((rate, stepped.loss.into()));
                let curve = Curve::of(&losses);
                let (lowest, now) = (curve.lowest().map_or(0.0, |i| curve.points[i].1), curve.points[losses.len() - 1].1);
                self.progress.step(losses.len() as u64, batch.labels.len() as u64, &format!("lr {rate:.2e}  loss {now:.4}"), 0);
                if losses.len() > 10 && now > TOO_HIGH * lowest {
                    break 'search;
                }
            }
            self.all_seen(Part::Train, &order);
            if losses.len() == before {
                return Err(Failure::with(self.args.folder().display(), "none of the images to train on could be read"));
            }
        }
        self.progress.end();
        tell(&Curve::of(&losses), search)
    }
}

/// Prints the curve and the suggestion.
fn tell(curve: &Curve, search: Search) -> Result<(), Failure> {
    let steepest = curve.steepest().map(|i| curve.points[i].0);
    let tenth = curve.lowest().map(|i| curve.points[i].0 / 10.0);
    if search.json {
        let points: Vec<_> = curve.points.iter().map(|(rate, loss)| json!({"lr": short(*rate), "loss": loss})).collect();
        return outln!("{}", json!({"suggestion": steepest.map(short), "tenth_of_lowest": tenth.map(short), "points": points}));
    }
    for line in plot(&curve.points) {
        outln!("{line}")?;
    }
    match (steepest, tenth) {
        (Some(steepest), Some(tenth)) => {
            outln!(
                "suggestion: --lr {steepest:.1e} (where the loss falls most steeply; a tenth of the rate with the lowest loss is {tenth:.1e})"
            )
        }
        _ => Err(Failure::Failed(format!(
            "the loss fell at no rate from {:e} to {:e}; take other rates with --from and --to, or more --steps",
            search.from, search.to
        ))),
    }
}

/// The losses over the logarithm of the rate, as text.
fn plot(points: &[(f32, f64)]) -> Vec<String> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let low = points.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    // What rises far at the end would press all else flat.
    let high = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max).min(first.1.max(low) * 1.5).max(low + 1e-9);
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    for column in 0..COLUMNS.min(points.len()) {
        let loss = points[column * (points.len() - 1) / (COLUMNS.min(points.len()) - 1).max(1)].1.min(high);
        let row = ((high - loss) / (high - low) * (ROWS - 1) as f64).round() as usize;
        cells[row.min(ROWS - 1)][column] = '*';
    }
    let mut lines: Vec<String> = Vec::new();
    for (row, cells) in cells.iter().enumerate() {
        let at = high - (high - low) * row as f64 / (ROWS - 1) as f64;
        lines.push(format!("{at:>9.4} |{}", cells.iter().collect::<String>().trim_end()));
    }
    let wide = COLUMNS.min(points.len());
    lines.push(format!("{:>9} +{}", "loss", "-".repeat(wide)));
    let (left, right) = (format!("{:.1e}", first.0), format!("{:.1e}", last.0));
    lines.push(format!("{:>9}  {left}{:>pad$} lr", "", right, pad = wide.saturating_sub(left.len())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steepest_fall_is_found() {
        let search = Search { from: 1e-4, to: 1.0, steps: 101, json: false };
        assert!((search.rate(0) - 1e-4).abs() < 1e-10 && (search.rate(50) - 1e-2).abs() < 1e-6 && (search.rate(100) - 1.0).abs() < 1e-6);
        // A fall around step 60, a rise from step 90 on.
        let loss = |i: f64| 2.0 - 1.5 / (1.0 + (-(i - 60.0) / 4.0).exp()) + if i > 90.0 { (i - 90.0) * 0.5 } else { 0.0 };
        let points: Vec<(f32, f64)> = (0..101).map(|i| (search.rate(i), loss(f64::from(i)))).collect();
        let curve = Curve { points: points.clone() };
        assert_eq!(curve.steepest(), Some(60));
        assert!(curve.lowest().is_some_and(|i| (85..=91).contains(&i)));
        // Smoothing comes late, by about ten steps.
        assert!(Curve::of(&points).steepest().is_some_and(|i| (60..=72).contains(&i)));
        assert_eq!(plot(&points).len(), ROWS + 2);
        let rising = Curve { points: (0..20).map(|i| (1.0, f64::from(i))).collect() };
        assert_eq!(rising.steepest(), None);
        assert!(tell(&Curve { points: Vec::new() }, search).is_err());
    }
}
