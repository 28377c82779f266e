//! A run that is killed at any moment, with no chance to say anything: its files are whole, and it goes on with the same bits.

use crate::faults::{injector, struck, whole};
use crate::running::Place;
use nunatak_nn::files::Checkpoint;
use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

const OUT: [&str; 2] = ["m.safetensors", "m.safetensors.last"];

/// Kills of this run: `NUNATAK_KILLS`, or a few.
fn kills() -> usize {
    std::env::var("NUNATAK_KILLS").map_or(12, |n| n.parse().expect("NUNATAK_KILLS is a number"))
}

/// Random numbers of other moments in every run of this test.
struct Moments(u64);

impl Moments {
    fn new() -> Moments {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Moments(now.as_nanos() as u64 | 1)
    }

    /// A time below `most`.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        most.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// A folder with few images and smaller ones, and what trains on them: saves at every step.
fn words(out: &str) -> String {
    format!(
        "finetune data --weights weights.safetensors --out {out} --trainable layer3,fc --size 16 --resize 16 --batch 8 --threads 1 \
         --epochs 3 --augment --schedule cosine:1 --ema 0.9 --seed 5 --save-every 1 --log {out}.jsonl"
    )
}

/// How the words go on: a run that saved nothing is begun anew, in the place of what it left.
fn go_on(place: &Place, out: &str) -> String {
    match place.path(&format!("{out}.last")).exists() {
        true => format!("finetune data --resume --out {out} --threads 1 --save-every 1 --log {out}.jsonl"),
        false => format!("{} --overwrite", words(out)),
    }
}

/// The files are there whole, or not at all yet; what stands in them was saved by a run that nobody disturbed.
fn check_whole(place: &Place, out: &str, states: Option<&BTreeSet<Vec<u8>>>) {
    for end in ["", ".last"] {
        let Ok(bytes) = std::fs::read(place.path(&format!("{out}{end}"))) else { continue };
        assert!(Checkpoint::parse(&bytes).is_ok(), "{out}{end} is torn");
        assert!(states.is_none_or(|states| states.contains(&bytes)), "{out}{end} is no state of the run");
    }
    if let Ok(page) = std::fs::read_to_string(place.path(&format!("{out}.report.html"))) {
        assert!(page.trim_end().ends_with("</html>"), "the report is torn");
    }
}

/// The bytes of both files.
fn both(place: &Place, out: &str) -> [Vec<u8>; 2] {
    ["", ".last"].map(|end| place.bytes(&format!("{out}{end}")))
}

/// What a run that is done has left beside what it should.
fn litter(place: &Place) -> Vec<String> {
    let names = std::fs::read_dir(place.dir.path()).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".tmp") || name.ends_with(".lock")).collect()
}

/// Kill -9 at random moments, again and again, each time gone on with: the end is that of a run that nobody disturbed.
#[test]
fn at_random_moments() {
    let (place, mut moments, due) = (Place::new(), Moments::new(), kills());
    let began = Instant::now();
    place.ok(&words(OUT[0]));
    let (whole, took) = (both(&place, OUT[0]), began.elapsed());
    let (mut killed, mut runs, mut saved) = (0, 0, 0);
    while killed < due {
        runs += 1;
        let out = format!("k{runs}.safetensors");
        let mut first = true;
        loop {
            let words = if first { words(&out) } else { go_on(&place, &out) };
            first = false;
            let mut child = place.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(moments.below(took));
            child.kill().unwrap();
            let ended = child.wait().unwrap();
            check_whole(&place, &out, None);
            match ended.code() {
                None => killed += 1, // by the signal
                Some(code) => {
                    assert_eq!(code, 0, "{words}");
                    break;
                }
            }
            saved += usize::from(place.path(&format!("{out}.last")).exists());
            if killed >= due {
                place.ok(&go_on(&place, &out));
                break;
            }
        }
        assert!(both(&place, &out) == whole, "{out}");
        assert!(litter(&place).is_empty(), "{:?}", litter(&place));
    }
    eprintln!("{killed} kills of {runs} runs, {saved} of them after a save; every end has the bits of the undisturbed run");
}

/// Killed before each call that changes a file: the files are of the last save, or the one before, to the byte.
#[test]
fn before_every_change_of_a_file() {
    let Some(injector) = injector() else { return };
    let place = Place::new();
    // The states of the undisturbed run: what stands there after each rename, which is what the next kill finds.
    let clean = struck(injector, &place, "change", 0, "KILL", &words(OUT[0]));
    assert_eq!(clean.run.code, Some(0), "{}", clean.run.err);
    let (end, mut states) = (both(&place, OUT[0]), BTreeSet::new());
    states.extend(end.clone());
    let renames: Vec<usize> = (0..clean.calls.len()).filter(|i| clean.calls[*i].0.starts_with("rename")).map(|i| i + 2).collect();
    let moments: BTreeSet<usize> = match whole() {
        true => (1..=clean.calls.len()).chain(renames.iter().copied()).collect(),
        false => clean.moments().into_iter().collect(),
    };
    let mut tried = 0;
    for n in moments {
        let out = format!("k{n}.safetensors");
        let killed = struck(injector, &place, "change", n, "KILL", &words(&out));
        if killed.at.is_none() {
            continue;
        }
        assert_eq!(killed.run.code, Some(128 + 9), "{}", killed.run.err);
        check_whole(&place, &out, None);
        let before = ["", ".last"].map(|end| std::fs::read(place.path(&format!("{out}{end}"))).ok());
        if renames.contains(&n) {
            states.extend(before.into_iter().flatten());
        } else if whole() {
            // The renames before this call were tried already.
            check_whole(&place, &out, Some(&states));
        }
        place.ok(&go_on(&place, &out));
        assert!(both(&place, &out) == end, "killed before {}", killed.call());
        assert!(litter(&place).is_empty(), "{:?}", litter(&place));
        for (file, _) in crate::faults::files(place.dir.path()).iter().filter(|(file, _)| file.to_string_lossy().starts_with(&out)) {
            std::fs::remove_file(place.path(&file.to_string_lossy())).unwrap();
        }
        tried += 1;
    }
    eprintln!("{tried} kills, each before another call");
}
