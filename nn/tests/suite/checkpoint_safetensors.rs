//! BAD_INPUTS.md, "safetensors": a test for each row. The `safetensors` crate is the oracle: what
//! it refuses, we refuse.

use crate::support::{read_all, refused, refused_with, safetensors};
use nunatak_nn::files::Checkpoint;

const W: &str = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

/// One tensor with these fields.
fn one(fields: &str, data: usize) -> Vec<u8> {
    safetensors(&format!("{{\"w\":{{{fields}}}}}"), &vec![0; data])
}

#[test]
fn good_ones() {
    assert_eq!(read_all(&safetensors(W, &[0; 8])).unwrap(), 1);
    assert_eq!(read_all(&safetensors("{}", &[])).unwrap(), 0);
    assert_eq!(read_all(&safetensors(r#"{"__metadata__":{}}   "#, &[])).unwrap(), 0);
    let spaced = "{ \"w\" :\t{\n\"data_offsets\" : [ 0 , 8 ] , \"shape\":[ 2 ],\r\"dtype\":\"F32\" } } ";
    assert_eq!(read_all(&safetensors(spaced, &[0; 8])).unwrap(), 1);
    // Scalars have no dimensions, empty tensors no bytes; the order of the header is free.
    let header = r#"{"b":{"dtype":"I64","shape":[],"data_offsets":[4,12]},"e":{"dtype":"F32","shape":[0,9],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = safetensors(header, &[0; 12]);
    let checkpoint = Checkpoint::parse(&file).unwrap();
    let names: Vec<_> = checkpoint.entries().iter().map(|e| e.name()).collect();
    assert_eq!(names, ["a", "e", "b"], "as the data lie");
    let escaped = r#"{"\u0041\n\"\ud83d\uDDFB\/":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let file = safetensors(escaped, &[7]);
    assert!(Checkpoint::parse(&file).unwrap().get("A\n\"🗻/").is_some());
}

#[test]
fn header_lengths() {
    let with = |len: u64| [&len.to_le_bytes()[..], W.as_bytes(), &[0; 8]].concat();
    let right = W.len() as u64;
    assert_eq!(read_all(&with(right)).unwrap(), 1);
    for len in [0, 1] {
        refused_with(&with(len), &["header is said to be", "expected 2 to"]);
    }
    for len in [1 << 63, u64::MAX, 100_000_001] {
        refused_with(&with(len), &["expected 2 to 100000000"]);
    }
    refused_with(&with(1000), &["said to be 1000 bytes", "follow"]);
    for len in [2, right - 1, right + 1, right + 8] {
        refused(&with(len));
    }
    let file = with(right);
    for len in 0..file.len() {
        refused(&file[..len]);
    }
}

#[test]
fn headers_that_are_no_object() {
    refused_with(&safetensors("[]  ", &[]), &["begins with 0x5b"]);
    refused_with(&safetensors(" {} ", &[]), &["begins with 0x20"]);
    refused_with(&safetensors("\u{feff}{}", &[]), &["byte order mark"]);
    let raw = [&6u64.to_le_bytes()[..], b"{\"\xff\":}"].concat();
    refused_with(&raw, &["not UTF-8"]);
    refused(&safetensors(&"{".repeat(100_000), &[]));
    refused(&safetensors(&r#"{"a":"#.repeat(100_000), &[]));
    refused(&safetensors(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), &[]));
    for header in [
        "{",
        "{}x",
        "{},",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1}",
        "{\"a\":null}",
        "{,}",
        "{\"a",
        "{\"a\\",
        "{'a':{}}",
        "{\"a\":{}}",
        "{\"a\":{},}",
        "{\"\\u12\":{}}",
        "{\"\\ud800\":{}}",
        "{\"\\udc00\":{}}",
        "{\"\\x\":{}}",
        "{\"a\u{1}\":{}}",
        "{\"__metadata__\":[]}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":{}}}",
    ] {
        let file = safetensors(header, &[]);
        refused(&file);
        assert!(safetensors::SafeTensors::deserialize(&file).is_err(), "{header}");
    }
}

#[test]
fn duplicate_keys() {
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    refused_with(&safetensors(header, &[0; 12]), &["\"w\"", "two tensors"]);
    // The same name, once written with an escape.
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\u0077":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    refused_with(&safetensors(header, &[0; 12]), &["two tensors"]);
    let twice = r#"{"__metadata__":{},"__metadata__":{}}"#;
    refused_with(&safetensors(twice, &[]), &["__metadata__ appears twice"]);
    refused_with(&safetensors(r#"{"__metadata__":{"a":"1","a":"2"}}"#, &[]), &["appears twice"]);
    refused_with(&one(r#""dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]"#, 4), &["\"dtype\" appears twice"]);
    refused_with(&one(r#""dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]"#, 4), &["\"shape\" appears twice"]);
}

#[test]
fn offsets() {
    let two = |a: [u64; 2], b: [u64; 2], data: usize| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[{}],"data_offsets":{a:?}}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":{b:?}}}}}"#,
            a[1].saturating_sub(a[0]),
            b[1].saturating_sub(b[0])
        );
        safetensors(&header, &vec![0; data])
    };
    assert_eq!(read_all(&two([0, 4], [4, 8], 8)).unwrap(), 2);
    assert_eq!(read_all(&two([4, 8], [0, 4], 8)).unwrap(), 2);
    refused_with(&two([4, 0], [4, 8], 8), &["\"a\"", "backwards"]);
    refused_with(&two([0, 5], [4, 8], 8), &["\"b\"", "overlaps"]);
    refused_with(&two([0, 8], [0, 8], 8), &["overlaps"]);
    refused_with(&two([4, 8], [0, 5], 8), &["\"a\"", "hole"]);
    refused_with(&two([0, 3], [4, 8], 8), &["\"b\"", "hole"]);
    refused_with(&two([1, 4], [4, 8], 8), &["\"a\"", "hole"]);
    refused_with(&two([0, 4], [4, 8], 9), &["1 bytes after the last tensor"]);
    refused_with(&two([0, 4], [4, 9], 8), &["\"b\"", "past the 8 bytes"]);
    refused_with(&two([0, 4], [4, u64::MAX], 8), &["\"b\""]);
    refused_with(&safetensors("{}", b"x"), &["1 bytes after the last tensor"]);
    for offsets in ["[0]", "[]", "[0,4,4]", "[-1,4]", "[0.0,4]", "[0,4e0]", "[00,4]", "[0,99999999999999999999]", "{}"] {
        refused_with(&one(&format!(r#""dtype":"F32","shape":[1],"data_offsets":{offsets}"#), 4), &["\"w\""]);
    }
}

#[test]
fn shapes_and_dtypes() {
    let shape = |shape: &str| one(&format!(r#""dtype":"F32","shape":{shape},"data_offsets":[0,4]"#), 4);
    assert_eq!(read_all(&shape("[1,1]")).unwrap(), 1);
    assert_eq!(read_all(&shape("[]")).unwrap(), 1);
    for bad in ["[2]", "[0]", "[4294967296,4294967296,4294967296]", "[18446744073709551615]", "[18446744073709551615,2]"] {
        refused_with(&shape(bad), &["\"w\"", "4 bytes of data for shape"]);
    }
    for bad in ["[-1]", "[1.0]", "[true]", "[[1]]", "1", "[1", "[18446744073709551616]", "[1,]", "[1 1]"] {
        refused_with(&shape(bad), &["\"w\""]);
    }
    refused_with(&shape("[1,1,1,1,1,1,1,1,1]"), &["more than 8"]);
    for dtype in ["f32", "", "FLOAT", "F7"] {
        let file = one(&format!(r#""dtype":"{dtype}","shape":[1],"data_offsets":[0,4]"#), 4);
        refused_with(&file, &["\"w\"", &format!("\"{dtype}\""), "convert"]);
    }
    // Types of the format that are not read may stand beside others.
    for (dtype, shape, bytes) in [("C64", "[1]", 8), ("F8_E4M3", "[3]", 3), ("F8_E5M2", "[3]", 3), ("F4", "[4]", 2), ("F6_E2M3", "[4]", 3)]
    {
        let w = format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}},"#);
        let file =
            safetensors(&format!(r#"{w}"v":{{"dtype":"U16","shape":[1],"data_offsets":[{bytes},{}]}}}}"#, bytes + 2), &vec![1; bytes + 2]);
        let checkpoint = Checkpoint::parse(&file).unwrap();
        let error = checkpoint.get("w").unwrap().read_f32(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains(dtype), "{error}");
        assert_eq!(checkpoint.get("v").unwrap().read_i64().unwrap(), [0x101]);
        assert!(safetensors::SafeTensors::deserialize(&file).is_ok(), "{dtype}");
    }
    refused_with(&one(r#""dtype":"F4","shape":[3],"data_offsets":[0,1]"#, 1), &["\"w\"", "1 bytes of data"]);
    refused_with(&one(r#""dtype":"F32","shape":[1]"#, 4), &["needs dtype, shape and data_offsets"]);
    refused_with(&one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1"#, 4), &["unknown field \"x\""]);
}
