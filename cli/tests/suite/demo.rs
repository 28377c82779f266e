//! `nunatak demo`, run as a program from beginning to end.

use crate::program::nunatak;

#[test]
fn the_demo_runs_to_its_end_and_learns() {
    let ended = nunatak(["demo"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    // What it runs on.
    assert!(ended.line("nunatak ").contains(&"level"));
    // PyTorch's goldens, each beside a number that agrees.
    for (what, golden) in [
        ("prediction[0, 3]", "0.307489038"),
        ("    loss  ", "-512.952026"),
        ("conv1.weight", "3290.07788"),
        ("layer4.1.conv2.weight", "201.625504"),
        ("fc.bias", "31.6227760"),
        ("loss after a step", "-4355.15137"),
        ("bn1.running_mean[0]", "-0.250842541"),
        ("layer4.1.bn2.running_var[0]", "0.822585762"),
        ("loss of the new head", "-8.59231472"),
    ] {
        let words = ended.line(what);
        let [.., got, torch, difference] = words[..] else { panic!("{words:?}") };
        assert_eq!(torch, golden, "{what}");
        let [got, torch, difference] = [got, torch, difference].map(|w| w.parse::<f64>().expect("a number"));
        assert!((got - torch).abs() <= 1e-3 * torch.abs() && difference <= 1e-3, "{words:?}");
    }
    assert!(ended.stdout.contains("layer4.1.conv2.weight: 0 of 2359296 numbers have changed"));
    assert!(ended.stdout.contains("fc.weight: 5120 of 5120 numbers have changed"));
    // Freezing: fewer calls, less memory.
    let gradients = ended.line("backward: gradients of parameters");
    assert_eq!(gradients[gradients.len() - 2..], ["62", "2"]);
    // Learning: accuracy before and after, in percent.
    let accuracy = |what: &str| {
        let words = ended.line(what);
        let numbers: Vec<f64> =
            words.iter().zip(&words[1..]).filter(|(_, next)| **next == "%").map(|(w, _)| w.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), 2, "{words:?}");
        (numbers[0], numbers[1])
    };
    let (before, after) = accuracy("all layers, the first four");
    assert!(after > before + 30.0 && after > 75.0, "{before} {after}");
    let (before, after) = accuracy("fc alone, the other four");
    assert!(after > before + 20.0 && after > 55.0, "{before} {after}");
    assert!(after > accuracy("fc alone on random weights").1, "what was learnt is of use");
    // It looks well in a narrow window.
    for line in ended.stdout.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn what_it_cannot_run_on_is_a_usage_error() {
    for args in [&["demo", "--level", "sse9"][..], &["demo", "--threads", "0"], &["demo", "--seed", "x"], &["demo", "there"]] {
        let ended = nunatak(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{args:?}");
        assert!(!ended.stderr.is_empty());
    }
}
