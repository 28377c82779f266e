//! Programs from anywhere: any bytes give an error or a program whose every part can be read.

use nunatak_core::List;
use nunatak_core::arena::UNIT;
use nunatak_core::program::{
    Backward, Call, Calls, ENTRY, EntryKind, EntryRecord, Flags, HEADER, Header, InputGradient, NO_UNIT, Place, Program, ProgramError,
    RegionRecord, VALUE, ValueRecord, WEIGHTS, Writer, checksum,
};

fn entry(name: &'static str, kind: EntryKind, shape: &[u32], unit: u32) -> EntryRecord<'static> {
    let mut sizes = [1; 4];
    sizes.iter_mut().zip(shape).for_each(|(to, size)| *to = *size);
    let len = if kind == EntryKind::Count { 0 } else { sizes.iter().product() };
    EntryRecord {
        name,
        kind,
        rank: shape.len() as u32,
        flags: 0,
        shape: sizes,
        layout: [0; 5],
        unit,
        len,
        momentum: None,
        gradient: None,
        init: (0, 0.0, 0.0, 0.0),
    }
}

fn place(unit: u32, len: u32) -> Place {
    Place { region: 0, unit, len }
}

/// The numbers by which programs of the tests differ.
#[derive(Clone, Copy)]
struct Shape {
    rows: u32,
    channels: u32,
    name: &'static str,
    borrow: bool,
}

const ONE: Shape = Shape { rows: 3, channels: 20, name: "fc.weight", borrow: false };
const OTHER: Shape = Shape { rows: 5, channels: 37, name: "κεφαλή.weight", borrow: true };

/// A program of two calls forward and two backward, with entries of every kind.
fn program(of: Shape) -> Vec<u8> {
    let (weight, vector) = (4 * of.channels, of.channels);
    let units = |len: u32| len.div_ceil(UNIT as u32);
    // Weight, mean, variance, momentum, state; behind it x, y, dy, dw, scratch.
    let mean = units(weight);
    let (variance, momentum) = (mean + units(vector), mean + 2 * units(vector));
    let state = momentum + units(weight);
    let passing = state + 1;
    let (x_len, y_len) = (4 * of.rows, of.rows * of.channels);
    let x = passing;
    let y = x + units(x_len);
    let (dy, dw) = (y + 2 * units(y_len), y + 3 * units(y_len));
    let block = dw + units(weight) + 2;
    let flags = EntryRecord::TRAINED;
    let trained = EntryRecord {
        flags,
        momentum: Some(momentum),
        gradient: Some(dw),
        init: (1, 0.5, 0.25, 0.1),
        ..entry("w", EntryKind::Parameter, &[vector, 4], 0)
    };
    let mut entries = [
        EntryRecord { name: of.name, ..trained },
        entry("bn.running_mean", EntryKind::RunningMean, &[vector], mean),
        entry("bn.running_var", EntryKind::RunningVar, &[vector], variance),
        entry("bn.num_batches_tracked", EntryKind::Count, &[], 0),
        entry("bn2.num_batches_tracked", EntryKind::Count, &[], 1),
    ];
    if of.borrow {
        (entries[1].flags, entries[1].unit) = (EntryRecord::BORROWED, 7);
    }
    let input =
        ValueRecord { node: 0, flags: ValueRecord::INPUT, name: "data", shape: [of.rows, 4, 1, 1], unit: x, gradient: None, len: x_len };
    let root = ValueRecord {
        node: 2,
        flags: ValueRecord::KEPT,
        name: "",
        shape: [of.rows, vector, 1, 1],
        unit: y,
        gradient: Some(dy),
        len: y_len,
    };
    let forward = |node, from: Place, out: Place| Calls {
        op: 9,
        node,
        inputs: if node == 1 { &[Place { region: 0, unit: 0, len: 0 }] } else { &[] },
        entries: &[0, 1, 3],
        places: [out, from, place(dw, 1), Place::default()],
        backward: None,
        again: false,
    };
    let (mut bytes, mut text) = (List::new(), List::new());
    let mut out = Writer::new(&mut bytes, &mut text).expect("memory");
    out.regions([RegionRecord { name: "block", units: block, first: 0 }].into_iter()).expect("memory");
    out.entries(entries.into_iter()).expect("memory");
    out.draws([0].into_iter()).expect("memory");
    out.values([input, root].into_iter()).expect("memory");
    out.begin_forward();
    let numbers = |out: &mut Writer| {
        out.size(of.rows as usize)?;
        out.float(0.5)?;
        out.word(7)
    };
    out.call(&forward(1, place(x, x_len), place(y, y_len)), numbers).expect("memory");
    out.call(&forward(2, place(y, y_len), place(y + units(y_len), y_len)), numbers).expect("memory");
    out.begin_backward();
    let inputs = [place(x, x_len)];
    let back = |node, dx: &'static [InputGradient], one_pass| Backward {
        dy: place(dy, y_len),
        dx,
        dw: [node == 1, false],
        updates: [node == 1, false],
        one_pass,
    };
    let none: &'static [InputGradient] =
        &[InputGradient { place: Place { region: 0, unit: 0, len: 0 }, adds: false, sum: Place { region: 0, unit: 0, len: 0 } }];
    for node in [2, 1] {
        let call = Calls { inputs: &inputs, backward: Some(back(node, none, false)), ..forward(node, Place::default(), place(y, y_len)) };
        out.call(&call, numbers).expect("memory");
    }
    out.updates([0].into_iter()).expect("memory");
    let header = Header {
        flags: Flags(Flags::MOMENTUM | Flags::TRAIN),
        threads: 2,
        memory: 1,
        weights_hash: if of.borrow { [9; 32] } else { [0; 32] },
        weights_units: if of.borrow { 64 } else { 0 },
        root: Some(2),
        model: "a model, ein Modell, модель",
        head: "fc",
        state_unit: state,
        passing_unit: passing,
        busiest: [1, 2, 3, 4, 5, 6],
        busiest_node: 3,
        ..Header::default()
    };
    out.finish(&header).expect("memory");
    bytes.into_vec()
}

