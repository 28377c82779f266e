//! The promise about memory: parsing takes at most twice the file and 1 MiB, whatever the bytes;
//! and random damage never panics. One file, since it needs an allocator of its own.

mod support;

use nunatak_nn::files::Checkpoint;
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};
use support::{Zip, dict_of, floats_of, golden, int, ints, member, pickled, pth, read_all, rebuild, safetensors, storage, text};

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    // Threads that are ending have no cells any more; they are of no interest.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // As if old and new stood side by side.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Parses, and checks memory and time against the file's size.
#[track_caller]
fn within_bounds(what: &str, bytes: &[u8]) -> bool {
    let start = NOW.get();
    PEAK.set(start);
    let clock = Instant::now();
    let good = Checkpoint::parse(bytes).is_ok();
    let (took, used) = (clock.elapsed(), (PEAK.get() - start) as usize);
    let limit = 2 * bytes.len() + (1 << 20);
    assert!(used <= limit, "{what}: {used} bytes of memory for a file of {}", bytes.len());
    let allowed = Duration::from_millis(300) + Duration::from_nanos(bytes.len() as u64 * 400);
    assert!(took < allowed, "{what}: {took:?} for a file of {} bytes", bytes.len());
    good
}

#[test]
fn hostile_pickles_stay_within_bounds() {
    let n = 1 << 20;
    let tensor = rebuild(&storage("FloatStorage", "0", 6), 0, &[6], &[1]);
    let shaped = rebuild(&storage("FloatStorage", "0", 6), 0, &[1; 8], &[1; 8]);
    let long_key = text(&"k".repeat(1000));
    let many_names = |tensor: &[u8], n: usize| {
        let mut body = [b"]", tensor, b"q\0a}("].concat();
        for i in 0..n {
            body.extend(text(&format!("{i:x}")));
            body.extend(b"h\0");
        }
        [&body[..], b"u\x86"].concat()
    };
    for (what, body) in [
        ("nulls", b"N".repeat(n)),
        ("nulls in a tuple", [b"(", &b"N".repeat(n)[..], b"t"].concat()),
        ("empty tuples", b")".repeat(n)),
        ("nested tuples", [b")", &b"\x85".repeat(n)[..]].concat()),
        ("wide tuples", [&b")q\0"[..], &b"h\0h\0h\0\x87q\0".repeat(n / 8)].concat()),
        ("dicts", b"}".repeat(n)),
        ("lists", b"]".repeat(n)),
        ("lists in lists", [b"](", &b"]".repeat(n)[..], b"e"].concat()),
        ("a list that grows", [b"]", &b"]a".repeat(n / 2)[..]].concat()),
        ("marks", b"(".repeat(n)),
        ("memo", [b"N", &b"\x94".repeat(n)[..]].concat()),
        ("ordered dicts", [&b"ccollections\nOrderedDict\nq\0"[..], &b"h\0)R".repeat(n / 4)].concat()),
        ("pairs", [&b"}("[..], &b"U\x01aN".repeat(n / 4), b"u"].concat()),
        ("tensors", [&b"("[..], &tensor.repeat(n / tensor.len()), b"t"].concat()),
        ("names", many_names(&tensor, n / 8)),
        ("names of rank 8", many_names(&shaped, n / 8)),
        ("names at the top", {
            let mut body = b"}(".to_vec();
            body.extend([&text("w")[..], &tensor, b"q\0"].concat());
            for i in 0..n / 8 {
                body.extend([b"X\x04\0\0\0", format!("{i:04x}").as_bytes().get(..4).unwrap(), b"h\0"].concat());
            }
            body.push(b'u');
            body
        }),
        ("one long name again and again", {
            let mut body = b"}(".to_vec();
            body.extend([&long_key[..], b"q\x01", &tensor, b"q\0"].concat());
            body.extend(b"h\x01h\0".repeat(n / 4));
            body.push(b'u');
            body
        }),
        ("a long string as shape", [&text(&"s".repeat(n))[..], b"q\0", &b"h\0\x85".repeat(1000)].concat()),
        ("long tuples as shape", {
            let mut body = [b"(", &b"K\x01".repeat(50_000)[..], b"tq\x01"].concat();
            let call =
                [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage("FloatStorage", "0", 6)[..], &int(0), b"h\x01h\x01\x89}tR"].concat();
            body.extend(call.repeat(1000));
            body
        }),
        ("storages", storage("FloatStorage", "0", 6).repeat(n / 60)),
        ("big shapes", ints(&[1; 100_000])),
    ] {
        let pickle = pickled(&body);
        within_bounds(what, &pth(&pickle, &[&floats_of(6)]).build());
        within_bounds(what, &pickle);
    }
}

