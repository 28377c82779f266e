//! Sorting without recursion, and in little code: a quicksort calls itself, and takes 25 kB of a board's
//! flash in all its cases.

/// Heapsort: at most 2·n·log₂ n comparisons, no memory, equal elements in any order.
pub(crate) fn sort_by_key<T: Copy, K: Ord>(items: &mut [T], key: impl Fn(T) -> K) {
    let sink = |items: &mut [T], mut at: usize| {
        loop {
            let mut child = 2 * at + 1;
            if child >= items.len() {
                return;
            }
            if child + 1 < items.len() && key(items[child]) < key(items[child + 1]) {
                child += 1;
            }
            if key(items[at]) >= key(items[child]) {
                return;
            }
            items.swap(at, child);
            at = child;
        }
    };
    for at in (0..items.len() / 2).rev() {
        sink(items, at);
    }
    for end in (1..items.len()).rev() {
        items.swap(0, end);
        sink(&mut items[..end], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_standard_library(mut items in proptest::collection::vec(0_u8..50, 0..200)) {
            let mut expected = items.clone();
            expected.sort_unstable_by_key(|&i| core::cmp::Reverse(i));
            sort_by_key(&mut items, core::cmp::Reverse);
            prop_assert_eq!(items, expected);
        }
    }
}
