//! Where series are found by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::report::{Gauge, Labels, Report, Series};
use crate::series::{INTERVAL, Recorded};

/// How many series a registry has at most. What is counted beyond that counts nowhere; how many that are is a gauge.
pub const SERIES_MAX: usize = 2048;

/// The gauge that tells how many series were refused.
const REFUSED: &str = "lictor.metrics.refused";

/// Series by name. Clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    /// The interval in which it was made.
    born: u64,
    found: Mutex<Found>,
    collectors: Mutex<Vec<Collector>>,
}

type Collector = Box<dyn Fn(&mut Gauges) + Send + Sync>;

#[derive(Default)]
struct Found {
    series: BTreeMap<Key, (Kind, Arc<Recorded>)>,
    refused: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: Cow<'static, str>,
    labels: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Sample,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("series", &lock(&self.0.found).series.len())
            .finish_non_exhaustive()
    }
}

/// Counts events. Clones count together.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Recorded>);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more, as one event.
    pub fn add(&self, count: u64) {
        self.0.count(interval(), count as f64);
    }
}

/// Takes what is measured, mostly times in milliseconds. Clones take it together.
#[derive(Clone, Debug)]
pub struct Sample(Arc<Recorded>);

impl Sample {
    /// Takes a value.
    pub fn record(&self, value: f64) {
        self.0.measure(interval(), value, 1);
    }

    /// Takes a value that was measured `count` times, at the cost of one.
    pub fn record_many(&self, value: f64, count: u32) {
        if count > 0 {
            self.0.measure(interval(), value, count);
        }
    }

    /// Takes how many milliseconds have passed since `start`.
    pub fn record_since(&self, start: Instant) {
        self.record(start.elapsed().as_secs_f64() * 1e3);
    }
}

/// Where collectors put what they looked at.
#[derive(Debug, Default)]
pub struct Gauges(Vec<Gauge>);

impl Gauges {
    /// Puts a value.
    pub fn put(&mut self, name: impl Into<Cow<'static, str>>, value: f64) {
        self.put_labelled(name, Labels::new(), value);
    }

    /// Puts a value that labels tell from others of the same name.
    pub fn put_labelled(&mut self, name: impl Into<Cow<'static, str>>, labels: Labels, value: f64) {
        self.0.push(Gauge {
            name: name.into(),
            labels,
            value,
        });
    }
}

impl Registry {
    /// A registry without any series.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            born: interval(),
            found: Mutex::default(),
            collectors: Mutex::default(),
        }))
    }

    /// The counter of this name. Ask once and keep it.
    pub fn counter(&self, name: impl Into<Cow<'static, str>>) -> Counter {
        self.labelled_counter(name, Labels::new())
    }

    /// The counter of this name and these labels. There must be few different ones.
    pub fn labelled_counter(&self, name: impl Into<Cow<'static, str>>, labels: Labels) -> Counter {
        Counter(self.series(name.into(), labels, Kind::Counter))
    }

    /// What is measured under this name. Ask once and keep it.
    pub fn sample(&self, name: impl Into<Cow<'static, str>>) -> Sample {
        self.labelled_sample(name, Labels::new())
    }

    /// What is measured under this name and these labels. There must be few different ones.
    pub fn labelled_sample(&self, name: impl Into<Cow<'static, str>>, labels: Labels) -> Sample {
        Sample(self.series(name.into(), labels, Kind::Sample))
    }

    /// Has `collector` look at what is to be a gauge, for every report. It should be quick, and must not ask this registry for anything.
    pub fn collect(&self, collector: impl Fn(&mut Gauges) + Send + Sync + 'static) {
        lock(&self.0.collectors).push(Box::new(collector));
    }

    /// Everything, as it is now.
    pub fn report(&self) -> Report {
        self.report_at(interval())
    }

    fn report_at(&self, now: u64) -> Report {
        let mut gauges = Gauges::default();
        for collector in &*lock(&self.0.collectors) {
            collector(&mut gauges);
        }
        let found = lock(&self.0.found);
        if found.refused > 0 {
            gauges.put(REFUSED, found.refused as f64);
        }
        let mut gauges = gauges.0;
        gauges.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        // There is no interval before the first one.
        let first = now == self.0.born;
        let mut report = Report {
            start: (if first { now } else { now.saturating_sub(1) }) * INTERVAL.as_secs(),
            gauges,
            counters: Vec::new(),
            samples: Vec::new(),
        };
        for (key, (kind, recorded)) in &found.series {
            let seen = recorded.see(now);
            let series = Series {
                name: key.name.clone(),
                labels: key.labels.clone(),
                summary: if first { seen.current } else { seen.last },
                total: seen.total,
                quantiles: seen.quantiles,
            };
            match kind {
                Kind::Counter => report.counters.push(series),
                Kind::Sample => report.samples.push(series),
            }
        }
        report
    }

    fn series(&self, name: Cow<'static, str>, labels: Labels, kind: Kind) -> Arc<Recorded> {
        let key = Key { name, labels };
        let mut found = lock(&self.0.found);
        if let Some((known, recorded)) = found.series.get(&key) {
            debug_assert_eq!(*known, kind, "{} is counted as well as measured", key.name);
            return Arc::clone(recorded);
        }
        let recorded = Arc::new(Recorded::default());
        if found.series.len() < SERIES_MAX {
            found.series.insert(key, (kind, Arc::clone(&recorded)));
        } else {
            found.refused += 1;
        }
        recorded
    }
}

