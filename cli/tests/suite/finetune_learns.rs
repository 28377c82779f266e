//! `finetune` learns, `evaluate` and `predict` agree with it, and files are what they claim.

use crate::running::{COLOURS, Place, draw};
use nunatak_nn::files::Checkpoint;

#[test]
fn a_toy_set_is_learnt_and_measured() {
    let place = Place::new();
    let run = place.ok(&place.tune("model.safetensors", "--trainable all --epochs 4 --log log.jsonl"));
    assert!(run.out.starts_with("model.safetensors: top-1 100.00 % (9 of 9) after epoch "), "{}", run.out);
    // Without a terminal: plain lines, a line per epoch, no control characters.
    assert!(run.err.contains("epoch 4/4  loss ") && !run.err.contains('\u{1b}'), "{}", run.err);

    // The size is the model's own.
    let evaluated = place.ok("evaluate model.safetensors data/val");
    assert_eq!(evaluated.out.lines().next(), Some("top-1 100.00 % (9 of 9)"));
    let table: Vec<Vec<&str>> =
        evaluated.out.lines().skip_while(|l| !l.contains("confusion")).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(table[1..3], [vec!["blue", "green", "red"], vec!["blue", "3", "0", "0"]], "{}", evaluated.out);
    assert_eq!(place.ok("evaluate model.safetensors data").out, evaluated.out, "val/ of a folder with both");

    let json: serde_json::Value = serde_json::from_str(&place.ok("evaluate model.safetensors data/val --json --batch 4").out).unwrap();
    assert_eq!((json["top1"].as_f64(), json["n"].as_u64()), (Some(1.0), Some(9)));
    assert_eq!(json["per_class"][1]["class"], "green");
    assert_eq!(json["confusion"], serde_json::json!([[3, 0, 0], [0, 3, 0], [0, 0, 3]]));

    let predicted = place.ok("predict model.safetensors data/val/red/0.png data/val/blue/1.png --top 2");
    let lines: Vec<&str> = predicted.out.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[3]), (6, "data/val/red/0.png", "data/val/blue/1.png"));
    assert!(lines[1].ends_with(" %  red") && lines[4].ends_with(" %  blue"), "{}", predicted.out);
    let json: serde_json::Value = serde_json::from_str(&place.ok("predict model.safetensors data/val/red/0.png --json").out).unwrap();
    assert_eq!(json[0]["top"][0]["class"], "red");
    let table = place.ok("predict model.safetensors data/val/red/0.png data/val/blue/1.png --top 2 --csv").out;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), &lines[0][..]), (5, &["path", "rank", "class", "index", "probability"][..]), "{table}");
    assert_eq!((&lines[1][..4], lines[4][1]), (&["data/val/red/0.png", "1", "red", "2"][..], "2"), "{table}");
    assert!(lines[1][4].parse::<f64>().is_ok_and(|p| p > 0.3 && p <= 1.0), "{table}");
    let listed = place
        .command("predict model.safetensors - --top 2 --csv")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut listed = listed.unwrap();
    std::io::Write::write_all(&mut listed.stdin.take().unwrap(), b"data/val/red/0.png\n\ndata/val/blue/1.png\n").unwrap();
    assert_eq!(String::from_utf8(listed.wait_with_output().unwrap().stdout).unwrap(), table);
    let all = place.ok("predict model.safetensors data/val data/train/red/0.png --top 1");
    assert_eq!((all.out.lines().count(), all.out.lines().next()), (20, Some("data/val/blue/0.png")), "{}", all.out);
    std::fs::create_dir(place.path("none")).unwrap();
    let run = place.run("predict model.safetensors none");
    assert!(run.code == Some(1) && run.err.contains("no image"), "{}", run.err);
    assert_eq!(json[0]["top"].as_array().map(Vec::len), Some(3), "no more answers than classes");

    // The log: every line is JSON; 4 steps and 1 epoch line per epoch.
    let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
    let events: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let count = |kind: &str| events.iter().filter(|e| e["event"] == kind).count();
    assert_eq!((count("start"), count("step"), count("epoch")), (1, 16, 4));
    assert_eq!(events[4]["images"], 3, "the last partial batch is kept");
    assert!(log.contains("\"lr\":0.01,") && !log.contains("0.0099"), "{log}");
    assert!(events.iter().all(|e| e["time"].as_str().is_some_and(|t| t.len() == 24 && t.ends_with('Z'))), "{log}");
}