fn set(bytes: &mut [u8], word: usize, value: u32) {
    bytes[4 * word..4 * word + 4].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], word: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * word..4 * word + 4].try_into().expect("four"))
}

/// Gives bytes the checksum that their header asks for.
fn repair(bytes: &mut [u8]) {
    let hash = checksum(bytes);
    set(bytes, 5, hash as u32);
    set(bytes, 6, (hash >> 32) as u32);
}

/// Reads all of a program that was accepted: what is promised must hold.
fn read_all(program: &Program) {
    let inside = |place: Place| match place.region {
        _ if place.is_empty() => true,
        WEIGHTS => place.range().end <= program.weights_len(),
        0 => place.range().end <= program.block_len(),
        _ => false,
    };
    let passes = |place: Place| place.is_empty() || place.region == 0 && inside(place) && place.range().start >= program.lasting_len();
    assert!(program.state().end <= program.lasting_len() && program.lasting_len() <= program.block_len());
    let _ = (program.model(), program.head(), program.busiest_bytes(), program.busiest_node(), program.weights_hash(), program.hash());
    for id in program.entries() {
        let entry = program.entry(id);
        let (shape, rank) = entry.shape();
        assert!(rank <= 4 && shape[rank..].iter().all(|size| *size == 1) && inside(entry.place()));
        let places = [entry.momentum(), entry.gradient()];
        match entry.kind() {
            EntryKind::Count => assert!(places == [None, None] && entry.place().is_empty()),
            _ => assert!(entry.numbers() <= entry.place().len() && places.into_iter().flatten().all(inside)),
        }
        let _ = (entry.name().len(), entry.layout(), entry.init());
    }
    for id in program.draws().chain(program.updates()) {
        assert_eq!(program.entry(id).kind(), EntryKind::Parameter);
    }
    for value in program.values() {
        assert!(passes(value.place()) && value.gradient().is_none_or(passes));
        assert_eq!(value.shape().iter().product::<usize>(), value.place().len());
        assert!(program.value_of_node(value.node()).is_some() && value.name().len() <= program.bytes().len());
    }
    for call in program.forward().chain(program.backward()) {
        read_call(&call, &passes);
    }
}

fn read_call(call: &Call, passes: &dyn Fn(Place) -> bool) {
    for place in [call.y(), call.saved(), call.scratch(), call.attached(), call.dy()] {
        assert!(passes(place));
    }
    for i in 0..call.inputs() + 2 {
        assert!(passes(call.x(i)) && passes(call.dx(i)) && passes(call.sum(i)));
        let _ = (call.adds(i), call.wants_input(i));
    }
    for i in 0..call.entry_count() {
        let _ = call.param(i);
    }
    for i in (0..2).filter(|i| call.is_backward() && call.wants_weight(*i)) {
        assert!(call.program().entry(call.entry(i)).is_trained());
    }
    let mut numbers = call.numbers();
    while numbers.left() > 0 {
        let _ = numbers.word();
    }
    assert_eq!((numbers.word(), numbers.size(), numbers.wide()), (0, 0, 0), "zero behind the end");
}

