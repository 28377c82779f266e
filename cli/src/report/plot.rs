//! Curves as SVG inside the page.

use super::html::text;
use std::fmt::Write;

/// Width and height of a plot; a browser scales it.
const SIZE: [f64; 2] = [380.0, 240.0];
/// What is left free for labels: left, right, above, below.
const MARGINS: [f64; 4] = [54.0, 20.0, 12.0, 44.0];
/// Of more points than this no single one is marked.
const MARKED: usize = 60;

/// Where numbers lie in a plot.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    across: [f64; 2],
    up: [f64; 2],
}

impl Frame {
    /// For numbers between these ends.
    pub fn new(across: [f64; 2], up: [f64; 2]) -> Frame {
        Frame { across: apart(across), up: apart(up) }
    }

    /// The place of a number, from the left.
    pub fn x(&self, x: f64) -> f64 {
        let [left, right, ..] = MARGINS;
        left + (x - self.across[0]) / (self.across[1] - self.across[0]) * (SIZE[0] - left - right)
    }

    /// The place of a number, from above.
    pub fn y(&self, y: f64) -> f64 {
        let [.., above, below] = MARGINS;
        SIZE[1] - below - (y - self.up[0]) / (self.up[1] - self.up[0]) * (SIZE[1] - above - below)
    }

    /// The beginning of the SVG; `label` is said where pictures are not seen.
    pub fn begin(&self, label: &str) -> String {
        format!("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", SIZE[0], SIZE[1], text(label))
    }

    /// Axes with lines at these numbers.
    pub fn axes(&self, xs: &[f64], ys: &[f64], x_text: Label, y_text: Label, x_name: &str, y_name: &str) -> String {
        let (left, right) = (self.x(self.across[0]), self.x(self.across[1]));
        let (bottom, top) = (self.y(self.up[0]), self.y(self.up[1]));
        let mut out = String::new();
        for &y in ys {
            let at = self.y(y);
            let _ = writeln!(out, "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{at:.1}\" x2=\"{right:.1}\" y2=\"{at:.1}\"/>");
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", left - 7.0, at + 4.0, y_text(y));
        }
        for &x in xs {
            let at = self.x(x);
            let _ = writeln!(out, "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>", bottom + 4.0);
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", bottom + 17.0, x_text(x));
        }
        let _ = writeln!(out, "<line class=\"axis\" x1=\"{left:.1}\" y1=\"{bottom:.1}\" x2=\"{right:.1}\" y2=\"{bottom:.1}\"/>");
        let middle = (left + right) / 2.0;
        let _ = writeln!(out, "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", SIZE[1] - 8.0, text(x_name));
        if !y_name.is_empty() {
            let middle = (top + bottom) / 2.0;
            let _ =
                writeln!(out, "<text transform=\"translate(12 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>", text(y_name));
        }
        out
    }
}

/// How a number is written at an axis.
pub type Label = fn(f64) -> String;

/// Ends that are not the same.
fn apart([low, high]: [f64; 2]) -> [f64; 2] {
    if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
}

/// A share as percent, without digits that say nothing.
pub fn percent(share: f64) -> String {
    format!("{} %", short(100.0 * share))
}

/// A number with at most four digits that say something.
pub fn short(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e5).contains(&number.abs()) {
        return format!("{number:.1e}").replace(".0e", "e");
    }
    let digits = (3 - number.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

/// Round numbers from `low` to `high`, about `wanted` of them, no closer than `least`.
fn ticks([low, high]: [f64; 2], wanted: usize, least: f64) -> Vec<f64> {
    let rough = ((high - low) / wanted.max(1) as f64).max(least).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    (0..=(last - first).clamp(0.0, 50.0) as u32).map(|i| (first + f64::from(i)) * step).collect()
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is of.
    pub name: &'static str,
    /// Its colour: `a` or `b` of the page's style.
    pub class: &'static str,
    /// Its points, from left to right.
    pub points: Vec<[f64; 2]>,
}

/// Curves over epochs.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What is said above it.
    pub title: &'static str,
    /// The curves; those without points are left out.
    pub series: Vec<Series>,
    /// The best epoch, if one is marked.
    pub best: Option<f64>,
    /// Whether numbers are shares, which are written in percent and end at 1.
    pub shares: bool,
}

