//! The median of measured times.

/// The middle one of some times, which are sorted for it; of an even number the mean of the two in the middle,
/// of none 0.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match (times.len().is_multiple_of(2), times.get(middle)) {
        (false, Some(&time)) => time,
        (true, Some(&time)) => (times[middle - 1] + time) / 2.0,
        (_, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn of_odd_even_and_no_numbers() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }
}