/// The number of the interval that is on.
fn interval() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / INTERVAL.as_secs())
}

/// What these locks guard is sound after any step, so a poisoned one means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: &'static str) -> Labels {
        vec![("kind".into(), value.into())]
    }

    #[test]
    fn handles_of_one_name_count_together() {
        let registry = Registry::new();
        registry.counter("a.b").increment();
        registry.clone().counter("a.b").add(4);
        registry.labelled_counter("a.b", label("x")).increment();
        registry.sample("t").record(2.5);
        registry.sample("t").record_many(1.5, 2);
        registry.sample("t").record_many(99.0, 0);
        let now = registry.0.born;
        let report = registry.report_at(now + 1);
        // However long this took, the values are of the first intervals.
        assert!(report.start >= now * 10);
        let totals: Vec<_> = (report.counters.iter())
            .map(|series| {
                (
                    &*series.name,
                    series.labels.len(),
                    series.total.count,
                    series.total.sum,
                )
            })
            .collect();
        assert_eq!(totals, [("a.b", 0, 2, 5.0), ("a.b", 1, 1, 1.0)]);
        assert_eq!(report.samples.len(), 1);
        assert_eq!(
            (report.samples[0].total.count, report.samples[0].total.sum),
            (3, 5.5)
        );
    }

    #[test]
    fn reports_are_about_the_last_interval_that_is_over() {
        let registry = Registry::new();
        let born = registry.0.born;
        let counter = registry.counter("a");
        counter.0.count(born, 1.0);
        let first = registry.report_at(born);
        assert_eq!((first.start, first.counters[0].summary.count), (born * 10, 1));
        counter.0.count(born + 1, 5.0);
        let second = registry.report_at(born + 1);
        assert_eq!((second.start, second.counters[0].summary.sum), (born * 10, 1.0));
        let third = registry.report_at(born + 2);
        assert_eq!(
            (third.start, third.counters[0].summary.sum),
            (born * 10 + 10, 5.0)
        );
    }

    #[test]
    fn gauges_are_looked_at_when_somebody_asks() {
        let registry = Registry::new();
        let looked = Arc::new(Mutex::new(0));
        registry.collect({
            let looked = Arc::clone(&looked);
            move |gauges| {
                *lock(&looked) += 1;
                gauges.put("z", f64::from(*lock(&looked)));
                gauges.put_labelled("a", label("y"), 7.0);
                gauges.put_labelled("a", label("x"), 8.0);
            }
        });
        assert_eq!(*lock(&looked), 0);
        registry.report();
        let gauges = registry.report().gauges;
        let values: Vec<_> = gauges.iter().map(|gauge| (&*gauge.name, gauge.value)).collect();
        assert_eq!(values, [("a", 8.0), ("a", 7.0), ("z", 2.0)]);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let registry = Registry::new();
        for number in 0..SERIES_MAX + 3 {
            registry.counter(number.to_string()).increment();
        }
        registry.counter("0").increment();
        let report = registry.report();
        assert_eq!(report.counters.len(), SERIES_MAX);
        assert_eq!(report.counters[0].total.count, 2, "a known one stays known");
        assert_eq!((&*report.gauges[0].name, report.gauges[0].value), (REFUSED, 3.0));
    }
}
