//! `nunatak export`: folders for boards, of which everything can be read again.

use crate::running::Place;
use nunatak_core::bundle::Bundle;
use nunatak_nn::{Level, Native, Threads, Trainer};

const STEP: &str = "export --arch resnet8 --classes 10 --batch 2 --size 16 --target m7";

fn text(place: &Place, name: &str) -> String {
    String::from_utf8(place.bytes(name)).expect("text")
}

/// What stderr says of a run that must fail with this code.
fn fails(place: &Place, words: &str, code: i32) -> String {
    let run = place.run(words);
    assert_eq!(run.code, Some(code), "{words}: {}", run.err);
    run.err
}

/// The number of a constant in a header.
fn constant(header: &str, name: &str) -> usize {
    let line = header.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// The bytes of an array in C.
fn array(source: &str, name: &str) -> Vec<u8> {
    let at = source.find(&format!(" {name}[")).unwrap_or_else(|| panic!("no {name}"));
    let numbers = source[at..].split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("an array").0;
    numbers.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().expect("a byte")).collect()
}

#[test]
fn a_folder_holds_programs_weights_and_their_numbers() {
    let place = Place::new();
    let printed = place.ok(&format!("{STEP} --trainable fc --trainable layer3,fc --region ram=2M --out out")).out;
    let (header, source) = (text(&place, "out/resnet8.h"), text(&place, "out/resnet8.c"));
    let bundle = array(&source, "resnet8_bundle");
    let bundle = Bundle::check(&bundle).expect("a bundle");
    let names: Vec<&str> = (0..bundle.count()).map(|i| bundle.name(i)).collect();
    assert_eq!(names, ["predict", "train_fc", "train_layer3_fc"]);
    let weights = array(&source, "resnet8_weights");
    let native = Native::parse(&weights).expect("a native file");
    native.verify().expect("sound");
    assert_eq!(constant(&header, "RESNET8_BUNDLE_BYTES"), bundle.bytes().len());
    assert_eq!(constant(&header, "RESNET8_WEIGHTS_BYTES"), weights.len());
    assert_eq!(constant(&header, "RESNET8_RAM_ROOM"), 2 << 20);
    assert_eq!(constant(&header, "RESNET8_RAM_LASTING_BYTES"), 4 * bundle.lasting_len());
    assert_eq!(constant(&header, "RESNET8_TRAIN_FC_BATCH"), 2);
    let most = (0..bundle.count()).map(|i| Trainer::bytes(&bundle.program(i))).max().expect("programs");
    assert_eq!(constant(&header, "RESNET8_RAM_BYTES"), most + 1024 + bundle.program(0).entry_count());
    for routine in ["conv2d_forward", "linear_backward_weight", "cross_entropy_backward_input", "conv2d_backward_weight"] {
        assert!(source.contains(&format!("  &nunatak_{routine},")), "{routine}");
    }
    assert!(!source.contains("nunatak_conv2d_backward_step") && !source.contains("nunatak_dropout_forward"));
    // What is trained, or moves, lies in memory; the rest is read where the weights lie.
    for i in 0..bundle.count() {
        let program = bundle.program(i);
        for id in program.entries() {
            let entry = program.entry(id);
            let kept = entry.name().starts_with("layer3") || entry.name().starts_with("fc");
            let count = entry.name().ends_with("num_batches_tracked");
            assert!(count || entry.is_borrowed() != kept, "{} in {}", entry.name(), bundle.name(i));
        }
    }
    for line in ["train_layer3_fc", "flash: programs", "multiply-adds"] {
        assert!(printed.contains(line), "{line} is not in {printed}");
        assert!(text(&place, "out/README.md").contains(line), "{line}");
    }
}

