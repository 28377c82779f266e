use nunatak_core::Error;
use nunatak_kernels::weights::*;

#[test]
fn packing_is_undone_by_unpacking() {
    for (k, c, taps) in [(1, 1, 1), (10, 3, 9), (16, 5, 1), (33, 2, 4), (64, 3, 49), (48, 7, 9), (24, 1, 9), (72, 1, 25)] {
        let layout = WeightLayout::new(k, c, taps).expect("a weight");
        assert_eq!(layout.numbers(), k * c * taps);
        assert!(layout.len() - layout.numbers() <= 15 * c * taps);
        let x: Vec<f32> = (0..k * c * taps).map(|i| i as f32 + 1.0).collect();
        let (mut packed, mut y) = (vec![f32::NAN; layout.len()], vec![f32::NAN; x.len()]);
        layout.pack(&x, &mut packed);
        layout.unpack(&packed, &mut y);
        assert_eq!(x, y);
        for (i, v) in x.iter().enumerate() {
            assert_eq!(packed[layout.index_of(i)], *v);
        }
        assert_eq!(packed.iter().filter(|v| **v == 0.0).count(), layout.len() - x.len());
    }
}

#[test]
fn layouts_grow_in_place() {
    let sizes = [1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 80, 96, 97, 130];
    for (old, new) in sizes.iter().flat_map(|old| sizes.iter().filter(move |new| *new >= old).map(move |new| (*old, *new))) {
        for (c, taps) in [(1, 1), (2, 1), (7, 1), (3, 9), (64, 1)] {
            let (from, to) = (WeightLayout::new(old, c, taps).expect("a weight"), WeightLayout::new(new, c, taps).expect("a weight"));
            let mut x: Vec<f32> = (0..from.numbers()).map(|i| i as f32 + 1.0).collect();
            // What lies behind does not matter.
            let (mut grown, mut due) = (vec![f32::NAN; to.len()], vec![f32::NAN; to.len()]);
            from.pack(&x, &mut grown[..from.len()]);
            to.grow(from, &mut grown);
            x.resize(to.numbers(), 0.0);
            to.pack(&x, &mut due);
            assert_eq!(grown, due, "{old} to {new}, {c} x {taps}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    assert_eq!(WeightLayout::new(0, 1, 1), Err(Error::ZeroDimension { dimension: "n" }));
    for (k, c, taps) in [(usize::MAX, 1, 1), (1 << 30, 1 << 30, 9), (1, usize::MAX, 2), (u32::MAX as usize, 1, 1), (3, 1 << 31, 1 << 31)] {
        assert!(WeightLayout::new(k, c, taps).is_err(), "{k} {c} {taps}");
    }
}
