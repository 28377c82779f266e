//! BAD_INPUTS.md, "pickle": a test for each row.

use crate::support::{dict_of, floats_of, int, ints, one_tensor, pickled, pth_of, read_all, rebuild};
use crate::support::{refused, refused_with, storage, text};
use nunatak_nn::files::{Checkpoint, ReadErrorKind};

/// A `.pth` whose pickle is protocol 2 with this body.
fn body(parts: &[&[u8]]) -> Vec<u8> {
    pth_of(&pickled(&parts.concat()), 6)
}

fn w() -> Vec<u8> {
    rebuild(&storage("FloatStorage", "0", 6), 0, &[6], &[1])
}

/// A good tensor first, so that nothing but the given part can be the cause.
fn beside(part: &[u8]) -> Vec<u8> {
    body(&[b"}(", &text("w"), &w(), &text("x"), part, b"u"])
}

#[test]
fn globals_are_never_resolved() {
    for name in ["os.system", "builtins.eval", "posix.system", "nt.system", "subprocess.Popen", "torch.load", "torch.FloatTensor"] {
        let (module, function) = name.rsplit_once('.').unwrap();
        let attack = format!("c{module}\n{function}\n(X\x02\0\0\0lstR");
        refused_with(&body(&[attack.as_bytes()]), &[&format!("\"{name}\""), "imported or run", "state_dict"]);
        // Beside a state dict it is an opaque object, of which nothing is asked.
        let stacked = [&text(module)[..], &text(function), b"\x93)R"].concat();
        assert_eq!(read_all(&beside(&stacked)).unwrap(), 1);
        assert_eq!(read_all(&beside(attack.as_bytes())).unwrap(), 1);
    }
    // A known name in another module, and a known module under another name: opaque, so no dict of pairs.
    for other in [&b"cos\nOrderedDict\n"[..], b"ctorch._utils\nOrderedDict\n", b"ccollections\nOrderedDict.fromkeys\n"] {
        let pairs = [other, b"](", &text("a"), &w(), b"\x86e\x85R"].concat();
        refused_with(&body(&[&pairs]), &["an object of"]);
    }
    refused_with(&beside(b"K\x01)\x81"), &["NEWOBJ of something"]);
    refused_with(&beside(b"c\xff\nx\n"), &["not UTF-8"]);
    refused_with(&beside(&[&b"c"[..], &[b'a'; 10_000], b"\nx\n"].concat()), &["longer than 256"]);
    refused_with(&beside(b"K\x01K\x02\x93"), &["STACK_GLOBAL"]);
    // STACK_GLOBAL with a name from the list is as good as GLOBAL.
    let stacked = [&text("collections")[..], &text("OrderedDict"), b"\x93)R"].concat();
    assert_eq!(read_all(&beside(&stacked)).unwrap(), 1);
}

#[test]
fn opcodes_that_make_objects() {
    let class = b"ccollections\nOrderedDict\n";
    refused_with(&body(&[b"(ios\nsystem\n"]), &["INST"]);
    refused_with(&body(&[b"(", class, b"o"]), &["OBJ"]);
    // Of a class nothing is made but an opaque object.
    assert_eq!(read_all(&beside(&[&class[..], b")\x81"].concat())).unwrap(), 1);
    assert_eq!(read_all(&beside(&[&class[..], b")}\x92"].concat())).unwrap(), 1);
    refused_with(&body(&[class, b"\x81"]), &["empty stack"]);
    refused_with(&beside(b"cos\nx\n)\x81}b}b"), &["second state"]);
    refused_with(&beside(b"cos\nx\n)\x81}q\x00bh\x00NNs"), &["a dict grows"]);
    for ext in [&b"\x82\x01"[..], b"\x83\x01\0", b"\x84\x01\0\0\0"] {
        refused_with(&body(&[ext]), &["EXT"]);
    }
    refused_with(&body(&[b"\x97"]), &["NEXT_BUFFER"]);
    refused_with(&body(&[b"P0\n"]), &["PERSID"]);
    refused_with(&body(&[b"I1\n"]), &["protocol 0"]);
    refused_with(&body(&[b"\xfe"]), &["0xfe is no opcode"]);
}

