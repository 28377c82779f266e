//! Which files are samples, which folders are classes, and what is said when none are.

use std::fs;
use std::path::Path;

use crate::support::put;
use nunatak_data::{ImageFolder, SplitOptions};

/// A folder with empty files: nothing here opens them.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        put(&dir.path().join(file), b"");
    }
    dir
}

fn open(dir: &Path) -> Result<ImageFolder, String> {
    ImageFolder::open(dir, &SplitOptions::default()).map_err(|e| e.to_string())
}

fn refused(files: &[&str]) -> String {
    let dir = folder(files);
    let error = open(dir.path()).unwrap_err();
    let name = dir.path().file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name), "{error} names the folder");
    error
}

fn flat_names(dir: &Path) -> Vec<(String, usize)> {
    let all = ImageFolder::flat(dir).unwrap();
    assert!(all.train.is_empty());
    let name = |p: &Path| p.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    all.val.iter().map(|s| (name(&s.path), s.label)).collect()
}

#[test]
fn classes_and_files_are_sorted_as_torchvision_sorts_them() {
    let dir = folder(&[
        "dog/b.JPG",
        "dog/a.jpeg",
        "Zebra/1.png",
        "cat/z.webp",
        "cat/sub/a.bmp",
        "cat/sub-b/a.tiff",
        "cat/sub/deep/a.Tif",
        "cat/10.ppm",
        "cat/9.pgm",
        "cat/notes.txt",
        "cat/noending",
        "cat/.hidden.jpg",
        "cat/.ipynb_checkpoints/a.jpg",
        ".git/a.jpg",
        "README.md",
    ]);
    // Folders compare as text, '-' before '/', and files within them.
    let want = [
        ("Zebra/1.png", 0),
        ("cat/10.ppm", 1),
        ("cat/9.pgm", 1),
        ("cat/z.webp", 1),
        ("cat/sub/a.bmp", 1),
        ("cat/sub-b/a.tiff", 1),
        ("cat/sub/deep/a.Tif", 1),
        ("dog/a.jpeg", 2),
        ("dog/b.JPG", 2),
    ];
    let want = want.map(|(name, label)| (name.to_owned(), label));
    assert_eq!(flat_names(dir.path()), want);
    let classes = ImageFolder::flat(dir.path()).unwrap().classes;
    assert_eq!(classes, ["Zebra", "cat", "dog"]);
}

#[test]
fn two_parts() {
    let dir = folder(&["train/a/1.png", "train/b/1.png", "val/b/2.png", "val/a/3.png", "test/x"]);
    let got = open(dir.path()).unwrap();
    assert_eq!(got.classes, ["a", "b"]);
    assert_eq!((got.train.len(), got.val.len()), (2, 2));
    assert!(got.val[0].path.ends_with("val/a/3.png"));
    // And as one folder of classes it would be a trap.
    let error = ImageFolder::flat(dir.path()).unwrap_err().to_string();
    assert!(error.contains("name one of the parts"), "{error}");
}

#[test]
fn what_is_validated_must_be_known_and_what_is_not_is_told() {
    let error = refused(&["train/a/1.png", "train/b/1.png", "val/b/1.png", "val/c/1.png"]);
    assert!(error.contains("has classes that \"train\" has not: \"c\""), "{error}");
    let dir = folder(&["train/a/1.png", "train/b/1.png", "train/c/1.png", "val/c/1.png", "val/a/1.png"]);
    let got = open(dir.path()).unwrap();
    assert_eq!(got.classes, ["a", "b", "c"]);
    assert_eq!(got.val.iter().map(|s| s.label).collect::<Vec<_>>(), [0, 2], "numbered as in train/");
    assert!(got.notes[0].starts_with("warning: \"val\" has no image of \"b\""), "{:?}", got.notes);
}

/// The names that people give to parts.
#[test]
fn parts_by_any_name() {
    for (train, val) in [("train", "valid"), ("Train", "Validation"), ("training", "val"), ("TRAIN", "VAL"), ("trn", "dev")] {
        let dir = folder(&[
            &format!("{train}/a/1.png"),
            &format!("{train}/b/1.png"),
            &format!("{val}/a/2.png"),
            &format!("{val}/b/2.png"),
            "test/b/3.png",
        ]);
        let got = open(dir.path()).unwrap();
        assert_eq!((got.classes.len(), got.train.len(), got.val.len()), (2, 2, 2), "{train} {val}");
        assert_eq!(got.notes, ["\"test\" is kept for the end and not looked at"]);
        assert_eq!(ImageFolder::measured(dir.path()).unwrap().val, got.val);
    }
    let error = refused(&["train/a/1.png", "Training/a/1.png", "val/a/1.png"]);
    assert!(error.contains("\"Training\" and \"train\", which mean the same part"), "{error}");
}

