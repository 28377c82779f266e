//! `nunatak step`, run as a program: a batch in parts.

use crate::running::Place;
use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_safetensors};

/// Six images of 32 x 32 for ten classes, in two files: with numbers as labels, and with class indices, one of which counts
/// nothing.
fn place() -> Place {
    let place = Place::new();
    let data: Vec<f32> = (0..6 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
    let input = TensorOut { name: "input", shape: &[6, 3, 32, 32], data: Data::F32(&data) };
    let numbers: Vec<f32> = (0..60).map(|i| (i as f32 * 0.11).cos()).collect();
    let labels = TensorOut { name: "labels", shape: &[6, 10], data: Data::F32(&numbers) };
    write_safetensors(&place.path("numbers.safetensors"), &[input, labels], &Default::default()).unwrap();
    let input = TensorOut { name: "input", shape: &[6, 3, 32, 32], data: Data::F32(&data) };
    let labels = TensorOut { name: "labels", shape: &[6], data: Data::I64(&[3, -100, 0, 9, 3, 1]) };
    write_safetensors(&place.path("classes.safetensors"), &[input, labels], &Default::default()).unwrap();
    place
}

/// With running statistics the parts of a batch know nothing of each other: gradients, losses and what is trained by them
/// are those of the whole batch, but for rounding.
#[test]
fn parts_add_up_to_the_whole_batch() {
    let place = place();
    for (input, loss) in [("numbers", "sum"), ("numbers", "mse"), ("classes", "cross-entropy")] {
        let words = format!(
            "step --arch resnet8 --input {input}.safetensors --loss {loss} --mode eval --weights weights.safetensors --steps 3 \
             --momentum 0.9 --weight-decay 0.01 --lr 0.003 --threads 1"
        );
        place.ok(&format!("{words} --out whole.safetensors"));
        for parts in ["--micro-batch 2", "--micro-batch 3", "--micro-batch 2 --accumulate momentum"] {
            place.ok(&format!("{words} {parts} --out parts.safetensors"));
            let (whole, cut) = (place.bytes("whole.safetensors"), place.bytes("parts.safetensors"));
            let (whole, cut) = (Checkpoint::parse_all(&whole).unwrap(), Checkpoint::parse_all(&cut).unwrap());
            let mut compared = 0;
            for tensor in whole.entries() {
                let name = tensor.name();
                // Where gradients are added up in the momentum there are none to be written.
                let Some(other) = cut.get(name) else {
                    assert!(parts.contains("momentum") && name.starts_with("grad."), "{name} is missing");
                    continue;
                };
                let (mut a, mut b) = (Vec::new(), Vec::new());
                if tensor.read_f32(&mut a).is_err() {
                    continue; // counters
                }
                other.read_f32(&mut b).unwrap();
                let most = a.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                let apart = a.iter().zip(&b).fold(0.0_f32, |apart, (a, b)| apart.max((a - b).abs()));
                assert!(a.len() == b.len() && apart <= 2e-5 * most + 1e-7, "{loss} {parts} {name}: {apart} of {most}");
                compared += 1;
            }
            assert!(compared > 60, "{compared} tensors");
        }
        // Nothing is cut: the same bytes.
        place.ok(&format!("{words} --micro-batch 6 --out parts.safetensors"));
        assert!(place.bytes("whole.safetensors") == place.bytes("parts.safetensors"), "{loss}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let place = place();
    let words = "step --arch resnet8 --input numbers.safetensors --out x.safetensors";
    for (more, what) in [
        ("--micro-batch 4", "numbers.safetensors has 6 images, no multiple of it"),
        ("--micro-batch 0", "0 is not in 1.."),
        ("--micro-batch 2 --update during", "cannot be used with"),
        ("--accumulate momentum", "--micro-batch"),
        ("--micro-batch 2 --accumulate momentum", "--momentum above 0"),
        ("--micro-batch 2 --accumulate momentum --momentum 0.9 --nesterov", "no --nesterov"),
    ] {
        let run = place.run(&format!("{words} {more}"));
        assert!(run.code == Some(2) && run.err.contains(what), "{more}: {:?} {}", run.code, run.err);
    }
    assert!(!place.path("x.safetensors").exists());
}