#[test]
fn reduce_and_build_of_anything_else() {
    for part in [
        &b"K\x01)R"[..],
        b"ccollections\nOrderedDict\nK\x01R",
        b"ccollections\nOrderedDict\nK\x01\x85R",
        b"ccollections\nOrderedDict\n))\x86R",
        b"ctorch\nFloatStorage\n)R",
        b"ctorch\nFloatStorage\nK\x06\x85R",
        b"))R",
        b"}}R",
        b"]}b",
        b"K\x01}b",
        b"ctorch\nFloatStorage\n}b",
    ] {
        let message = refused(&beside(part));
        assert!(["REDUCE", "OrderedDict", "BUILD", "storage class"].iter().any(|w| message.contains(w)), "{message}");
    }
    refused_with(&beside(&[&w()[..], b"}b"].concat()), &["BUILD"]);
    // On a dict it is the state_dict's `_metadata`, which is dropped.
    assert_eq!(read_all(&beside(b"}}b")).unwrap(), 1);
}

#[test]
fn protocols_and_frames() {
    let rest = [b"}", &text("w")[..], &w(), b"s."].concat();
    for protocol in 2..=5 {
        let file = pth_of(&[&[0x80, protocol][..], &rest].concat(), 6);
        assert_eq!(read_all(&file).unwrap(), 1);
    }
    for protocol in [0, 1, 6, 255] {
        let file = pth_of(&[&[0x80, protocol][..], &rest].concat(), 6);
        refused_with(&file, &[&format!("protocol {protocol}"), "expected 2 to 5"]);
    }
    refused_with(&pth_of(&rest, 6), &["without protocol"]);
    refused(&pth_of(b"", 6));
    refused(&pth_of(b"\x80", 6));
    refused_with(&body(&[b"\x80\x02}"]), &["second protocol"]);
    let framed = |len: u64| pth_of(&[b"\x80\x04\x95", &len.to_le_bytes()[..], &rest].concat(), 6);
    let len = rest.len() as u64;
    assert_eq!(read_all(&framed(len)).unwrap(), 1);
    // (A frame may end between two opcodes, as after the first.)
    for lie in [2, 5, len + 1, 1 << 31, 1 << 63, u64::MAX] {
        refused_with(&framed(lie), &["frame"]);
    }
    let nested = b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x95\x02\0\0\0\0\0\0\0}.";
    refused_with(&pth_of(nested, 6), &["frame"]);
}

#[test]
fn memo_bombs_and_slots() {
    // Each round a tuple of two references to the last: 2^k values for a reader that copies.
    let mut bomb = b"]q\0".to_vec();
    for _ in 0..5000 {
        bomb.extend(b"0h\0h\0\x86q\0");
    }
    assert_eq!(read_all(&beside(&bomb)).unwrap(), 1);
    let mut lists = b"]q\0".to_vec();
    for _ in 0..2000 {
        lists.extend(b"0](h\0h\0h\0eq\0");
    }
    assert_eq!(read_all(&beside(&lists)).unwrap(), 1);
    // A list that holds itself.
    assert_eq!(read_all(&beside(b"]q\0h\0a")).unwrap(), 1);
    refused_with(&beside(b"Nr\xff\xff\xff\xff"), &["memo slot 4294967295"]);
    refused_with(&beside(b"Nr\xff\xff\xff\x7f"), &["memo slot 2147483647"]);
    refused_with(&beside(b"h\x63"), &["memo slot 99 was never stored"]);
    refused_with(&beside(b"j\xff\xff\xff\xff"), &["never stored"]);
    refused_with(&pth_of(b"\x80\x04\x94.", 6), &["needs a value"]);
    assert_eq!(read_all(&beside(b"Nq\x09r\x0a\0\0\0\x940h\x09")).unwrap(), 1);
}

#[test]
fn a_million_nested_things() {
    for (open, close) in [(&b"("[..], &b"t"[..]), (b"]", b"a"), (b")", b""), (b"(", b"1"), (b"\x8f", b"")] {
        let n = 1_000_000;
        refused(&body(&[&open.repeat(n), &close.repeat(n)]));
        refused(&body(&[b"N", &open.repeat(n)]));
    }
    refused(&body(&[b")", &b"\x85".repeat(1_000_000)]));
    // As many as fit are read and dropped without recursion.
    let deep = [b")", &b"\x85".repeat(20_000)[..]].concat();
    assert_eq!(read_all(&beside(&deep)).unwrap(), 1);
}