/// Nothing is learnt from what is kept for the end.
#[test]
fn without_a_part_to_validate_with_one_is_put_aside() {
    let files: Vec<String> =
        (0..10).flat_map(|i| ["Training/a", "Training/b", "Testing/a", "Testing/b"].map(|d| format!("{d}/{i}.png"))).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let dir = folder(&files);
    let got = open(dir.path()).unwrap();
    assert_eq!((got.classes.clone(), got.train.len(), got.val.len()), (vec!["a".into(), "b".into()], 16, 4));
    assert!(got.train.iter().chain(&got.val).all(|s| s.path.starts_with(dir.path().join("Training"))));
    assert!(got.notes[0].contains("4 of its images are put aside") && got.notes[0].contains("\"Testing\" is kept"), "{:?}", got.notes);
    let measured = ImageFolder::measured(dir.path()).unwrap();
    assert_eq!((measured.val.len(), measured.train.len()), (20, 0));
    assert_eq!(measured.notes, ["measured with \"Testing\""]);
    assert!(ImageFolder::flat(dir.path()).unwrap_err().to_string().contains("name one of the parts"));
    assert_eq!(open(folder(&["train/a/1.png", "train/a/2.png"]).path()).unwrap().val.len(), 1);
}

#[test]
fn a_missing_part_is_missed() {
    for files in [&["val/a/1.png"][..], &["test/a/1.png", "valid/a/1.png"]] {
        let error = refused(files);
        assert!(error.contains("no train/"), "{error}");
    }
    // Part or class can't be told.
    let error = refused(&["train/a/1.png", "test/a/1.png", "bus/1.png"]);
    assert!(error.contains("part or class?") && error.contains("\"bus\""), "{error}");
    // An archive within a folder of its own.
    let error = refused(&["flowers/train/a/1.png", "flowers/val/a/1.png"]);
    assert!(error.contains("flowers\", which has the parts"), "{error}");
}

#[test]
fn what_is_passed_over_is_told() {
    let dir = folder(&[
        "train/a/1.png",
        "train/a/.hidden.png",
        "train/a/@eaDir/1.png/thumb.jpg",
        "train/a/notes.txt",
        "train/a/clip.mp4",
        "train/a/clip2.mp4",
        "train/a/README",
        "val/a/2.png",
        "__MACOSX/train/a/._1.png",
        "val/.DS_Store",
        ".git/x.png",
        "notes/x.png",
    ]);
    let got = open(dir.path()).unwrap();
    assert_eq!((got.train.len(), got.val.len()), (1, 1));
    let want = [
        "left out, beside the parts to train on and to validate with: \"notes\"",
        "passed over the folders \".git\", \"@eaDir\", \"__MACOSX\"",
        "passed over 1 hidden files (their names begin with a dot)",
        "passed over files that are no images by their names: 2 .mp4, 1 .txt, 1 without an ending",
    ];
    assert_eq!(got.notes, want);
}

/// A table with its images beside it.
fn table(name: &str, text: &str, images: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = folder(images);
    let file = dir.path().join(name);
    put(&file, text.as_bytes());
    (dir, file)
}

fn names(samples: &[nunatak_data::Sample]) -> Vec<(String, usize)> {
    samples.iter().map(|s| (s.path.file_name().unwrap().to_string_lossy().into_owned(), s.label)).collect()
}

#[test]
fn tables() {
    let images = ["i/1.png", "i/2.jpg", "3.png", "4.png"];
    let want = [("1.png".to_owned(), 1), ("2.jpg".to_owned(), 0), ("3.png".to_owned(), 1), ("4.png".to_owned(), 0)];
    for (name, text) in [
        ("a.csv", "path,label\ni/1.png,dog\ni/2.jpg,cat\n3.png,dog\n4.png,cat\n"),
        ("a.csv", "\u{feff}Label;Filename\r\ndog;i/1.png\r\ncat;i/2.jpg\r\ndog;3.png\r\ncat;4.png\r\n"),
        ("a.TSV", "id\tbreed\tage\ni/1\tdog\t1\ni/2\tcat\t2\n3\tdog\t3\n4\tcat\t\n"),
        ("a.csv", "i/1.png,dog\n\"i/2.jpg\", cat\n3.png,dog\n4.png,cat"),
    ] {
        let (_dir, file) = table(name, text, &images);
        let got = open(&file).unwrap();
        assert_eq!(got.classes, ["cat", "dog"], "{text}");
        assert_eq!((got.train.len(), got.val.len()), (2, 2), "half of two is one of each class");
        let mut all = names(&[got.train, got.val].concat());
        all.sort();
        assert_eq!(all, want, "{text}");
    }
    let (_dir, file) = table("a.csv", "image,class,split\n3.png,10,train\ni/1.png,2,train\n4.png,2,valid\ni/2.jpg,2,test\n", &images);
    let got = open(&file).unwrap();
    assert_eq!(got.classes, ["2", "10"], "numbers in their order");
    assert_eq!((names(&got.train), names(&got.val)), (vec![("1.png".into(), 0), ("3.png".into(), 1)], vec![("4.png".into(), 0)]));
    assert!(
        got.notes[0].contains("no row to validate with is of \"10\"") && got.notes[1].starts_with("1 rows of the part test"),
        "{:?}",
        got.notes
    );
    assert_eq!(names(&ImageFolder::measured(&file).unwrap().val), [("4.png".to_owned(), 0)]);
}

