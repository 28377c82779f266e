//! `nunatak convert`, run as a program.

use crate::program::{checkpoint, nunatak};
use nunatak_nn::files::{Checkpoint, Data, Dtype, Format, TensorOut, write_safetensors};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

fn convert(from: &Path, to: &Path) -> crate::program::Ended {
    nunatak([OsStr::new("convert"), from.as_os_str(), to.as_os_str()])
}

/// Names, shapes, types and bits of a file, sorted by name.
fn content(path: &Path) -> BTreeMap<String, (Vec<usize>, Dtype, Vec<u64>)> {
    let bytes = std::fs::read(path).expect("the file");
    let file = Checkpoint::parse(&bytes).expect("a checkpoint");
    let each = file.entries().iter().map(|e| {
        let mut floats = Vec::new();
        let bits = match e.dtype() {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => {
                e.read_f32(&mut floats).expect("floats");
                floats.iter().map(|v| u64::from(v.to_bits())).collect()
            }
            _ => e.read_i64().expect("integers").iter().map(|v| *v as u64).collect(),
        };
        (e.name().to_string(), (e.shape().to_vec(), e.dtype(), bits))
    });
    each.collect()
}

#[test]
fn every_format_to_every_other_keeps_every_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["zip.pth", "legacy.pth", "small.safetensors", "nested.pth", "model_module.pth", "views.pth", "non_finite.pth"] {
        let from = checkpoint(name);
        for (extension, format) in [("safetensors", Format::Safetensors), ("pth", Format::PthZip), ("PTH", Format::PthZip)] {
            let to = folder.path().join(format!("{name}.{extension}"));
            let ended = convert(&from, &to);
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name} to {extension}");
            assert!(!ended.stdout.contains("became"), "{}", ended.stdout);
            assert_eq!(content(&from), content(&to), "{name} to {extension}");
            let bytes = std::fs::read(&to).expect("the file");
            assert_eq!(Checkpoint::parse(&bytes).expect("a checkpoint").format(), format);
        }
    }
}

#[test]
fn types_that_are_not_kept_become_f32_and_i64_and_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["dtypes.pth", "dtypes_legacy.pth", "dtypes.safetensors"] {
        let (from, to) = (checkpoint(name), folder.path().join("out.safetensors"));
        let ended = convert(&from, &to);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        for (was, is) in [("F64", "F32"), ("F16", "F32"), ("BF16", "F32"), ("I16", "I64"), ("I8", "I64"), ("U8", "I64"), ("BOOL", "I64")] {
            assert!(ended.stdout.contains(&format!("  1 of type {was} became {is}")), "{name} {was}: {}", ended.stdout);
        }
        assert!(["F32", "I64", "I32"].iter().all(|kept| !ended.stdout.contains(&format!("type {kept}"))));
        let (before, after) = (content(&from), content(&to));
        assert_eq!(after.len(), before.len());
        for (entry, (shape, dtype, bits)) in &after {
            let due = match before[entry].1 {
                Dtype::I32 => Dtype::I32,
                _ if entry.contains("float") => Dtype::F32,
                _ => Dtype::I64,
            };
            assert_eq!(*dtype, due, "{entry}");
            assert_eq!((shape, bits), (&before[entry].0, &before[entry].2), "{entry}");
        }
    }
}

#[test]
fn metadata_stay_where_the_format_has_a_place_for_them() {
    let metadata = |path: &Path| {
        let bytes = std::fs::read(path).expect("the file");
        Checkpoint::parse(&bytes).expect("a checkpoint").metadata().clone()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (same, pth, back) = (folder.path().join("a.safetensors"), folder.path().join("a.pth"), folder.path().join("b.safetensors"));
    let from = checkpoint("small.safetensors");
    assert_eq!(convert(&from, &same).code, 0);
    assert_eq!(metadata(&same), metadata(&from));
    assert_eq!(metadata(&same)["made by"], "make.py");
    assert_eq!(convert(&from, &pth).code, 0);
    assert_eq!(metadata(&pth), metadata(&from), "in a member of the archive that PyTorch passes over");
    assert_eq!(convert(&pth, &back).code, 0);
    assert_eq!(metadata(&back), metadata(&from));
}

/// A checkpoint of a training script is never reduced to what stands beside the weights.
#[test]
fn the_state_dict_of_a_training_checkpoint_is_written_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = folder.path().join("out.safetensors");
    let base = content(&checkpoint("layouts/base.safetensors"));
    for (name, said) in [
        ("layouts/scalar_beside.pth", "\"loss\""),
        ("layouts/lightning.pth", "\"state_dict.criterion.weight\""),
        ("layouts/cifar.pth", "shortcut, linear"),
        ("layouts/beside.pth", "\"model\""),
        ("layouts/module.pth", ""),
        ("layouts/deflated.pth", ""),
        ("layouts/float_counters.pth", "became I64"),
    ] {
        let ended = convert(&checkpoint(name), &to);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{name}");
        assert!(ended.stdout.contains(said), "{name}: {}", ended.stdout);
        assert!(content(&to) == base, "{name}");
    }
}

