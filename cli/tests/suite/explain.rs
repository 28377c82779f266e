//! Heat maps: the numbers of the formula, on the object, and nothing written over.

use crate::running::{Place, draw};
use image::{Rgb, RgbImage};
use nunatak_cli::args::network;
use nunatak_cli::setup::Network;
use nunatak_nn::files::{Checkpoint, Head, write_safetensors};
use nunatak_nn::{Graph, Level, Mode, Step, Threads, Trainer};
use serde_json::Value;
use std::path::Path;

fn json(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn map_of(explained: &Value) -> Vec<f64> {
    let rows = explained["map"].as_array().unwrap();
    rows.iter().flat_map(|row| row.as_array().unwrap()).map(|number| number.as_f64().unwrap()).collect()
}

/// Noise, with structure enough for a map of many numbers.
fn noise(path: &Path, side: u32, seed: u32) {
    let mut state = seed;
    let image = RgbImage::from_fn(side, side, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let light = if (x / 7 + y / 5) % 3 == seed % 3 { 90 } else { 0 };
        Rgb([(state >> 25) as u8 + light, (state >> 26) as u8 + 2 * light / 3, (state >> 24) as u8 / 2 + (x % 64) as u8])
    });
    image.save(path).unwrap();
}

/// What the formula is computed from: activations of the library's plain program (nothing fused, one thread, the portable
/// level) and, in double, the head above them.
struct Oracle {
    activations: Vec<f64>,
    plane: usize,
    /// Weight and bias of each layer of the head, with hardswish between two of them.
    layers: Vec<[Vec<f64>; 2]>,
}

impl Oracle {
    fn of(network: Network, weights: &[u8], image: &Path) -> Oracle {
        let picture = image::open(image).unwrap().to_rgb8();
        let side = picture.width() as usize;
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let pixel = |c: usize, at: usize| f64::from(picture.as_raw()[3 * at + c]) / 255.0;
        let data: Vec<f32> = (0..3).flat_map(|c| (0..side * side).map(move |at| ((pixel(c, at) - mean[c]) / std[c]) as f32)).collect();

        let graph = Graph::new();
        let x = graph.input([1, 3, side, side]);
        let named = |model: nunatak_nn::models::Model, classes| model.record(graph.root(), x, classes);
        match network {
            Network::Recipe(recipe) => recipe.record(graph.root(), x).1,
            Network::Named(model, classes) => named(model, classes),
            Network::Int8(_) => unreachable!("no layer of 8 bits has a gradient"),
        };
        let map = graph.last_pooled().unwrap();
        let keep = [map.id()];
        let program = Step::new(&graph).keep(&keep).mode(Mode::Eval).fuse(false).plan().unwrap();
        let mut trainer = Trainer::owning(program, Level::PORTABLE, Threads::serial()).unwrap();
        trainer.load(&Checkpoint::parse(weights).unwrap(), Head::Load).unwrap();
        trainer.set_input(x, &data).unwrap();
        trainer.forward().unwrap();
        let mut activations = vec![0.0; map.shape().len()];
        trainer.value(map, &mut activations).unwrap();
        let head: &[&str] = match network.name() {
            "mobilenet_v2" => &["classifier.1"],
            "mobilenet_v3_small" => &["classifier.0", "classifier.3"],
            _ => &["fc"],
        };
        let layers = head.iter().map(|layer| {
            ["weight", "bias"].map(|what| {
                let id = trainer.entry_named(&format!("{layer}.{what}")).unwrap();
                let mut numbers = vec![0.0; trainer.program().entry(id).numbers()];
                trainer.entry(id, &mut numbers).unwrap();
                numbers.into_iter().map(f64::from).collect()
            })
        });
        let layers = layers.collect();
        let [_, _, h, w] = map.shape().sizes().map(|size| size as usize);
        Oracle { activations: activations.into_iter().map(f64::from).collect(), plane: h * w, layers }
    }