#[test]
fn the_head_stays_where_the_classes_are_the_same() {
    let place = Place::new();
    place.ok(&place.tune("a.safetensors", "--trainable all --epochs 4"));
    let again = "finetune data --weights a.safetensors --out b.safetensors --size 32 --resize 32 --epochs 1 --lr 0 --threads 1";
    let run = place.ok(again);
    assert!(run.err.contains("fc: the file's") && run.out.contains("100.00 %"), "{} {}", run.err, run.out);
    let entry = |name: &str| {
        let bytes = place.bytes(name);
        let mut data = Vec::new();
        Checkpoint::parse(&bytes).unwrap().get("fc.weight").unwrap().read_f32(&mut data).unwrap();
        data
    };
    assert_eq!(entry("a.safetensors"), entry("b.safetensors"));
}

#[test]
fn a_pth_has_its_names_in_it_and_beside_it() {
    let place = Place::new();
    place.ok(&place.tune("model.pth", "--trainable all --epochs 4"));
    let bytes = place.bytes("model.pth");
    let file = Checkpoint::parse(&bytes).unwrap();
    assert!(file.entries().iter().all(|e| !e.name().starts_with("momentum.")), "exactly the state dict");
    assert!(place.ok("evaluate model.pth data/val").out.starts_with("top-1 100.00 % (9 of 9)\n"));
    assert!(place.ok("predict model.pth data/val/red/0.png").out.contains("red"));
    // Under another name it has them still.
    std::fs::copy(place.path("model.pth"), place.path("other.pth")).unwrap();
    let run = place.ok("evaluate other.pth data/val");
    assert!(run.out.starts_with("top-1 100.00 % (9 of 9)\n") && run.out.contains("blue") && !run.err.contains("assumed"), "{}", run.err);
    place.bare("model.pth");
    std::fs::write(place.path("model.pth.classes.json"), r#"{"classes": ["one"], "view": null, "recipe": "stem 3 1 1 0"}"#).unwrap();
    let run = place.run("evaluate model.pth data/val");
    assert!(run.code == Some(1) && run.err.contains("1 class names"), "{}", run.err);
}

/// The weights that one starts with compete, and of equals the lower loss wins: stage after stage is no worse.
#[test]
fn training_on_never_makes_it_worse() {
    let place = Place::new();
    place.ok(&place.tune("a.safetensors", "--trainable all --epochs 4"));
    let losing = "finetune data --weights a.safetensors --out b.safetensors --epochs 2 --lr 0.1 --label-smoothing 1 --threads 1 --trainable all --batch 8";
    let run = place.ok(losing);
    assert!(run.out.contains("as it was before the first epoch") && run.err.contains("as it is  val loss"), "{} {}", run.out, run.err);
    assert_eq!(place.ok("evaluate b.safetensors data/val --json").out, place.ok("evaluate a.safetensors data/val --json").out);
    let state = |name: &str| {
        let (bytes, mut numbers) = (place.bytes(name), Vec::new());
        let numbers_of = |entry: &nunatak_nn::files::Entry| {
            entry.read_f32(&mut numbers).unwrap();
            numbers.clone()
        };
        Checkpoint::parse(&bytes).unwrap().entries().iter().filter(|e| !e.name().ends_with("tracked")).map(numbers_of).collect::<Vec<_>>()
    };
    assert!(state("a.safetensors") == state("b.safetensors"));
    // With a target that helps, the loss falls though no answer changes: the later model is the better one.
    let run = place.ok("finetune data --weights a.safetensors --out c.safetensors --epochs 2 --lr 0.001 --threads 1 --batch 8");
    assert!(run.out.contains("100.00 % (9 of 9) after epoch 2"), "{} {}", run.out, run.err);
}

/// The size that a model was trained with is that of the next stage too.
#[test]
fn what_a_model_needs_travels_with_it() {
    let place = Place::new();
    for name in ["a.safetensors", "a.pth", "a.nunatak"] {
        place.ok(&place.tune(name, "--trainable all --epochs 4"));
        let next = name.replace('a', "b").replace("sbfetensors", "safetensors").replace("nunbtbk", "nunatak");
        let run = place.ok(&format!("finetune data --weights {name} --out {next} --epochs 1 --lr 0 --threads 1"));
        assert!(run.err.contains("as it is  val loss") && run.out.contains("100.00 %"), "{} {}", run.err, run.out);
        assert!(!run.err.contains("assumed"), "{}", run.err);
        let run = place.ok(&format!("evaluate {next} data/val"));
        assert!(run.out.starts_with("top-1 100.00 %") && !run.err.contains("assumed"), "{} {}", run.out, run.err);
    }
    // Without what this program adds the stem of a .pth is a question, and its view is said to be assumed.
    place.bare("a.pth");
    for command in ["predict a.pth data/val/red/0.png", "evaluate a.pth data/val", "finetune data --weights a.pth --out c.pth"] {
        let run = place.run(command);
        assert!(run.code == Some(2) && run.err.contains("--stem 3:1:1") && run.err.contains("--stem 3:1:1:pool"), "{command}: {}", run.err);
    }
    for stem in ["--stem 3:1:1", "--arch resnet8"] {
        let run = place.ok(&format!("evaluate a.pth data/val {stem} --size 32 --resize 32"));
        assert!(run.out.starts_with("top-1 100.00 %"), "{stem}: {}", run.out);
    }
    let run = place.ok("predict a.pth data/val/red/0.png --stem 3:1:1");
    assert!(run.err.contains("assumed") && run.err.contains("224 x 224") && run.err.contains("--size"), "{}", run.err);
    let run = place.run("predict a.pth data/val/red/0.png --stem 7:2:3:pool");
    assert!(run.code == Some(2) && run.err.contains("3 x 3"), "{}", run.err);
    let run = place.run("predict a.pth data/val/red/0.png --arch resnet18");
    assert!(run.code != Some(0), "{}", run.out);
}

/// A head is kept or drawn anew, and the line says which and why.
#[test]
fn a_head_of_ones_own_is_kept() {
    let place = Place::new();
    place.ok(&place.tune("a.pth", "--trainable all --epochs 4"));
    let tune = |more: &str| {
        place.run(&format!(
            "finetune data --weights a.pth --epochs 1 --lr 0 --threads 1 --overwrite --stem 3:1:1 --size 32 --resize 32 {more}"
        ))
    };
    // Without names the count decides.
    place.bare("a.pth");
    let run = tune("");
    assert!(run.err.contains("fc: the file's, which has 3 outputs without names: taken for blue, green, red"), "{}", run.err);
    assert!(run.out.contains("100.00 %"), "{}", run.out);
    let run = tune("--new-head");
    assert!(run.code == Some(0) && run.err.contains("fc: new") && !run.err.contains("as it is"), "{}", run.err);
    // Other names: a new head, unless the old one is asked for.
    std::fs::write(place.path("a.pth.classes.json"), r#"{"classes": ["b", "g", "r"], "recipe": "stem 3 1 1 0"}"#).unwrap();
    let run = tune("");
    assert!(run.err.contains("fc: new, for blue, green, red instead of b, g, r"), "{}", run.err);
    let run = tune("--keep-head");
    assert!(run.err.contains("fc: the file's, whose classes b, g, r are now") && run.out.contains("100.00 %"), "{}", run.err);
    // The same names in another order: the labels follow the file.
    std::fs::write(place.path("a.pth.classes.json"), r#"{"classes": ["red", "blue", "green"], "recipe": "stem 3 1 1 0"}"#).unwrap();
    let run = tune("--out turned.pth");
    assert!(run.err.contains("fc: the file's, for the same classes") && run.out.contains("0.00 %"), "{} {}", run.err, run.out);
    let run = place.run(&place.tune("n.pth", "--keep-head"));
    assert!(run.code == Some(2) && run.err.contains("tells 10 classes apart, the folder has 3"), "{}", run.err);
}

/// A folder with classes more than the weights know: the rows of the known ones are kept, bit for bit, and others added.
#[test]
fn classes_are_added_to_a_head() {
    let place = Place::new();
    let data = |dir: &str, names: &[&str]| {
        for (name, colour) in COLOURS.into_iter().chain([("amber", [200, 180, 20])]).filter(|(name, _)| names.contains(name)) {
            (0..9).for_each(|i| draw(&place.path(&format!("{dir}/train/{name}/{i}.png")), colour, i));
            (0..3).for_each(|i| draw(&place.path(&format!("{dir}/val/{name}/{i}.png")), colour, 100 + i));
        }
    };
    data("two", &["green", "red"]);
    data("three", &["amber", "green", "red"]);
    let tune = |dir: &str, words: &str| format!("finetune {dir} --size 32 --resize 32 --batch 8 --threads 1 {words}");
    place.ok(&tune("two", "--weights weights.safetensors --trainable all --epochs 4 --out a.safetensors"));
    let head = |name: &str| {
        let bytes = place.bytes(name);
        let file = Checkpoint::parse(&bytes).unwrap();
        ["fc.weight", "fc.bias"].map(|name| {
            let mut numbers = Vec::new();
            file.get(name).unwrap().read_f32(&mut numbers).unwrap();
            numbers
        })
    };
    let said = "fc: the file's rows for green, red; added: amber, drawn from seed 0";
    // A rate of 0 changes nothing that was loaded.
    let run = place.ok(&tune("three", "--weights a.safetensors --epochs 1 --lr 0 --out b.safetensors"));
    assert!(run.err.contains(said), "{}", run.err);
    let ([weight, bias], [more, biases]) = (head("a.safetensors"), head("b.safetensors"));
    assert_eq!((&more[..2 * 64], &biases[..2]), (&weight[..], &bias[..]));
    assert!(more.len() == 3 * 64 && more[2 * 64..].iter().all(|v| *v != 0.0 && v.abs() <= 0.125));
    // The drawn row is that of PyTorch's layer for all classes.
    place.ok(&tune("three", "--weights a.safetensors --epochs 1 --lr 0 --new-head --out n.safetensors"));
    assert_eq!(head("n.safetensors")[0][2 * 64..], more[2 * 64..]);
    assert_ne!(head("n.safetensors")[0][..2 * 64], more[..2 * 64]);
    // It learns, also where the weights are read in place, and is what it was after a pause.
    let run = place.ok(&tune("three", "--weights a.safetensors --keep-head --trainable all --epochs 6 --out c.safetensors"));
    assert!(run.err.contains(said) && run.out.contains("100.00 %"), "{} {}", run.err, run.out);
    place.ok("convert a.safetensors a.nunatak");
    let run = place.ok(&tune("three", "--weights a.nunatak --in-place --delta --epochs 1 --lr 0 --out d.nunatak"));
    assert!(run.err.contains(said), "{}", run.err);
    place.ok("convert d.nunatak d.safetensors --base a.nunatak");
    assert_eq!(head("d.safetensors"), [more, biases]);
    let run = place.ok("finetune three --resume --out c.safetensors --epochs 7 --threads 1");
    assert!(run.err.contains("fc: as it was"), "{}", run.err);
    // Where a class is missing the head is another one.
    data("other", &["amber", "blue", "red"]);
    let run = place.ok(&tune("other", "--weights a.safetensors --epochs 1 --lr 0 --out e.safetensors"));
    assert!(run.err.contains("fc: new, for 3 classes instead of 2"), "{}", run.err);
    let run = place.run(&tune("other", "--weights a.safetensors --keep-head --epochs 1 --out f.safetensors"));
    assert!(run.code == Some(2) && run.err.contains("classes can only be added to all of its own"), "{}", run.err);
}

/// Where batchnorm does not look at the batch, micro-batches give the numbers of whole ones, within rounding: also where
/// the last is smaller, with class weights, and with the gradients' norm held.
#[test]
fn micro_batches_add_up_to_batches() {
    let place = Place::new();
    let numbers = |out: &str, more: &str| -> Vec<f32> {
        place.ok(&place.tune(out, &format!("--epochs 2 --lr 0.2 {more}")));
        let bytes = place.bytes(out);
        let mut data = Vec::new();
        Checkpoint::parse(&bytes).unwrap().get("fc.weight").unwrap().read_f32(&mut data).unwrap();
        data
    };
    let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs().max(1.0));
    for (i, options) in ["", "--class-weights 1,3,0.5", "--clip-grad-norm 0.3 --weight-decay 0.01"].into_iter().enumerate() {
        let whole = numbers(&format!("whole{i}.safetensors"), options);
        let parts = numbers(&format!("parts{i}.safetensors"), &format!("{options} --micro-batch 3"));
        assert!(near(&whole, &parts), "{options}: {whole:?} {parts:?}");
        assert!(whole != parts, "{options}: sums are rounded otherwise");
        if i < 2 {
            let summed = numbers(&format!("summed{i}.safetensors"), &format!("{options} --micro-batch 3 --accumulate momentum"));
            assert!(near(&whole, &summed), "{options}: {whole:?} {summed:?}");
        }
    }
    // Everything is trained: an interrupted run goes on, and a run can be had again from its own options.
    let words = "--trainable all --epochs 2 --micro-batch 3 --accumulate momentum";
    let run = place.ok(&place.tune("a.safetensors", words));
    assert!(run.err.contains("3 images are computed at a time"), "{}", run.err);
    place.ok(&place.tune("b.safetensors", &format!("{words} --stop-after 5")));
    place.ok("finetune data --resume --out b.safetensors --threads 1");
    assert!(place.bytes("a.safetensors") == place.bytes("b.safetensors"));
    place.ok("finetune --config a.safetensors.toml --out c.safetensors --threads 1");
    assert!(place.bytes("a.safetensors") == place.bytes("c.safetensors"));
}

#[test]
fn a_network_is_trained_from_scratch() {
    let place = Place::new();
    let words = "finetune data --arch resnet8 --size 32 --resize 32 --batch 8 --threads 1 --epochs 6 --lr 0.05 --seed 7";
    let run = place.ok(&format!("{words} --out a.safetensors"));
    assert!(run.err.contains("fc: new as the whole network, drawn from seed 7") && run.err.contains("training all: "), "{}", run.err);
    assert!(run.out.contains("100.00 %"), "{}", run.out);
    place.ok(&format!("{words} --out b.safetensors --stop-after 9"));
    place.ok("finetune data --resume --out b.safetensors --threads 1");
    assert!(place.bytes("a.safetensors.last") == place.bytes("b.safetensors.last"));
    assert!(place.bytes("a.safetensors") == place.bytes("b.safetensors"));
}

#[test]
fn bits_depend_neither_on_threads_nor_on_when_updates_happen() {
    let place = Place::new();
    let tune = |out: &str, more: &str| {
        place.ok(&place.tune(out, "--trainable layer3,fc --epochs 1").replace("--threads 1", more));
        place.bytes(out)
    };
    let one = tune("a.safetensors", "--threads 1");
    assert!(one == tune("b.safetensors", "--threads 2"), "two threads");
    assert!(one == tune("c.safetensors", "--threads 1 --update during"), "updates during the walk");
}

#[test]
fn every_option_of_a_recipe_runs() {
    let place = Place::new();
    for more in [
        "--augment --nesterov --weight-decay 1e-4 --schedule cosine:1",
        "--schedule onecycle --label-smoothing 0.1 --clip-grad-norm 1",
        "--schedule step:1:0.5 --momentum 0 --memory small",
        "--schedule multistep:1,2:0.1 --bn-statistics batch --dampening 0.1",
    ] {
        place.ok(&place.tune("m.safetensors", &format!("--epochs 2 --overwrite {more}")));
    }
}

#[test]
fn one_level_is_divided_and_more_images_than_a_batch_are_no_need() {
    let place = Place::new();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1 --batch 64").replace("data", "data/train").replace("--batch 8", ""));
    assert!(run.err.contains("21 images of 3 classes to train on, 6 to validate with"), "{}", run.err);
}

/// Published weights have ImageNet's names, and the message about missing ones says where they are.
#[test]
fn published_weights_are_known() {
    let place = Place::new();
    place.weights_of("r.pth.safetensors", nunatak_cli::args::network("resnet18", Some(1000)).unwrap(), None);
    place.ok("convert r.pth.safetensors r.pth");
    let run = place.ok("predict r.pth data/val/red/0.png --size 32 --json");
    assert!(run.err.contains("the 1000 classes are ImageNet's"), "{}", run.err);
    let json: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let (name, index) = (json[0]["top"][0]["class"].as_str().unwrap(), json[0]["top"][0]["index"].as_u64().unwrap());
    assert_eq!(nunatak_cli::published::imagenet_class(index as usize), Some(name));
    for (weights, file) in
        [("resnet18-f37072fd.pth", "resnet18-f37072fd.pth"), ("x/resnet50.pth", "resnet50-11ad3fa6.pth"), ("mine.pth", "resnet18-f")]
    {
        let run = place.run(&format!("finetune data --weights {weights}"));
        let address = format!("https://download.pytorch.org/models/{file}");
        assert!(run.code == Some(1) && run.err.contains(&address) && run.err.contains(weights), "{}", run.err);
    }
}

/// The file that a run leaves repeats it; what the command line says wins.
#[test]
fn a_run_is_repeated_from_its_options() {
    let place = Place::new();
    place.ok(&place.tune(
        "a.safetensors",
        "--trainable layer3,fc --epochs 2 --lr 0.02 --nesterov --class-weights balanced --seed 18446744073709551615",
    ));
    let text = String::from_utf8(place.bytes("a.safetensors.toml")).unwrap();
    assert!(text.contains("lr = 0.02\n") && text.contains("nesterov = true") && text.contains("dir = \"data\""), "{text}");
    place.ok("finetune --config a.safetensors.toml --out b.safetensors --threads 1");
    assert!(place.bytes("a.safetensors") == place.bytes("b.safetensors"));
    assert_eq!(String::from_utf8(place.bytes("b.safetensors.toml")).unwrap(), text);
    let run = place.ok("finetune data --config a.safetensors.toml --epochs 1 --out c.safetensors --threads 1");
    assert!(run.err.contains("epoch 1/1"), "{}", run.err);
    std::fs::write(place.path("bad.toml"), "learning_rate = 1\n").unwrap();
    let run = place.run("finetune data --config bad.toml");
    assert!(run.code == Some(2) && run.err.contains("--learning-rate") && run.err.contains("bad.toml"), "{}", run.err);
}

#[test]
fn patience_ends_a_run_that_does_not_get_better() {
    let place = Place::new();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 50 --lr 0 --patience 2 --log log.jsonl"));
    assert!(run.err.contains("ended after epoch 3") && !run.err.contains("epoch 4/50"), "{}", run.err);
    assert!(run.out.contains("after epoch 1"), "{}", run.out);
    assert!(String::from_utf8(place.bytes("log.jsonl")).unwrap().contains("\"patience\""));
    // A resumed one has no more patience, unless it is given some.
    let run = place.ok("finetune data --resume --out m.safetensors --threads 1");
    assert!(run.err.contains("ended after epoch 3"), "{}", run.err);
    let run = place.ok("finetune data --resume --out m.safetensors --threads 1 --patience 3");
    assert!(run.err.contains("ended after epoch 4"), "{}", run.err);
}

#[test]
fn minutes_end_a_run_that_can_be_gone_on_with() {
    let place = Place::new();
    place.ok(&place.tune("whole.safetensors", "--epochs 2"));
    let run = place.ok(&place.tune("part.safetensors", "--epochs 2 --max-minutes 0.0000001"));
    assert!(run.err.contains("stopped in epoch 1 after batch 1 of 4"), "{}", run.err);
    place.ok("finetune data --resume --out part.safetensors --threads 1");
    assert!(place.bytes("part.safetensors.last") == place.bytes("whole.safetensors.last"));
    for bad in ["0", "-1", "nan", "inf", "x"] {
        assert_eq!(place.run(&place.tune("n.safetensors", &format!("--max-minutes={bad}"))).code, Some(2), "{bad}");
    }
}

/// `--dry-run` tells what is there and writes nothing.
#[test]
fn a_dry_run_looks_and_writes_nothing() {
    let place = Place::new();
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    std::fs::copy(place.path("data/train/red/0.png"), place.path("data/val/red/again.png")).unwrap();
    std::fs::copy(place.path("data/train/red/1.png"), place.path("data/train/blue/wrong.png")).unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let run = place.ok(&place.tune("m.safetensors", "--dry-run --log log.jsonl"));
    for line in [
        "blue         10         3",
        "red          10         4",
        "all          29        10",
        "sizes: smallest 32 x 32, middle 32 x 32, largest 32 x 32",
        "broken: 1",
        "the same image in train and val: 1: train/red/0.png = val/red/again.png",
        "the same image in two classes: 1: train/blue/wrong.png = train/red/1.png",
        "time: ",
    ] {
        assert!(run.out.contains(line), "{line}: {}", run.out);
    }
    assert!(run.err.contains(" parameters, in "), "{}", run.err);
    assert_eq!(names(), before);
    // A run itself warns too.
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1"));
    assert!(
        run.err.contains("warning: 1 images are both to train on and to validate with: train/red/0.png = val/red/again.png"),
        "{}",
        run.err
    );
}

/// Balanced weights: a class with few images counts as much as the others.
#[test]
fn classes_are_weighed() {
    let place = Place::new();
    (1..9).for_each(|i| std::fs::remove_file(place.path(&format!("data/train/red/{i}.png"))).unwrap());
    let loss = |more: &str| {
        place.ok(&place
            .tune("m.safetensors", &format!("--epochs 1 --lr 0 --batch 64 --overwrite --log log.jsonl {more}"))
            .replace("--batch 8 ", ""));
        let log = String::from_utf8(place.bytes("log.jsonl")).unwrap();
        let step: serde_json::Value =
            log.lines().map(|l| serde_json::from_str(l).unwrap()).find(|e: &serde_json::Value| e["event"] == "step").unwrap();
        step["loss"].as_f64().unwrap()
    };
    // The head's first losses differ by class, so the weighted mean is another one; equal weights change nothing.
    let (plain, balanced, equal) = (loss(""), loss("--class-weights balanced"), loss("--class-weights 2,2,2"));
    assert!((plain - equal).abs() < 1e-6 && (plain - balanced).abs() > 1e-4, "{plain} {balanced} {equal}");
    let run = place.run(&place.tune("n.safetensors", "--class-weights 1,2"));
    assert!(run.code == Some(2) && run.err.contains("3 numbers"), "{}", run.err);
}

/// The learning rate that is suggested is one with which the set is learnt.
#[test]
fn a_learning_rate_is_found() {
    let place = Place::new();
    let words = "lr-find data --weights weights.safetensors --size 32 --resize 32 --batch 8 --threads 1 --trainable all";
    let names = || std::fs::read_dir(place.dir.path()).unwrap().count();
    let before = names();
    let run = place.ok(words);
    assert!(run.out.contains("suggestion: --lr ") && run.out.contains(" lr\n"), "{}", run.out);
    let json: serde_json::Value = serde_json::from_str(&place.ok(&format!("{words} --json --steps 60")).out).unwrap();
    let rate = json["suggestion"].as_f64().unwrap();
    assert!((1e-5..=10.0).contains(&rate) && json["points"].as_array().unwrap().len() > 10, "{json}");
    assert_eq!(names(), before, "nothing is written");
    let run = place.ok(&place.tune("m.safetensors", &format!("--trainable all --epochs 6 --lr {rate}")));
    assert!(run.out.contains("100.00 %"), "{rate}: {}", run.out);
    for bad in ["--from 0", "--from 1 --to 1", "--steps 2", "--resume"] {
        assert_eq!(place.run(&format!("{words} {bad}")).code, Some(2), "{bad}");
    }
}
