//! Batches: the same for any number of threads, whole or resumed, with broken files in them.

use std::fs;
use std::path::Path;

use crate::support::{noise, tiny_png};
use nunatak_core::rng::Generator;
use nunatak_data::{Batch, Evaluation, Loader, LoaderError, LoaderOptions, Preset, Sample, Training, decode, sequential, shuffled};

/// `n` different images, class `i % 3`.
fn samples(dir: &Path, n: usize) -> Vec<Sample> {
    (0..n)
        .map(|i| {
            let path = dir.join(format!("{i}.png"));
            let picture = noise(9 + i, 12);
            let picture = image::RgbImage::from_raw(9 + i as u32, 12, picture.pixels).unwrap();
            picture.save(&path).unwrap();
            Sample { path, label: i % 3 }
        })
        .collect()
}

fn options(preset: Preset, threads: usize) -> LoaderOptions {
    LoaderOptions { seed: 7, threads, ahead: 5, ..LoaderOptions::new(4, preset) }
}

fn evaluation() -> Preset {
    Preset::Evaluation(Evaluation::new(8))
}

fn training() -> Preset {
    Preset::Training(Training::new(8))
}

#[test]
fn batches_in_order_with_the_last_one_partial() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path(), 10);
    let loader = Loader::new(samples.clone(), options(evaluation(), 2)).unwrap();
    assert_eq!((loader.batches(), loader.samples().len()), (3, 10));
    let mut epoch = loader.epoch(sequential(10), 0, 0).unwrap();
    assert_eq!(epoch.len(), 3);
    let mut seen = 0;
    let mut batch = Batch::default();
    while epoch.next_into(&mut batch) {
        let n = if batch.number == 2 { 2 } else { 4 };
        assert_eq!(batch.labels.len(), n);
        assert_eq!(batch.pixels.len(), n * 3 * 8 * 8);
        assert_eq!(batch.indices, (seen..seen + n).collect::<Vec<_>>());
        for (i, pixels) in batch.pixels.chunks_exact(3 * 8 * 8).enumerate() {
            assert_eq!(batch.labels[i], ((seen + i) % 3) as i64);
            let picture = decode(&fs::read(&samples[seen + i].path).unwrap()).unwrap();
            let mut want = vec![0; pixels.len()];
            Evaluation::new(8).apply(&picture, &mut want);
            assert!(pixels == want, "image {}", seen + i);
        }
        assert!(batch.skipped.is_empty());
        seen += n;
    }
    assert_eq!(seen, 10);
    assert!(!epoch.next_into(&mut batch));
}

#[test]
fn threads_change_nothing_and_epochs_and_seeds_do() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path(), 23);
    let order = shuffled(&mut Generator::manual_seed(0), 23);
    let run = |options: LoaderOptions, epoch| -> Vec<Batch> {
        let loader = Loader::new(samples.clone(), options).unwrap();
        loader.epoch(order.clone(), epoch, 0).unwrap().collect()
    };
    let one = run(options(training(), 0), 3);
    assert_eq!(one.len(), 6);
    for threads in [1, 2, 5, 50] {
        assert!(run(options(training(), threads), 3) == one, "{threads} threads");
    }
    let mut narrow = options(training(), 3);
    narrow.ahead = 1;
    assert!(run(narrow, 3) == one, "one image ahead");
    assert!(run(options(training(), 1), 4) != one, "another epoch");
    let mut other = options(training(), 1);
    other.seed = 8;
    assert!(run(other, 3) != one, "another seed");
}

#[test]
fn an_epoch_can_be_resumed_at_any_batch() {
    let dir = tempfile::tempdir().unwrap();
    let loader = Loader::new(samples(dir.path(), 10), options(training(), 2)).unwrap();
    let whole: Vec<Batch> = loader.epoch(sequential(10), 1, 0).unwrap().collect();
    for start in 0..=3 {
        let rest: Vec<Batch> = loader.epoch(sequential(10), 1, start).unwrap().collect();
        assert!(rest == whole[start..], "from batch {start}");
    }
    let error = loader.epoch(sequential(10), 1, 4).unwrap_err();
    assert_eq!(error, LoaderError::Start { batch: 4, batches: 3 });
}

