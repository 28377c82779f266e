//! What every epoch gave: for the table and the sparkline at a run's end, and for its report.

use super::log::loss_text;
use super::resume::Sums;
use serde::{Deserialize, Serialize};

/// Epochs of which lines are kept, about.
const KEPT: u64 = 256;
/// Epochs in the table of a terminal.
const ROWS: usize = 16;
/// Signs of a sparkline, at most.
const WIDE: usize = 60;

/// What an epoch gave. Nothing in it depends on time: it is saved in `FILE.last`, of which a resumed run's bits are
/// those of an unbroken one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The epoch, from 1; 0 is the model as it was.
    pub(super) epoch: u64,
    /// Of training, while weights moved.
    pub(super) train: Option<Sums>,
    /// Of validation, after the epoch.
    pub(super) val: Option<Sums>,
}

impl Line {
    /// Of an epoch; sums over no image are left out.
    pub(super) fn of(epoch: u64, train: &Sums, val: &Sums) -> Line {
        let some = |sums: &Sums| Some(*sums).filter(|sums| sums.images > 0);
        Line { epoch, train: some(train), val: some(val) }
    }
}

/// Adds a line. Of many epochs every second one is kept, then every fourth and so on, and always the first, the `best` and
/// the newest: `FILE.last` is written after each.
pub(super) fn remember(lines: &mut Vec<Line>, line: Line, best: Option<u64>) {
    lines.push(line);
    let stride = (line.epoch / KEPT + 1).next_power_of_two();
    lines.retain(|l| l.epoch <= 1 || l.epoch % stride == 0 || l.epoch == line.epoch || Some(l.epoch) == best);
}

/// The table of a terminal, and the sparklines; nothing where there are less than two epochs.
pub(super) fn text(lines: &[Line], best: Option<u64>) -> Option<String> {
    if lines.iter().filter(|line| line.train.is_some()).count() < 2 {
        return None;
    }
    let val = lines.iter().any(|line| line.val.is_some());
    let mut out = format!("{:>7}  {:>9}  {:>8}", "epoch", "loss", "top-1");
    if val {
        out += &format!("  {:>9}  {:>9}", "val loss", "val top-1");
    }
    for line in chosen(lines, best) {
        out += &format!("\n{:>7}{}", line.epoch, cells(line.train.as_ref(), 8));
        if val {
            out += &cells(line.val.as_ref(), 9);
            out += if Some(line.epoch) == best { "  best" } else { "" };
        }
        out.truncate(out.trim_end().len());
    }
    for (name, of) in [("loss", (|line| line.train) as fn(&Line) -> Option<Sums>), ("val loss", |line| line.val)] {
        let losses: Vec<f64> = lines.iter().filter_map(of).map(|sums| sums.mean_loss()).collect();
        if let [first, .., last] = losses[..] {
            out += &format!("\n{name:>8}  {}  {} to {}", sparkline(&losses), loss_text(first), loss_text(last));
        }
    }
    Some(out)
}

/// A loss and a share of right answers, aligned.
fn cells(sums: Option<&Sums>, wide: usize) -> String {
    let (loss, top1) = sums.map_or_else(Default::default, |s| (loss_text(s.mean_loss()), format!("{:.2} %", s.percent())));
    format!("  {loss:>9}  {top1:>wide$}")
}

/// As many lines as fit: the first, the last, the best, and some between.
fn chosen(lines: &[Line], best: Option<u64>) -> Vec<&Line> {
    let last = lines.len() - 1;
    let shown = |i: usize| lines.len() <= ROWS || (0..ROWS).any(|row| row * last / (ROWS - 1) == i) || Some(lines[i].epoch) == best;
    (0..lines.len()).filter(|i| shown(*i)).map(|i| &lines[i]).collect()
}

/// Numbers as bars of eight heights.
fn sparkline(numbers: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let count = numbers.len().min(WIDE);
    // Each sign is the mean of as many numbers as share it.
    let mean = |i: usize| {
        let part = &numbers[i * numbers.len() / count..(i + 1) * numbers.len() / count];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..count).map(mean).collect();
    let (low, high) = means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    let height = |v: &f64| if high > low { ((v - low) / (high - low) * 7.0).round() as usize } else { 0 };
    means.iter().map(|v| BARS[height(v).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(epoch: u64, loss: f64) -> Line {
        Line::of(epoch, &Sums { loss: 4.0 * loss, right: 1, images: 4, top5: 0 }, &Sums { loss: 2.0 * loss, right: 1, images: 2, top5: 2 })
    }

    #[test]
    fn lines_are_kept_few_whatever_the_epochs() {
        let mut lines = Vec::new();
        for epoch in 1..=10_000 {
            remember(&mut lines, line(epoch, 1.0), Some(7.min(epoch)));
            assert!(lines.len() as u64 <= KEPT + 4 && lines.last().is_some_and(|l| l.epoch == epoch));
        }
        let epochs: Vec<u64> = lines.iter().map(|line| line.epoch).collect();
        assert!(epochs[..3] == [1, 7, 64] && epochs.len() > 150, "{epochs:?}");
    }

    #[test]
    fn tables_are_aligned() {
        let lines: Vec<Line> = (1..=3).map(|epoch| line(epoch, 1.0 / epoch as f64)).collect();
        let text = text(&lines, Some(3)).unwrap();
        let expected = "  epoch       loss     top-1   val loss  val top-1
      1     1.0000   25.00 %     1.0000    50.00 %
      2     0.5000   25.00 %     0.5000    50.00 %
      3     0.3333   25.00 %     0.3333    50.00 %  best
    loss  █▃▁  1.0000 to 0.3333
val loss  █▃▁  1.0000 to 0.3333";
        assert_eq!(text, expected);
        assert_eq!(super::text(&lines[..1], None), None);
        let many: Vec<Line> = (1..=100).map(|epoch| line(epoch, 1.0)).collect();
        assert_eq!(super::text(&many, Some(50)).unwrap().lines().count(), 1 + ROWS + 1 + 2);
    }

    #[test]
    fn sparklines_are_no_wider_than_a_terminal() {
        assert_eq!(sparkline(&[1.0, 1.0]), "▁▁");
        let falling: Vec<f64> = (0..1000).map(|i| -f64::from(i)).collect();
        let line = sparkline(&falling);
        assert!(line.chars().count() == WIDE && line.starts_with('█') && line.ends_with('▁'), "{line}");
    }
}
