//! How many names were asked for, and how long that took, under names that dashboards know.

use std::time::{Duration, Instant};

use lictor_metrics::{Counter, Labels, Registry, Sample};

use crate::form::Topic;

/// What was true longer ago than this is counted as stale.
const STALE: Duration = Duration::from_secs(5);

/// Where a server of names notes what it does. Clones note together.
#[derive(Clone, Debug)]
pub struct Meters {
    domain: Sample,
    reverse: Sample,
    stale: Counter,
}

impl Meters {
    /// Notes in `metrics`. `node` is the name of this agent, by which dashboards tell agents apart.
    pub fn new(metrics: &Registry, node: &str) -> Self {
        let labels = || -> Labels { vec![("node".into(), node.to_owned().into())] };
        Self {
            domain: metrics.labelled_sample("consul.dns.domain_query", labels()),
            reverse: metrics.labelled_sample("consul.dns.ptr_query", labels()),
            stale: metrics.labelled_counter("consul.dns.stale_queries", labels()),
        }
    }

    /// Notes what was written since `since`, and empties the tally. Answers that were written together share the time evenly.
    pub(crate) fn note(&self, tally: &mut Tally, since: Instant) {
        let Tally {
            domain,
            reverse,
            other,
            stale,
        } = std::mem::take(tally);
        let all = domain + reverse + other;
        if domain + reverse == 0 {
            return;
        }
        let each = since.elapsed().as_secs_f64() * 1e3 / f64::from(all);
        self.domain.record_many(each, domain);
        self.reverse.record_many(each, reverse);
        if stale > 0 {
            self.stale.add(stale.into());
        }
    }
}

/// Answers that were written and not noted yet. Each task that writes answers has its own, so that noting takes a lock for many of them
/// and not for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    domain: u32,
    reverse: u32,
    other: u32,
    /// Of all these.
    stale: u32,
}

impl Tally {
    /// One more answer, made of what was true `age` ago.
    pub(crate) fn add(&mut self, topic: Topic, age: Duration) {
        match topic {
            Topic::Domain => self.domain += 1,
            Topic::Reverse => self.reverse += 1,
            Topic::Other => self.other += 1,
        }
        self.stale += u32::from(age > STALE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_together_shares_the_time() {
        let registry = Registry::new();
        let meters = Meters::new(&registry, "n1");
        let mut tally = Tally::default();
        for (topic, age) in [
            (Topic::Domain, STALE),
            (Topic::Domain, STALE + Duration::from_millis(1)),
            (Topic::Reverse, Duration::ZERO),
            (Topic::Other, Duration::ZERO),
        ] {
            tally.add(topic, age);
        }
        let since = Instant::now();
        meters.note(&mut tally, since);
        assert_eq!(tally, Tally::default());
        let report = registry.report();
        let [domain, reverse] = &report.samples[..] else {
            panic!("{report:?}")
        };
        assert_eq!(&*domain.name, "consul.dns.domain_query");
        assert_eq!(domain.labels, [("node".into(), "n1".into())]);
        assert_eq!((domain.total.count, reverse.total.count), (2, 1));
        let (two, one) = (domain.total.sum, reverse.total.sum);
        assert!(one > 0.0 && (two - one * 2.0).abs() < 1e-9, "{report:?}");
        assert_eq!(report.counters[0].total.count, 1);
        // What is about nothing that is counted changes nothing.
        tally.add(Topic::Other, Duration::ZERO);
        meters.note(&mut tally, since);
        assert_eq!(tally, Tally::default());
        assert_eq!(registry.report().samples[0].total.count, 2);
    }
}
