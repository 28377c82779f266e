//! Pages that show what happened: whole, harmless, with the right numbers.

use crate::running::{Place, draw};
use std::collections::BTreeMap;

/// A page, taken apart: the text between tags, and how often each element is there.
struct Page {
    html: String,
    text: String,
    elements: BTreeMap<String, usize>,
}

/// Elements that a page may have. No script, frame, form, link or object is among them.
const KNOWN: [&str; 46] = [
    "a",
    "b",
    "body",
    "circle",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "head",
    "header",
    "html",
    "i",
    "img",
    "li",
    "line",
    "main",
    "meta",
    "nav",
    "p",
    "polyline",
    "pre",
    "rect",
    "section",
    "span",
    "style",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "th",
    "thead",
    "title",
    "tr",
    "ul",
    "ol",
    "h4",
    "g",
];

impl Page {
    fn read(place: &Place, name: &str) -> Page {
        let html = String::from_utf8(place.bytes(name)).unwrap();
        let rest = html.strip_prefix("<!DOCTYPE html>").unwrap().to_string();
        let (mut open, mut text, mut elements) = (Vec::<String>::new(), String::new(), BTreeMap::new());
        let mut rest = rest.as_str();
        while let Some(start) = rest.find('<') {
            text += check_text(&rest[..start]);
            let end = start + rest[start..].find('>').expect("a tag ends");
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "closed in the wrong order");
                text.push(' ');
                continue;
            }
            let closed = tag.ends_with('/');
            let tag = tag.trim_end_matches('/');
            let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
            assert!(KNOWN.contains(&name), "<{name}>");
            check_attributes(attributes);
            *elements.entry(name.to_string()).or_default() += 1;
            if !closed {
                open.push(name.to_string());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        // Nothing is fetched from anywhere.
        for bad in ["http:", "https:", "//", "<script", "@import", "url(", "javascript:"] {
            let style_and_data = html.replace("base64,", "");
            let mut without_pictures = String::new();
            for (i, part) in style_and_data.split("data:image/png;").enumerate() {
                without_pictures += if i == 0 { part } else { part.split_once('"').unwrap().1 };
            }
            assert!(!without_pictures.contains(bad), "{bad}");
        }
        Page { html, text, elements }
    }

    fn count(&self, element: &str) -> usize {
        self.elements.get(element).copied().unwrap_or(0)
    }

    /// What stands under a heading.
    fn section(&self, id: &str) -> &str {
        let (_, after) = self.html.split_once(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no section {id}"));
        after.split_once("</section>").unwrap().0
    }

    /// The cells of a table's rows.
    fn rows(&self, id: &str, table: &str) -> Vec<Vec<String>> {
        let (_, after) = self.section(id).split_once(&format!("<table class=\"{table}\">")).unwrap_or_else(|| panic!("no table in {id}"));
        let table = after.split_once("</table>").unwrap().0;
        let strip = |cell: &str| cell.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text)).collect::<String>();
        table
            .split("<tr")
            .skip(1)
            .map(|row| {
                let cells = row.split("<t").skip(1).filter(|cell| cell.starts_with('d') || cell.starts_with('h'));
                cells.map(|cell| strip(&format!("<t{cell}"))).map(|text| text.trim().to_string()).collect()
            })
            .collect()
    }
}

/// Outside of tags `&` begins one of five names.
fn check_text(text: &str) -> &str {
    for (at, _) in text.match_indices('&') {
        assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|name| text[at..].starts_with(name)), "{}", &text[at..]);
    }
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    text
}

/// `name="value" …`
fn check_attributes(mut text: &str) {
    while !text.trim().is_empty() {
        let (name, rest) = text.trim_start().split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.chars().all(|c| c.is_ascii_alphabetic() || c == '-' || c.is_ascii_digit()) && !name.starts_with("on"), "{name}");
        let (value, rest) = rest.split_once('"').unwrap();
        assert!(!value.contains('<'));
        assert!(name != "src" || value.starts_with("data:image/png;base64,"), "{name}");
        assert!(name != "href" || value.starts_with('#'), "{name}={value}");
        text = rest;
    }
}

const HOSTILE: &str = "a<b>&\"c'";
const ESCAPED: &str = "a&lt;b&gt;&amp;&quot;c&#39;";

