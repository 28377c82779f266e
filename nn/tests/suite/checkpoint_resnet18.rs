//! A file of ResNet18's full size: what it takes to load, and a sample for PyTorch to judge.
//!
//! `cargo test --release -p nunatak-nn --test suite -- --ignored --nocapture` writes
//! `$NUNATAK_WRITTEN/resnet18.{pth,safetensors}`; then `tests/golden/checkpoint/check_written.py`
//! loads both into torchvision's model and compares every number.

use nunatak_nn::files::{Checkpoint, Data, TensorOut, write_pth, write_safetensors};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The 122 entries of torchvision's state_dict: name and shape.
fn entries() -> Vec<(String, Vec<usize>)> {
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
    let bn = |list: &mut Vec<(String, Vec<usize>)>, at: String, c: usize| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            list.push((format!("{at}.{part}"), vec![c]));
        }
        list.push((format!("{at}.num_batches_tracked"), vec![]));
    };
    list.push(("conv1.weight".into(), vec![64, 3, 7, 7]));
    bn(&mut list, "bn1".into(), 64);
    let mut before = 64;
    for (stage, width) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let at = format!("layer{}.{block}", stage + 1);
            let input = if block == 0 { before } else { width };
            list.push((format!("{at}.conv1.weight"), vec![width, input, 3, 3]));
            bn(&mut list, format!("{at}.bn1"), width);
            list.push((format!("{at}.conv2.weight"), vec![width, width, 3, 3]));
            bn(&mut list, format!("{at}.bn2"), width);
            if block == 0 && stage > 0 {
                list.push((format!("{at}.downsample.0.weight"), vec![width, input, 1, 1]));
                bn(&mut list, format!("{at}.downsample.1"), width);
            }
        }
        before = width;
    }
    list.push(("fc.weight".into(), vec![1000, 512]));
    list.push(("fc.bias".into(), vec![1000]));
    list
}

/// Element i of entry e; check_written.py has the same formula.
fn value(e: usize, i: usize) -> f32 {
    ((e * 31 + i * 7) % 4096) as f32 / 1024.0 - 2.0
}

fn best(mut run: impl FnMut()) -> Duration {
    (0..15)
        .map(|_| {
            let clock = Instant::now();
            run();
            clock.elapsed()
        })
        .min()
        .unwrap_or_default()
}

#[test]
#[ignore = "a measurement: run it in release, alone"]
fn loading_costs_little_more_than_reading() {
    let entries = entries();
    assert_eq!(entries.len(), 122);
    let floats: Vec<Vec<f32>> =
        (entries.iter().enumerate()).map(|(e, (_, shape))| (0..shape.iter().product()).map(|i| value(e, i)).collect()).collect();
    assert_eq!(entries.iter().filter(|(_, s)| s.is_empty()).count(), 20);
    let counts: Vec<[i64; 1]> = (0..entries.len()).map(|e| [e as i64]).collect();
    let tensors: Vec<TensorOut<'_>> = (entries.iter().enumerate())
        .map(|(e, (name, shape))| TensorOut {
            name,
            shape,
            data: if shape.is_empty() { Data::I64(&counts[e]) } else { Data::F32(&floats[e]) },
        })
        .collect();

    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("NUNATAK_WRITTEN").map_or(temporary.path().to_path_buf(), Into::into);
    let (pth, st) = (folder.join("resnet18.pth"), folder.join("resnet18.safetensors"));
    let clock = Instant::now();
    write_pth(&pth, &tensors, &Default::default()).unwrap();
    println!("write .pth {:?}", clock.elapsed());
    let clock = Instant::now();
    write_safetensors(&st, &tensors, &[("format".to_string(), "pt".to_string())].into()).unwrap();
    println!("write .safetensors {:?}", clock.elapsed());

    for path in [pth, st] {
        let plain = best(|| {
            black_box(std::fs::read(&path).unwrap());
        });
        let parse = best(|| {
            let bytes = std::fs::read(&path).unwrap();
            black_box(Checkpoint::parse(&bytes).unwrap());
        });
        let mut place = Vec::new();
        let all = best(|| {
            let bytes = std::fs::read(&path).unwrap();
            let checkpoint = Checkpoint::parse(&bytes).unwrap();
            for entry in checkpoint.entries() {
                match entry.as_f32() {
                    Some(view) => {
                        black_box(view);
                    }
                    None => entry.read_f32(&mut place).unwrap(),
                }
            }
        });
        let copied = best(|| {
            let bytes = std::fs::read(&path).unwrap();
            let checkpoint = Checkpoint::parse(&bytes).unwrap();
            for entry in checkpoint.entries() {
                entry.read_f32(&mut place).unwrap();
                black_box(&place);
            }
        });
        println!("{}: read {plain:?}, + parse {parse:?}, + lend {all:?}, + copy {copied:?}", path.display());
        let limit = plain * 3 / 2 + Duration::from_millis(30);
        assert!(copied <= limit, "{copied:?}, allowed {limit:?}");
    }
}