    /// The logits, where all activations of a channel are moved by a number.
    fn logits(&self, channel: usize, by: f64) -> Vec<f64> {
        let mean = |plane: &[f64]| plane.iter().sum::<f64>() / self.plane as f64;
        let mut x: Vec<f64> = self.activations.chunks(self.plane).map(mean).collect();
        x[channel] += by;
        for (i, [weight, bias]) in self.layers.iter().enumerate() {
            if i > 0 {
                x.iter_mut().for_each(|v| *v *= (*v + 3.0).clamp(0.0, 6.0) / 6.0);
            }
            let row = |(row, bias): (&[f64], &f64)| bias + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>();
            x = weight.chunks(x.len()).zip(bias).map(row).collect();
        }
        x
    }

    /// The map of a class before it is scaled. The mean of the gradient over a plane is the slope of the logit where the
    /// whole plane moves, divided by its places.
    fn map(&self, class: usize) -> Vec<f64> {
        const STEP: f64 = 1e-4;
        let mut map = vec![0.0; self.plane];
        for (k, plane) in self.activations.chunks(self.plane).enumerate() {
            let slope = (self.logits(k, STEP)[class] - self.logits(k, -STEP)[class]) / (2.0 * STEP);
            map.iter_mut().zip(plane).for_each(|(sum, a)| *sum += slope / self.plane as f64 * a);
        }
        map.into_iter().map(|sum| sum.max(0.0)).collect()
    }

    /// Holds what the program said against the formula.
    fn check(&self, explained: &Value, what: &str) {
        let class = explained["index"].as_u64().unwrap() as usize;
        let (due, got) = (self.map(class), map_of(explained));
        let peak = due.iter().copied().fold(0.0, f64::max);
        assert!((explained["peak"].as_f64().unwrap() - peak).abs() <= 2e-5 * peak, "{what}: {} {peak}", explained["peak"]);
        let largest = due.iter().zip(&got).map(|(due, got)| (due / peak - got).abs()).fold(0.0, f64::max);
        assert!(due.len() == got.len() && largest < 1e-4, "{what}: {largest}\n{due:?}\n{got:?}");
        let logits = self.logits(0, 0.0);
        let sum: f64 = logits.iter().map(|logit| (logit - logits[class]).exp()).sum();
        assert!((explained["probability"].as_f64().unwrap() - 1.0 / sum).abs() < 1e-5, "{what}");
    }
}

/// Of every kind of head, against the formula in double.
#[test]
fn maps_are_the_formulas() {
    let place = Place::new();
    for (name, side, classes) in
        [("resnet8", 32, 10), ("resnet18", 96, 5), ("resnet50", 64, 5), ("mobilenet_v2", 96, 5), ("mobilenet_v3_small", 96, 5)]
    {
        let network = network(name, Some(classes)).unwrap();
        let weights = format!("{name}.safetensors");
        place.weights_of(&weights, network, None);
        let image = format!("{name}.png");
        noise(&place.path(&image), side, 7);
        let oracle = Oracle::of(network, &place.bytes(&weights), &place.path(&image));
        let explain = format!("explain {weights} {image} --out {name} --size {side} --resize {side} --json --threads 2 --overwrite");
        let likeliest = json(&place.ok(&explain).out).remove(0);
        oracle.check(&likeliest, name);
        assert!(map_of(&likeliest).contains(&1.0), "{name}");
        let asked: Vec<Value> = (0..classes).map(|class| json(&place.ok(&format!("{explain} --class {class}")).out).remove(0)).collect();
        for (class, explained) in asked.iter().enumerate().filter(|(_, explained)| explained["peak"].as_f64() > Some(0.0)) {
            assert_eq!(explained["index"], class);
            oracle.check(explained, &format!("{name}, class {class}"));
        }
        assert!(asked.contains(&likeliest) && asked.iter().any(|other| map_of(other) != map_of(&likeliest)), "{name}");
        assert!(asked.iter().any(|explained| map_of(explained).contains(&0.0)), "{name}: no place is cold");
    }
}

