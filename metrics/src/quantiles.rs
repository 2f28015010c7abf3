//! Values in buckets of logarithmic width, so that quantiles of any number of them take the same little room.

use crate::report::Quantile;

/// The quantiles that are told.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];

/// How many buckets each doubling has, as a power of two: so a value is known to one part in sixteen.
const FINE_BITS: u32 = 3;

/// Anything below has the first bucket: in milliseconds a microsecond.
const LEAST: f64 = 0.001;

/// Doublings that are told apart. Anything above has the last bucket: in milliseconds a day.
const DOUBLINGS: usize = 37;

const BUCKETS: usize = DOUBLINGS << FINE_BITS;

/// Counts of values by their size.
#[derive(Clone, Debug)]
pub(crate) struct Buckets(Box<[u32; BUCKETS]>);

impl Default for Buckets {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Buckets {
    /// Adds a value `times` times.
    pub(crate) fn add(&mut self, value: f64, times: u32) {
        let count = &mut self.0[bucket(value)];
        *count = count.saturating_add(times);
    }

    pub(crate) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// The quantiles of both together; none if there is no value.
    pub(crate) fn quantiles(&self, other: &Self) -> Vec<Quantile> {
        let counts = || {
            self.0
                .iter()
                .zip(&*other.0)
                .map(|(a, b)| u64::from(*a) + u64::from(*b))
        };
        let total: u64 = counts().sum();
        if total == 0 {
            return Vec::new();
        }
        let quantile = |share: f64| {
            let rank = (share * total as f64).ceil().max(1.0) as u64;
            let mut seen = 0;
            let at = counts().position(|count| {
                seen += count;
                seen >= rank
            });
            Quantile {
                share,
                value: middle(at.unwrap_or(BUCKETS - 1)),
            }
        };
        SHARES.map(quantile).into()
    }
}

/// Floating-point numbers that are positive are in the order of their bits; the exponent and the first bits of the fraction are the bucket.
fn position(value: f64) -> u64 {
    value.to_bits() >> (f64::MANTISSA_DIGITS - 1 - FINE_BITS)
}

fn bucket(value: f64) -> usize {
    if value.is_nan() || value <= LEAST {
        return 0;
    }
    let above = position(value) - position(LEAST);
    usize::try_from(above).map_or(BUCKETS - 1, |above| above.min(BUCKETS - 1))
}

/// The middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let edge =
        |bucket: u64| f64::from_bits((position(LEAST) + bucket) << (f64::MANTISSA_DIGITS - 1 - FINE_BITS));
    f64::midpoint(edge(bucket as u64), edge(bucket as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_near_the_middle_of_its_bucket() {
        let mut value = LEAST * 1.1;
        while value < 5e7 {
            let known = middle(bucket(value));
            assert!((known - value).abs() <= value / 15.0, "{value}: {known}");
            value *= 1.013;
        }
        for (value, expected) in [
            (0.0, 0),
            (-5.0, 0),
            (f64::NAN, 0),
            (LEAST / 2.0, 0),
            (f64::MAX, BUCKETS - 1),
            (f64::INFINITY, BUCKETS - 1),
        ] {
            assert_eq!(bucket(value), expected, "{value}");
        }
    }

    #[test]
    fn quantiles_of_two_halves_are_those_of_the_whole() {
        let (mut odd, mut even) = (Buckets::default(), Buckets::default());
        assert_eq!(odd.quantiles(&even), []);
        for value in 1..=1000 {
            if value % 2 == 0 { &mut even } else { &mut odd }.add(f64::from(value), 1);
        }
        let quantiles = odd.quantiles(&even);
        assert_eq!(
            quantiles.iter().map(|found| found.share).collect::<Vec<_>>(),
            SHARES
        );
        for found in quantiles {
            let exact = found.share * 1000.0;
            assert!((found.value - exact).abs() < exact / 14.0, "{found:?}");
        }
        odd.clear();
        even.clear();
        assert_eq!(odd.quantiles(&even), []);
    }
}
