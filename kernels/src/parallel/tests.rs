//! What parts, loops and threads promise.

use super::*;

fn all_threads() -> std::vec::Vec<Threads> {
    #[cfg_attr(not(feature = "std"), allow(unused_mut))]
    let mut all = std::vec![Threads::serial()];
    #[cfg(feature = "std")]
    all.extend([2, 3, 7, 20].map(|n| Threads::oversubscribed(n).expect("threads")));
    #[cfg(feature = "rayon")]
    all.push(Threads::of_rayon(Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads"))));
    all
}

#[test]
fn every_part_is_visited_once() {
    for threads in all_threads() {
        let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
        let mut y = [0.0_f32; 103];
        let mut scratch = std::vec![f32::NAN; 5 * threads.count()];
        cpu.run(Chunks::new(&mut y, 10, 11), &mut scratch, 5, |i, part, scratch| {
            scratch.fill(i as f32);
            part.iter_mut().for_each(|v| *v += 1.0 + scratch[4]);
        });
        for (i, v) in y.iter().enumerate() {
            assert_eq!(*v, 1.0 + (i / 10) as f32);
        }
    }
}

#[test]
fn tiles_cover_a_strided_matrix() {
    // Every second pixel of 2 images of 4 x 6 with 5 channels.
    let mut y = [0.0_f32; 2 * 4 * 6 * 5];
    let map = RowMap { w: 3, h: 2, pixel: 10, line: 60, image: 120, start: 5 };
    let tiles = Tiles::new(&mut y, map, 12, 5, 5, 2);
    let cpu = Cpu { level: Level::PORTABLE, threads: &Threads::serial() };
    assert_eq!(tiles.count(), 3 * 3);
    cpu.run(tiles, &mut [], 0, |_, mut tile, _| {
        for i in 0..tile.rows() {
            tile.row(i).iter_mut().for_each(|v| *v += 1.0);
        }
    });
    for (i, v) in y.iter().enumerate() {
        let (line, pixel) = (i / 30, i / 5 % 6);
        let expected = (line % 4 % 2 == 0 && pixel % 2 == 1) as u8 as f32;
        assert_eq!(*v, expected, "at {i}");
    }
}

#[test]
#[should_panic(expected = "overlap")]
fn overlapping_rows_are_refused() {
    let mut y = [0.0; 64];
    Tiles::new(&mut y, RowMap { w: 4, h: 2, pixel: 4, line: 12, image: 32, start: 0 }, 8, 4, 2, 2);
}

#[test]
fn every_part_of_many_short_loops_is_taken_once() {
    for threads in all_threads() {
        let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
        let mut taken = [0_u32; 67];
        for round in 0..2000 {
            let count = round % (taken.len() + 1);
            cpu.run(Chunks::new(&mut taken[..count], 1, count), &mut [], 0, |_, part, _| part[0] += 1);
        }
        // Of 2000 rounds, those longer than i.
        let expected = |i: usize| (0..2000).filter(|round| round % 68 > i).count() as u32;
        taken.iter().enumerate().for_each(|(i, taken)| assert_eq!(*taken, expected(i)));
    }
}

#[cfg(feature = "std")]
#[test]
fn a_panic_in_a_part_reaches_the_caller_and_the_threads_work_on() {
    for threads in all_threads() {
        let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
        for bad in 0..40 {
            let mut y = [0_u8; 40];
            let parts = Chunks::new(&mut y, 1, 40);
            let loop_ = || cpu.run(parts, &mut [], 0, |i, _, _| assert!(i != bad, "part {i}"));
            let panic = std::panic::catch_unwind(core::panic::AssertUnwindSafe(loop_)).expect_err("one part panics");
            assert_eq!(*panic.downcast::<std::string::String>().expect("a text"), std::format!("part {bad}"));
            cpu.run(Chunks::new(&mut y, 1, 40), &mut [], 0, |_, part, _| part[0] = 1);
            assert_eq!(y, [1; 40]);
        }
    }
}

#[cfg(feature = "std")]
#[test]
fn loops_inside_loops_and_of_other_threads_share_a_team() {
    for threads in all_threads() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let threads = threads.clone();
                scope.spawn(move || {
                    let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
                    for _ in 0..200 {
                        let mut y = [[0_u8; 5]; 9];
                        cpu.run(Chunks::new(&mut y, 1, 9), &mut [], 0, |_, part, _| {
                            cpu.run(Chunks::new(&mut part[0], 1, 5), &mut [], 0, |_, part, _| part[0] += 1);
                        });
                        assert_eq!(y, [[1; 5]; 9]);
                    }
                });
            }
        });
    }
}

/// Half of all sizes, and one: twice it wraps to two or to zero.
const HALF: usize = 1 << (usize::BITS - 1);