/// Grey noise with a square of colour, and where that lies: left, top, side.
fn object(path: &Path, colour: [u8; 3], seed: u32) -> [u32; 3] {
    let (left, top, side) = (seed * 7 % 21 + 1, seed * 11 % 22 + 1, 9);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut state = seed.wrapping_mul(2_654_435_761);
    let image = RgbImage::from_fn(32, 32, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 26) as u8;
        let inside = (left..left + side).contains(&x) && (top..top + side).contains(&y);
        Rgb(if inside { colour.map(|c| c.saturating_add(noise / 2)) } else { [90 + noise; 3] })
    });
    image.save(path).unwrap();
    [left, top, side]
}

/// A network that tells squares of two colours apart looks at the squares.
#[test]
fn the_hottest_place_lies_on_the_object() {
    let place = Place::new();
    std::fs::remove_dir_all(place.path("data")).unwrap();
    let mut drawn = Vec::new();
    for (name, colour) in [("blue", [10, 30, 200]), ("red", [200, 20, 10])] {
        for i in 0..48 {
            object(&place.path(&format!("data/train/{name}/{i}.png")), colour, i);
        }
        drawn.extend((0..10).map(|i| object(&place.path(&format!("data/val/{name}/{i}.png")), colour, 100 + i)));
    }
    place.ok(&place.tune("m.safetensors", "--trainable all --epochs 6 --lr 0.02"));
    let explained = json(&place.ok("explain m.safetensors data/val --out maps --json --threads 1 --batch 6").out);
    assert_eq!(explained.len(), drawn.len());
    let (mut on, mut reddest) = (0, 0);
    for (explained, [left, top, side]) in explained.iter().zip(&drawn) {
        let map = map_of(explained);
        assert_eq!(map.len(), 64);
        let hottest = map.iter().position(|number| *number == 1.0).unwrap() as u32;
        // The middle of a place of 4 x 4 pixels; its neighbours look at the object's edge as well.
        let near = |at: u32, from: u32| (from.saturating_sub(4)..from + side + 4).contains(&at);
        on += u32::from(near(4 * (hottest % 8) + 2, *left) && near(4 * (hottest / 8) + 2, *top));
        // The same in the picture, where the image below it adds its colours: the place whose colour is heat's most.
        let picture = image::open(place.path(explained["file"].as_str().unwrap())).unwrap().to_rgb8();
        let original = image::open(place.path(explained["path"].as_str().unwrap())).unwrap().to_rgb8();
        assert_eq!((picture.dimensions(), explained["class"].as_str()), ((32, 32), explained["path"].as_str().unwrap().split('/').nth(2)));
        let added = |x: u32, y: u32| {
            let (of, from) = (picture.get_pixel(x, y), original.get_pixel(x, y));
            [0, 1, 2].map(|c| 2 * i32::from(of[c]) - i32::from(from[c]))
        };
        let at = (4 * (hottest % 8) + 2, 4 * (hottest / 8) + 2);
        let [red, green, blue] = added(at.0, at.1);
        reddest += u32::from(red > 100 && red > green + 60 && red > blue + 60);
    }
    assert!(on >= 18, "{on} of {}", drawn.len());
    assert_eq!(reddest as usize, drawn.len(), "the hottest place has the colour of heat");
}

