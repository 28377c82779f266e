//! Files that PyTorch made are read right; what we write is read back, by us and by the oracles.

use crate::support::{golden, read_all, refused, refused_with};
use nunatak_nn::files::{Checkpoint, Data, Dtype, Entry, Format, ReadErrorKind, TensorOut, WriteError, write_pth, write_safetensors};
use std::collections::BTreeMap;
use std::io::Read as _;

/// `i / 4 - 1`, as make.py fills floats.
fn ramp(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32 / 4.0 - 1.0).collect()
}

fn floats(entry: &Entry<'_>) -> Vec<f32> {
    let mut out = vec![f32::NAN; 3];
    entry.read_f32(&mut out).unwrap();
    out
}

fn check_model(bytes: &[u8], format: Format) {
    let checkpoint = Checkpoint::parse(bytes).unwrap();
    assert_eq!(checkpoint.format(), format);
    let mut names: Vec<_> = checkpoint.entries().iter().map(Entry::name).collect();
    let expected = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"];
    if format == Format::Safetensors {
        names.sort_unstable();
        let mut sorted = expected;
        sorted.sort_unstable();
        assert_eq!(names, sorted);
    } else {
        assert_eq!(names, expected);
    }
    let get = |name| checkpoint.get(name).unwrap();
    assert_eq!(get("0.weight").shape(), [2, 3]);
    assert_eq!(floats(get("0.weight")), ramp(6));
    assert_eq!(floats(get("0.bias")), ramp(2));
    let counter = get("1.num_batches_tracked");
    assert_eq!((counter.dtype(), counter.shape(), counter.len()), (Dtype::I64, &[][..], 1));
    assert!(checkpoint.get("0.weigh").is_none());
}

#[test]
fn state_dicts_of_each_form_and_protocol() {
    for name in ["zip.pth", "zip_protocol4.pth", "zip_protocol5.pth"] {
        check_model(&golden(name), Format::PthZip);
    }
    for name in ["legacy.pth", "legacy_protocol4.pth"] {
        check_model(&golden(name), Format::PthLegacy);
    }
    check_model(&golden("small.safetensors"), Format::Safetensors);
}

#[test]
fn nested_state_dicts_and_plain_data_beside_them() {
    check_model(&golden("nested.pth"), Format::PthZip);
    check_model(&golden("nested_legacy.pth"), Format::PthLegacy);
    // {"model": …, "epoch": 3}, every name with `module.`
    check_model(&golden("model_module.pth"), Format::PthZip);
    // {"net": …}, and a whole module.
    check_model(&golden("under_net.pth"), Format::PthZip);
    check_model(&golden("module.pth"), Format::PthZip);
}

#[test]
fn batches_tracked_is_an_integer() {
    for name in ["zip.pth", "legacy.pth", "small.safetensors"] {
        let bytes = golden(name);
        let checkpoint = Checkpoint::parse(&bytes).unwrap();
        assert_eq!(checkpoint.get("1.num_batches_tracked").unwrap().read_i64().unwrap(), [0]);
        let error = checkpoint.get("0.bias").unwrap().read_i64().unwrap_err();
        assert_eq!(error.kind(), ReadErrorKind::Tensor);
        assert!(error.to_string().contains("0.bias") && error.to_string().contains("F32"), "{error}");
    }
}

#[test]
fn metadata_of_safetensors() {
    let bytes = golden("small.safetensors");
    let checkpoint = Checkpoint::parse(&bytes).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "pt");
    assert_eq!(checkpoint.metadata()["made by"], "make.py");
    assert!(Checkpoint::parse(&golden("zip.pth")).unwrap().metadata().is_empty());
}

