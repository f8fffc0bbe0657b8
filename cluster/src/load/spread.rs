//! Many runs in three numbers.

use serde::Serialize;

/// The middle and the end of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The value in the middle; of an even number the mean of the two there.
    pub median: f64,
    /// The smallest value that 95 of a hundred do not exceed (nearest rank).
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let (low, high) = (sorted.get(n.saturating_sub(1) / 2)?, sorted.get(n / 2)?);
        let p95 = sorted.get((n * 95).div_ceil(100).saturating_sub(1))?;
        Some(Self { median: f64::midpoint(*low, *high), p95: *p95, max: *sorted.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let of = |n: u32| Spread::of((1..=n).rev().map(f64::from)).map(|s| (s.median, s.p95, s.max));
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some((1.0, 1.0, 1.0)));
        assert_eq!(of(3), Some((2.0, 3.0, 3.0)));
        assert_eq!(of(20), Some((10.5, 19.0, 20.0)));
        assert_eq!(of(100), Some((50.5, 95.0, 100.0)));
    }
}