#[test]
fn an_export_is_the_same_each_time() {
    let place = Place::new();
    for kind in ["", " --rust", " --raw --section .flash"] {
        for out in ["a", "b"] {
            place.ok(&format!("{STEP} --region ram=2M --name net{kind} --out {out}"));
        }
        let files = match kind {
            " --rust" => ["net.rs", "net.bundle", "net.nunatak", "README.md"],
            _ => ["net.h", "net.c", "selftest.c", "README.md"],
        };
        for file in files {
            assert_eq!(place.bytes(&format!("a/{file}")), place.bytes(&format!("b/{file}")), "{file}");
        }
    }
    assert!(text(&place, "a/net.c").contains("__attribute__((section(\".flash\")))"));
    let weights = place.bytes("a/net_weights.bin");
    assert_eq!(weights, place.bytes("a/net.nunatak"), "raw and Rust have the same weights");
}

#[test]
fn a_region_that_is_a_byte_too_small_is_named_with_its_numbers() {
    let place = Place::new();
    place.ok(&format!("{STEP} --region ram=2M --out out"));
    let needed = constant(&text(&place, "out/resnet8.h"), "RESNET8_RAM_BYTES");
    place.ok(&format!("{STEP} --region dtcm={needed} --out out"));
    let refused = fails(&place, &format!("{STEP} --region dtcm={} --out out", needed - 1), 1);
    for word in ["dtcm", &needed.to_string(), &(needed - 1).to_string(), "1 too few", "--batch"] {
        assert!(refused.contains(word), "{word} is not in {refused}");
    }
}

/// Banks of a board: each program finds room in them, what lasts lies in the slowest, and the numbers are those of C's
/// library. The golden traces are those of one region: the bits do not depend on where a tensor lies.
#[test]
fn banks_are_filled_and_their_bits_are_those_of_one_region() {
    let place = Place::new();
    let printed = place.ok(&format!("{STEP} --trainable fc --region dtcm=48K --region axi=64K --region sram=128K --out banks")).out;
    place.ok(&format!("{STEP} --trainable fc --region ram=2M --out one"));
    let (header, source) = (text(&place, "banks/resnet8.h"), text(&place, "banks/resnet8.c"));
    let bundle = array(&source, "resnet8_bundle");
    let bundle = Bundle::check(&bundle).expect("a bundle");
    assert_eq!(constant(&header, "RESNET8_REGIONS"), 3);
    for (i, (name, room)) in [("DTCM", 48 << 10), ("AXI", 64 << 10), ("SRAM", 128 << 10)].into_iter().enumerate() {
        let front = if i == 2 { 1024 + bundle.program(0).entry_count() } else { 0 };
        let numbers = (0..bundle.count()).map(|p| bundle.program(p).region(i).range.len()).max().expect("programs");
        let needed = constant(&header, &format!("RESNET8_{name}_BYTES"));
        assert_eq!(needed, if numbers == 0 { 0 } else { 4 * numbers + 63 } + front, "{name}");
        assert!(needed <= room && constant(&header, &format!("RESNET8_{name}_ROOM")) == room, "{name}");
        assert!(printed.contains(&format!("{}: {needed} of {room} bytes", name.to_lowercase())), "{printed}");
        assert_eq!(constant(&header, &format!("RESNET8_{name}_LASTING_BYTES")) > 0, i == 2, "{name}");
    }
    let traces = |folder: &str| {
        let text = text(&place, &format!("{folder}/selftest.c"));
        text[text.find("0x").expect("digests")..].to_string()
    };
    assert_eq!(traces("banks"), traces("one"));
    let refused = fails(&place, &format!("{STEP} --trainable fc --region dtcm=4K --region sram=60K --out less"), 1);
    assert!(
        refused.contains("too few") && (refused.contains("region dtcm: it has 4096") || refused.contains("region sram: it has 61440")),
        "{refused}"
    );
    place.ok(&format!("{STEP} --rust --region dtcm=48K --region axi=64K --region sram=128K --name net --out rust"));
    assert!(text(&place, "rust/net.rs").contains("pub const REGIONS: usize = 3;"));
}