#[test]
fn every_dtype_is_converted() {
    for name in ["dtypes.pth", "dtypes_legacy.pth", "dtypes.safetensors"] {
        let bytes = golden(name);
        let checkpoint = Checkpoint::parse(&bytes).unwrap();
        assert_eq!(checkpoint.entries().len(), 10);
        for (name, dtype) in [("float64", Dtype::F64), ("float32", Dtype::F32), ("float16", Dtype::F16), ("bfloat16", Dtype::BF16)] {
            let entry = checkpoint.get(name).unwrap();
            assert_eq!((entry.dtype(), entry.shape(), floats(entry)), (dtype, &[2, 3][..], ramp(6)));
            assert!(entry.read_i64().is_err());
        }
        let signed = [-2i64, -1, 0, 1, 2, 3];
        for (name, dtype, expected) in [
            ("int64", Dtype::I64, signed),
            ("int32", Dtype::I32, signed),
            ("int16", Dtype::I16, signed),
            ("int8", Dtype::I8, signed),
            ("uint8", Dtype::U8, [0, 1, 2, 3, 4, 5]),
            ("bool", Dtype::Bool, [0, 1, 0, 1, 0, 1]),
        ] {
            let entry = checkpoint.get(name).unwrap();
            assert_eq!((entry.dtype(), entry.read_i64().unwrap()), (dtype, expected.to_vec()));
            assert_eq!(floats(entry), expected.map(|n| n as f32));
            assert!(entry.as_f32().is_none());
        }
    }
}

#[test]
fn views_with_strides_offsets_and_shared_storages() {
    for name in ["views.pth", "views_legacy.pth"] {
        let bytes = golden(name);
        let checkpoint = Checkpoint::parse(&bytes).unwrap();
        let get = |name: &str| {
            let entry = checkpoint.get(name).unwrap();
            (entry.shape().to_vec(), floats(entry))
        };
        let base = ramp(24);
        let pick = |places: &[usize]| places.iter().map(|&i| base[i]).collect::<Vec<_>>();
        assert_eq!(get("base"), (vec![4, 6], base.clone()));
        assert_eq!(get("again"), (vec![4, 6], base.clone()));
        assert_eq!(get("row"), (vec![6], base[12..18].to_vec()));
        let transposed: Vec<usize> = (0..6).flat_map(|c| (0..4).map(move |r| r * 6 + c)).collect();
        assert_eq!(get("transposed"), (vec![6, 4], pick(&transposed)));
        assert_eq!(get("inner"), (vec![2, 3], pick(&[8, 9, 10, 14, 15, 16])));
        assert_eq!(get("column"), (vec![4], pick(&[1, 7, 13, 19])));
        assert_eq!(get("stepped"), (vec![2, 2], pick(&[0, 3, 12, 15])));
        assert_eq!(get("scalar"), (vec![], pick(&[5])));
        assert_eq!(get("empty"), (vec![0, 6], vec![]));
        assert_eq!(get("none"), (vec![0, 3], vec![]));
        assert!(checkpoint.get("transposed").unwrap().as_f32().is_none());
    }
}

#[test]
fn parameters_and_non_finite_numbers() {
    let bytes = golden("parameters.pth");
    let checkpoint = Checkpoint::parse(&bytes).unwrap();
    assert_eq!(floats(checkpoint.get("plain").unwrap()), ramp(4));
    assert_eq!(floats(checkpoint.get("noted").unwrap()), ramp(3));
    let bytes = golden("non_finite.pth");
    let values = floats(Checkpoint::parse(&bytes).unwrap().get("values").unwrap());
    assert!(values[0].is_nan() && values[1..] == [f32::INFINITY, f32::NEG_INFINITY]);
}

#[test]
fn zero_copy_where_the_alignment_allows() {
    let bytes = golden("zip.pth");
    // Copies at all four alignments: some of them give a slice, all give the numbers.
    let mut lent = 0;
    for shift in 0..4 {
        let moved = [vec![0; shift], bytes.clone()].concat();
        let checkpoint = Checkpoint::parse(&moved[shift..]).unwrap();
        let entry = checkpoint.get("0.weight").unwrap();
        assert_eq!(entry.offset() % 64, 0);
        if let Some(view) = entry.as_f32() {
            assert_eq!(view, ramp(6));
            lent += 1;
        }
        assert_eq!(floats(entry), ramp(6));
    }
    assert_eq!(lent, usize::from(cfg!(target_endian = "little")));
}

