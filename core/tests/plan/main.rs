//! Properties of needs and plans, on random graphs and random trainable sets.
//!
//! The main one walks a plan as a trainer does, on memory that only remembers who wrote it last: every
//! read must find what was written for it. This does not trust the lifetimes that the plan was made
//! from.

mod cases;
mod walk;

use cases::{Any, Case, ENTRIES, case, entry_len};
use nunatak_core::arena::{self, UNIT};
use nunatak_core::lifetime::{Slot, SlotOf, Uses, Walk};
use nunatak_core::needs::{Mark, Need, Needs};
use nunatak_core::plan::{NodeSpans, Plan, PlanRoom, Span};
use nunatak_core::repeat::Repeat;
use nunatak_core::tape::{EntryId, MAX_INPUTS, Operation, Tape, ValueId};
use nunatak_core::{Error, Shape, Update};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use walk::walk;

fn plan(case: &Case) -> (Needs<'static>, Plan<'static>) {
    let needs = case.needs(&case.trainable);
    let mut plan = Plan::new();
    plan.make(&case.walk(&needs), &[]).expect("a plan");
    (needs, plan)
}

/// How much more than the largest sum of live buffers a plan takes.
fn excess(case: &Case) -> f64 {
    let (_, plan) = plan(case);
    let end = plan.slots().iter().map(|s| s.end).max().unwrap_or(0);
    let live = |time: u32| plan.slots().iter().filter(|s| s.begin <= time && time <= s.end).map(|s| s.units as usize).sum::<usize>();
    let least = (0..=end).map(live).max().unwrap_or(0);
    assert_eq!(plan.live_bytes() as usize, least * arena::ALIGN);
    assert_eq!(live(plan.peak()), least, "the busiest time");
    assert!(plan.len() >= least * UNIT, "no plan can do with less than what lives at once");
    plan.len() as f64 / (least * UNIT).max(1) as f64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_read_finds_what_was_written_for_it(case in case()) {
        let (needs, plan) = plan(&case);
        walk(&case, needs, plan);
    }

    #[test]
    fn no_two_live_buffers_overlap(case in case()) {
        let (_, plan) = plan(&case);
        let slots = plan.slots();
        for (i, a) in slots.iter().enumerate() {
            prop_assert!((a.offset + a.units) as usize * UNIT <= plan.len());
            prop_assert!(a.begin <= a.end);
            for b in &slots[..i] {
                let shares = a.offset < b.offset + b.units && b.offset < a.offset + a.units;
                prop_assert!(!(shares && a.meets(b)), "{a:?} {b:?}");
            }
        }
    }

    /// Freezing is absence: what is computed for a smaller set is part of what is for a larger one.
    #[test]
    fn fewer_parameters_need_no_more(case in case(), mask in any::<u16>()) {
        let fewer: BTreeSet<u32> = case.trainable.iter().copied().filter(|id| mask >> id & 1 == 1).collect();
        let (more, less) = (case.needs(&case.trainable), case.needs(&fewer));
        for v in case.tape.values() {
            let (more, less, params) = (more.at(v), less.at(v), case.tape.nodes()[v.index()].op.params);
            prop_assert_eq!(less.dx & !more.dx, 0);
            for (i, param) in params.iter().enumerate() {
                prop_assert!(more.dw[i] || !less.dw[i]);
                prop_assert!(!less.dw[i] || param.is_some_and(|id| fewer.contains(&id.0)));
            }
            prop_assert!(more.gradient || !less.gradient);
        }
        let nothing_wanted = Case { keep_gradients: Vec::new(), ..case };
        let none = nothing_wanted.needs(&BTreeSet::new());
        prop_assert!(!none.trains() && nothing_wanted.tape.values().all(|v| !none.at(v).backward()));
    }

    /// A block of exactly the bytes will do wherever it starts; one byte less names both numbers.
    #[test]
    fn bytes_suffice_and_one_less_does_not(case in case(), start in 0..64_usize) {
        let (_, plan) = plan(&case);
        let bytes = arena::block_bytes(plan.len());
        let mut block = vec![0_u8; start + bytes];
        prop_assert_eq!(arena::numbers(&mut block[start..], plan.len()).map(|b| b.len()), Ok(plan.len()));
        let less = arena::numbers(&mut block[start + 1..], plan.len()).map(|b| b.len());
        prop_assert_eq!(less, Err(Error::ArenaTooSmall { needed: bytes, given: bytes - 1 }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// In several regions a walk finds what was written for it too, and no buffer lies in two. What finds no place is an
    /// error that names a region and more bytes than it has.
    #[test]
    fn buffers_lie_in_one_region(case in case(), shares in prop::collection::vec((0_u32..80, 0_u32..9), 1..5)) {
        let needs = case.needs(&case.trainable);
        let all = plan(&case).1.len() / UNIT;
        let (mut regions, mut at) = (Vec::new(), 0);
        for (share, gap) in shares {
            let units = all as u32 * share / 40;
            regions.push(at + gap..at + gap + units);
            at += gap + units;
        }
        regions.reverse(); // the fastest lies behind the others
        let mut plan = Plan::new();
        match plan.make(&case.walk(&needs), &regions) {
            Ok(()) => {
                for slot in plan.slots() {
                    let inside = |r: &Range<u32>| r.start <= slot.offset && slot.offset + slot.units <= r.end;
                    prop_assert_eq!(regions.iter().filter(|r| inside(r)).count(), 1, "{:?} in {:?}", slot, regions);
                }
                walk(&case, needs, plan);
            }
            Err(Error::RegionFull { region, given, needed }) => {
                prop_assert!(given == regions[region].len() * arena::ALIGN && needed > given, "{} {} {}", region, given, needed);
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

/// Over many random graphs: never below what lives at once, and seldom much above it.
#[test]
fn plans_are_tight() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    // Always the same graphs: a percentile must not fail by chance.
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cases = case();
    let mut all: Vec<f64> = (0..2000).map(|_| excess(&cases.new_tree(&mut runner).expect("a case").current())).collect();
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    println!("peak over live: median {:.3}, 99th percentile {:.3}, worst {:.3}", at(0.5), at(0.99), at(1.0));
    assert!(at(0.99) <= 1.2, "the 99th percentile is {}", at(0.99));
}

/// The walks above do compute values again: each that backward reads, where every value is asked for, and none otherwise.
#[test]
fn values_are_computed_again_where_they_are_asked_for() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (cases, mut repeated) = (case(), 0);
    for _ in 0..300 {
        let case = cases.new_tree(&mut runner).expect("a case").current();
        let count = |case: &Case| case.tape.values().map(|v| plan(case).1.again_before(v).count()).sum::<usize>();
        repeated += count(&Case { again: case.tape.values().collect(), ..case.clone() });
        assert_eq!(count(&Case { again: Vec::new(), ..case }), 0);
    }
    assert!(repeated > 300, "{repeated}");
}

/// In slices of the caller's the same plan is made; one place too few is an error that names how many there were.
#[test]
fn lent_slices_hold_the_same_plan_or_say_that_they_are_full() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cases = case();
    let mut full = 0;
    for _ in 0..200 {
        let case = cases.new_tree(&mut runner).expect("a case").current();
        let (needs, owned) = plan(&case);
        let nodes = case.tape.nodes().len();
        let make = |slots: usize, nodes: usize, entries: usize| {
            let (mut spans, mut of) = (vec![NodeSpans::default(); nodes], vec![SlotOf::UNUSED; nodes]);
            let (mut places, mut uses) = (vec![Span::default(); entries], vec![Uses::UNUSED; entries]);
            let mut repeats = vec![Repeat::UNUSED; if case.again.is_empty() { 0 } else { nodes }];
            let (mut list, mut orders) = (vec![Slot::UNUSED; slots], [(); 3].map(|()| vec![0; slots]));
            let [a, b, c] = &mut orders;
            let orders = [&mut a[..], &mut b[..], &mut c[..]];
            let room = PlanRoom {
                nodes: &mut spans,
                slot_of: &mut of,
                entries: &mut places,
                uses: &mut uses,
                slots: &mut list,
                orders,
                repeats: &mut repeats,
            };
            let mut plan = Plan::lent(room);
            plan.make(&case.walk(&needs), &[])?;
            let ranges = case.tape.values().flat_map(|v| {
                let s = plan.node(v);
                [s.value, s.gradient, s.saved, s.forward_scratch, s.backward_scratch, s.addend].map(Span::range)
            });
            let entries = (0..ENTRIES as u32).map(|id| plan.entry(EntryId(id)).range());
            Ok((plan.len(), ranges.chain(entries).collect::<Vec<_>>()))
        };
        let slots = owned.slots().len();
        assert!(slots <= (if case.again.is_empty() { 6 } else { 8 }) * nodes + ENTRIES, "no more buffers than are promised");
        let (len, ranges) = make(slots, nodes, ENTRIES).expect("exactly enough");
        assert_eq!(len, owned.len());
        assert_eq!(ranges[0], owned.node(ValueId(0)).value.range());
        assert_eq!(make(slots + 5, nodes + 1, ENTRIES + 1), Ok((len, ranges)), "more room changes nothing");
        for (slots, nodes, entries, capacity) in
            [(slots.wrapping_sub(1), nodes, ENTRIES, slots.wrapping_sub(1)), (slots, nodes - 1, ENTRIES, nodes - 1), (slots, nodes, 3, 3)]
        {
            if slots < usize::MAX {
                assert_eq!(make(slots, nodes, entries).err(), Some(Error::ListFull { capacity }));
                full += 1;
            }
        }
    }
    assert!(full > 500, "{full}");
}

#[test]
fn full_tapes_say_so_and_unknown_values_are_errors() {
    let shape = Shape::new(1, 40, 1, 1).expect("a shape");
    let (mut nodes, mut inputs) = ([Tape::<Any>::unused(); 3], [ValueId(0); 2]);
    let mut tape = Tape::lent(&mut nodes, &mut inputs);
    let x = tape.push(Any::NOTHING, &[], shape).expect("room");
    assert_eq!(tape.push(Any::NOTHING, &[x, x, x], shape), Err(Error::ListFull { capacity: 2 }), "inputs");
    assert_eq!(tape.push(Any::NOTHING, &[ValueId(1)], shape), Err(Error::UnknownValue { value: 1, values: 1 }));
    let mut owned = Tape::<Any>::new();
    let x = owned.push(Any::NOTHING, &[], shape).expect("room");
    let all = vec![x; MAX_INPUTS];
    let y = owned.push(Any::NOTHING, &all, shape).expect("as many as there can be");
    assert_eq!(owned.push(Any::NOTHING, &vec![x; MAX_INPUTS + 1], shape), Err(Error::ListFull { capacity: MAX_INPUTS }));
    assert_eq!(owned.inputs(y), all);
    assert_eq!(owned.rewrite(x, Any::NOTHING, &[x]), Err(Error::UnknownValue { value: 0, values: 0 }));
    assert_eq!(owned.replace(x, y), Err(Error::UnknownValue { value: 1, values: 0 }));
    assert_eq!(owned.absorb(ValueId(2)), Err(Error::UnknownValue { value: 2, values: 2 }));
    let (mut needs, mut marks) = ([Need::default(); 1], [Mark::default(); 2]);
    let found = Needs::lent(&mut needs, &mut marks).find(&owned, Some(y), &|_| true, &[]);
    assert_eq!(found, Err(Error::ListFull { capacity: 1 }));
}

/// Sizes whose sum fits no machine are errors, not wrapped numbers.
#[test]
fn plans_that_are_too_large_are_refused() {
    let most = Shape::new(1, 1 << 31, 1, 1).or_else(|_| Shape::new(1, (1 << 31) - 1, 1, 1)).expect("a shape");
    let mut tape: Tape<Any> = Tape::new();
    let x = tape.push(Any::NOTHING, &[], most).expect("room");
    let huge = Any { saved: usize::MAX / 8, ..Any::NOTHING };
    let y = tape.push(huge, &[x], most).expect("room");
    let mut needs = Needs::new();
    needs.find(&tape, None, &|_| true, &[]).expect("memory");
    let (keep, tape) = ([y], &tape);
    let walk = Walk {
        tape,
        needs: &needs,
        context: &(),
        entry_len: &entry_len,
        entries: 0,
        keep: &keep,
        keep_gradients: &[],
        update: Update::After,
        again: &[],
    };
    assert!(matches!(Plan::new().make(&walk, &[]), Err(Error::TooLarge { .. })));
}