#[test]
fn tables_that_make_no_sense() {
    for (text, want) in [
        ("", "has no row"),
        ("path,label\n", "has no row to train on"),
        ("a,b,c\n1,2,3\n", "the columns \"a\", \"b\", \"c\"; one must be called path"),
        ("path,label\nx.png,a\n", "row 2 names \"x.png\", which is not there"),
        ("path,label\n1.png,\n", "row 2 has no class"),
        ("path,label\n1.png,a\n1.png,b\n", "row 3 names \"1.png\" a second time"),
        ("path,label\n1.png,a,b\n", "is no table"),
        ("path,label,split\n1.png,a,half\n", "row 2 is of the part \"half\""),
        ("path,label,split\n1.png,a,val\n2.png,b,train\n", "no row to train on of the class \"a\""),
    ] {
        let (_dir, file) = table("t.csv", text, &["1.png", "2.png"]);
        let error = open(&file).unwrap_err();
        assert!(error.contains(want) && error.contains("t.csv"), "{text}: {error}");
    }
}

#[test]
fn a_list_of_classes_numbers_them() {
    let dir = folder(&["b/1.png", "a/1.png", "a/2.png"]);
    let list = |text: &str| {
        let file = dir.path().join("classes.txt");
        put(&file, text.as_bytes());
        nunatak_data::folder::class_list(&file).map_err(|e| e.to_string())
    };
    let names_of = |text: &str| {
        let mut all = ImageFolder::flat(dir.path()).unwrap();
        all.number_as(&list(text)?, dir.path()).map(|()| all).map_err(|e| e.to_string())
    };
    let got = names_of("b\r\nc\r\n\r\na\r\n").unwrap();
    assert_eq!(got.classes, ["b", "c", "a"]);
    assert_eq!(names(&got.val), [("1.png".to_owned(), 0), ("1.png".to_owned(), 2), ("2.png".to_owned(), 2)]);
    assert!(got.notes.last().unwrap().contains("without any image: \"c\""), "{:?}", got.notes);
    assert_eq!(names_of("[\"b\", \"a\"]").unwrap().classes, ["b", "a"]);
    assert!(names_of("a\nc\n").unwrap_err().contains("not in the list of classes: \"b\""));
    assert!(names_of("a\nb\na\n").unwrap_err().contains("a name twice"));
    assert!(list("\n").unwrap_err().contains("names no class"));

    let numbers = folder(&["0/1.png", "2/1.png"]);
    let mut got = ImageFolder::flat(numbers.path()).unwrap();
    got.number_as(&["x", "y", "z"].map(String::from), numbers.path()).unwrap();
    assert_eq!((got.classes, got.val[1].label), (vec!["x".into(), "y".into(), "z".into()], 2));
}

#[test]
fn train_may_be_a_class() {
    let dir = folder(&["bus/1.png", "train/1.png", "car/1.png"]);
    assert_eq!(open(dir.path()).unwrap().classes, ["bus", "car", "train"]);
}

#[test]
fn the_split_is_seeded_and_leaves_both_sides_something() {
    let files: Vec<String> = [("one", 1), ("two", 2), ("ten", 10), ("many", 101)]
        .iter()
        .flat_map(|&(class, n)| (0..n).map(move |i| format!("{class}/{i:03}.png")))
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let dir = folder(&files);
    let count = |samples: &[nunatak_data::Sample]| {
        let mut n = [0; 4];
        samples.iter().for_each(|s| n[s.label] += 1);
        n
    };
    let got = open(dir.path()).unwrap();
    assert_eq!(got.classes, ["many", "one", "ten", "two"]);
    assert_eq!(count(&got.val), [20, 0, 2, 1]);
    assert_eq!(count(&got.train), [81, 1, 8, 1]);
    assert!(got.val.iter().all(|s| !got.train.contains(s)));
    assert!(got.train.is_sorted_by_key(|s| (s.label, s.path.clone())));
    assert_eq!(open(dir.path()).unwrap(), got, "same seed");

    let split = |seed, val_fraction| ImageFolder::open(dir.path(), &SplitOptions { seed, val_fraction });
    assert_ne!(split(1, 0.2).unwrap(), got, "other seed");
    assert_eq!(split(0, 0.0).unwrap().val.len(), 0);
    assert_eq!(count(&split(0, 0.999).unwrap().train), [1, 1, 1, 1]);
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let error = split(0, bad).unwrap_err().to_string();
        assert!(error.contains("at least 0 and below 1"), "{error}");
    }

    // A new class leaves the division of the others alone.
    put(&dir.path().join("aaa/1.png"), b"");
    let more = open(dir.path()).unwrap();
    let paths = |f: &ImageFolder| f.val.iter().map(|s| s.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&more), paths(&got));
}