#[test]
fn what_torch_saves_and_we_refuse() {
    for (name, parts) in
        [("refused_single.pth", &["a single tensor", "state_dict()"][..]), ("refused_torchscript.pth", &["TorchScript", "torch.jit.load"])]
    {
        refused_with(&golden(name), parts);
    }
    // These may stand beside what is wanted: only their numbers are refused.
    for (name, parts) in [
        ("expanded.pth", &["\"w\"", "repeats elements: 1000", "contiguous()"][..]),
        ("complex.pth", &["\"w\"", "complex64", "does not convert"]),
        ("negative_bit.pth", &["\"w\"", "negated", "resolve_neg()"]),
    ] {
        let error = read_all(&golden(name)).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn every_prefix_of_a_good_file_is_refused() {
    for name in ["zip.pth", "legacy.pth", "small.safetensors", "nested_legacy.pth", "views.pth"] {
        let bytes = golden(name);
        for len in 0..bytes.len() {
            assert!(!refused(&bytes[..len]).is_empty(), "{name} at {len}");
        }
    }
}

#[test]
fn every_single_byte_changed_is_refused_or_harmless() {
    for name in ["zip.pth", "legacy.pth", "small.safetensors", "views_legacy.pth"] {
        let bytes = golden(name);
        let mut changed = bytes.clone();
        for i in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                changed[i] = bytes[i] ^ flip;
                let _ = read_all(&changed);
            }
            changed[i] = bytes[i];
        }
    }
}

#[test]
fn bytes_before_are_refused_and_bytes_after_are_as_pytorch_has_them() {
    for name in ["zip.pth", "legacy.pth", "small.safetensors"] {
        let bytes = golden(name);
        refused(&[b"\0", &bytes[..]].concat());
        let longer = [&bytes[..], b"\0"].concat();
        match name {
            "small.safetensors" => drop(refused(&longer)),
            "zip.pth" => check_model(&longer, Format::PthZip),
            _ => check_model(&longer, Format::PthLegacy),
        }
    }
    // The second of two archives says where its parts lie, and they do not lie there.
    let bytes = golden("zip.pth");
    refused(&[&bytes[..], &bytes[..]].concat());
}

/// Tensors of a little state_dict, in all the shapes that matter.
fn sample() -> Vec<TensorOut<'static>> {
    static FLOATS: [f32; 6] = [0.5, -0.0, f32::NAN, f32::INFINITY, 1e-40, f32::MAX];
    vec![
        TensorOut { name: "conv.weight", shape: &[1, 2, 3, 1], data: Data::F32(&FLOATS) },
        TensorOut { name: "bn.weight", shape: &[3], data: Data::F32(&[1.0, 2.0, 3.0]) },
        TensorOut { name: "bn.num_batches_tracked", shape: &[], data: Data::I64(&[-7]) },
        TensorOut { name: "scalar", shape: &[], data: Data::F32(&[4.25]) },
        TensorOut { name: "empty", shape: &[2, 0, 300], data: Data::F32(&[]) },
        TensorOut { name: "long", shape: &[2], data: Data::I64(&[i64::MIN, i64::MAX]) },
        TensorOut { name: "quote\"\\\n é 🗻", shape: &[1], data: Data::F32(&[5.0]) },
    ]
}

fn check_sample(checkpoint: &Checkpoint<'_>) {
    let sample = sample();
    assert_eq!(checkpoint.entries().len(), sample.len());
    for tensor in sample {
        let entry = checkpoint.get(tensor.name).unwrap();
        assert_eq!(entry.shape(), tensor.shape);
        match tensor.data {
            Data::F32(data) => {
                assert_eq!(entry.dtype(), Dtype::F32);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&floats(entry)), bits(data));
            }
            Data::I64(data) => assert_eq!(entry.read_i64().unwrap(), data),
            Data::I32(data) => assert_eq!(entry.read_words().unwrap(), data),
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (pth, st) = (folder.path().join("x.pth"), folder.path().join("x.safetensors"));
    let metadata = BTreeMap::from([("format".into(), "pt".into()), ("a \"b\"\u{1}".into(), "ü\n".into())]);
    write_pth(&pth, &sample(), &Default::default()).unwrap();
    write_safetensors(&st, &sample(), &metadata).unwrap();
    let (pth, st) = (std::fs::read(pth).unwrap(), std::fs::read(st).unwrap());
    check_sample(&Checkpoint::parse(&pth).unwrap());
    let names: Vec<_> = Checkpoint::parse(&pth).unwrap().entries().iter().map(|e| e.name().to_string()).collect();
    assert_eq!(names, sample().iter().map(|t| t.name).collect::<Vec<_>>(), "a .pth keeps the order");
    let checkpoint = Checkpoint::parse(&st).unwrap();
    check_sample(&checkpoint);
    assert_eq!(checkpoint.metadata(), &metadata);
    for len in 0..pth.len() {
        refused(&pth[..len]);
    }
    for len in 0..st.len() {
        refused(&st[..len]);
    }
}

