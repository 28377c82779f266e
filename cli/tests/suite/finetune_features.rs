//! Features once: the bits of a run that computes them at every step.

use crate::running::Place;

/// Short batches, images that can't be read, averages, micro-batches, clipping, weights, every setting of memory: the
/// same model and the same state.
#[test]
fn kept_features_change_no_bit() {
    let place = Place::new();
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    std::fs::write(place.path("data/val/blue/empty.jpg"), b"").unwrap();
    for (i, more) in [
        "--epochs 4 --batch 8 --momentum 0.9 --schedule cosine:1",
        "--epochs 3 --batch 9 --micro-batch 4 --ema 0.9",
        "--epochs 3 --batch 5 --micro-batch 3 --accumulate momentum --memory small",
        "--epochs 2 --batch 64 --clip-grad-norm 0.5 --class-weights balanced",
    ]
    .into_iter()
    .enumerate()
    {
        let tune = |how: &str| {
            let out = format!("{how}{i}.safetensors");
            let run = place.ok(&place.tune(&out, &format!("{more} --features {how}")));
            assert_eq!(run.err.contains("computed once and kept"), how == "once", "{}", run.err);
            assert_eq!(run.err.matches("broken.png").count(), 1, "{}", run.err);
            (place.bytes(&out), place.bytes(&format!("{out}.last")))
        };
        assert!(tune("once") == tune("never"), "{more}");
    }
}

/// Resumed runs begin anew with the files, and end with the same state.
#[test]
fn resumed_runs_have_the_same_bits() {
    let place = Place::new();
    place.ok(&place.tune("whole.safetensors", "--epochs 3"));
    place.ok(&place.tune("again.safetensors", "--epochs 3 --features never"));
    assert!(place.bytes("whole.safetensors") == place.bytes("again.safetensors"));
    // Stopped within an epoch and between two.
    for stop in [1, 4, 6] {
        let out = format!("part{stop}.safetensors");
        place.ok(&place.tune(&out, &format!("--epochs 3 --stop-after {stop}")));
        place.ok(&format!("finetune data --resume --out {out} --threads 2 --features never"));
        assert!(place.bytes(&format!("{out}.last")) == place.bytes("whole.safetensors.last"), "stopped after {stop}");
    }
}

/// Where something below the head changes from epoch to epoch nothing is kept.
#[test]
fn what_changes_is_computed_anew() {
    let place = Place::new();
    for more in ["--augment", "--bn-statistics batch", "--trainable layer3,fc", "--trainable all"] {
        let run = place.ok(&place.tune("m.safetensors", &format!("--epochs 1 --overwrite {more}")));
        assert!(!run.err.contains("computed once"), "{more}: {}", run.err);
    }
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1 --overwrite --trainable fc.bias"));
    assert!(run.err.contains("computed once"), "{}", run.err);
}
