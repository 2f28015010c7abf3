//! What whoever looks gets to see.

use std::borrow::Cow;

/// Names and values that tell series of one name apart.
pub type Labels = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// All that is counted, at one moment, in order of names and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When the interval began that the summaries are about, in seconds since 1970. It is the last one that is over, or, in the first
    /// seconds of a registry's life, the one that is on.
    pub start: u64,
    /// What was looked at.
    pub gauges: Vec<Gauge>,
    /// What was counted.
    pub counters: Vec<Series>,
    /// What was measured.
    pub samples: Vec<Series>,
}

/// A value as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Its name, in parts divided by dots.
    pub name: Cow<'static, str>,
    /// What tells it from others of the same name.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// What was counted or measured under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name, in parts divided by dots.
    pub name: Cow<'static, str>,
    /// What tells it from others of the same name.
    pub labels: Labels,
    /// Of the report's interval.
    pub summary: Summary,
    /// Since the start.
    pub total: Total,
    /// Of the last ten to twenty seconds, for what is measured; empty if nothing was.
    pub quantiles: Vec<Quantile>,
}

/// Values of one interval.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Summary {
    /// How many there were.
    pub count: u64,
    /// All together.
    pub sum: f64,
    /// All squares together.
    pub sum_of_squares: f64,
    /// The least; 0 if there was none.
    pub min: f64,
    /// The greatest; 0 if there was none.
    pub max: f64,
}

impl Summary {
    /// The mean; 0 if there was nothing.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum / self.count as f64
    }

    /// How far the values are from the mean: the standard deviation of a sample; 0 if there were fewer than two.
    pub fn deviation(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = self.count as f64;
        let variance = (count * self.sum_of_squares - self.sum * self.sum) / (count * (count - 1.0));
        // Rounding may leave a little less than nothing.
        variance.max(0.0).sqrt()
    }

    /// Adds a value `times` times.
    pub(crate) fn add(&mut self, value: f64, times: u32) {
        if self.count == 0 || value < self.min {
            self.min = value;
        }
        if self.count == 0 || value > self.max {
            self.max = value;
        }
        self.count += u64::from(times);
        self.sum += value * f64::from(times);
        self.sum_of_squares += value * value * f64::from(times);
    }
}

/// Values since the start.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Total {
    /// How many there were.
    pub count: u64,
    /// All together.
    pub sum: f64,
}

/// How much of what was measured is at most how large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile {
    /// The share of the values, from 0 to 1.
    pub share: f64,
    /// What they are at most, to about six percent.
    pub value: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_what_they_say() {
        let mut summary = Summary::default();
        assert_eq!((summary.mean(), summary.deviation()), (0.0, 0.0));
        summary.add(3.0, 1);
        assert_eq!((summary.mean(), summary.deviation()), (3.0, 0.0));
        for value in [-1.0, 4.0, 6.0] {
            summary.add(value, 1);
        }
        assert_eq!(
            (
                summary.count,
                summary.sum,
                summary.min,
                summary.max,
                summary.mean()
            ),
            (4, 12.0, -1.0, 6.0, 3.0)
        );
        // (0 + 16 + 1 + 9) / 3
        assert!((summary.deviation() - (26.0_f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