/// Asks for every part once, and counts how often each number was handed out.
fn handed_out<'a, P: Parts<Part = &'a mut [u8]>>(parts: &P) {
    for index in 0..parts.count() {
        // SAFETY: below the count, each once.
        unsafe { parts.part(index) }.iter_mut().for_each(|v| *v += 1);
    }
}

#[test]
fn chunks_hand_out_every_number_once_for_all_small_sizes() {
    for len in 0..=12_usize {
        for each in 0..=13 {
            for count in 0..=13 {
                if each * count < len {
                    continue; // refused
                }
                let mut y = std::vec![0_u8; len];
                handed_out(&Chunks::new(&mut y, each, count));
                assert!(y.iter().all(|v| *v == 1), "{len} in {count} of {each}: {y:?}");
                for first in 0..=count {
                    for some in 0..=count - first {
                        let mut y = std::vec![0_u8; len];
                        handed_out(&Section::new(Chunks::new(&mut y, each, count), first, some));
                        let inside = |i: usize| (first * each..(first + some) * each).contains(&i);
                        assert!(y.iter().enumerate().all(|(i, v)| *v == inside(i) as u8), "parts {first}, {some}: {y:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn chunks_whose_ends_do_not_fit_are_handed_out_once() {
    for (each, count) in [(HALF, 3), (HALF, 5), (HALF + 1, 4), (usize::MAX, 3), (usize::MAX / 3 + 1, 7)] {
        for threads in all_threads() {
            let mut y = [0_u8; 8];
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            cpu.run(Chunks::new(&mut y, each, count), &mut [], 0, |_, part, _| part.iter_mut().for_each(|v| *v += 1));
            assert_eq!(y, [1; 8], "{count} of {each}");
        }
    }
}

#[test]
fn ranges_of_parts_lie_one_behind_the_other_for_any_count() {
    for count in (0..200).chain([HALF - 1, HALF, HALF + 1, usize::MAX - 1, usize::MAX]) {
        for threads in 1..=20 {
            let left = Left::new(count, threads);
            assert_eq!((left.bound(0), left.bound(left.ranges)), (0, count));
            for range in 0..left.ranges {
                // The same cut as ever, in numbers that do not wrap.
                assert_eq!(left.bound(range) as u128, range as u128 * count as u128 / left.ranges as u128);
                assert!(left.bound(range) <= left.bound(range + 1));
            }
        }
    }
}

#[cfg(feature = "std")] // without it there is one range
#[test]
fn the_last_parts_of_the_longest_loop_are_taken_once() {
    // All but the last two parts of each range are taken; several threads come for the rest, and again.
    let left = Left::new(usize::MAX, 4);
    for (range, taken) in left.taken[..4].iter().enumerate() {
        taken.0.store(left.bound(range + 1) - left.bound(range) - 2, Ordering::Relaxed);
    }
    let mut seen = std::vec::Vec::new();
    for thread in [3, 0, 1, 2, 3, 0] {
        left.each(thread, |index| seen.push(index));
    }
    seen.sort_unstable();
    let mut expected: std::vec::Vec<_> = (1..=4).flat_map(|range| [left.bound(range) - 2, left.bound(range) - 1]).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
}

#[cfg(feature = "std")]
fn refused<R>(what: &str, work: impl FnOnce() -> R) {
    let panic = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(work()))).expect_err(what);
    let text = panic.downcast_ref::<std::string::String>().map(|s| s.as_str()).or(panic.downcast_ref::<&str>().copied());
    assert!(text.is_some_and(|text| text.contains(what)), "{text:?} says nothing of {what}");
}

#[cfg(feature = "std")]
#[test]
fn scratch_that_two_threads_would_share_is_refused() {
    let threads = Threads::oversubscribed(4).expect("threads");
    let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
    let mut scratch = [0.0; 4];
    // Four times each of these wraps to no more than 4.
    for each in [HALF, HALF + 1, HALF / 2, HALF / 2 + 1, usize::MAX / 4 + 1, usize::MAX] {
        refused("scratch of 4 numbers", || cpu.run(Calls(4), &mut scratch, each, |_, (), _| unreachable!()));
    }
}

#[cfg(feature = "std")]
#[test]
fn sizes_that_wrap_are_refused() {
    let mut y = [0.0; 64];
    let plain = RowMap::plain(8, 8);
    refused("do not cover", || Chunks::new(&mut y, 0, usize::MAX));
    for (first, count) in [(usize::MAX - 2, 4), (usize::MAX, usize::MAX), (HALF, HALF), (HALF, HALF + 1), (3, 2), (5, 0)] {
        refused("parts from part", || Section::new(Tiles::new(&mut y, plain, 8, 8, 2, 8), first, count));
    }
    for (first, m) in [(usize::MAX, 1), (usize::MAX, 2), (usize::MAX - 7, 8), (HALF, HALF)] {
        refused("rows from row", || Tiles::from_row(&mut y, plain, first, m, 8, 2, 8));
    }
    for first in [1, 8, HALF / 4, HALF / 8, usize::MAX - 8] {
        refused("leaves its 64 numbers", || {
            let map = RowMap { w: usize::MAX, line: usize::MAX, image: usize::MAX, ..plain };
            Tiles::from_row(&mut y, map, first, 8, 8, 2, 8)
        });
    }
    refused("leaves its 64 numbers", || Tiles::new(&mut y, RowMap { start: usize::MAX - 7, ..plain }, 1, 8, 1, 8));
    refused("leaves its 64 numbers", || Tiles::new(&mut y, RowMap { pixel: HALF, ..plain }, 3, 8, 1, 8));
    refused("overlap", || Tiles::new(&mut y, RowMap { w: 3, h: 2, pixel: HALF, line: 8, image: 64, start: 0 }, 6, 8, 1, 8));
    refused("overlap", || Tiles::new(&mut y, RowMap { w: 1, h: 3, pixel: 8, line: HALF, image: 8, start: 0 }, 6, 8, 1, 8));
    refused("address space", || RowMap::plain(HALF, 2));
    refused("counted from", || Tiles::new(&mut y, plain, 8, 8, 2, 8).numbered_from(usize::MAX));
    refused("different numbers of parts", || (Calls(2), Calls(3)).count());
}

/// Whether [`Tiles`] takes such a matrix.
fn taken(map: &RowMap, first: usize, m: usize, n: usize, len: usize) -> bool {
    let Some(end) = first.checked_add(m) else { return false };
    map.ascends(end, n).is_ok() && (m == 0 || map.reach(end, n).is_some_and(|all| all <= len))
}

#[test]
fn tiles_hand_out_every_number_of_their_rows_once_for_all_small_sizes() {
    const LEN: usize = 26;
    let (mut taken_maps, mut y) = (0, [0.0_f32; LEN]);
    let sizes = |most: [usize; 9]| {
        let all: usize = most.iter().map(|most| most + 1).product();
        (0..all).map(move |mut i| {
            let mut sizes = [0; 9];
            for (size, most) in sizes.iter_mut().zip(most) {
                (*size, i) = (i % (most + 1), i / (most + 1));
            }
            sizes
        })
    };
    for [w, h, pixel, line, image, start, first, m, n] in sizes([2, 1, 3, 7, 12, 1, 2, 6, 3]) {
        let map = RowMap { w: w + 1, h: h + 1, pixel, line, image, start };
        if !taken(&map, first, m, n, LEN) {
            continue;
        }
        taken_maps += 1;
        for (rows, columns, period) in [(1, 1, m), (2, 2, m), (3, 1, m), (2, 3, m / 2), (2, 2, m / 3), (9, 9, 1)] {
            if period == 0 || m % period != 0 {
                continue;
            }
            y.fill(0.0);
            let tiles = Tiles::from_row(&mut y, map, first, m, n, rows, columns).with_period(period);
            for index in 0..tiles.count() {
                // SAFETY: below the count, each once.
                let mut tile = unsafe { tiles.part(index) };
                (0..tile.rows()).for_each(|i| tile.row(i).iter_mut().for_each(|v| *v += 1.0));
            }
            let mut expected = [0.0_f32; LEN];
            (first..first + m).for_each(|row| expected[map.row(row)..][..n].iter_mut().for_each(|v| *v += 1.0));
            assert!(expected.iter().all(|v| *v <= 1.0), "rows overlap");
            assert_eq!(y, expected);
        }
    }
    assert!(taken_maps > 10_000, "{taken_maps}");
}

#[test]
fn tiles_beyond_a_column_and_pieces_of_tiles_hand_out_every_number_once() {
    let mut y = [0.0_f32; 5 * 6];
    let sizes = [1, 2, 3, 5];
    for (m, n) in (0..=5).flat_map(|m| (1..=6).map(move |n| (m, n))) {
        for from in 0..=n {
            for (rows, columns) in sizes.iter().flat_map(|rows| sizes.map(|columns| (*rows, columns))) {
                for piece in sizes {
                    y.fill(0.0);
                    let map = RowMap { w: m.max(1), h: 1, pixel: n, line: m.max(1) * n, image: m.max(1) * n, start: 0 };
                    let tiles = Tiles::new(&mut y, map, m, n, rows, columns).beyond_column(from);
                    for index in 0..tiles.count() {
                        // SAFETY: below the count, each once.
                        let mut tile = unsafe { tiles.part(index) };
                        for first in (0..tile.rows()).step_by(piece) {
                            let count = piece.min(tile.rows() - first);
                            let mut part = tile.part(first, count);
                            // Whole rows as one slice, others one by one.
                            match part.columns() == n {
                                true => part.rows_from(0, count).iter_mut().for_each(|v| *v += 1.0),
                                false => (0..count).for_each(|i| part.row(i).iter_mut().for_each(|v| *v += 1.0)),
                            }
                        }
                    }
                    for (i, v) in y.iter().enumerate() {
                        let inside = i < m * n && i % n >= from;
                        assert_eq!(*v, f32::from(inside), "{m} x {n} from column {from}, tiles of {rows} x {columns}, at {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn parts_of_two_slices_stay_together() {
    let (mut x, mut y) = ([0_u8; 7], [0_u8; 12]);
    let both = (Chunks::new(&mut x, 2, 4), Chunks::new(&mut y, 3, 4));
    for index in 0..both.count() {
        // SAFETY: below the count, each once.
        let (x, y) = unsafe { both.part(index) };
        x.iter_mut().chain(y).for_each(|v| *v += 1 + index as u8);
    }
    assert_eq!((x, y), ([1, 1, 2, 2, 3, 3, 4], [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]));
}

#[test]
fn a_matrix_is_taken_only_where_wide_numbers_say_that_it_fits() {
    let some = [0, 1, 2, 3, 8, HALF / 2, HALF - 1, HALF, HALF + 1, usize::MAX - 7, usize::MAX];
    let wide = |n: usize| n as u128;
    let mut taken_maps = 0;
    for w in &some[1..] {
        for h in &some[1..] {
            for pixel in some {
                for line in some {
                    for image in some {
                        for (start, first, m, n) in
                            [(0, 0, 3, 1), (usize::MAX - 7, 0, 1, 8), (0, HALF, 2, 1), (3, 1, HALF, 1), (1, 2, 7, 3), (HALF, 0, 2, 2)]
                        {
                            let map = RowMap { w: *w, h: *h, pixel, line, image, start };
                            if !taken(&map, first, m, n, 64) {
                                continue;
                            }
                            taken_maps += 1;
                            let place = |row: usize| {
                                let (l, x) = (wide(row / map.w), wide(row % map.w));
                                let (l, i) = (l % wide(map.h), l / wide(map.h));
                                wide(map.start) + i * wide(map.image) + l * wide(map.line) + x * wide(map.pixel)
                            };
                            assert!(m <= 64, "more rows than numbers");
                            for row in first..first + m {
                                assert_eq!(wide(map.row(row)), place(row), "{first} {row}");
                                assert!(place(row) + wide(n) <= 64);
                                assert!(row == first || place(row - 1) + wide(n) <= place(row));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(taken_maps > 0);
}

/// Panics when it is dropped.
#[cfg(feature = "std")]
struct Bomb;

#[cfg(feature = "std")]
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic's own value panics");
    }
}

#[cfg(feature = "std")]
#[test]
fn panics_whose_values_panic_when_dropped_hang_nobody() {
    let loops = std::thread::spawn(|| {
        for threads in all_threads() {
            let cpu = Cpu { level: Level::PORTABLE, threads: &threads };
            for _ in 0..50 {
                let loop_ = || cpu.run(Calls(40), &mut [], 0, |_, (), _| std::panic::resume_unwind(std::boxed::Box::new(Bomb)));
                let panic = std::panic::catch_unwind(core::panic::AssertUnwindSafe(loop_)).expect_err("every part panics");
                assert!(panic.is::<Bomb>());
                core::mem::forget(panic);
                let mut y = [0_u8; 40];
                cpu.run(Chunks::new(&mut y, 1, 40), &mut [], 0, |_, part, _| part[0] += 1);
                assert_eq!(y, [1; 40]);
            }
        }
    });
    let began = std::time::Instant::now();
    while !loops.is_finished() {
        assert!(began.elapsed().as_secs() < 120, "the loops hang");
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    loops.join().expect("what is asserted in the thread holds");
}

#[cfg(feature = "std")]
#[test]
fn more_threads_than_a_process_can_have_are_an_error() {
    for count in [4097, 2_000_000, 1 << 45_u32.min(usize::BITS - 2), HALF, usize::MAX] {
        for threads in [Threads::new(count), Threads::oversubscribed(count)] {
            let error = threads.err().expect("an error");
            assert_eq!(error.count, count);
            assert_eq!(
                std::string::ToString::to_string(&error),
                std::format!("can't start {count} threads (the most are 4096); ask for 1 to do without")
            );
        }
    }
    assert_eq!(Threads::new(0).expect("the caller's").count(), 1);
}