/// The usual images, and a class with a hostile name.
fn place() -> Place {
    let place = Place::new();
    (0..6).for_each(|i| draw(&place.path(&format!("data/train/{HOSTILE}/{i}.png")), [150, 150, 10], i));
    (0..3).for_each(|i| draw(&place.path(&format!("data/val/{HOSTILE}/<img src=x>{i}.png")), [150, 150, 10], 50 + i));
    place
}

#[test]
fn a_run_leaves_a_page() {
    let place = place();
    std::fs::write(place.path("data/train/red/broken.png"), b"<b>").unwrap();
    let run = place.ok(&place.tune("m.safetensors", "--trainable all --epochs 3 --lr 0.02"));
    assert!(run.err.contains("m.safetensors.report.html"), "{}", run.err);
    // The terminal: a table, and a sparkline.
    let table: Vec<&str> = run.err.lines().skip_while(|line| !line.trim_start().starts_with("epoch       loss")).collect();
    assert!(table.len() >= 6 && table[1].starts_with("      1  ") && table[3].starts_with("      3  "), "{}", run.err);
    assert!(table[1..4].iter().any(|line| line.ends_with("best")), "{}", run.err);
    assert!(table[4].starts_with("    loss  ") && table[4].contains(" to ") && table[5].starts_with("val loss  "), "{}", run.err);

    let page = Page::read(&place, "m.safetensors.report.html");
    for id in ["curves", "confusion", "classes", "losses", "calibration", "data", "settings", "time"] {
        assert!(page.text.len() > 100 && !page.section(id).is_empty(), "{id}");
    }
    for name in ["blue", "green", "red", ESCAPED] {
        for id in ["confusion", "classes", "data"] {
            assert!(page.section(id).contains(name), "{name} in {id}");
        }
    }
    assert_eq!((page.count("img"), page.count("svg"), page.count("polyline")), (12, 4, 5), "{:?}", page.elements);
    // The confusion matrix: its sums are the images to validate with.
    let rows = page.rows("confusion", "matrix");
    let number = |text: &String| text.parse::<u64>().unwrap();
    for row in &rows[1..] {
        assert_eq!(row[1..5].iter().map(number).sum::<u64>(), number(&row[5]));
    }
    assert_eq!((rows.len(), rows[5][5].as_str()), (6, "12"));
    let right: u64 = (1..5).map(|i| number(&rows[i][i])).sum();
    assert!(run.out.contains(&format!("({right} of 12)")), "{}", run.out);
    assert!(page.text.contains(&format!("{right} of 12")));
    // The data set, settings, what could not be read.
    let data = page.rows("data", "list");
    assert_eq!(
        data[1..],
        [["a&lt;b&gt;&amp;&quot;c&#39;", "6", "3"], ["blue", "9", "3"], ["green", "9", "3"], ["red", "10", "3"], ["all", "34", "12"]]
    );
    assert!(page.section("data").contains("train/red/broken.png"));
    let settings: BTreeMap<String, String> =
        page.rows("settings", "pairs").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(
        [&settings["lr"], &settings["epochs"], &settings["trainable"], &settings["weights"]],
        ["0.02", "3", "all", "weights.safetensors"]
    );
    assert_eq!(page.rows("time", "list").len(), 4);
}

/// The same run gives the same page, apart from its times; so does one that was stopped and gone on with.
#[test]
fn pages_are_the_same_again() {
    let place = place();
    let page = |out: &str| {
        let page = Page::read(&place, &format!("{out}.report.html"));
        let time = page.section("time").to_string();
        page.html.replace(&time, "").replace(out, "OUT").replace("&lt;img src=x&gt;", "")
    };
    let recipe = "--trainable layer3,fc --epochs 3 --lr 0.002 --schedule cosine";
    place.ok(&place.tune("a.safetensors", recipe));
    for (stop, out) in [(3, "b.safetensors"), (11, "c.safetensors")] {
        place.ok(&place.tune(out, &format!("{recipe} --stop-after {stop}")));
        assert!(!place.path(&format!("{out}.report.html")).exists());
        place.ok(&format!("finetune data --resume --out {out} --threads 1"));
        assert!(page(out) == page("a.safetensors"), "stopped after {stop}");
    }
    // Nothing was left to do: the page stays. Where it is not there, the best model answers again.
    let before = place.bytes("a.safetensors.report.html");
    place.ok("finetune data --resume --out a.safetensors --threads 1");
    assert!(place.bytes("a.safetensors.report.html") == before);
    let old = page("a.safetensors");
    std::fs::remove_file(place.path("a.safetensors.report.html")).unwrap();
    place.ok("finetune data --resume --out a.safetensors --threads 1");
    assert!(page("a.safetensors") == old);
}