#[test]
fn micro_batches_take_less_and_momenta_hold_their_sums() {
    let place = Place::new();
    let step = "export --arch resnet8 --classes 10 --batch 8 --size 16 --target m7 --trainable all --region ram=16M";
    let mut bytes = Vec::new();
    for (i, more) in ["--update after", "--micro-batch 1", "--micro-batch 1 --accumulate momentum"].into_iter().enumerate() {
        place.ok(&format!("{step} {more} --out out{i}"));
        let header = text(&place, &format!("out{i}/resnet8.h"));
        assert_eq!(constant(&header, "RESNET8_TRAIN_ALL_BATCH"), if i == 0 { 8 } else { 1 });
        assert_eq!(header.contains("#define RESNET8_TRAIN_ALL_MICRO_BATCHES 8\n"), i > 0);
        assert_eq!(text(&place, &format!("out{i}/selftest.c")).contains("NUNATAK_CALL_SUM"), i == 2);
        bytes.push(constant(&header, "RESNET8_RAM_BYTES"));
    }
    // Parameters take 312 kB: so much less without the gradients' memory, but for that of the largest.
    assert!(bytes[1] < bytes[0] && bytes[2] + 100_000 < bytes[1], "{bytes:?}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    for (words, due) in [
        ("--region ram", "NAME=BYTES"),
        ("--region ram=0", "2047M"),
        ("--region ram=2M --trainable layer9", "layer9"),
        ("--region ram=2M --trainable none", "--trainable none"),
        ("--region ram=2M --name 8net", "8net"),
        ("--region 1=2M", "--region"),
        ("--region ram=2M --label-smoothing 2", "--label-smoothing"),
        ("--region a=1M --region A=1M", "two have this name"),
        (
            "--region a=1 --region b=1 --region c=1 --region d=1 --region e=1 --region f=1 --region g=1 --region h=1 --region i=1",
            "8 are the most",
        ),
        ("--region ram=2M --rust --raw", "--raw"),
        ("--region ram=2M --micro-batch 3", "no multiple"),
        ("--region ram=2M --accumulate momentum", "--micro-batch"),
        ("--region ram=2M --micro-batch 1 --update during", "--update"),
        ("--region ram=2M --micro-batch 1 --accumulate momentum --no-momentum", "--no-momentum"),
    ] {
        let refused = fails(&place, &format!("{STEP} {words} --out out"), 2);
        assert!(refused.contains(due), "{words}: {refused}");
    }
}

/// Weights of a file are those of the export, and the programs predict what the file's network does.
#[test]
fn weights_come_from_a_file() {
    let place = Place::new();
    place.weights("weights.safetensors", 10, None);
    place.ok("convert weights.safetensors base.nunatak");
    place.ok("export --weights weights.safetensors --size 16 --batch 2 --target m7 --region ram=2M --rust --name net --out out");
    let (weights, base) = (place.bytes("out/net.nunatak"), place.bytes("base.nunatak"));
    let (exported, native) = (Native::parse(&weights).expect("native"), Native::parse(&base).expect("native"));
    for (a, b) in exported.tensors().zip(native.tensors()) {
        assert_eq!((a.name(), a.numbers()), (b.name(), b.numbers()));
        assert_eq!(a.count(), b.count(), "{}", a.name());
        assert!(a.count().is_some() || (0..a.numbers()).all(|i| a.element(i).to_bits() == b.element(i).to_bits()), "{}", a.name());
    }
    let bytes = place.bytes("out/net.bundle");
    let bundle = Bundle::check(&bytes).expect("a bundle");
    let mut memory = vec![0; 4 * bundle.block_len() + 64];
    let aligned = {
        let mut room = vec![0_u8; weights.len() + 64];
        let start = room.as_ptr().align_offset(64);
        room[start..start + weights.len()].copy_from_slice(&weights);
        (room, start)
    };
    let native = Native::parse(&aligned.0[aligned.1..aligned.1 + weights.len()]).expect("native");
    let program = bundle.program(bundle.named("predict").expect("a program"));
    let trainer = Trainer::with_weights(program, &mut memory, native, Level::PORTABLE, Threads::serial());
    assert!(trainer.is_ok(), "{:?}", trainer.err());
}