#[test]
fn lengths_that_lie() {
    for part in [
        &b"X\xff\xff\xff\xff"[..],
        b"X\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",
        b"\x8b\0\0\0\x80",
        b"\x8e\0\0\0\0\0\0\0\x80",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"B\xff\xff\xff\xff",
        b"C\xff",
        b"T\xff\xff\xff\xff",
        b"U\xff",
        b"\x8c\xff",
        b"\x8a\xff",
        b"G\0",
        b"J\0",
    ] {
        let message = refused(&body(&[part]));
        assert!(message.contains("more bytes") || message.contains("negative length"), "{message}");
    }
    refused_with(&beside(b"X\x02\0\0\0\xff\xfe"), &["not UTF-8"]);
    refused_with(&beside(b"\x8c\x01\x80"), &["not UTF-8"]);
    // Python 2's str may be anything.
    assert_eq!(read_all(&beside(b"U\x02\xff\xfe")).unwrap(), 1);
}

#[test]
fn marks_and_stop() {
    for part in [&b"t"[..], b"u", b"e", b"1", b"l", b"d", b"\x90", b"\x91"] {
        refused_with(&body(&[part]), &["MARK"]);
    }
    refused_with(&body(&[b"(}"]), &["STOP with 0 values and 1 marks"]);
    refused_with(&body(&[b"}}"]), &["STOP with 1 values"]);
    refused_with(&body(&[b""]), &["empty stack"]);
    refused(&body(&[b"N(0000"]));
    refused(&body(&[b"K\x01(\x85"]));
    refused(&body(&[b"}(s"]));
    refused(&body(&[b"](a"]));
    refused(&body(&[b"a"]));
    refused(&body(&[b"Ns"]));
    refused(&body(&[b"}(NNs"]));
    let good = dict_of(&w());
    for len in 0..good.len() {
        refused(&pth_of(&good[..len], 6));
    }
    refused_with(&pth_of(&[&good[..], b"N"].concat(), 6), &["1 bytes follow the pickle's STOP"]);
}

#[test]
fn setitems_and_appends() {
    // What an object was made of may not change afterwards: Python copied it.
    let grown =
        [b"]q\x00(", &text("a")[..], &w(), b"\x86eccollections\nOrderedDict\nh\x00\x85Rh\x00", &text("b"), &w(), b"\x86a\x86"].concat();
    refused_with(&body(&[&grown]), &["a list grows"]);
    refused_with(&beside(b"}(K\x01u"), &["odd number of values, 1"]);
    refused_with(&beside(b"](K\x01K\x02u"), &["no dict"]);
    refused_with(&beside(b"NK\x01K\x02s"), &["no dict"]);
    refused_with(&beside(b"}K\x01a"), &["no list"]);
    refused_with(&beside(b")(K\x01e"), &["no list"]);
    refused_with(&beside(b"](K\x01\x90"), &["no set"]);
    assert_eq!(read_all(&beside(b"\x8f(K\x01\x90")).unwrap(), 1);
}

#[test]
fn persistent_ids() {
    let float = b"ctorch\nFloatStorage\n";
    let id = |parts: &[&[u8]]| [b"(", &parts.concat()[..], b"tQ"].concat();
    let (tag, key, cpu, six) = (text("storage"), text("0"), text("cpu"), int(6));
    for bad in [
        id(&[]),
        id(&[&tag, float, &key, &cpu]),
        id(&[&text("module"), float, &key, &cpu, &six]),
        id(&[&tag, b"ccollections\nOrderedDict\n", &key, &cpu, &six]),
        id(&[&tag, &text("torch.FloatStorage"), &key, &cpu, &six]),
        id(&[&tag, float, &int(0), &cpu, &six]),
        id(&[&tag, float, &key, b"N", &six]),
        id(&[&tag, float, &key, &cpu, b"N"]),
        id(&[&tag, float, &key, &cpu, &int(-1)]),
        id(&[&tag, float, &key, &cpu, &int(i64::MIN)]),
        id(&[&tag, float, &key, &cpu, b"\x8a\x09\0\0\0\0\0\0\0\0\x01"]),
        id(&[&tag, float, &key, &cpu, &six, &six]),
        id(&[&tag, float, &key, &cpu, &six, b"N", b"N"]),
        id(&[&tag, float, &text(""), &cpu, &six]),
        id(&[&tag, float, &text(&"0".repeat(65)), &cpu, &six]),
        b"NQ".to_vec(),
        text("0").into_iter().chain(*b"Q").collect(),
    ] {
        let message = refused(&beside(&bad));
        assert!(message.contains("persistent id") || message.contains("storage key"), "{message}");
    }
    refused_with(&beside(&id(&[&tag, float, &key, &cpu, &six, &ints(&[1, 2, 3])])), &["view of another"]);
    // One key of two types or lengths; a path in a key; a key that is no member.
    refused_with(&beside(&storage("LongStorage", "0", 3)), &["described twice"]);
    refused_with(&beside(&storage("FloatStorage", "0", 5)), &["described twice"]);
    refused_with(&beside(&storage("FloatStorage", "../data.pkl", 1)), &["no member"]);
    refused_with(&beside(&storage("FloatStorage", "1", 6)), &["no member"]);
}