#[test]
fn what_is_written_is_read() {
    for of in [ONE, OTHER] {
        let bytes = program(of);
        let program = Program::check(&bytes).expect("a program");
        read_all(&program);
        assert_eq!((program.model(), program.head()), ("a model, ein Modell, модель", "fc"));
        assert_eq!((program.threads(), program.root(), program.value_count(), program.entry_count()), (2, Some(2), 2, 5));
        let weight = program.entry(program.entries().next().expect("entries"));
        assert_eq!((weight.name(), weight.numbers(), weight.is_trained()), (of.name, 4 * of.channels as usize, true));
        assert_eq!(weight.init(), (1, 0.5, 0.25, 0.1));
        assert_eq!(program.weights_hash().is_some(), of.borrow);
        assert_eq!((program.forward().count(), program.backward().count()), (2, 2));
        let nodes: Vec<_> = program.backward().map(|call| call.node()).collect();
        assert_eq!(nodes, [2, 1]);
        let last = program.forward().last().expect("calls");
        let mut numbers = last.numbers();
        assert_eq!((numbers.size(), numbers.float(), numbers.word(), numbers.left()), (of.rows as usize, 0.5, 7, 0));
        let owned = Program::own(bytes.clone()).expect("the same");
        assert_eq!((owned.bytes(), owned.view().hash()), (&bytes[..], program.hash()));
    }
}