/// Neither the threads nor where the weights lie changes a bit; another batch may be computed by other algorithms.
#[test]
fn maps_do_not_depend_on_how_they_are_computed() {
    let place = Place::new();
    place.ok("convert weights.safetensors w.nunatak");
    let explain = |file: &str, more: &str| {
        let words = format!("explain {file} data/val --out maps --overwrite --size 32 --resize 32 --json {more}");
        (json(&place.ok(&words).out), place.bytes("maps/red/2.cam.png"))
    };
    let due = explain("weights.safetensors", "--batch 4 --threads 1");
    assert_eq!(due.0.len(), 9);
    for (file, more) in [("weights.safetensors", "--threads 3"), ("w.nunatak", "--threads 1"), ("w.nunatak", "--in-place --threads 2")] {
        assert!(explain(file, &format!("--batch 4 {more}")) == due, "{file} {more}");
    }
    for batch in [1, 9, 16] {
        let (other, _) = explain("weights.safetensors", &format!("--batch {batch}"));
        for (other, due) in other.iter().zip(&due.0) {
            assert_eq!([&other["path"], &other["class"], &other["file"]], [&due["path"], &due["class"], &due["file"]]);
            assert!(map_of(other).iter().zip(map_of(due)).all(|(a, b)| (a - b).abs() < 1e-4), "batch {batch}: {other} {due}");
        }
    }
    place.ok("finetune data --weights w.nunatak --in-place --delta --out d.nunatak --size 32 --resize 32 --batch 8 --threads 1 --epochs 1");
    let delta = explain("d.nunatak", "--batch 4 --in-place");
    assert!(delta.0 != due.0 && explain("d.nunatak", "--batch 4") == delta);
    // As `predict` says.
    let predicted = json(&place.ok("predict weights.safetensors data/val --size 32 --resize 32 --json --top 1 --batch 4").out);
    for (explained, predicted) in due.0.iter().zip(&predicted) {
        let top = &predicted["top"][0];
        assert_eq!(
            [&explained["path"], &explained["index"], &explained["probability"]],
            [&predicted["path"], &top["index"], &top["probability"]]
        );
    }
}

#[test]
fn pictures_are_told_and_shown() {
    let place = Place::new();
    place.ok(&place.tune("m.safetensors", "--trainable all --epochs 1 --lr 0.02"));
    std::fs::write(place.path("broken.png"), b"no picture").unwrap();
    draw(&place.path("more/0.png"), [150, 150, 10], 1);
    let run = place.run(
        "explain m.safetensors data/val/red more/0.png data/val broken.png --class green --out new/maps --report new/maps/page.html --size 48",
    );
    assert!(run.code == Some(1) && run.err.contains("1 of 14 images could not be read") && run.err.contains("broken.png"), "{}", run.err);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[6]), (26, "data/val/red/0.png", "more/0.png"));
    // Images of a folder keep their place below it; what would have one name is numbered.
    for (line, file) in [(1, "0.cam.png"), (5, "2.cam.png"), (7, "0-2.cam.png"), (9, "blue/0.cam.png"), (25, "red/2.cam.png")] {
        let words: Vec<&str> = lines[line].split_whitespace().collect();
        assert!(matches!(words[..], [_, "%", "green", path] if path == format!("new/maps/{file}")), "{}", lines[line]);
        assert_eq!(image::open(place.path(&format!("new/maps/{file}"))).unwrap().to_rgb8().dimensions(), (48, 48));
    }
    assert!(!place.path("new/maps/broken.cam.png").exists());
    let page = String::from_utf8(place.bytes("new/maps/page.html")).unwrap();
    let count = |what: &str| page.matches(what).count();
    assert_eq!((count("<img "), count("<span>green</span>"), count("broken.png")), (13, 13, 1));
    assert!(page.contains("Heat maps") && page.contains("m.safetensors"));
    // Names from stdin, beside the images.
    let mut command = place.command("explain m.safetensors - --out data/val/red --quiet");
    let child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"data/val/red/0.png\n\n").unwrap();
    let run = crate::running::Run::of(child.wait_with_output().unwrap());
    assert!(run.code == Some(0) && run.err.is_empty() && run.out.contains("data/val/red/0.cam.png"), "{} {}", run.out, run.err);
    for help in ["explain --help", "--help"] {
        assert!(place.ok(help).out.contains("heat maps (Grad-CAM)"), "{help}");
    }
}