#[test]
fn rebuild_with_other_arguments() {
    let name = &b"ctorch._utils\n_rebuild_tensor_v2\n"[..];
    let hooks = &b"ccollections\nOrderedDict\n)R"[..];
    let (s, zero, six, one) = (storage("FloatStorage", "0", 6), int(0), ints(&[6]), ints(&[1]));
    let call = |parts: &[&[u8]]| beside(&[name, b"(", &parts.concat(), b"tR"].concat());
    assert_eq!(read_all(&call(&[&s, &zero, &six, &one, b"\x89", hooks])).unwrap(), 2);
    assert_eq!(read_all(&call(&[&s, &zero, &six, &one, b"\x89", hooks, b"}"])).unwrap(), 2);
    // Numbers that are to be negated are no numbers to read, but they may stand beside others.
    let marked = call(&[&s, &zero, &six, &one, b"\x89", hooks, b"}(X\x03\0\0\0neg\x88u"]);
    let checkpoint = Checkpoint::parse(&marked).unwrap();
    let entry = checkpoint.get("x").unwrap();
    assert!(!entry.is_read() && entry.read_f32(&mut Vec::new()).unwrap_err().to_string().contains("resolve_neg"));
    for bad in [
        call(&[]),
        call(&[&s, &zero, &six, &one, b"\x89"]),
        call(&[&s, &zero, &six, &one, b"\x89", hooks, b"}", b"}"]),
        call(&[b"N", &zero, &six, &one, b"\x89", hooks]),
        call(&[&s, &int(-1), &six, &one, b"\x89", hooks]),
        call(&[&s, b"N", &six, &one, b"\x89", hooks]),
        call(&[&s, &zero, &int(6), &one, b"\x89", hooks]),
        call(&[&s, &zero, &six, &ints(&[]), b"\x89", hooks]),
        call(&[&s, &zero, &six, &ints(&[1, 1]), b"\x89", hooks]),
        call(&[&s, &zero, &ints(&[-6]), &one, b"\x89", hooks]),
        call(&[&s, &zero, &six, &ints(&[-1]), b"\x89", hooks]),
        call(&[&s, &zero, &text("6"), &one, b"\x89", hooks]),
        call(&[&s, &zero, &six, &one, b"K\x00", hooks]),
        call(&[&s, &zero, &six, &one, b"\x89", b"K\x00"]),
    ] {
        refused_with(&bad, &["_rebuild_tensor_v2 with"]);
    }
    let parameter = |parts: &[&[u8]]| beside(&[b"ctorch._utils\n_rebuild_parameter\n(", &parts.concat()[..], b"tR"].concat());
    assert_eq!(read_all(&parameter(&[&w(), b"\x88", hooks])).unwrap(), 2);
    refused_with(&parameter(&[&w(), b"\x88"]), &["_rebuild_parameter"]);
    refused_with(&parameter(&[&s, b"\x88", hooks]), &["_rebuild_parameter"]);
}

