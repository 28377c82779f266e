//! Sizes that can't wrap: what is asked before memory is touched, and before a loop is begun.
//!
//! In a release build `a * b + c` of large numbers wraps without a word, and a wrapped size would pass a
//! comparison with a slice's length. So every comparison that protects something is made with these.

/// Whether a slice of `len` has `count` runs of `numbers`, whose beginnings lie `step` numbers apart.
#[inline(always)]
pub(crate) const fn inside(len: usize, count: usize, step: usize, numbers: usize) -> bool {
    if count == 0 {
        return true;
    }
    match (count - 1).checked_mul(step) {
        Some(last) => last <= len && numbers <= len - last,
        None => false,
    }
}

/// The product of sizes.
///
/// # Panics
/// If it does not fit a `usize`; also where one of the factors is zero and the others alone do not fit.
#[inline]
pub(crate) const fn product(factors: &[usize]) -> usize {
    match checked_product(factors) {
        Some(product) => product,
        None => panic!("a size that does not fit the address space"),
    }
}

/// The product of sizes, if it fits a `usize`. A zero hides nothing: the others' product must fit too, so that
/// no loop over one of them is endless.
#[inline]
pub(crate) const fn checked_product(factors: &[usize]) -> Option<usize> {
    let (mut product, mut zero, mut i) = (1_usize, false, 0);
    while i < factors.len() {
        if factors[i] == 0 {
            zero = true;
        } else {
            match product.checked_mul(factors[i]) {
                Some(next) => product = next,
                None => return None,
            }
        }
        i += 1;
    }
    Some(if zero { 0 } else { product })
}

/// Numbers of scratch: a sum of products, or `usize::MAX`, which no memory has, where it does not fit. So a plan
/// that asks for too much is refused as one, and a kernel finds every scratch too short.
#[inline]
pub(crate) const fn room(terms: &[&[usize]]) -> usize {
    let (mut room, mut i) = (0_usize, 0);
    while i < terms.len() {
        room = match checked_product(terms[i]) {
            Some(product) => room.saturating_add(product),
            None => usize::MAX,
        };
        if room == usize::MAX {
            return room;
        }
        i += 1;
    }
    room
}

/// Numbers to the next multiple of 16, which are 64 bytes; `usize::MAX` where that does not fit.
#[inline]
pub(crate) const fn aligned(numbers: usize) -> usize {
    match numbers.checked_next_multiple_of(16) {
        Some(aligned) => aligned,
        None => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_what_wide_numbers_say() {
        let some = [0, 1, 2, 3, 7, 1 << 31, 1 << (usize::BITS / 2), usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - 1, usize::MAX];
        for len in some {
            for count in some {
                for step in some {
                    for numbers in some {
                        let wide = |n: usize| n as u128;
                        let last = wide(count).saturating_sub(1).saturating_mul(wide(step)).saturating_add(wide(numbers));
                        let expected = count == 0 || last <= wide(len);
                        assert_eq!(inside(len, count, step, numbers), expected, "{len} {count} {step} {numbers}");
                    }
                }
            }
        }
    }

    #[test]
    fn products_fit_or_are_refused() {
        assert_eq!(product(&[]), 1);
        assert_eq!(product(&[2, 3, 7]), 42);
        assert_eq!(product(&[2, 0, 7]), 0);
        assert_eq!(checked_product(&[usize::MAX, 1]), Some(usize::MAX));
        assert_eq!(checked_product(&[usize::MAX / 2 + 1, 2]), None);
        assert_eq!(checked_product(&[0, usize::MAX, 2]), None);
    }

    #[test]
    fn room_that_does_not_fit_is_more_than_any_memory_has() {
        assert_eq!(room(&[]), 0);
        assert_eq!(room(&[&[2, 3], &[0, 9], &[5]]), 11);
        assert_eq!(room(&[&[usize::MAX / 2 + 1, 2], &[5]]), usize::MAX);
        assert_eq!(room(&[&[5], &[usize::MAX / 2 + 1, 2]]), usize::MAX);
        assert_eq!(room(&[&[usize::MAX / 2 + 1], &[usize::MAX / 2 + 1], &[7]]), usize::MAX);
        assert_eq!([aligned(0), aligned(1), aligned(16), aligned(usize::MAX - 3)], [0, 16, 16, usize::MAX]);
    }
}