#[test]
fn nothing_is_written_over() {
    let place = Place::new();
    let explain = |more: &str| place.run(&format!("explain weights.safetensors {more} --size 32 --resize 32"));
    let refused = |more: &str, code: i32, words: &[&str]| {
        let run = explain(more);
        assert!(run.code == Some(code) && words.iter().all(|word| run.err.contains(word)), "{more}: {:?} {}", run.code, run.err);
        assert!(run.out.is_empty(), "{more}: {}", run.out);
    };
    std::fs::create_dir(place.path("maps")).unwrap();
    std::fs::write(place.path("maps/1.cam.png"), b"mine").unwrap();
    refused("data/val/red --out maps", 1, &["maps/1.cam.png", "--overwrite", "nothing was started"]);
    assert_eq!(std::fs::read_dir(place.path("maps")).unwrap().count(), 1);
    assert_eq!(place.bytes("maps/1.cam.png"), b"mine");
    assert_eq!(explain("data/val/red --out maps --overwrite").code, Some(0));
    assert!(place.bytes("maps/1.cam.png").starts_with(b"\x89PNG"));
    // What is read is never replaced, whatever is said.
    let image = place.bytes("data/val/red/0.png");
    std::fs::write(place.path("data/val/red/0.cam.png"), &image).unwrap();
    refused("data/val/red --out data/val/red --overwrite", 2, &["--out", "data/val/red/0.cam.png", "is read"]);
    assert_eq!(place.bytes("data/val/red/0.cam.png"), image);
    refused("data/val/red/1.png --out d --report d/1.cam.png", 2, &["--report", "d/1.cam.png"]);
    refused("data/val/red/1.png --out d --report weights.safetensors", 2, &["--report", "weights.safetensors"]);
    refused("data/val/red/1.png --out weights.safetensors", 2, &["--out", "weights.safetensors", "is a file"]);
    refused("data/val/red/1.png --out weights.safetensors/d", 1, &["weights.safetensors/d"]);
}

#[test]
fn what_cannot_be_explained_is_told() {
    let place = Place::new();
    let refused = |words: &str, code: i32, parts: &[&str]| {
        let run = place.run(&format!("explain {words} --out maps"));
        assert!(run.code == Some(code) && parts.iter().all(|part| run.err.contains(part)), "{words}: {:?} {}", run.code, run.err);
        assert!(!place.path("maps").exists(), "{words}");
    };
    let image = "weights.safetensors data/val/red/0.png --size 32";
    refused(&format!("{image} --class 10"), 2, &["--class 10", "from 0 to 9"]);
    refused(&format!("{image} --class cat"), 2, &["\"cat\"", "have no names", "from 0 to 9"]);
    refused(&format!("{image} --class=-1"), 2, &["\"-1\"", "from 0 to 9"]);
    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    refused("m.safetensors data/val/red/0.png --class gren", 2, &["\"gren\"", "near: \"green\"", "from 0 to 2"]);
    refused("m.safetensors data/val/red/0.png --class 3", 2, &["--class 3", "3 classes"]);
    // A name is looked for before an index, and may be of two classes.
    let resnet8 = network("resnet8", Some(4)).unwrap();
    let trainer = Trainer::owning(resnet8.program().unwrap(), Level::PORTABLE, Threads::serial()).unwrap();
    let mut metadata = resnet8.metadata();
    metadata.insert("nunatak.classes".into(), r#"["1","a","a","0"]"#.into());
    write_safetensors(&place.path("named.safetensors"), &trainer.state().views(), &metadata).unwrap();
    refused("named.safetensors data/val/red/0.png --class a", 2, &["1 and 2", "\"a\"", "give the index"]);
    place.weights_of("r18.safetensors", network("resnet18", None).unwrap(), None);
    // A map of one place shows nothing.
    refused("r18.safetensors data/val/red/0.png --size 32", 1, &["r18.safetensors", "32 x 32", "--size", "224"]);
    refused("nothing.safetensors data/val/red/0.png", 1, &["nothing.safetensors"]);
    refused("weights.safetensors data/nowhere --size 0", 2, &["--size"]);
    // The index 0 is the class "1", and the name "0" that of the last.
    let json = json(&place.ok("explain named.safetensors data/val/red/0.png --out named --size 32 --class 0 --json").out);
    assert_eq!([&json[0]["class"], &json[0]["index"]], [&Value::from("0"), &Value::from(3)]);
    // Weights without an end: the logits are not finite.
    place.weights("spoilt.safetensors", 10, Some(f32::MAX));
    let run = place.run("explain spoilt.safetensors data/val/red/0.png --out maps --size 32 --resize 32");
    assert!(run.code == Some(1) && run.err.contains("data/val/red/0.png") && !place.path("maps/0.cam.png").exists(), "{}", run.err);
}