#[test]
fn shapes_strides_and_extents() {
    let good = |offset, shape: &[i64], strides: &[i64]| {
        read_all(&one_tensor(6, 6, offset, shape, strides)).unwrap();
    };
    good(0, &[2, 3], &[3, 1]);
    good(5, &[], &[]);
    good(0, &[3, 2], &[1, 3]);
    good(0, &[0, i64::MAX, i64::MAX], &[1, 1, 1]);
    good(1, &[1, 5], &[i64::MAX, 1]);
    good(0, &[1; 8], &[i64::MAX; 8]);
    good(3, &[1, 3, 1, 1, 1], &[7, 1, i64::MAX, 0, i64::MAX]);
    good(0, &[2, 2, 1], &[4, 1, i64::MAX]);
    for (offset, shape, strides) in [
        (0, &[7][..], &[1][..]),
        (1, &[6], &[1]),
        (6, &[], &[]),
        (i64::MAX, &[1], &[1]),
        (0, &[2], &[6]),
        (0, &[2], &[i64::MAX]),
        (0, &[3], &[i64::MAX]),
        (0, &[i64::MAX], &[i64::MAX]),
        (0, &[1 << 32, 1 << 32], &[0, 0]),
    ] {
        let message = refused(&one_tensor(6, 6, offset, shape, strides));
        let known = ["reaches element", "overflows"].iter().any(|w| message.contains(w));
        assert!(known && message.contains("\"w\""), "{message}");
    }
    // An expanded tensor takes more memory than the file justifies: it is not read.
    for (shape, strides) in [(&[7][..], &[0][..]), (&[1 << 40], &[0]), (&[3, 3], &[1, 1])] {
        let error = read_all(&one_tensor(6, 6, 0, shape, strides)).unwrap_err().to_string();
        assert!(error.contains("repeats elements") && error.contains("\"w\""), "{error}");
    }
    refused_with(&one_tensor(6, 6, 0, &[1; 9], &[1; 9]), &["rank 9", "at most 8"]);
    refused_with(&one_tensor(6, 6, 0, &[1; 64], &[1; 64]), &["rank 64"]);
    // The same holds for tensors that are not handed out, as an optimizer's.
    let hidden = [b"}", &text("m")[..], &rebuild(&storage("FloatStorage", "0", 6), 0, &[7], &[1]), b"s"].concat();
    refused_with(&beside(&hidden), &["reaches element 6"]);
}