/// A changed byte is found, whichever it is.
#[test]
fn every_flipped_byte_is_refused() {
    let good = program(ONE);
    for i in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[i] ^= flip;
            let error = Program::check(&bytes).expect_err("changed");
            assert!(i < 20 || matches!(error, ProgramError::Checksum { .. }), "byte {i}: {error}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// With the checksum repaired a changed byte is an error or a program that can be read.
#[test]
fn changed_bytes_with_a_good_checksum_do_no_harm() {
    let (mut accepted, mut refused) = (0, 0);
    for good in [program(ONE), program(OTHER)] {
        for i in (0..good.len()).filter(|i| !(20..28).contains(i)) {
            for value in [0, 1, 2, 4, 0x7f, 0x80, 0xff, good[i] ^ 1, good[i].wrapping_add(1), good[i].wrapping_sub(1)] {
                let mut bytes = good.clone();
                bytes[i] = value;
                repair(&mut bytes);
                match Program::check(&bytes) {
                    Ok(program) => {
                        read_all(&program);
                        accepted += 1;
                    }
                    Err(error) => {
                        assert!(!error.to_string().is_empty());
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(accepted > 3000 && refused > 3000, "{accepted} accepted, {refused} refused");
}

/// Words at the limits of sums and products.
#[test]
fn extreme_words_do_no_harm() {
    for good in [program(ONE), program(OTHER)] {
        for word in (0..good.len() / 4).filter(|word| !(5..7).contains(word)) {
            for value in [0, 1, 0xff, 0x100, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_fffe, u32::MAX, get(&good, word) << 8]
            {
                let mut bytes = good.clone();
                set(&mut bytes, word, value);
                repair(&mut bytes);
                if let Ok(program) = Program::check(&bytes) {
                    read_all(&program);
                }
            }
        }
    }
}

#[test]
fn programs_that_are_cut_or_longer_are_refused() {
    let good = program(ONE);
    for len in 0..good.len() {
        let mut bytes = good[..len].to_vec();
        assert!(matches!(Program::check(&bytes), Err(ProgramError::Length { .. })), "{len}");
        // Also where the header says that this is all.
        if len >= 4 * HEADER && len.is_multiple_of(4 * UNIT) {
            set(&mut bytes, 4, (len / 4) as u32);
            repair(&mut bytes);
            assert!(matches!(Program::check(&bytes), Err(ProgramError::At { .. })), "{len}");
        }
    }
    for more in [1, 4, 64, 640] {
        let mut bytes = good.clone();
        bytes.resize(good.len() + more, 0);
        assert!(matches!(Program::check(&bytes), Err(ProgramError::Length { .. })), "{more}");
        let words = bytes.len() / 4;
        set(&mut bytes, 4, words as u32);
        repair(&mut bytes);
        assert!(Program::check(&bytes).is_err(), "{more}");
    }
}

/// The front of one program and the back of another.
#[test]
fn spliced_programs_do_no_harm() {
    let (one, other) = (program(ONE), program(OTHER));
    for (a, b) in [(&one, &other), (&other, &one)] {
        for cut in (0..a.len().min(b.len())).step_by(4) {
            for end in [b.len(), a.len()] {
                let mut bytes = a[..cut].to_vec();
                bytes.extend(&b[cut..]);
                bytes.resize(end, 0);
                if bytes.len() > 4 * HEADER {
                    set(&mut bytes, 4, (end / 4) as u32);
                    repair(&mut bytes);
                }
                if let Ok(program) = Program::check(&bytes) {
                    read_all(&program);
                }
            }
        }
        // A section of one in place of the other's, with the header's words of it.
        for word in (24..40).step_by(2) {
            let mut bytes = a.clone();
            let (from, to) = (4 * get(b, word) as usize, 4 * get(a, word) as usize);
            let len = (b.len() - from).min(a.len() - to).min(4 * ENTRY.max(VALUE) * 5);
            bytes[to..to + len].copy_from_slice(&b[from..from + len]);
            set(&mut bytes, word + 1, get(b, word + 1));
            repair(&mut bytes);
            if let Ok(program) = Program::check(&bytes) {
                read_all(&program);
            }
        }
    }
}

#[test]
fn the_text_is_text_and_names_are_whole_characters() {
    let good = program(OTHER);
    let (text, len) = (get(&good, 38) as usize, get(&good, 39) as usize);
    for i in 0..len {
        let mut bytes = good.clone();
        bytes[4 * text + i] = 0xff;
        repair(&mut bytes);
        assert_eq!(Program::check(&bytes).err(), Some(ProgramError::At { word: 38, what: "the text is not UTF-8" }), "{i}");
    }
    // The first entry's name begins and ends with letters of two bytes each.
    let entry = get(&good, 26) as usize;
    let name = OTHER.name.len() as u32;
    let (first, mut cut) = (get(&good, entry), 0);
    for (word, value) in [(entry, first + 1), (entry + 1, 3), (entry + 1, 1), (40, get(&good, 40) + get(&good, 41) - 1)] {
        let mut bytes = good.clone();
        set(&mut bytes, word, value);
        repair(&mut bytes);
        cut += usize::from(matches!(Program::check(&bytes), Err(ProgramError::At { .. })));
    }
    assert_eq!(cut, 4);
    for (first, len) in [(0, len as u32 + 1), (len as u32, 1), (u32::MAX, 1), (1, u32::MAX), (u32::MAX, u32::MAX)] {
        let mut bytes = good.clone();
        set(&mut bytes, entry, first);
        set(&mut bytes, entry + 1, len);
        repair(&mut bytes);
        assert!(matches!(Program::check(&bytes), Err(ProgramError::At { word, .. }) if word == entry), "{first}, {len}");
    }
    assert!(name as usize > OTHER.name.chars().count());
}

/// What would let a caller's slice be indexed outside, or be shared, is refused by name.
#[test]
fn places_outside_their_region_are_refused() {
    let good = program(ONE);
    let [entry, value] = [26, 30].map(|word| get(&good, word) as usize);
    let count = entry + 3 * ENTRY;
    let block = get(&good, get(&good, 24) as usize + 2);
    for (what, word, to) in [
        ("a weight behind the lasting part", entry + 12, get(&good, 52)),
        ("a weight longer than the lasting part", entry + 13, 16 * get(&good, 52)),
        ("a momentum over its weight", entry + 14, 0),
        ("a momentum behind the lasting part", entry + 14, get(&good, 52)),
        ("a gradient outside the block", entry + 15, block),
        ("a gradient over the state", entry + 15, get(&good, 51)),
        ("a gradient of a mean", entry + ENTRY + 15, get(&good, 52)),
        ("a momentum of a mean", entry + ENTRY + 14, 0),
        ("a count's momentum", count + 14, 0),
        ("a count's gradient", count + 15, NO_UNIT - 1),
        ("a count that is trained", count + 2, get(&good, count + 2) | EntryRecord::TRAINED),
        ("a count in the file", count + 2, get(&good, count + 2) | EntryRecord::BORROWED),
        ("a value in the lasting part", value + 8, 0),
        ("a value outside the block", value + 8, block),
        ("a gradient of a value in the lasting part", value + VALUE + 9, 0),
        ("a root without a door", 23, 2),
        ("no thread", 9, 0),
        ("a short state", 51, get(&good, 52)),
        ("a file that is not there", entry + 2, get(&good, entry + 2) | EntryRecord::BORROWED),
        ("an update of a count", get(&good, 36) as usize, 3),
        ("a draw of a mean", get(&good, 28) as usize, 1),
    ] {
        let mut bytes = good.clone();
        set(&mut bytes, word, to);
        repair(&mut bytes);
        assert!(Program::check(&bytes).is_err(), "{what}");
    }
}
