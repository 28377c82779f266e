//! PyTorch's numbers: scenarios that `golden/make.py` ran in float64, at every level that this machine
//! has, with the update after and during the walk, with one and two threads, by every algorithm.

use nunatak_nn::{Algorithm, Level, Update};
use nunatak_tests::{Golden, teams};

#[test]
fn every_scenario_is_pytorchs() {
    for golden in Golden::all() {
        for level in Level::available() {
            for update in [Update::After, Update::During] {
                for threads in teams(&[1, 2]) {
                    let what = format!("{level} {update:?} {} threads", threads.count());
                    let (first, rest) = golden.check(&what, &golden.run(level, threads, update, None));
                    println!("{} {what}: {first:.1e} {rest:.1e}", golden.name);
                }
            }
        }
    }
}

#[test]
fn every_algorithm_is_pytorchs() {
    for golden in Golden::all() {
        for &algorithm in Algorithm::ALL {
            let threads = teams(&[2]).remove(0);
            let got = golden.run(Level::detect(), threads, Update::After, Some(algorithm));
            golden.check(&format!("{algorithm}"), &got);
        }
    }
}

/// A test that can't fail is worth nothing: the check itself must see an error in one number.
#[test]
#[should_panic(expected = "is off by")]
fn the_check_sees_a_wrong_number() {
    let golden = Golden::all().into_iter().find(|g| g.name == "small_mse").expect("a golden");
    let mut got = golden.run(Level::PORTABLE, nunatak_nn::Threads::serial(), Update::After, None);
    let weight = got.get_mut("grad.layer2.0.conv1.weight").expect("a gradient");
    let largest = weight.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    weight[3] += 3e-4 * largest;
    golden.check("spoilt", &got);
}