#[test]
fn strided_elements_come_in_row_major_order() {
    let file = one_tensor(6, 6, 0, &[3, 1, 2], &[1, 99, 3]);
    let checkpoint = Checkpoint::parse(&file).unwrap();
    let mut out = Vec::new();
    checkpoint.entries()[0].read_f32(&mut out).unwrap();
    assert_eq!(out, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}

#[test]
fn the_state_dict_is_found_or_the_keys_are_named() {
    let nested = |keys: &[&str]| {
        let inner: Vec<u8> = keys.iter().flat_map(|k| [&text(k)[..], b"}", &text("w"), &w(), b"s"].concat()).collect();
        body(&[b"}(", &inner, b"u"])
    };
    assert_eq!(read_all(&nested(&["state_dict"])).unwrap(), 1);
    assert_eq!(read_all(&nested(&["model", "optimizer"])).unwrap(), 1);
    // One view under two keys is one state dict.
    assert_eq!(read_all(&nested(&["model", "state_dict"])).unwrap(), 1);
    assert_eq!(read_all(&nested(&["net"])).unwrap(), 1);
    let epochs = body(&[b"}(", &text("net"), b"}", &text("epoch"), b"K\x01u"]);
    refused_with(&epochs, &["no dict of tensors", "\"net\", \"epoch\""]);
    refused_with(&body(&[b"}"]), &["holds nothing"]);
    refused_with(&body(&[b"]"]), &["a list"]);
    refused_with(&body(&[b"K\x01"]), &["a plain value"]);
    // The prefix goes only if all have it, and never leaves an empty name.
    let two = |a: &str, b: &str| body(&[b"}(", &text(a), &w(), &text(b), &w(), b"u"]);
    let names = |file: &[u8]| Checkpoint::parse(file).unwrap().entries().iter().map(|e| e.name().to_string()).collect::<Vec<_>>();
    assert_eq!(names(&two("module.a", "module.b")), ["a", "b"]);
    assert_eq!(names(&two("module.a", "b")), ["module.a", "b"]);
    assert_eq!(names(&two("module.", "module.b")), ["module.", "module.b"]);
    refused_with(&two(&"x".repeat(1025), "b"), &["a name of 1025 bytes"]);
}

#[test]
fn python_2_wrote_ordered_dicts_as_lists_of_pairs() {
    for pair in [[&b"]("[..], b"e"], [b"(", b"t"]] {
        let pair = |key: &str, value: &[u8]| [pair[0], &text(key), value, pair[1]].concat();
        let list = [b"](", &pair("a", &w())[..], &pair("b", &w()), &pair("epoch", b"K\x01"), b"e"].concat();
        let file = body(&[b"ccollections\nOrderedDict\n", &list, b"\x85R"]);
        let checkpoint = Checkpoint::parse(&file).unwrap();
        let names: Vec<_> = checkpoint.entries().iter().map(|e| e.name()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}

/// A legacy file of one tensor, each part open to change.
fn legacy(change: impl FnOnce(&mut [Vec<u8>; 6])) -> Vec<u8> {
    let storage = [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("77"), &text("cpu"), &int(6), b"NtQ"].concat();
    let mut parts = [
        pickled(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
        pickled(b"M\xe9\x03"),
        pickled(&[b"}", &text("little_endian")[..], b"\x88s"].concat()),
        dict_of(&rebuild(&storage, 0, &[2, 3], &[3, 1])),
        pickled(&[b"]", &text("77")[..], b"a"].concat()),
        [&6u64.to_le_bytes()[..], &floats_of(6)].concat(),
    ];
    change(&mut parts);
    parts.concat()
}

#[test]
fn the_legacy_form() {
    assert_eq!(read_all(&legacy(|_| {})).unwrap(), 1);
    let file = legacy(|_| {});
    for len in 0..file.len() {
        refused(&file[..len]);
    }
    refused_with(&legacy(|p| p[0] = pickled(b"K\x01")), &["bare pickle"]);
    refused_with(&legacy(|p| p[1] = pickled(b"M\xe8\x03")), &["1000", "expected 1001"]);
    refused_with(&legacy(|p| p[1] = pickled(b"N")), &["1001"]);
    refused_with(&legacy(|p| p[2] = pickled(&[b"}", &text("little_endian")[..], b"\x89s"].concat())), &["big-endian"]);
    refused(&legacy(|p| p[2] = pickled(b"N")));
    refused_with(&legacy(|p| p[4] = pickled(b"N")), &["list of storages"]);
    refused_with(&legacy(|p| p[4] = pickled(b"]K\x01a")), &["list of storages"]);
    refused_with(&legacy(|p| p[4] = pickled(b"]")), &["not in the list"]);
    let unknown = pickled(&[b"](", &text("77")[..], &text("78"), b"e"].concat());
    refused_with(&legacy(|p| p[4] = unknown), &["storage \"78\"", "no tensor has it"]);
    let twice = pickled(&[b"](", &text("77")[..], &text("77"), b"e"].concat());
    refused_with(
        &legacy(|p| {
            p[4] = twice;
            p[5] = p[5].repeat(2);
        }),
        &["listed twice"],
    );
    refused_with(
        &legacy(|p| {
            p[4] = pickled(b"]");
            p[5].clear();
        }),
        &["not in the list"],
    );
    for count in [0u64, 5, 7, 1 << 62, u64::MAX] {
        refused_with(&legacy(|p| p[5][..8].copy_from_slice(&count.to_le_bytes())), &["6 in the pickle"]);
    }
    // PyTorch reads no further than the last storage.
    assert_eq!(read_all(&legacy(|p| p[5].push(0))).unwrap(), 1);
}

#[test]
fn errors_say_where() {
    let file = beside(b"ctorch\nFloatStorage\n)R");
    let error = Checkpoint::parse(&file).unwrap_err();
    assert_eq!(error.kind(), ReadErrorKind::Pickle);
    let at = error.offset().unwrap() as usize;
    assert_eq!(&file[at - 2..=at], b"\n)R");
    let error = Checkpoint::parse(&one_tensor(6, 6, 0, &[7], &[1]).clone()).unwrap_err();
    assert_eq!((error.kind(), error.entry_name()), (ReadErrorKind::Tensor, Some("\"w\"")));
}
