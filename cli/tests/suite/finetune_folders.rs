//! Folders and tables as people have them, and pictures that a camera held sideways, through the program.

use crate::running::{COLOURS, Place};
use serde_json::Value;
use std::fs;

fn predicted(place: &Place, words: &str) -> Value {
    serde_json::from_str(&place.ok(&format!("predict {words} --json")).out).unwrap()
}

#[test]
fn parts_by_other_names_tables_and_lists_of_classes() {
    let place = Place::new();
    fs::rename(place.path("data/train"), place.path("data/Training")).unwrap();
    fs::rename(place.path("data/val"), place.path("data/Testing")).unwrap();
    fs::create_dir_all(place.path("data/__MACOSX/Training")).unwrap();
    let run = place.ok(&place.tune("m.safetensors", "--epochs 1"));
    for said in
        ["there is \"Training\" but no val/: 6 of its images", "\"Testing\" is kept for the end", "passed over the folders \"__MACOSX\""]
    {
        assert!(run.err.contains(said), "{said}: {}", run.err);
    }
    assert!(run.err.contains("21 images of 3 classes to train on, 6 to validate with"), "{}", run.err);
    let run = place.ok("evaluate m.safetensors data");
    assert!(run.err.contains("measured with \"Testing\"") && run.out.contains("of 9)"), "{} {}", run.err, run.out);

    let rows: Vec<String> = COLOURS.iter().flat_map(|(name, _)| (0..9).map(move |i| format!("Training/{name}/{i}.png,{name}\n"))).collect();
    fs::write(place.path("data/table.csv"), format!("path,label\n{}", rows.concat())).unwrap();
    fs::write(place.path("classes.txt"), "red\ngreen\nblue\n").unwrap();
    let words = place.tune("t.safetensors", "--epochs 1 --val 0.34 --stratified --classes classes.txt").replace("data ", "data/table.csv ");
    let run = place.ok(&words);
    assert!(run.err.contains("18 images of 3 classes to train on, 9 to validate with"), "{}", run.err);
    let names: Vec<String> = predicted(&place, "t.safetensors data/Testing/red/0.png")[0]["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| format!("{}{}", answer["index"], answer["class"].as_str().unwrap()))
        .collect();
    for name in ["0red", "1green", "2blue"] {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    let run = place.ok("evaluate t.safetensors data/table.csv");
    assert!(run.out.contains("of 27)"), "{}", run.out);
}

/// A PNG with an orientation: a chunk before its data.
fn sideways(png: &[u8], orientation: u8) -> Vec<u8> {
    let exif = [b"eXIfII*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[orientation, 0, 0, 0][..], &[0; 4]].concat();
    let crc = !exif.iter().fold(!0_u32, |crc, b| (0..8).fold(crc ^ u32::from(*b), |c, _| (c >> 1) ^ (0xEDB8_8320 * (c & 1))));
    let chunk = [&(exif.len() as u32 - 4).to_be_bytes()[..], &exif, &crc.to_be_bytes()].concat();
    [&png[..33], &chunk, &png[33..]].concat()
}

#[test]
fn what_a_camera_held_sideways_is_turned_where_that_is_asked_for() {
    let place = Place::new();
    let whole = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([(8 * x) as u8, if y < 8 { 255 } else { 0 }, (x * y / 4) as u8]));
    whole.save(place.path("up.png")).unwrap();
    // Orientation 6: what lies on its left side is to be turned clockwise. So its pixels are the upright ones, turned back.
    image::imageops::rotate270(&whole).save(place.path("side.png")).unwrap();
    fs::write(place.path("side.png"), sideways(&place.bytes("side.png"), 6)).unwrap();

    place.ok(&place.tune("m.safetensors", "--epochs 1"));
    place.ok(&place.tune("e.safetensors", "--epochs 1 --exif"));
    let top = |words: &str| predicted(&place, words)[0]["top"].clone();
    assert_ne!(top("m.safetensors side.png"), top("m.safetensors up.png"), "PyTorch turns nothing");
    assert_eq!(top("m.safetensors side.png --exif"), top("m.safetensors up.png"));
    // What was trained with it is shown pictures with it.
    assert_eq!(top("e.safetensors side.png"), top("e.safetensors up.png"));

    let run = place.run("finetune data --resume --out m.safetensors --exif --epochs 2");
    assert!(run.code == Some(2) && run.err.contains("--exif is true"), "{}", run.err);
}