#[test]
fn no_class_and_empty_classes_are_errors_that_say_which() {
    let error = refused(&[]);
    assert!(error.contains("no class folder"), "{error}");
    let error = refused(&["1.png", "2.jpg", "x.txt"]);
    assert!(error.contains("the 2 images directly in it"), "{error}");
    let error = refused(&["a/1.png", "b/readme.txt", "c/sub/x.txt"]);
    assert!(error.contains("no image in the class \"b\", \"c\""), "{error}");
    let error = open(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(error.contains("can't be listed"), "{error}");
}

#[test]
fn one_class_is_a_folder_like_any_other() {
    let dir = folder(&["a/1.png", "a/2.png"]);
    assert_eq!(open(dir.path()).unwrap().classes, ["a"]);
}

#[test]
fn a_folder_named_like_an_image_is_a_folder() {
    let dir = folder(&["a/x.jpg/1.png", "a/2.png", "y.png/1.jpg"]);
    let want = [("a/2.png", 0), ("a/x.jpg/1.png", 0), ("y.png/1.jpg", 1)];
    assert_eq!(flat_names(dir.path()), want.map(|(n, l)| (n.to_owned(), l)));
    let empty = folder(&["b/1.png"]);
    fs::create_dir_all(empty.path().join("a/x.jpg")).unwrap();
    assert!(open(empty.path()).unwrap_err().contains("\"a\""));
}

#[test]
fn depth_costs_no_stack() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a").join("d/".repeat(1000)).join("1.png");
    put(&deep, b"");
    assert_eq!(ImageFolder::flat(dir.path()).unwrap().val.len(), 1);
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let dir = folder(&["a/1.png", "a/sub/2.png", "elsewhere/3.png"]);
        let at = |p: &str| dir.path().join(p);
        symlink(at("a"), at("a/sub/loop")).unwrap();
        symlink(at("a/sub"), at("a/again")).unwrap();
        symlink(at("elsewhere"), at("b")).unwrap();
        symlink(dir.path(), at("a/up")).unwrap();
        symlink("self", at("a/self")).unwrap();
        let all = ImageFolder::flat(dir.path()).unwrap();
        assert_eq!(all.classes, ["a", "b", "elsewhere"]);
        let b: Vec<_> = all.val.iter().filter(|s| s.label == 1).collect();
        assert_eq!(b.len(), 1);
        // Through a/up everything is reached once, and never twice.
        let a = all.val.iter().filter(|s| s.label == 0).count();
        assert_eq!(a, 3);
    }

    #[test]
    fn many_links_to_each_other_take_no_time() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..30 {
            let here = dir.path().join(format!("a/{i:02}"));
            put(&here.join("1.png"), b"");
            for name in ["x", "y"] {
                symlink(format!("../{:02}", (i + 1) % 30), here.join(name)).unwrap();
            }
        }
        assert_eq!(ImageFolder::flat(dir.path()).unwrap().val.len(), 30);
    }

    #[test]
    fn names_that_are_not_utf8() {
        let dir = folder(&["a/1.png"]);
        let odd = OsStr::from_bytes(b"\xFF\xFE.JPG");
        put(&dir.path().join("a").join(odd), b"");
        let all = ImageFolder::flat(dir.path()).unwrap();
        assert_eq!(all.val.len(), 2);
        assert_eq!(all.val[1].path.file_name().unwrap(), odd);

        fs::create_dir(dir.path().join(OsStr::from_bytes(b"cl\xFFss"))).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(error.contains("cl\\xFFss") && error.contains("not UTF-8"), "{error}");
    }

    /// A link to nothing is a sample: the loader will say that it can't be read.
    #[test]
    fn a_dangling_link_is_not_passed_over_in_silence() {
        let dir = folder(&["a/1.png"]);
        symlink("gone", dir.path().join("a/2.png")).unwrap();
        assert_eq!(ImageFolder::flat(dir.path()).unwrap().val.len(), 2);
    }
}