#[test]
fn the_oracles_read_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (pth, st) = (folder.path().join("x.pth"), folder.path().join("x.safetensors"));
    write_pth(&pth, &sample(), &Default::default()).unwrap();
    write_safetensors(&st, &sample(), &BTreeMap::new()).unwrap();

    let bytes = std::fs::read(st).unwrap();
    let oracle = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(oracle.len(), sample().len());
    for tensor in sample() {
        let view = oracle.tensor(tensor.name).unwrap();
        assert_eq!(view.shape(), tensor.shape);
        let ours = Checkpoint::parse(&bytes).unwrap().get(tensor.name).unwrap().offset() as usize;
        assert_eq!(&bytes[ours..ours + view.data().len()], view.data());
        assert!(tensor.name != "long" || ours.is_multiple_of(8));
    }

    let bytes = std::fs::read(pth).unwrap();
    let mut oracle = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    assert_eq!(oracle.len(), sample().len() + 3);
    for i in 0..oracle.len() {
        let mut file = oracle.by_index(i).unwrap();
        assert_eq!(file.compression(), zip::CompressionMethod::Stored);
        assert_eq!(file.data_start().unwrap() % 64, 0, "{}", file.name().unwrap());
        // The oracle checks the CRC at the end.
        file.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn we_read_what_the_oracles_write() {
    let data: Vec<u8> = ramp(4).iter().flat_map(|f| f.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 2], &data).unwrap();
    let bytes = safetensors::serialize([("w", view)], None).unwrap();
    let checkpoint = Checkpoint::parse(&bytes).unwrap();
    assert_eq!(floats(checkpoint.get("w").unwrap()), ramp(4));

    // A .pth that someone unpacked and packed again without compression.
    let mut source = zip::ZipArchive::new(std::io::Cursor::new(golden("zip.pth"))).unwrap();
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for i in 0..source.len() {
        let mut file = source.by_index(i).unwrap();
        let name = file.name().unwrap().to_string();
        out.start_file(name, stored).unwrap();
        std::io::copy(&mut file, &mut out).unwrap();
    }
    check_model(&out.finish().unwrap().into_inner(), Format::PthZip);
}

#[test]
fn a_refused_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    std::fs::write(&path, b"old").unwrap();
    let w = |shape| TensorOut { name: "w", shape, data: Data::F32(&[1.0, 2.0]) };
    let unnamed = TensorOut { name: "", ..w(&[2]) };
    let metadata = TensorOut { name: "__metadata__", ..w(&[2]) };
    for tensors in [
        &[w(&[3])][..],
        &[w(&[])],
        &[w(&[usize::MAX, 2])],
        &[w(&[2]), w(&[2])],
        &[unnamed],
        &[metadata],
        &[w(&[1, 1, 1, 1, 1, 1, 1, 1, 2])],
    ] {
        assert!(write_pth(&path, tensors, &Default::default()).is_err());
        assert!(write_safetensors(&path, tensors, &BTreeMap::new()).is_err());
    }
    let error = write_pth(&path, &[w(&[3])], &Default::default()).unwrap_err().to_string();
    assert_eq!(error, "\"w\": shape [3] does not have the 2 elements given");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    write_pth(&path, &[w(&[2])], &Default::default()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Checkpoint::parse(&std::fs::read(&path).unwrap()).is_ok());
}

#[test]
fn a_failing_file_system_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = [TensorOut { name: "w", shape: &[1], data: Data::F32(&[1.0]) }];
    for path in [folder.path().to_path_buf(), folder.path().join("missing/x.pth"), "/".into(), "".into()] {
        let error = write_pth(&path, &tensor, &Default::default()).unwrap_err();
        assert!(matches!(error, WriteError::Io { .. }), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_link_keeps_its_target_and_modes_are_ordinary() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.pth"), folder.path().join("link.pth"));
    let tensor = [TensorOut { name: "w", shape: &[1], data: Data::F32(&[1.0]) }];
    write_pth(&real, &tensor, &Default::default()).unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, b"").unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&real), mode(&plain), "as any new file");
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.pth", &link).unwrap();
    write_safetensors(&link, &tensor, &BTreeMap::new()).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&real), 0o640);
    assert_eq!(Checkpoint::parse(&std::fs::read(&real).unwrap()).unwrap().format(), Format::Safetensors);
}
