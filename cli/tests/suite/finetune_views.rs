//! `--views`: features of random cuts are computed once and taken in turn.

use crate::running::Place;

const VIEWS: &str = "--augment --trainable head --epochs 5 --views 2";

#[test]
fn kept_cuts_change_no_bit_and_are_taken_in_turn() {
    let place = Place::new();
    std::fs::write(place.path("data/train/red/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    let run = place.ok(&place.tune("once.safetensors", VIEWS));
    assert!(run.err.contains("features below the head of 2 random cuts of each image are computed once"), "{}", run.err);
    place.ok(&place.tune("never.safetensors", &format!("{VIEWS} --features never")));
    assert!(place.bytes("once.safetensors.last") == place.bytes("never.safetensors.last"));
    // One cut, or another one in every epoch, is something else.
    for (i, other) in ["--views 1", "--views 5"].into_iter().enumerate() {
        let out = format!("other{i}.safetensors");
        place.ok(&place.tune(&out, &VIEWS.replace("--views 2", other)));
        assert!(place.bytes("once.safetensors.last") != place.bytes(&format!("{out}.last")), "{other}");
    }
}

#[test]
fn a_run_with_cuts_is_gone_on_with() {
    let place = Place::new();
    for (i, words) in [VIEWS, "--recipe auto --augment --views 2 --head-epochs 3 --epochs 4"].into_iter().enumerate() {
        place.ok(&place.tune(&format!("whole{i}.safetensors"), words));
        for stop in [2, 5, 9, 13] {
            let out = format!("part{i}-{stop}.safetensors");
            place.ok(&place.tune(&out, &format!("{words} --stop-after {stop}")));
            place.ok(&format!("finetune data --resume --out {out} --threads 2"));
            assert!(place.bytes(&format!("{out}.last")) == place.bytes(&format!("whole{i}.safetensors.last")), "{words}: after {stop}");
        }
    }
    let toml = String::from_utf8(place.bytes("whole0.safetensors.toml")).unwrap();
    assert!(toml.contains("views = 2\n"), "{toml}");
}

#[test]
fn cuts_that_could_not_be_kept_are_refused() {
    let place = Place::new();
    for (words, named) in [
        ("--views 2", "--augment"),
        ("--views 0 --augment", "--views"),
        ("--views 2 --augment --trainable all", "--trainable head"),
        ("--views 2 --augment --bn-statistics batch", "--bn-statistics fixed"),
        ("--views 2 --augment --balanced", "--balanced"),
        ("--views 2 --augment --mixup 0.2", "--mixup"),
    ] {
        let run = place.run(&place.tune("m.safetensors", words));
        assert!(run.code == Some(2) && run.err.contains(named), "{words}: {:?} {}", run.code, run.err);
        assert!(!place.path("m.safetensors.last").exists() && !place.path("m.safetensors.toml").exists(), "{words}");
    }
}