#[test]
fn two_state_dicts_are_a_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (checkpoint("layouts/two_dicts.pth"), folder.path().join("out.safetensors"));
    let ended = convert(&from, &to);
    assert_eq!((ended.code, to.exists()), (1, false));
    for part in ["\"model\"", "\"model_ema\"", "--key"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let chosen = nunatak([OsStr::new("convert"), from.as_os_str(), to.as_os_str(), OsStr::new("--key"), OsStr::new("model")]);
    assert_eq!(chosen.code, 0, "{}", chosen.stderr);
    assert!(content(&to) == content(&checkpoint("layouts/base.safetensors")));
    let wrong = nunatak([OsStr::new("convert"), from.as_os_str(), to.as_os_str(), OsStr::new("--key"), OsStr::new("ema")]);
    assert!(
        wrong.code == 1 && wrong.stderr.contains("no dict of tensors under \"ema\"; there are \"model\", \"model_ema\""),
        "{}",
        wrong.stderr
    );
    let inspected = nunatak([OsStr::new("inspect"), from.as_os_str()]);
    assert_eq!(inspected.code, 0);
    for part in ["model.conv1.weight", "model_ema.conv1.weight", "network: not chosen: the file has 2 state dicts"] {
        assert!(inspected.stdout.contains(part), "{}", inspected.stdout);
    }
}

#[test]
fn onto_itself_is_as_good_as_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.pth");
    std::fs::copy(checkpoint("legacy.pth"), &path).expect("a copy");
    let before = content(&path);
    assert_eq!(convert(&path, &path).code, 0);
    assert_eq!(content(&path), before);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1, "no temporary file stays");
}

#[test]
fn what_is_refused_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = folder.path().join("old.pth");
    std::fs::write(&old, "old").expect("written");
    // Usage: the format can't be told.
    for name in ["out", "out.bin", "out.pth.gz", ".pth"] {
        let to = folder.path().join(name);
        let ended = convert(&checkpoint("zip.pth"), &to);
        assert_eq!(ended.code, 2, "{name}");
        assert!(ended.stderr.contains(&to.display().to_string()) && !to.exists(), "{}", ended.stderr);
    }
    assert_eq!(nunatak(["convert", "one.pth"]).code, 2);
    // The rest.
    let bad = checkpoint("refused_torchscript.pth");
    let missing = folder.path().join("missing.pth");
    for from in [&bad, &missing] {
        let ended = convert(from, &old);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert!(ended.stderr.starts_with(&format!("error: {}: ", from.display())), "{}", ended.stderr);
        assert_eq!(std::fs::read(&old).expect("the old file"), b"old");
    }
    let nowhere = folder.path().join("no such folder/out.pth");
    let ended = convert(&checkpoint("zip.pth"), &nowhere);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains(&nowhere.display().to_string()), "{}", ended.stderr);
}

#[test]
fn special_numbers_keep_their_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("a.safetensors"), folder.path().join("a.pth"));
    let numbers = [f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE / 2.0, f32::from_bits(0x7fa0_0001)];
    let counts = [i64::MIN, -1, i64::MAX];
    let tensors = [
        TensorOut { name: "numbers", shape: &[5], data: Data::F32(&numbers) },
        TensorOut { name: "counts", shape: &[3], data: Data::I64(&counts) },
        TensorOut { name: "scalar", shape: &[], data: Data::I64(&[7]) },
        TensorOut { name: "none", shape: &[0, 3], data: Data::F32(&[]) },
    ];
    write_safetensors(&from, &tensors, &BTreeMap::new()).expect("written");
    assert_eq!(convert(&from, &to).code, 0);
    assert_eq!(content(&from), content(&to));
    assert_eq!(content(&to)["numbers"].2, numbers.map(|v| u64::from(v.to_bits())));
}