impl Plot {
    /// As markup; nothing where there is no point.
    pub fn figure(&self) -> String {
        let finite = |points: &[[f64; 2]]| points.iter().copied().filter(|[x, y]| x.is_finite() && y.is_finite()).collect::<Vec<_>>();
        let series: Vec<_> = self.series.iter().map(|s| Series { points: finite(&s.points), ..s.clone() }).collect();
        let series: Vec<_> = series.into_iter().filter(|s| !s.points.is_empty()).collect();
        let all = || series.iter().flat_map(|s| &s.points);
        if all().next().is_none() {
            return String::new();
        }
        let ends = |i: usize| all().fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], p| [low.min(p[i]), high.max(p[i])]);
        let frame = Frame::new(ends(0), self.up(ends(1)));
        let y_text: Label = if self.shares { percent } else { short };
        let mut out = format!("<figure>\n<h3>{}</h3>\n{}", text(self.title), frame.begin(self.title));
        out += &frame.axes(&ticks(frame.across, 8, 1.0), &ticks(frame.up, 5, 0.0), short, y_text, "epoch", "");
        if let Some(best) = self.best.filter(|best| (frame.across[0]..=frame.across[1]).contains(best)) {
            let (x, [y0, y1]) = (frame.x(best), frame.up.map(|y| frame.y(y)));
            let _ = writeln!(
                out,
                "<line class=\"mark\" x1=\"{x:.1}\" y1=\"{y0:.1}\" x2=\"{x:.1}\" y2=\"{y1:.1}\"><title>best: epoch {best}</title></line>"
            );
        }
        series.iter().for_each(|s| out += &curve(&frame, s, y_text));
        out += "</svg>\n<div class=\"key\">";
        for Series { name, class, .. } in &series {
            let _ = write!(out, "<span><i class=\"{class}\"></i>{}</span>", text(name));
        }
        if self.best.is_some() {
            out += "<span><i class=\"best\"></i>best</span>";
        }
        out + "</div>\n</figure>\n"
    }

    /// The ends of the upward axis: some room above and below, but no numbers that can't be.
    fn up(&self, ends: [f64; 2]) -> [f64; 2] {
        let room = if ends[1] > ends[0] { 0.06 * (ends[1] - ends[0]) } else { 0.1 * ends[0].abs().max(1e-3) };
        let most = if self.shares { 1.0 } else { f64::INFINITY };
        [(ends[0] - room).max(0.0_f64.min(ends[0])), (ends[1] + room).min(most.max(ends[1]))]
    }
}

fn curve(frame: &Frame, Series { name, class, points }: &Series, y_text: Label) -> String {
    let places: Vec<String> = points.iter().map(|[x, y]| format!("{:.1},{:.1}", frame.x(*x), frame.y(*y))).collect();
    let mut out = format!("<polyline class=\"{class}\" points=\"{}\"/>\n", places.join(" "));
    if points.len() <= MARKED {
        for [x, y] in points {
            let (cx, cy) = (frame.x(*x), frame.y(*y));
            let _ = writeln!(
                out,
                "<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{}, epoch {}: {}</title></circle>",
                text(name),
                short(*x),
                y_text(*y)
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks([1.0, 10.0], 8, 1.0), [2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks([0.0, 3.0], 8, 1.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(ticks([0.0, 1.0], 5, 0.0).len(), 6);
        assert!(ticks([0.0, 1e-300], 5, 0.0).len() < 52 && ticks([5.0, 5.0], 5, 0.0).len() < 52);
    }

    #[test]
    fn numbers_are_short() {
        let text = [0.0, 0.1 + 0.2, 2.5, 1234.5, 100.0, 1e-5, 0.001_236].map(short);
        assert_eq!(text, ["0", "0.3", "2.5", "1234", "100", "1e-5", "0.001236"]);
        assert_eq!([percent(0.5), percent(1.0), percent(0.125)], ["50 %", "100 %", "12.5 %"]);
    }

    #[test]
    fn whatever_the_numbers_a_plot_has_places() {
        let of = |points: Vec<[f64; 2]>| {
            let series = vec![Series { name: "x", class: "a", points }];
            Plot { title: "t", series, best: Some(1.0), shares: false }.figure()
        };
        assert_eq!(of(vec![]), "");
        assert_eq!(of(vec![[1.0, f64::NAN]]), "");
        for points in
            [vec![[1.0, 0.5]], vec![[1.0, 0.0], [2.0, 0.0]], vec![[1.0, 1e-30], [2.0, 1e30]], vec![[1.0, -3.0], [2.0, f64::INFINITY]]]
        {
            let html = of(points.clone());
            assert!(!html.contains("NaN") && !html.contains("inf") && html.contains("<circle"), "{points:?} {html}");
        }
    }
}