#[test]
fn broken_images_are_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path(), 9);
    fs::write(&samples[1].path, b"").unwrap();
    fs::write(&samples[2].path, b"not a picture").unwrap();
    for sample in &samples[4..8] {
        fs::write(&sample.path, &tiny_png(5, 5, [0; 3])[..40]).unwrap();
    }
    let loader = Loader::new(samples.clone(), options(evaluation(), 2)).unwrap();
    let mut epoch = loader.epoch(sequential(9), 0, 0).unwrap();
    let first = epoch.next().unwrap();
    assert_eq!(first.indices, [0, 3]);
    assert_eq!(first.pixels.len(), 2 * 3 * 8 * 8);
    assert_eq!(first.skipped.len(), 2);
    assert_eq!(first.skipped[0], (samples[1].path.clone(), "the file is empty".into()));
    // A batch of which nothing is left is still a batch, so that numbers stay in step.
    let second = epoch.next().unwrap();
    assert_eq!((second.number, second.labels.len(), second.skipped.len()), (1, 0, 4));
    assert_eq!(epoch.next().unwrap().indices, [8]);
    assert!(epoch.next().is_none());
}

#[test]
fn files_that_vanish_are_reported_when_their_turn_comes() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path(), 12);
    let mut options = options(evaluation(), 1);
    options.ahead = 1;
    let loader = Loader::new(samples.clone(), options).unwrap();
    let mut epoch = loader.epoch(sequential(12), 0, 0).unwrap();
    assert!(epoch.next().unwrap().skipped.is_empty());
    fs::remove_file(&samples[9].path).unwrap();
    assert!(epoch.next().unwrap().skipped.is_empty());
    let last = epoch.next().unwrap();
    assert_eq!(last.indices, [8, 10, 11]);
    assert!(last.skipped[0].1.contains("cannot be read"), "{:?}", last.skipped);
}

#[test]
fn an_epoch_may_be_abandoned() {
    let dir = tempfile::tempdir().unwrap();
    let loader = Loader::new(samples(dir.path(), 20), options(training(), 3)).unwrap();
    for used in 0..3 {
        let mut epoch = loader.epoch(sequential(20), 0, 0).unwrap();
        for _ in 0..used {
            epoch.next().unwrap();
        }
        // Dropping joins the threads; a hang here is the failure.
    }
}

#[test]
fn nothing_to_load_and_fewer_than_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let none = Loader::new(Vec::new(), options(evaluation(), 2)).unwrap();
    assert!(none.epoch(sequential(0), 0, 0).unwrap().next().is_none());
    let few = Loader::new(samples(dir.path(), 3), options(evaluation(), 2)).unwrap();
    let batches: Vec<Batch> = few.epoch(sequential(3), 0, 0).unwrap().collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].labels, [0, 1, 2]);
}

#[test]
fn options_that_make_no_sense_are_errors() {
    let new = |batch, preset| Loader::new(Vec::new(), LoaderOptions::new(batch, preset));
    assert_eq!(new(0, evaluation()).unwrap_err(), LoaderError::EmptyBatch);
    for size in [0, usize::MAX, 1 << 31] {
        let preset = Preset::Training(Training::new(size));
        assert_eq!(new(1, preset).unwrap_err(), LoaderError::Size(size));
    }
    let one = vec![Sample { path: "x.png".into(), label: 0 }];
    let loader = Loader::new(one, options(evaluation(), 1)).unwrap();
    let error = loader.epoch(vec![0, 1], 0, 0).unwrap_err();
    assert_eq!(error, LoaderError::Order { index: 1, samples: 1 });
}

/// The order over epochs is DataLoader's: see `nunatak_core::rng`.
#[test]
fn shuffling_is_pytorchs() {
    let mut g = Generator::manual_seed(0);
    assert_eq!(shuffled(&mut g, 10), [6, 7, 1, 4, 2, 0, 9, 8, 3, 5]);
    assert_eq!(shuffled(&mut g, 10), [2, 4, 7, 0, 8, 9, 5, 3, 6, 1]);
}

/// An order with repeats, as `--balanced` draws it: every time with other cuts, the first time with those of an order
/// without, and all the same where the epoch is resumed.
#[test]
fn an_image_that_comes_again_is_cut_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(dir.path(), 3);
    let pixels = |order: Vec<u32>, start, threads| {
        let loader = Loader::new(samples.clone(), options(training(), threads)).unwrap();
        loader.epoch(order, 3, start).unwrap().flat_map(|batch| batch.pixels).collect::<Vec<u8>>()
    };
    let image = 3 * 8 * 8;
    let order = vec![2, 2, 0, 2, 2, 2];
    let repeated = pixels(order.clone(), 0, 2);
    let of = |place: usize| &repeated[place * image..][..image];
    let plain = pixels(vec![2, 0, 1], 0, 0);
    assert_eq!((of(0), of(2)), (&plain[..image], &plain[image..2 * image]));
    let distinct: std::collections::HashSet<&[u8]> = [0, 1, 3, 4, 5].map(of).into();
    assert_eq!(distinct.len(), 5);
    assert_eq!(pixels(order, 1, 0), repeated[4 * image..]);
}