#[test]
fn hostile_containers_stay_within_bounds() {
    let many = Zip { members: (0..60_000).map(|i| member(&format!("{i:x}"), b"")).collect(), ..Zip::default() };
    within_bounds("members", &many.build());
    let mut good = pth(&dict_of(&rebuild(&storage("FloatStorage", "0", 6), 0, &[6], &[1])), &[&floats_of(6)]);
    good.members.extend((0..60_000).map(|i| member(&format!("a/{i:x}"), b"")));
    assert!(within_bounds("good with many members", &good.build()));
    let bombed = pth(&pickled(&b"N".repeat(5 << 20)), &[]);
    let mut both = good.clone();
    both.members[0] = bombed.members[0].clone();
    within_bounds("members and pickle", &both.build());

    let mut tensors = String::from("{");
    let mut pairs = String::from("{\"__metadata__\":{");
    for i in 0..100_000 {
        let comma = if i == 0 { "" } else { "," };
        tensors += &format!(r#"{comma}"{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        pairs += &format!(r#"{comma}"{i:x}":"""#);
    }
    within_bounds("empty tensors", &safetensors(&(tensors + "}"), &[]));
    within_bounds("metadata", &safetensors(&(pairs + "}}"), &[]));
    let escaped = format!(r#"{{"__metadata__":{{"{}":""}}}}"#, r"\u0041".repeat(500_000));
    within_bounds("escapes", &safetensors(&escaped, &[]));
    let braces = "{".repeat(1 << 20);
    within_bounds("braces", &safetensors(&braces, &[]));
}

#[test]
fn good_files_stay_within_bounds() {
    for name in ["zip.pth", "legacy.pth", "nested.pth", "views.pth", "dtypes.pth", "small.safetensors", "dtypes.safetensors"] {
        assert!(within_bounds(name, &golden(name)), "{name}");
    }
}

/// As many entries as ResNet-152 has, all of them tiny: the bounds must not refuse real models.
#[test]
fn a_thousand_small_tensors_are_no_attack() {
    use nunatak_nn::files::{Data, TensorOut, write_pth, write_safetensors};
    let names: Vec<String> = (0..1000).map(|i| format!("layer3.{i}.bn1.num_batches_tracked")).collect();
    let tensors: Vec<_> = names.iter().map(|name| TensorOut { name, shape: &[], data: Data::I64(&[3]) }).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    write_pth(&path, &tensors, &Default::default()).unwrap();
    assert!(within_bounds("pth", &std::fs::read(&path).unwrap()));
    write_safetensors(&path, &tensors, &Default::default()).unwrap();
    assert!(within_bounds("safetensors", &std::fs::read(&path).unwrap()));
}

fn seeds() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        "zip.pth",
        "legacy.pth",
        "nested.pth",
        "nested_legacy.pth",
        "views.pth",
        "views_legacy.pth",
        "dtypes.safetensors",
        "small.safetensors",
        "parameters.pth",
        "zip_protocol4.pth",
    ])
    .prop_map(golden)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        mut bytes in seeds(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..8),
    ) {
        for (place, value, kind) in edits {
            if bytes.is_empty() {
                break;
            }
            let i = place.index(bytes.len());
            match kind {
                0 => bytes[i] = value,
                1 => { bytes.remove(i); }
                2 => bytes.insert(i, value),
                _ => bytes.truncate(i.max(1)),
            }
        }
        within_bounds("damaged", &bytes);
        let _ = read_all(&bytes);
    }

    /// Damage inside the pickle with the checksums made right again, so that it gets past the zip.
    #[test]
    fn damaged_pickles_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let tensor = rebuild(&storage("FloatStorage", "0", 6), 1, &[2, 2], &[3, 1]);
        let mut pickle = pickled(&[b"}q\0(", &text("v")[..], &tensor, b"q\x01", &text("w"), b"h\x01u}q\x02b"].concat());
        for (place, value, kind) in edits {
            let i = place.index(pickle.len());
            match kind {
                0 => pickle[i] = value,
                1 if pickle.len() > 1 => { pickle.remove(i); }
                _ => pickle.insert(i, value),
            }
        }
        let file = pth(&pickle, &[&floats_of(6)]).build();
        within_bounds("damaged", &file);
        let _ = read_all(&file);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_all(&bytes);
        let _ = read_all(&[&b"\x80\x02"[..], &bytes].concat());
        let _ = read_all(&safetensors(&String::from_utf8_lossy(&bytes), &[]));
    }
}