/// With features that are computed once, later validations have no pixels; a delta over weights in place is answered with
/// again. In both cases pictures and numbers are there.
#[test]
fn features_and_deltas_have_pages_too() {
    let place = place();
    place.ok(&place.tune("head.safetensors", "--epochs 4 --lr 0.05"));
    let page = Page::read(&place, "head.safetensors.report.html");
    assert!(page.count("img") == 12 && page.section("time").contains("features"));

    place.ok("convert weights.safetensors weights.nunatak");
    let tune =
        "finetune data --weights weights.nunatak --in-place --delta --out d.nunatak --size 32 --resize 32 --batch 8 --threads 1 --epochs 2";
    place.ok(tune);
    let before = Page::read(&place, "d.nunatak.report.html");
    std::fs::remove_file(place.path("d.nunatak.report.html")).unwrap();
    place.ok("finetune data --weights weights.nunatak --in-place --delta --resume --out d.nunatak --threads 1");
    let after = Page::read(&place, "d.nunatak.report.html");
    assert_eq!(before.section("confusion"), after.section("confusion"));
    assert_eq!(before.section("losses"), after.section("losses"));
}

#[test]
fn a_page_can_be_left_out_and_is_never_written_over_another_run() {
    let place = place();
    place.ok(&place.tune("m.safetensors", "--epochs 1 --no-report"));
    assert!(!place.path("m.safetensors.report.html").exists());
    std::fs::write(place.path("n.safetensors.report.html"), "mine").unwrap();
    let run = place.run(&place.tune("n.safetensors", "--epochs 1"));
    assert!(run.code == Some(1) && run.err.contains("n.safetensors.report.html") && run.err.contains("--overwrite"), "{}", run.err);
    assert_eq!(place.bytes("n.safetensors.report.html"), b"mine");
    place.ok(&place.tune("n.safetensors", "--epochs 1 --overwrite"));
    Page::read(&place, "n.safetensors.report.html");
    // No images to validate with: curves, and no more.
    place.ok(&place.tune("t.safetensors", "--epochs 2 --val-fraction 0").replace("finetune data", "finetune data/train"));
    let page = Page::read(&place, "t.safetensors.report.html");
    assert!(page.count("svg") == 3 && page.count("img") == 0 && !page.html.contains("id=\"confusion\""), "{:?}", page.elements);
}

#[test]
fn evaluate_writes_the_numbers_that_it_prints() {
    let place = place();
    place.ok(&place.tune("m.safetensors", "--trainable all --epochs 3 --lr 0.02"));
    let run = place.ok("evaluate m.safetensors data --threads 1 --json --report page.html");
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let page = Page::read(&place, "page.html");
    let rows = page.rows("confusion", "matrix");
    let confusion = json["confusion"].as_array().unwrap();
    for (row, expected) in rows[1..5].iter().zip(confusion) {
        let row: Vec<u64> = row[1..5].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(serde_json::json!(row), *expected);
    }
    // Precision, recall and F1 from the matrix.
    let at = |truth: usize, said: usize| confusion[truth][said].as_u64().unwrap() as f64;
    let classes = page.rows("classes", "classes");
    for c in 0..4 {
        let (right, images, said) = (at(c, c), (0..4).map(|i| at(c, i)).sum::<f64>(), (0..4).map(|i| at(i, c)).sum::<f64>());
        let shown = |part: f64, of: f64| if of > 0.0 { format!("{:.3}", part / of) } else { "–".into() };
        let expected = [shown(right, said), shown(right, images), shown(2.0 * right, images + said)];
        assert_eq!(classes[c + 1][1..4], expected, "{classes:?}");
    }
    assert!(page.text.contains(&format!("{:.4}", json["loss"].as_f64().unwrap())));
    assert_eq!(page.count("img"), 12);
    // The best model's page of the run says the same of the same images.
    let of_run = Page::read(&place, "m.safetensors.report.html");
    assert_eq!(of_run.rows("confusion", "matrix"), rows);
    // It replaces a page, and nothing else.
    place.ok("evaluate m.safetensors data --threads 1 --report page.html");
    let before = place.bytes("m.safetensors");
    for (wrong, code) in [("m.safetensors", 2), ("weights.safetensors", 1), ("data", 2), ("nowhere/page.html", 1)] {
        let run = place.run(&format!("evaluate m.safetensors data --report {wrong}"));
        assert!(run.code == Some(code) && run.err.contains(wrong), "{wrong}: {:?} {}", run.code, run.err);
    }
    assert!(place.bytes("m.safetensors") == before);
}

