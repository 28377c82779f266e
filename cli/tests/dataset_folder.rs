//! Which files are samples, which folders are classes, and what is said when none are.

mod support;

use std::fs;
use std::path::Path;

use nunatak_cli::dataset::{ImageFolder, SplitOptions};
use support::put;

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
fn the_parts_must_have_the_same_classes() {
    let error = refused(&["train/a/1.png", "train/b/1.png", "val/b/1.png", "val/c/1.png"]);
    assert!(error.contains("lacks \"a\"; only here: \"c\""), "{error}");
}

#[test]
fn a_missing_part_is_missed() {
    let error = refused(&["train/a/1.png", "test/a/1.png"]);
    assert!(error.contains("no val/"), "{error}");
    let error = refused(&["val/a/1.png"]);
    assert!(error.contains("no train/"), "{error}");
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
    let count = |samples: &[nunatak_cli::dataset::Sample]| {
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