#[test]
fn predict_writes_every_image_with_its_answers() {
    let place = place();
    place.ok(&place.tune("m.safetensors", "--trainable all --epochs 2 --lr 0.02"));
    std::fs::write(place.path("broken.png"), b"no picture").unwrap();
    let run = place.run("predict m.safetensors data/val broken.png --top 3 --threads 1 --batch 5 --report page.html");
    assert!(run.code == Some(1) && run.err.contains("could not be read"), "{}", run.err);
    let page = Page::read(&place, "page.html");
    assert_eq!((page.count("img"), page.count("li")), (12, 36));
    assert!(page.section("answers").contains(ESCAPED) && page.section("skipped").contains("broken.png"));
    // In the order of what is printed, with its numbers.
    let first = run.out.lines().nth(1).unwrap().trim();
    let percent: f64 = first.split_whitespace().next().unwrap().parse().unwrap();
    let shown: f64 = page.section("answers").split("</span><span>").nth(1).unwrap().split_once(' ').unwrap().0.parse().unwrap();
    assert!((percent - shown).abs() <= 0.06, "{percent} {shown}");
    let run = place.run("predict m.safetensors data/val/red/0.png --report data/val/red/0.png");
    assert!(run.code == Some(2) && run.err.contains("--report"), "{}", run.err);
}

#[test]
fn explain_writes_every_picture_with_its_class() {
    let place = place();
    place.ok(&place.tune("m.safetensors", "--trainable all --epochs 1 --lr 0.02"));
    std::fs::write(place.path("broken.png"), b"no picture").unwrap();
    let run = place.run("explain m.safetensors data/val broken.png --class red --out maps --threads 1 --report page.html");
    assert!(run.code == Some(1) && run.err.contains("could not be read"), "{}", run.err);
    let page = Page::read(&place, "page.html");
    assert_eq!((page.count("img"), page.count("li")), (12, 12));
    assert!(page.section("maps").contains(ESCAPED) && page.section("skipped").contains("broken.png"));
    let settings = page.rows("settings", "pairs");
    assert!(settings.contains(&vec!["class".into(), "red".into()]), "{settings:?}");
    assert!(place.path(&format!("maps/{HOSTILE}/<img src=x>2.cam.png")).is_file());
    // A page is replaced, and nothing else.
    let run = place.run("explain m.safetensors data/val/red/0.png --out maps --report data/val/red/0.png");
    assert!(run.code == Some(2) && run.err.contains("--report"), "{}", run.err);
}

/// A page that can't be written costs the exit code, not the model.
#[cfg(unix)]
#[test]
fn a_page_that_cannot_be_written_is_told_last() {
    use crate::running::Run;
    use std::process::Stdio;
    let place = place();
    let words = place.tune("m.safetensors", "--epochs 60 --log log.jsonl");
    let child = place.command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !std::fs::read_to_string(place.path("log.jsonl")).is_ok_and(|log| log.contains("\"step\"")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::create_dir_all(place.path("m.safetensors.report.html/full")).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    assert!(run.code == Some(1) && run.out.starts_with("m.safetensors: top-1 "), "{:?} {}", run.code, run.err);
    assert!(run.err.contains("error: can't save: m.safetensors.report.html"), "{}", run.err);
    assert!(place.path("m.safetensors").is_file());
}
